package hsm_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/hsmtest"
)

func mustPut(t *testing.T, tok *hsmtest.Token, name string, version uint64, data string) {
	t.Helper()
	if err := tok.PutObject(name, version, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

func wantObject(t *testing.T, tok *hsmtest.Token, name string, version uint64, data string) {
	t.Helper()
	v, b, err := tok.GetObject(name)
	if err != nil || v != version || string(b) != data {
		t.Errorf("%s: version %d, %q, %v; want version %d, %q", name, v, b, err, version, data)
	}
}

// putRaw stores a copy with a value of the caller's choice.
func putRaw(t *testing.T, tok *hsmtest.Token, name string, value []byte) {
	t.Helper()
	err := tok.Raw(func(ctx *pkcs11.Ctx, _ uint, s pkcs11.SessionHandle) error {
		_, err := ctx.CreateObject(s, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_DATA),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
			pkcs11.NewAttribute(pkcs11.CKA_APPLICATION, "privyseal"),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, name),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE, value),
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// copies counts the copies of a data object in the token.
func copies(t *testing.T, tok *hsmtest.Token, name string) (n int) {
	t.Helper()
	err := tok.Raw(func(ctx *pkcs11.Ctx, _ uint, s pkcs11.SessionHandle) error {
		if err := ctx.FindObjectsInit(s, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, name)}); err != nil {
			return err
		}
		found, _, err := ctx.FindObjects(s, 10)
		n = len(found)
		return errors.Join(err, ctx.FindObjectsFinal(s))
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestObject(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	if _, _, err := tok.GetObject("a"); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	mustPut(t, tok, "a", 0, "")
	wantObject(t, tok, "a", 0, "")
	mustPut(t, tok, "a", 7, "seven")
	mustPut(t, tok, "ab", 1, "another")
	wantObject(t, tok, "a", 7, "seven")
	if n := copies(t, tok, "a"); n != 1 {
		t.Errorf("%d copies are left", n)
	}
	mustPut(t, tok, "a", 7, "seven") // the same again is no error
	for version, data := range map[uint64]string{7: "other", 6: "six", 0: "seven"} {
		if err := tok.PutObject("a", version, []byte(data)); !errors.Is(err, hsm.ErrStaleVersion) {
			t.Errorf("version %d after 7: %v", version, err)
		}
	}
	mustPut(t, tok, "a", 1<<63+1, "big")
	wantObject(t, tok, "a", 1<<63+1, "big")
	wantObject(t, tok, "ab", 1, "another")

	if names, err := tok.ListObjects(""); err != nil || !slices.Equal(names, []string{"a", "ab"}) {
		t.Errorf("list: %q, %v", names, err)
	}
	if names, err := tok.ListObjects("ab"); err != nil || !slices.Equal(names, []string{"ab"}) {
		t.Errorf("list of prefix: %q, %v", names, err)
	}
	tok.Reopen(t)
	if _, _, err := tok.GetObject("a"); !errors.Is(err, hsm.ErrLocked) {
		t.Errorf("private object of a locked token: %v", err)
	}
	if names, err := tok.ListObjects(""); !errors.Is(err, hsm.ErrLocked) {
		t.Errorf("list of a locked token: %q, %v", names, err)
	}
	tok.MustUnlock(t)
	wantObject(t, tok, "a", 1<<63+1, "big")
	if err := tok.DeleteObject("a"); err != nil {
		t.Fatal(err)
	}
	if err := tok.DeleteObject("a"); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("deleting twice: %v", err)
	}
	wantObject(t, tok, "ab", 1, "another")
	for _, name := range []string{"", strings.Repeat("x", 129)} {
		if err := tok.PutObject(name, 1, nil); !errors.Is(err, hsm.ErrArgument) {
			t.Errorf("name of %d bytes: %v", len(name), err)
		}
	}
}

func TestObjectSizes(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	for i, size := range []int{1, 4096, 1 << 20, hsm.MaxData} {
		data := make([]byte, size)
		rand.Read(data)
		if err := tok.PutObject("big", uint64(i), data); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if v, got, err := tok.GetObject("big"); err != nil || v != uint64(i) || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: version %d, %d bytes, %v", size, v, len(got), err)
		}
	}
	if err := tok.PutObject("big", 99, make([]byte, hsm.MaxData+1)); !errors.Is(err, hsm.ErrArgument) {
		t.Errorf("too big: %v", err)
	}
}

// A crash leaves two versions, or a copy that was torn.
func TestObjectCopies(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	whole := func(v uint64, data string) []byte { return hsm.Frame("a", v, []byte(data)) }
	torn := whole(9, "nine")
	torn = torn[:len(torn)-1]
	for _, order := range [][][]byte{
		{whole(1, "one"), whole(2, "two")},
		{whole(2, "two"), whole(1, "one")},
		{whole(2, "two"), torn},
		{torn, whole(1, "one"), nil, whole(2, "two")},
		{hsm.Frame("b", 9, []byte("another object's")), whole(2, "two")},
		{hsm.Frame("ab", 9, nil), whole(2, "two")},
	} {
		for _, b := range order {
			putRaw(t, tok, "a", b)
		}
		wantObject(t, tok, "a", 2, "two")
		mustPut(t, tok, "a", 2, "two") // repeats itself, and tidies up
		if n := copies(t, tok, "a"); n != 1 {
			t.Errorf("%d copies after a repeated write", n)
		}
		putRaw(t, tok, "a", torn)
		mustPut(t, tok, "a", 3, "three")
		if n := copies(t, tok, "a"); n != 1 {
			t.Errorf("%d copies after a write", n)
		}
		if err := tok.DeleteObject("a"); err != nil {
			t.Fatal(err)
		}
	}
	putRaw(t, tok, "a", torn)
	if v, b, err := tok.GetObject("a"); !errors.Is(err, hsm.ErrCorrupt) || b != nil {
		t.Errorf("only a torn copy: version %d, %q, %v", v, b, err)
	}
	mustPut(t, tok, "a", 1, "one")
	wantObject(t, tok, "a", 1, "one")
}

// TestObjectSurvivesKill kills a writer at random moments. What it was told had
// been written must be there, and the token must live.
func TestObjectSurvivesKill(t *testing.T) {
	if label := os.Getenv("HSM_TEST_WRITER"); label != "" {
		writeForEver(label)
	}
	tok := hsmtest.NewUnlocked(t)
	mustPut(t, tok, "state", 1, "1")
	if err := tok.Close(); err != nil {
		t.Fatal(err)
	}
	for round := range 8 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestObjectSurvivesKill$")
		cmd.Env = append(os.Environ(), "HSM_TEST_WRITER="+tok.Label())
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var acknowledged uint64
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			v, err := strconv.ParseUint(lines.Text(), 10, 64)
			if err != nil {
				t.Fatalf("writer says %q", lines.Text())
			}
			if acknowledged == 0 {
				time.AfterFunc(time.Duration(3+round*7)*time.Millisecond, func() { cmd.Process.Kill() })
			}
			acknowledged = v
		}
		cmd.Wait()
		if acknowledged == 0 {
			t.Fatal("the writer wrote nothing")
		}
		tok.Token, err = hsm.Open(tok.Config)
		if err != nil {
			t.Fatal(err)
		}
		tok.MustUnlock(t)
		v, b, err := tok.GetObject("state")
		if err != nil || v < acknowledged || string(b) != fmt.Sprint(v) {
			t.Errorf("round %d: version %d, %q, %v; %d was acknowledged", round, v, b, err, acknowledged)
		}
		mustPut(t, tok, "state", v+1, fmt.Sprint(v+1))
		if err := tok.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// writeForEver is the writer's process: it prints each version that was written.
func writeForEver(label string) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "writer:", err)
			os.Exit(1)
		}
	}
	tok, err := hsm.Open(hsm.Config{TokenLabel: label})
	fail(err)
	fail(tok.Unlock(hsm.PIN(hsmtest.PIN)))
	v, _, err := tok.GetObject("state")
	fail(err)
	for {
		v++
		fail(tok.PutObject("state", v, fmt.Append(nil, v)))
		fmt.Println(v)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a", []byte(nil))
	f.Add("a", hsm.Frame("a", 1, []byte("data")))
	f.Add("", hsm.Frame("", 1<<63, nil))
	f.Add("ab", hsm.Frame("a", 1, []byte("b")))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		if len(name) > 128 {
			return
		}
		v, data, err := hsm.Parse(name, b)
		if err != nil {
			if !errors.Is(err, hsm.ErrCorrupt) || data != nil {
				t.Fatalf("%x, %v", data, err)
			}
		} else if !bytes.Equal(hsm.Frame(name, v, data), b) {
			t.Fatalf("%x parses as version %d, %x, which is written otherwise", b, v, data)
		}
		// What was written reads back, and no bit of it can change.
		w := hsm.Frame(name, v, b)
		if v2, data, err := hsm.Parse(name, w); err != nil || v2 != v || !bytes.Equal(data, b) {
			t.Fatalf("%d, %x, %v", v2, data, err)
		}
		w[len(b)%len(w)] ^= 1
		if _, _, err := hsm.Parse(name, w); err == nil {
			t.Fatal("a changed bit goes unnoticed")
		}
	})
}

package devicetoken_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/devicetoken"
	"github.com/privyseal/privyseal/hsm/hsmtest"
)

// room is memory for a PIN. It remembers what it gave out.
type room struct {
	t     testing.TB
	given [][]byte
	free  int
	err   error
}

func (r *room) Alloc(n int) ([]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	b := make([]byte, n)
	r.given = append(r.given, b)
	return b, nil
}

func (r *room) Free(b []byte) {
	if len(r.given) == 0 || &b[0] != &r.given[len(r.given)-1][0] {
		r.t.Error("freed what was not given")
	}
	if !wiped(b) {
		r.t.Error("freed before it was wiped")
	}
	r.free++
}

func wiped(b []byte) bool { return bytes.Equal(b, make([]byte, len(b))) }

func (r *room) holds(pin string) bool {
	return len(r.given) > 0 && bytes.HasPrefix(r.given[len(r.given)-1], []byte(pin))
}

var shares = []string{ceremony.ShareObject("a"), ceremony.ShareObject("b")}

// newDevice is a locked token with a device's keys and objects. One of its
// shares is private, as older devices stored them.
func newDevice(t testing.TB) (*hsmtest.Token, *devicetoken.Token) {
	t.Helper()
	tok := hsmtest.NewUnlocked(t)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := tok.GenerateSigner(devicetoken.LabelSign)
	check(err)
	_, err = tok.GenerateKeyExchanger(devicetoken.LabelAgree)
	check(err)
	check(tok.GenerateKEK(devicetoken.LabelKEKToken, hsm.InToken))
	check(tok.GenerateKEK(devicetoken.LabelKEKHost, hsm.InHost))
	d := devicetoken.New(tok.Token)
	check(d.PutObject(shares[0], 1, []byte("sealed")))
	check(tok.PutObject(shares[1], 1, []byte("sealed, but private")))
	check(d.PutObject(ceremony.PINObject, 1, []byte("a PIN to come")))
	check(tok.Lock())
	return tok, d
}

func mustUnlock(t testing.TB, d *devicetoken.Token) {
	t.Helper()
	if err := d.Unlock([]byte(hsmtest.PIN)); err != nil {
		t.Fatal(err)
	}
	if d.Locked() {
		t.Fatal("it counts as locked")
	}
}

// wantDestroyed unlocks the token and looks.
func wantDestroyed(t *testing.T, d *devicetoken.Token) {
	t.Helper()
	if d.Locked() {
		mustUnlock(t, d)
	}
	for _, name := range shares {
		if _, _, err := d.GetObject(name); !errors.Is(err, hsm.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	n := bytes.Repeat([]byte{0xff}, 128)
	for _, inToken := range []bool{true, false} {
		if _, err := d.Shares(inToken).Wrap(n, []byte{1, 0, 1}); !errors.Is(err, hsm.ErrNotFound) {
			t.Errorf("in token %v: the key-encryption key still wraps: %v", inToken, err)
		}
	}
	// The device can still say who it is.
	k, err := d.Signer(devicetoken.LabelSign)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Sign(nil, make([]byte, 32), hash); err != nil {
		t.Error(err)
	}
	if _, pin, err := d.GetObject(ceremony.PINObject); err != nil || string(pin) != "a PIN to come" {
		t.Errorf("an object that was not named: %q, %v", pin, err)
	}
}

// What kinds of objects PutObject stores is seen by who destroys what.
func TestObjectKinds(t *testing.T) {
	tok, d := newDevice(t)
	mustUnlock(t, d)
	if _, b, err := d.GetObject(shares[1]); err != nil || string(b) != "sealed, but private" {
		t.Errorf("an older device's share: %q, %v", b, err)
	}
	if err := tok.DestroyPublicObjects(shares[0], shares[1], ceremony.PINObject); err != nil {
		t.Fatal(err)
	}
	for name, public := range map[string]bool{shares[0]: true, shares[1]: false, ceremony.PINObject: false} {
		if _, _, err := d.GetObject(name); errors.Is(err, hsm.ErrNotFound) != public {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := d.PutObject(shares[1], 2, []byte("anew")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := tok.GetPrivateObject(shares[1]); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("the private copy outlives the write: %v", err)
	}
	if _, b, err := d.GetObject(shares[1]); err != nil || string(b) != "anew" {
		t.Errorf("%q, %v", b, err)
	}
	if err := tok.PutPublicObject("pin.other", 1, []byte("a thief's")); err != nil {
		t.Fatal(err)
	}
	if _, b, err := d.GetObject("pin.other"); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("a public object passes for the device's own: %q, %v", b, err)
	}
}

func TestDestroyUnlocked(t *testing.T) {
	_, d := newDevice(t)
	mustUnlock(t, d)
	for range 2 {
		if err := d.Destroy(shares); err != nil {
			t.Fatal(err)
		}
		if d.Locked() {
			t.Error("it was locked")
		}
	}
	wantDestroyed(t, d)
}

func TestDestroyLocked(t *testing.T) {
	_, d := newDevice(t)
	m := &room{t: t}
	if err := d.KeepPIN(true, m); err != nil {
		t.Fatal(err)
	}
	if d.PINKept() {
		t.Error("a PIN is kept that was never given")
	}
	if err := d.Unlock([]byte("wrong PIN")); !errors.Is(err, hsm.ErrPINIncorrect) || d.PINKept() {
		t.Fatalf("a wrong PIN: %v, kept %v", err, d.PINKept())
	}
	mustUnlock(t, d)
	if err := d.Lock(); err != nil {
		t.Fatal(err)
	}
	if !d.PINKept() || !m.holds(hsmtest.PIN) {
		t.Fatal("the PIN did not outlive the lock")
	}
	if err := d.Destroy(shares); err != nil {
		t.Fatal(err)
	}
	if d.PINKept() || !wiped(m.given[0]) {
		t.Error("the PIN outlives the destruction")
	}
	if !d.Locked() {
		t.Error("the token stayed open")
	}
	// Without a PIN, nobody can say any more whether the keys are gone.
	if err := d.Destroy(shares); !errors.Is(err, devicetoken.ErrKeysLeft) {
		t.Errorf("once more: %v", err)
	}
	wantDestroyed(t, d)
	if err := d.Destroy(shares); err != nil {
		t.Errorf("when there is nothing left: %v", err)
	}
}

// Without a PIN the shares go, and the keys after the next unlock.
func TestDestroyWithoutPIN(t *testing.T) {
	tok, d := newDevice(t)
	if err := d.Destroy(shares); !errors.Is(err, devicetoken.ErrKeysLeft) {
		t.Fatal(err)
	}
	mustUnlock(t, d)
	if _, _, err := d.GetObject(shares[0]); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("the public share: %v", err)
	}
	if err := d.Destroy(shares); err != nil {
		t.Fatal(err)
	}
	wantDestroyed(t, d)
	// A crash between the two keys must not keep the token shut.
	if err := tok.GenerateKEK(devicetoken.LabelKEKHost, hsm.InHost); err != nil {
		t.Fatal(err)
	}
	if err := d.Lock(); err != nil {
		t.Fatal(err)
	}
	mustUnlock(t, d)
	if err := d.Destroy(shares); err != nil {
		t.Fatal(err)
	}
	wantDestroyed(t, d)
}

func TestKeptPIN(t *testing.T) {
	_, d := newDevice(t)
	defer d.Close()
	m := &room{t: t, err: errors.New("full")}
	if err := d.KeepPIN(true, m); !errors.Is(err, m.err) {
		t.Errorf("no memory: %v", err)
	}
	m.err = nil
	for range 2 {
		if err := d.KeepPIN(true, m); err != nil {
			t.Fatal(err)
		}
	}
	mustUnlock(t, d)
	for what, s := range map[string]string{
		"%v": fmt.Sprintf("%v", d), "%+v": fmt.Sprintf("%+v", d), "%#v": fmt.Sprintf("%#v", d), "%s": fmt.Sprintf("%s", d),
		"%x": fmt.Sprintf("%x", d), "%d": fmt.Sprintf("%d", d), "nested": fmt.Sprintf("%+v", struct{ T *devicetoken.Token }{d}),
		"json": func() string { b, _ := json.Marshal(d); return string(b) }(),
		"slog": func() string {
			var b strings.Builder
			slog.New(slog.NewTextHandler(&b, nil)).Info("", "token", d)
			return b.String()
		}(),
	} {
		for _, secret := range []string{hsmtest.PIN, hex.EncodeToString([]byte(hsmtest.PIN)), fmt.Sprint([]byte(hsmtest.PIN))} {
			if strings.Contains(s, strings.Trim(secret, "[]")) {
				t.Errorf("%s shows the PIN: %s", what, s)
			}
		}
	}
	// A change of the PIN is followed; one that fails is not.
	if err := d.SetPIN(hsm.PIN("wrong PIN"), hsm.PIN("another PIN")); !errors.Is(err, hsm.ErrPINIncorrect) || !m.holds(hsmtest.PIN+"\x00") {
		t.Errorf("wrong old PIN: %v, %q", err, m.given[0])
	}
	if err := d.SetPIN(hsm.PIN(hsmtest.PIN), hsm.PIN("new PIN")); err != nil || !m.holds("new PIN\x00") {
		t.Errorf("%v, %q", err, m.given[0])
	}
	if err := d.Lock(); err != nil {
		t.Fatal(err)
	}
	// Another process changes the PIN: the one that is kept is tried once.
	if err := d.Token.SetPIN(hsm.PIN("new PIN"), hsm.PIN(hsmtest.PIN)); err != nil {
		t.Fatal(err)
	}
	if err := d.Destroy(nil); !errors.Is(err, devicetoken.ErrKeysLeft) || !errors.Is(err, hsm.ErrPINIncorrect) || d.PINKept() {
		t.Errorf("a PIN that is not right any more: %v, kept %v", err, d.PINKept())
	}
	mustUnlock(t, d)
	if !d.PINKept() {
		t.Error("the next unlock does not keep its PIN")
	}
	if err := d.KeepPIN(false, nil); err != nil || d.PINKept() || m.free != 1 {
		t.Errorf("%v, kept %v, freed %d times", err, d.PINKept(), m.free)
	}
	if err := d.KeepPIN(true, m); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil || m.free != 2 {
		t.Errorf("closing: %v, freed %d times", err, m.free)
	}
	if err := d.Destroy(shares); !errors.Is(err, hsm.ErrClosed) {
		t.Errorf("after closing: %v", err)
	}
}

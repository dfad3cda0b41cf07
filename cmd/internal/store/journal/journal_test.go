package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/store/journal"
	"github.com/privyseal/privyseal/cmd/internal/store/journal/faultfile"
)

// header is the size of a record's header, magic that of the file's.
const header, magic = 16, 20

func rec(i int) []byte { return bytes.Repeat([]byte(fmt.Sprintf("record %d ", i)), 1+i*7) }

func build(t *testing.T, path string, n int) {
	t.Helper()
	j, _, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for i := range n {
		if err := j.Append(rec(i)); err != nil {
			t.Fatal(err)
		}
	}
}

// expect opens path, checks that it holds records 0..n-1, and appends one.
func expect(t *testing.T, path string, n int) {
	t.Helper()
	j, records, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if len(records) != n || j.Len() != uint64(n) {
		t.Fatalf("%d records (Len %d), want %d", len(records), j.Len(), n)
	}
	for i, r := range records {
		if !bytes.Equal(r, rec(i)) {
			t.Fatalf("record %d is %q", i, r)
		}
	}
	if err := j.Append(rec(n)); err != nil {
		t.Fatal(err)
	}
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	for n := range 5 {
		expect(t, path, n)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestEmptyRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j, _, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.Append(nil), j.Append([]byte("x")), j.Append(nil), j.Close()); err != nil {
		t.Fatal(err)
	}
	_, records, err := journal.Open(path)
	if err != nil || len(records) != 3 || len(records[0]) != 0 || string(records[1]) != "x" {
		t.Fatal(records, err)
	}
}

// A file cut at any octet is the file with fewer records: the torn one is cut
// off and the journal goes on.
func TestTornAtEveryOctet(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "j")
	build(t, path, 3)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ends := []int{magic}
	for i := range 3 {
		ends = append(ends, ends[i]+header+len(rec(i)))
	}
	for cut := 0; cut <= len(whole); cut++ {
		want := 0
		for want < 3 && ends[want+1] <= cut {
			want++
		}
		for _, zeros := range []bool{false, true} {
			// zeros: the size was made durable before the content.
			torn := append([]byte(nil), whole[:cut]...)
			if zeros {
				next := magic
				for _, e := range ends {
					if e >= cut {
						next = e
						break
					}
				}
				if cut < magic && cut > 0 {
					continue // magic is one write of one block
				}
				torn = append(torn, make([]byte, next-cut)...)
			}
			p := filepath.Join(dir, "torn")
			if err := os.WriteFile(p, torn, 0o600); err != nil {
				t.Fatal(err)
			}
			expect(t, p, want)
			expect(t, p, want+1)
		}
	}
}

// A changed bit in any record but the last is never mistaken for a torn tail.
func TestCorruptMiddle(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "j")
	build(t, path, 3)
	whole, _ := os.ReadFile(path)
	off := int64(magic)
	for i := range 2 {
		size := header + len(rec(i))
		for k := range size {
			for _, bit := range []byte{1, 0x80} {
				bad := bytes.Clone(whole)
				bad[off+int64(k)] ^= bit
				p := filepath.Join(dir, "bad")
				os.WriteFile(p, bad, 0o600)
				_, _, err := journal.Open(p)
				var ce *journal.CorruptError
				if !errors.As(err, &ce) || ce.Offset != off || ce.Record != uint64(i) {
					t.Fatalf("record %d octet %d: %v", i, k, err)
				}
				if after, _ := os.ReadFile(p); !bytes.Equal(after, bad) {
					t.Fatal("a damaged journal was changed")
				}
			}
		}
		off += int64(size)
	}
}

// Records cannot be removed from the middle, doubled or exchanged.
func TestSplice(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "j")
	j, _, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		j.Append([]byte{byte(i), 1, 2, 3})
	}
	j.Close()
	b, _ := os.ReadFile(path)
	const n = header + 4
	m, r := b[:magic], [3][]byte{b[magic : magic+n], b[magic+n : magic+2*n], b[magic+2*n:]}
	for name, parts := range map[string][][]byte{
		"first two exchanged": {m, r[1], r[0], r[2]},
		"first doubled":       {m, r[0], r[0], r[1], r[2]},
		"first missing":       {m, r[1], r[2]},
		"middle missing":      {m, r[0], r[2]},
		"all but last":        {m, r[2]},
	} {
		p := filepath.Join(dir, "spliced")
		os.WriteFile(p, bytes.Join(parts, nil), 0o600)
		var ce *journal.CorruptError
		j, records, err := journal.Open(p)
		if !errors.As(err, &ce) {
			t.Errorf("%s: %d records, error %v", name, len(records), err)
			j.Close()
		}
	}
}

func TestForeignFile(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"short": "hello", "long": "this is some other file, long enough", "version": "privyseal journal 2\n",
	} {
		p := filepath.Join(dir, name)
		os.WriteFile(p, []byte(content), 0o600)
		if _, _, err := journal.Open(p); !errors.Is(err, journal.ErrNotJournal) {
			t.Errorf("%s: %v", name, err)
		}
		if b, _ := os.ReadFile(p); string(b) != content {
			t.Errorf("%s: changed", name)
		}
	}
	os.Symlink(filepath.Join(dir, "short"), filepath.Join(dir, "link"))
	if _, _, err := journal.Open(filepath.Join(dir, "link")); err == nil {
		t.Error("followed a symbolic link")
	}
}

func TestInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j, _, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := journal.Open(path); !errors.Is(err, journal.ErrInUse) {
		t.Fatal(err)
	}
	j.Close()
	expect(t, path, 0)
}

func TestTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j, _, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Append(make([]byte, journal.MaxRecord+1)); !errors.Is(err, journal.ErrTooLarge) {
		t.Fatal(err)
	}
	if err := j.Append([]byte("still alive")); err != nil {
		t.Fatal(err)
	}
	j.Close()
	if err := j.Append(nil); !errors.Is(err, journal.ErrClosed) {
		t.Fatal(err)
	}
}

// Every durable write fails once in each way. The journal is dead at once, and
// what Open finds afterwards is all that was acknowledged, and the failed
// record if and only if the disk has it.
func TestEveryWriteFails(t *testing.T) {
	const n = 4
	for _, kind := range faultfile.Kinds {
		for at := 1; at <= n+1; at++ {
			path := filepath.Join(t.TempDir(), "j")
			build(t, path, 1)
			j, _, err := faultfile.Open(path, faultfile.NewPlan(at, kind))
			acked := 1
			for i := 1; err == nil && i <= n; i++ {
				if err = j.Append(rec(i)); err == nil {
					acked++
				}
			}
			if !errors.Is(err, faultfile.ErrFault) {
				t.Fatalf("%v at %d: %v", kind, at, err)
			}
			if at > 1 {
				if !errors.Is(err, journal.ErrDead) {
					t.Fatalf("%v at %d: %v", kind, at, err)
				}
				if err := j.Append([]byte("after")); !errors.Is(err, journal.ErrDead) {
					t.Fatalf("append after a failure: %v", err)
				}
				j.Close()
				if kind.Persisted() {
					acked++ // not acknowledged, but there
				}
			}
			expect(t, path, acked)
		}
	}
}

func FuzzOpen(f *testing.F) {
	path := filepath.Join(f.TempDir(), "j")
	j, _, err := journal.Open(path)
	if err != nil {
		f.Fatal(err)
	}
	j.Append([]byte("one"))
	j.Append([]byte("two"))
	j.Close()
	seed, _ := os.ReadFile(path)
	f.Add(seed)
	f.Add(seed[:len(seed)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		p := filepath.Join(t.TempDir(), "j")
		os.WriteFile(p, data, 0o600)
		j, first, err := journal.Open(p)
		if err != nil {
			return
		}
		// What opens once takes a record, and opens again with it.
		if err := errors.Join(j.Append([]byte("more")), j.Close()); err != nil {
			t.Fatal(err)
		}
		j, second, err := journal.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		j.Close()
		if len(second) != len(first)+1 || string(second[len(first)]) != "more" {
			t.Fatalf("%d records, then %d", len(first), len(second))
		}
	})
}

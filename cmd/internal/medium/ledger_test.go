package medium_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/medium"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// long is a system with a ledger that fits into no message, and a fork of its
// last entries, which the authority signed as well.
type long struct {
	*ledgertest.System
	bundle        []byte
	entries, fork [][]byte
}

const (
	longEntries = 250
	longFork    = 230 // entries that the fork has, too
)

var makeLong = sync.OnceValue(func() func(t *testing.T) *long {
	var l *long
	return func(t *testing.T) *long {
		t.Helper()
		if l != nil {
			return l
		}
		s := ledgertest.New(t, ledgertest.WithManyPersons())
		bundle, err := envelope.Marshal(s.Bundle)
		if err != nil {
			t.Fatal(err)
		}
		x := &long{System: s, bundle: bundle, entries: s.Long(t, longEntries)}
		if n := len(slices.Concat(x.entries...)); n <= envelope.MaxMessage {
			t.Fatalf("%d octets are not long", n)
		}
		state := stateOf(t, s.Bundle, x.entries[:longFork])
		x.fork = slices.Clone(x.entries[:longFork])
		for i := range longEntries - longFork {
			e := s.Entry(t, state, ledger.KindNotice, ledger.Notice{Text: fmt.Sprint("fork ", i), From: s.Now, Until: s.Now + 600}, state.Time())
			raw, err := envelope.Marshal(&e)
			if err != nil {
				t.Fatal(err)
			}
			x.fork = append(x.fork, raw)
			if state, err = ledger.Catchup(state, []ledger.SignedEntry{e}); err != nil {
				t.Fatal(err)
			}
		}
		l = x
		return l
	}
})()

func stateOf(t *testing.T, b ledger.Bundle, entries [][]byte) ledger.State {
	t.Helper()
	v, err := ledger.VerifyGenesis(b)
	if err != nil {
		t.Fatal(err)
	}
	var signed []ledger.SignedEntry
	for _, raw := range entries {
		var x ledger.SignedEntry
		if err := envelope.Unmarshal(raw, &x); err != nil {
			t.Fatal(err)
		}
		signed = append(signed, x)
	}
	state, err := ledger.Catchup(ledger.New(v), signed)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// write makes a medium with these entries.
func (l *long) write(t *testing.T, entries [][]byte) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "m")
	x := &medium.Invited{Plan: []byte("plan"), System: systemOf(t, l.bundle, entries), Invitations: map[string][]byte{"device-1": {1}}}
	if err := medium.WriteInvited(dir, x, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (l *long) read(dir string) (ledger.State, error) {
	x, err := medium.ReadInvited(dir)
	if err != nil {
		return ledger.State{}, err
	}
	return x.System.State(l.State.System(), nil)
}

// relist writes the list anew, of what is there: who alters a medium can do so,
// too.
func relist(t *testing.T, dir string) {
	t.Helper()
	var list strings.Builder
	for _, pattern := range []string{"plan.yaml", "system.cbor", "invitations/*", "ledger/*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256(data), strings.TrimPrefix(name, dir+"/"))
		}
	}
	write(t, filepath.Join(dir, "INVITED.sha256"), list.String())
}

// TestLongLedger: a ledger that fits into no message goes there in pages, and is
// verified page by page.
func TestLongLedger(t *testing.T) {
	l := makeLong(t)
	dir := filepath.Join(t.TempDir(), "m")
	x := &medium.Invited{Plan: []byte("plan"), System: systemOf(t, l.bundle, l.entries), Invitations: map[string][]byte{}}
	var said []string
	say := func(s string) { said = append(said, s) }
	if err := medium.WriteInvited(dir, x, say); err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "ledger", "*"))
	if err != nil || len(pages) < 8 || filepath.Base(pages[0]) != "0001.cbor" || !slices.Contains(said, "ledger/0008.cbor") {
		t.Fatalf("%v, pages %q, said %q", err, pages, said)
	}
	for _, name := range pages {
		if info, err := os.Stat(name); err != nil || info.Size() > api.PageOctets+4096 {
			t.Errorf("%s: %v, %+v", name, err, info)
		}
	}
	y, err := medium.ReadInvited(dir)
	if err != nil {
		t.Fatal(err)
	}
	said = nil
	for range 2 { // it can be read as often as one likes
		state, err := y.System.State(l.State.System(), say)
		if err != nil || state.Head() != l.State.Head() || state.Height() != longEntries {
			t.Fatalf("%v, %d entries", err, state.Height())
		}
	}
	if len(said) != 2*len(pages) || said[len(pages)-1] != fmt.Sprintf("entry %d of %d", longEntries, longEntries) {
		t.Errorf("said %q", said)
	}
	// What was read can be written: the same octets.
	again := filepath.Join(t.TempDir(), "m")
	if err := medium.WriteInvited(again, y, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range append(pages, filepath.Join(dir, "system.cbor"), filepath.Join(dir, "INVITED.sha256")) {
		a, err := os.ReadFile(name)
		b, err2 := os.ReadFile(filepath.Join(again, strings.TrimPrefix(name, dir)))
		if err != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: %v, %v", name, err, err2)
		}
	}
	// More than a home keeps goes on no medium.
	if _, err := medium.SystemOf(l.bundle, slices.Repeat([][]byte{make([]byte, 1<<20)}, api.MaxLedger>>20+1)); err == nil || !strings.Contains(err.Error(), "more than 268435456 octets") {
		t.Error(err)
	}
}

// TestWrongPages: every page has its place. What is missing, twice, elsewhere, of
// another ledger or of a fork is refused by the page's name, also by a list that
// was made to fit.
func TestWrongPages(t *testing.T) {
	l := makeLong(t)
	good := l.write(t, l.entries)
	count := len(pagesOf(t, good))
	stranger := ledgertest.New(t, ledgertest.WithManyPersons(), func(g *ledger.Genesis) { g.Name = "Another" })
	bundle, err := envelope.Marshal(stranger.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	alien := (&long{System: stranger, bundle: bundle}).write(t, stranger.Long(t, 40))
	at := func(dir string, n int) string { return filepath.Join(dir, "ledger", fmt.Sprintf("%04d.cbor", n)) }
	replace := func(t *testing.T, from, to string) {
		t.Helper()
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		write(t, to, string(data))
	}
	remove := func(t *testing.T, name string) {
		t.Helper()
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, file, words string
		err               any // a type of errors.As, or nil
		spoil             func(t *testing.T, dir string)
	}{
		{"missing", "INVITED.sha256", "names ledger/0003.cbor where ledger/0002.cbor is due", nil, func(t *testing.T, dir string) { remove(t, at(dir, 2)) }},
		{"the first missing", "INVITED.sha256", "names ledger/0002.cbor where ledger/0001.cbor is due", nil, func(t *testing.T, dir string) { remove(t, at(dir, 1)) }},
		{"the last missing", fmt.Sprintf("ledger/%04d.cbor", count), "is missing: the ledger has 250 entries", nil, func(t *testing.T, dir string) { remove(t, at(dir, count)) }},
		{"all missing", "ledger/0001.cbor", "is missing: the ledger has 250 entries, and its pages end with entry 0", nil, func(t *testing.T, dir string) {
			for n := range count {
				remove(t, at(dir, n+1))
			}
		}},
		{"unknown", "INVITED.sha256", "names ledger/extra.cbor where", nil, func(t *testing.T, dir string) { write(t, filepath.Join(dir, "ledger", "extra.cbor"), "x") }},
		{"of another kind", "INVITED.sha256", `names "ledger/0001.txt", and no such file belongs to a medium`, nil, func(t *testing.T, dir string) { write(t, filepath.Join(dir, "ledger", "0001.txt"), "x") }},
		{"reordered", "ledger/0002.cbor", "is not the page that is due", nil, func(t *testing.T, dir string) {
			replace(t, at(good, 3), at(dir, 2))
			replace(t, at(good, 2), at(dir, 3))
		}},
		{"doubled", "ledger/0003.cbor", "is not the page that is due", nil, func(t *testing.T, dir string) { replace(t, at(good, 2), at(dir, 3)) }},
		{"one more", fmt.Sprintf("ledger/%04d.cbor", count+1), "is not the page that is due", nil, func(t *testing.T, dir string) { replace(t, at(good, count), at(dir, count+1)) }},
		{"a longer ledger's", "ledger/0001.cbor", "and the ledger has 3", nil, func(t *testing.T, dir string) {
			replace(t, filepath.Join(l.write(t, l.entries[:3]), "system.cbor"), filepath.Join(dir, "system.cbor"))
		}},
		{"of another system", "ledger/0001.cbor", "entry 1", new(*ledger.SystemError), func(t *testing.T, dir string) { replace(t, at(alien, 1), at(dir, 1)) }},
		{"of a fork", "", fmt.Sprintf("entry %d", longFork+2), new(*ledger.ForkError), func(t *testing.T, dir string) {
			short := l.write(t, l.entries[:longFork+1])
			if err := os.RemoveAll(filepath.Join(dir, "ledger")); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(filepath.Join(dir, "ledger"), os.DirFS(filepath.Join(short, "ledger"))); err != nil {
				t.Fatal(err)
			}
			raw, err := envelope.Marshal(struct {
				After   uint64   `cbor:"1,keyasint"`
				Entries [][]byte `cbor:"2,keyasint"`
			}{longFork + 1, l.fork[longFork+1:]})
			if err != nil {
				t.Fatal(err)
			}
			write(t, at(dir, len(pagesOf(t, dir))+1), string(raw))
		}},
		{"a fork's end", "", "is of another ledger", nil, func(t *testing.T, dir string) {
			other := l.write(t, l.fork[:longFork+1])
			if err := os.RemoveAll(filepath.Join(dir, "ledger")); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(filepath.Join(dir, "ledger"), os.DirFS(filepath.Join(other, "ledger"))); err != nil {
				t.Fatal(err)
			}
			replace(t, filepath.Join(l.write(t, l.entries[:longFork+1]), "system.cbor"), filepath.Join(dir, "system.cbor"))
		}},
		{"not signed", "ledger/0004.cbor", "entry", ledger.ErrSignature, func(t *testing.T, dir string) {
			data, err := os.ReadFile(at(dir, 4))
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)-1] ^= 1 // of the last entry's signature
			write(t, at(dir, 4), string(data))
		}},
		{"empty", "ledger/0002.cbor", "", nil, func(t *testing.T, dir string) { write(t, at(dir, 2), "") }},
		{"cut off", "ledger/0002.cbor", "", nil, func(t *testing.T, dir string) {
			if err := os.Truncate(at(dir, 2), 1<<19); err != nil {
				t.Fatal(err)
			}
		}},
		{"no end", "ledger/0002.cbor", "has more than", nil, func(t *testing.T, dir string) {
			if err := os.Truncate(at(dir, 2), 1<<22); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "m")
			if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
				t.Fatal(err)
			}
			c.spoil(t, dir)
			relist(t, dir)
			_, err := l.read(dir)
			var damaged *medium.DamagedError
			if !errors.As(err, &damaged) || !strings.Contains(err.Error(), c.words) || c.file != "" && damaged.File != c.file || damaged.Hint() == "" {
				t.Errorf("%v", err)
			}
			switch want := c.err.(type) {
			case nil:
			case error:
				if !errors.Is(err, want) {
					t.Errorf("%v", err)
				}
			default:
				if !errors.As(err, want) {
					t.Errorf("%v", err)
				}
			}
		})
	}
	// What no list names does not count.
	write(t, at(good, count+1), "left behind")
	if _, err := l.read(good); err != nil {
		t.Error(err)
	}
	// Links and pipes are no pages.
	for name, spoil := range map[string]func(path string) error{
		"a link": func(path string) error { return os.Symlink(at(good, 2), path) },
		"a pipe": func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		dir := filepath.Join(t.TempDir(), "m")
		if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
			t.Fatal(err)
		}
		remove(t, at(dir, 2))
		if err := spoil(at(dir, 2)); err != nil {
			t.Fatal(err)
		}
		var damaged *medium.DamagedError
		if _, err := l.read(dir); !errors.As(err, &damaged) || damaged.File != "ledger/0002.cbor" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func pagesOf(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "ledger", "*.cbor"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestPulled: whenever a medium is pulled out while it is written, it is half
// written, and nobody takes it for a whole one.
func TestPulled(t *testing.T) {
	l := makeLong(t)
	whole := l.write(t, l.entries)
	half := func(t *testing.T, dir string) {
		t.Helper()
		var e *medium.HalfWrittenError
		if _, err := medium.StageOf(dir); !errors.As(err, &e) {
			t.Errorf("%v", err)
		}
		if _, err := medium.ReadInvited(dir); !errors.As(err, &e) || !strings.Contains(e.Hint(), "invite again") {
			t.Errorf("%v", err)
		}
		if err := medium.WriteInvited(dir, &medium.Invited{}, nil); !errors.As(err, &e) {
			t.Errorf("written over: %v", err)
		}
	}
	// The source that a page is copied from ends in the middle: so does the medium.
	x, err := medium.ReadInvited(whole)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(whole, "ledger", "0005.cbor"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(whole, "ledger", "0005.cbor"), string(data[:len(data)/2]))
	dir := filepath.Join(t.TempDir(), "m")
	var damaged *medium.DamagedError
	if err := medium.WriteInvited(dir, x, nil); !errors.As(err, &damaged) || damaged.File != "ledger/0005.cbor" {
		t.Fatalf("%v", err)
	}
	if n := len(pagesOf(t, dir)); n != 4 {
		t.Fatalf("%d pages were written", n)
	}
	half(t, dir)
	write(t, filepath.Join(whole, "ledger", "0005.cbor"), string(data))

	// Whatever is there without the list, from the end on.
	dir = filepath.Join(t.TempDir(), "m")
	if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "INVITED.sha256"), filepath.Join(dir, "INVITED.sha256.part")); err != nil {
		t.Fatal(err)
	}
	half(t, dir)
	gone := append([]string{filepath.Join(dir, "INVITED.sha256.part")}, pagesOf(t, dir)...)
	slices.Reverse(gone[1:])
	for _, name := range append(gone, filepath.Join(dir, "invitations"), filepath.Join(dir, "system.cbor")) {
		if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
		half(t, dir)
	}
	// A list that came there before the octets of a page did, as FAT may have it.
	for _, lost := range []func(path string) error{
		func(path string) error { return os.Truncate(path, 0) },
		func(path string) error { return os.WriteFile(path, make([]byte, len(data)), 0o600) },
	} {
		dir = filepath.Join(t.TempDir(), "m")
		if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		if err := lost(filepath.Join(dir, "ledger", "0005.cbor")); err != nil {
			t.Fatal(err)
		}
		if _, err := l.read(dir); !errors.As(err, &damaged) || damaged.File != "ledger/0005.cbor" || !strings.Contains(err.Error(), "checksum") {
			t.Errorf("%v", err)
		}
	}
}

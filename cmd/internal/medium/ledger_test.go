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
	"syscall"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/medium"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// paged is a system with a ledger of several pages, and a fork of its last
// entries, which the authority signed as well.
type paged struct {
	*ledgertest.System
	bundle        []byte
	entries, fork [][]byte
}

const (
	pagedEntries = 20
	pagedFork    = 17   // entries that the fork has, too
	pagedOctets  = 1200 // of a page: two entries
)

func newPaged(t *testing.T, options ...ledgertest.Option) *paged {
	t.Helper()
	s := ledgertest.New(t, options...)
	bundle, err := envelope.Marshal(s.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	l := &paged{System: s, bundle: bundle}
	l.entries = l.grow(t, nil, pagedEntries, "entry")
	l.State = stateOf(t, s.Bundle, l.entries)
	l.fork = l.grow(t, l.entries[:pagedFork], pagedEntries-pagedFork, "fork")
	return l
}

// grow appends n notices to a ledger.
func (l *paged) grow(t *testing.T, entries [][]byte, n int, text string) [][]byte {
	t.Helper()
	entries, state := slices.Clone(entries), stateOf(t, l.Bundle, entries)
	for i := range n {
		notice := ledger.Notice{Text: fmt.Sprint(text, " ", i, strings.Repeat(".", 100)), From: l.Now, Until: l.Now + 600}
		e := l.Entry(t, state, ledger.KindNotice, notice, max(l.Now, state.Time()))
		raw, err := envelope.Marshal(&e)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, raw)
		if state, err = ledger.Catchup(state, []ledger.SignedEntry{e}); err != nil {
			t.Fatal(err)
		}
	}
	return entries
}

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
func (l *paged) write(t *testing.T, entries [][]byte) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "m")
	system := medium.InPages(systemOf(t, l.bundle, entries), entries, pagedOctets)
	x := &medium.Invited{Plan: []byte("plan"), System: system, Invitations: map[string][]byte{"device-1": {1}}}
	if err := medium.WriteInvited(dir, x, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (l *paged) read(dir string) (ledger.State, error) {
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

// TestPages: a ledger is verified page by page, as often as one likes.
func TestPages(t *testing.T) {
	l := newPaged(t)
	dir := l.write(t, l.entries)
	pages := pagesOf(t, dir)
	if len(pages) < 7 {
		t.Fatalf("pages %q", pages)
	}
	x, err := medium.ReadInvited(dir)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for range 2 {
		state, err := x.System.State(l.State.System(), func(s string) { said = append(said, s) })
		if err != nil || state.Head() != l.State.Head() || state.Height() != pagedEntries {
			t.Fatalf("%v, %d entries", err, state.Height())
		}
	}
	if len(said) != 2*len(pages) || said[len(pages)-1] != fmt.Sprintf("entry %d of %d", pagedEntries, pagedEntries) {
		t.Errorf("said %q", said)
	}
}

// TestLongLedger: a ledger that fits into no message goes there in pages, none of
// which is longer than a page, and the first is verified before the second is
// read. To verify all of it takes too long here: the rest of its entries are none.
func TestLongLedger(t *testing.T) {
	const real = 32
	s := ledgertest.New(t, ledgertest.WithManyPersons())
	bundle, err := envelope.Marshal(s.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	none, err := envelope.Marshal(&ledger.SignedEntry{Entry: make([]byte, 60<<10)})
	if err != nil {
		t.Fatal(err)
	}
	entries := append(s.Long(t, real), slices.Repeat([][]byte{none}, envelope.MaxMessage/len(none))...)
	if n := len(slices.Concat(entries...)); n <= envelope.MaxMessage {
		t.Fatalf("%d octets are not long", n)
	}
	dir := filepath.Join(t.TempDir(), "m")
	x := &medium.Invited{Plan: []byte("plan"), System: systemOf(t, bundle, entries), Invitations: map[string][]byte{}}
	var said []string
	say := func(s string) { said = append(said, s) }
	if err := medium.WriteInvited(dir, x, say); err != nil {
		t.Fatal(err)
	}
	pages := pagesOf(t, dir)
	if len(pages) < 8 || filepath.Base(pages[0]) != "0001.cbor" || !slices.Contains(said, "ledger/0008.cbor") {
		t.Fatalf("pages %q, said %q", pages, said)
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
	var damaged *medium.DamagedError
	if _, err := y.System.State(s.State.System(), say); !errors.As(err, &damaged) || damaged.File != "ledger/0002.cbor" || !strings.Contains(err.Error(), fmt.Sprintf("entry %d:", real+1)) {
		t.Errorf("%v", err)
	}
	if len(said) != 1 || !strings.HasSuffix(said[0], fmt.Sprintf(" of %d", len(entries))) {
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
	if _, err := medium.SystemOf(bundle, slices.Repeat([][]byte{make([]byte, 1<<20)}, api.MaxLedger>>20+1)); err == nil || !strings.Contains(err.Error(), "more than 268435456 octets") {
		t.Error(err)
	}
}

// TestWrongPages: every page has its place. What is missing, twice, elsewhere, of
// another ledger or of a fork is refused by the page's name, also by a list that
// was made to fit.
func TestWrongPages(t *testing.T) {
	l := newPaged(t)
	good := l.write(t, l.entries)
	count := len(pagesOf(t, good))
	stranger := newPaged(t, func(g *ledger.Genesis) { g.Name = "Another" })
	alien := stranger.write(t, stranger.entries)
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
		{"the last missing", fmt.Sprintf("ledger/%04d.cbor", count), "is missing: the ledger has 20 entries", nil, func(t *testing.T, dir string) { remove(t, at(dir, count)) }},
		{"all missing", "ledger/0001.cbor", "is missing: the ledger has 20 entries, and its pages end with entry 0", nil, func(t *testing.T, dir string) {
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
		{"a longer ledger's", "ledger/0001.cbor", "and the ledger has 1", nil, func(t *testing.T, dir string) {
			replace(t, filepath.Join(l.write(t, l.entries[:1]), "system.cbor"), filepath.Join(dir, "system.cbor"))
		}},
		{"of another system", "ledger/0001.cbor", "entry 1", new(*ledger.SystemError), func(t *testing.T, dir string) { replace(t, at(alien, 1), at(dir, 1)) }},
		{"of a fork", "", fmt.Sprintf("entry %d", pagedFork+2), new(*ledger.ForkError), func(t *testing.T, dir string) {
			short := l.write(t, l.entries[:pagedFork+1])
			if err := os.RemoveAll(filepath.Join(dir, "ledger")); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(filepath.Join(dir, "ledger"), os.DirFS(filepath.Join(short, "ledger"))); err != nil {
				t.Fatal(err)
			}
			raw, err := envelope.Marshal(struct {
				After   uint64   `cbor:"1,keyasint"`
				Entries [][]byte `cbor:"2,keyasint"`
			}{pagedFork + 1, l.fork[pagedFork+1:]})
			if err != nil {
				t.Fatal(err)
			}
			write(t, at(dir, len(pagesOf(t, dir))+1), string(raw))
		}},
		{"a fork's end", "", "is of another ledger", nil, func(t *testing.T, dir string) {
			other := l.write(t, l.fork[:pagedFork+1])
			if err := os.RemoveAll(filepath.Join(dir, "ledger")); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(filepath.Join(dir, "ledger"), os.DirFS(filepath.Join(other, "ledger"))); err != nil {
				t.Fatal(err)
			}
			replace(t, filepath.Join(l.write(t, l.entries[:pagedFork+1]), "system.cbor"), filepath.Join(dir, "system.cbor"))
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
			if err := os.Truncate(at(dir, 2), 1000); err != nil {
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
	l := newPaged(t)
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

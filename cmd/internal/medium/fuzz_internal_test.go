package medium

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// system is one with a ledger of three entries, in a page.
func system(t testing.TB) (id envelope.Hash, s System, raw []byte) {
	x := ledgertest.New(t)
	bundle, err := envelope.Marshal(x.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	var entries [][]byte
	state := x.State
	for i := range 3 {
		e := x.Entry(t, state, ledger.KindNotice, ledger.Notice{Text: fmt.Sprint("notice ", i), From: x.Now, Until: x.Now + 600}, x.Now)
		if state, err = ledger.Catchup(state, []ledger.SignedEntry{e}); err != nil {
			t.Fatal(err)
		}
		raw, err := envelope.Marshal(&e)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, raw)
	}
	if s, err = SystemOf(bundle, entries); err != nil {
		t.Fatal(err)
	}
	for f, err := range s.pages {
		if err != nil || raw != nil {
			t.Fatal("no page, or more than one: ", err)
		}
		raw = f.data
	}
	return x.State.System(), s, raw
}

// FuzzSystem: what is read of system.cbor is what would be written of it.
func FuzzSystem(f *testing.F) {
	bundle := []byte("a bundle")
	for _, s := range []systemFile{{bundle, 3, envelope.Hash{1}}, {bundle, 0, envelope.Hash{}}, {nil, 0, envelope.Hash{1}}} {
		raw, err := envelope.Marshal(&s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := decodeSystem(raw)
		if err != nil {
			return
		}
		if s.Height == 0 && !s.Head.IsZero() {
			t.Error("the last of no entries")
		}
		again, err := envelope.Marshal(&systemFile{s.Bundle, s.Height, s.Head})
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%v: %x was read, %x written", err, raw, again)
		}
	})
}

// FuzzPage: of whatever a page says, nothing comes into the ledger that the
// authority did not sign, and its state never goes beyond the height that was
// said.
func FuzzPage(f *testing.F) {
	id, s, raw := system(f)
	want, err := s.State(id, nil)
	if err != nil {
		f.Fatal(err)
	}
	empty := System{Bundle: s.Bundle}
	genesis, err := empty.State(id, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	p, err := decodePage(raw)
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range []page{{1, p.Entries[1:]}, {0, p.Entries[:1]}, {0, nil}, {0, [][]byte{p.Entries[0], p.Entries[0]}}, {1 << 63, p.Entries}} {
		raw, err := envelope.Marshal(&p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		x := folding{state: genesis, height: 2} // the authority signed three
		err := x.page(raw)
		at := x.state.Height()
		if known, _ := want.HashAt(at); at > 2 || x.state.Head() != known {
			t.Errorf("another ledger was accepted, of %d entries", at)
		}
		if p, e := decodePage(raw); e == nil {
			again, e := envelope.Marshal(p)
			if e != nil || !bytes.Equal(again, raw) || len(p.Entries) == 0 {
				t.Errorf("%v: %x was read, %x written", e, raw, again)
			}
		} else if err == nil {
			t.Error(e)
		}
	})
}

// FuzzList: a list names known files inside the medium alone, each once, in
// order, and not without end.
func FuzzList(f *testing.F) {
	sum := strings.Repeat("0", 64)
	for _, names := range [][]string{
		{FilePlan, fileSystem, pageName(1), pageName(2), "invitations/device-1.invitation", "abandoned/01.dealing"},
		{FileDealing, FileRoot, FileReserve, "shares/device-1.share"}, {"../x", "/x", "ledger/../plan.yaml", "ledger/.cbor", "shares/a/b.share"},
	} {
		f.Add(sum + "  " + strings.Join(names, "\n"+sum+"  ") + "\n")
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, list := range []string{listInvited, listDealt} {
			lines, err := parseList(list, []byte(text))
			if err != nil {
				continue
			}
			if len(lines) > maxFiles+maxPages {
				t.Errorf("%d files", len(lines))
			}
			for i, l := range lines {
				if !known(list, l.name) || strings.Contains(l.name, "../") || strings.HasPrefix(l.name, "/") || i > 0 && lines[i-1].name >= l.name {
					t.Errorf("%q after %q", l.name, lines[max(i, 1)-1].name)
				}
			}
		}
	})
}

// TestLimits: what a home keeps fits into the pages that are read, and what has
// to be in a list into a list.
func TestLimits(t *testing.T) {
	if most := int64(maxPages) * maxPage; most < 256<<20 {
		t.Errorf("%d octets in all", most)
	}
	// The shortest entries there are, and the longest, cut as they are written.
	for _, size := range []int{300, ledger.MaxEntry + 1024} {
		entries := make([][]byte, (3<<20)/size)
		for i := range entries {
			entries[i] = make([]byte, size)
		}
		pages, octets, last := 0, 0, 0
		for f, err := range cut(entries, api.PageOctets) {
			if err != nil || len(f.data) > maxPage {
				t.Errorf("page %d of entries of %d octets: %d octets, %v", pages+1, size, len(f.data), err)
			}
			pages++
			octets, last = octets+len(f.data), len(f.data)
		}
		// As many as this of a whole ledger.
		if per := (octets - last) / (pages - 1); (256<<20)/per+1 > maxPages {
			t.Errorf("pages of entries of %d octets have %d: a ledger has more than %d", size, per, maxPages)
		}
	}
	if n := len(pageName(maxPages)); n != len(pageName(1)) {
		t.Error("the last page's name is longer than the first's: they sort otherwise")
	}
}

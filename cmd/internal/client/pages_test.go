package client_test

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// TestLongLedger: a ledger that fits into no message goes to a message server
// and comes to a home, and an interruption costs a page.
func TestLongLedger(t *testing.T) {
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	site := newOwnSite(t)
	row := site.row
	sys := ledgertest.New(t, ledgertest.WithManyPersons(), func(g *ledger.Genesis) { g.Servers[0] = *row })
	site.start(t, sys)
	conn, err := client.Dial(*row)
	fail(err)
	t.Cleanup(conn.Close)
	bundle, err := envelope.Marshal(sys.Bundle)
	fail(err)
	joined, err := client.Verify(sys.State.System(), row.ID, bundle, nil)
	fail(err)
	all := sys.Long(t, 130)
	if n := len(slices.Concat(all...)); n < web.MaxBody {
		t.Fatalf("%d octets are not long", n)
	}

	fail(conn.Commission(t.Context(), bundle, all[:50]))
	bad := slices.Clone(all)
	bad[100] = slices.Clone(bad[100])
	bad[100][len(bad[100])-1] ^= 1
	if err := conn.Commission(t.Context(), bundle, bad); err == nil || !strings.Contains(err.Error(), "signature") {
		t.Errorf("an entry that the authority did not sign: %v", err)
	}
	if p, err := conn.System(t.Context(), 130, false); err != nil || p.Height != 100 {
		t.Errorf("%d entries are there: %v", p.Height, err)
	}
	for range 2 {
		fail(conn.Commission(t.Context(), bundle, all))
	}
	home := filepath.Join(t.TempDir(), "home")
	fail(joined.Save(home))
	fail(joined.Refresh(t.Context(), conn))
	again, err := client.Open(home)
	fail(err)
	if again.State().Head() != sys.State.Head() || !slices.EqualFunc(again.Entries(), all, bytes.Equal) {
		t.Errorf("the home has %d entries, not these", again.State().Height())
	}
	if err := conn.Extend(t.Context(), 140, all[:1]); err == nil || !strings.Contains(err.Error(), "this server has 130") {
		t.Errorf("a gap: %v", err)
	}
}

// TestLyingPages: what a server leaves out, repeats or makes up is noticed, and
// the home keeps what was good.
func TestLyingPages(t *testing.T) {
	w := newWorld(t, ledgertest.WithManyPersons())
	w.Long(64)
	conn := w.dial("server-1")
	pages := 0
	var last [][]byte
	for _, c := range []struct {
		name, want string
		lie        func(p *api.SystemPage)
	}{
		{"left out", "does not follow", func(p *api.SystemPage) { p.System.Entries = p.System.Entries[1:] }},
		{"repeated", "is already in the chain", func(p *api.SystemPage) { p.System.Entries = last }},
		{"another page", "asked for it after", func(p *api.SystemPage) { p.System.After++ }},
		{"none", "and shows none after", func(p *api.SystemPage) { p.System.Entries = nil }},
		{"more than there are", "in all", func(p *api.SystemPage) { p.Height = p.System.After }},
		{"another past", "differs from this home's", func(p *api.SystemPage) { p.Prev[0] ^= 1 }},
		{"a forged entry", "signature", func(p *api.SystemPage) { x := p.System.Entries[0]; x[len(x)-1] ^= 1 }},
		{"no entry", "ledger entry", func(p *api.SystemPage) { p.System.Entries[0] = []byte{0xa0} }},
	} {
		b, err := client.Verify(w.State.System(), "server-1", w.bundle(), nil)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "home")
		if err := b.Save(dir); err != nil {
			t.Fatal(err)
		}
		pages = 0
		w.Page = func(p *api.SystemPage) {
			p.System.Entries = slices.Clone(p.System.Entries)
			for i, e := range p.System.Entries {
				p.System.Entries[i] = bytes.Clone(e)
			}
			if pages++; pages == 2 {
				c.lie(p)
			}
			last = p.System.Entries
		}
		if err := b.Refresh(t.Context(), conn); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		b, err = client.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		kept := b.State().Height()
		if kept == 0 || kept >= 64 {
			t.Errorf("%s: the home kept %d entries", c.name, kept)
		}
		if err := b.Refresh(t.Context(), conn); err != nil || b.State().Height() != 64 {
			t.Errorf("%s: afterwards %d entries, %v", c.name, b.State().Height(), err)
		}
		// A server that is behind is no news, unless it was on another way.
		w.Page = func(p *api.SystemPage) {
			p.Height, p.System.Entries, p.Prev = 3, nil, envelope.Hash{}
			p.Head, _ = b.State().HashAt(3)
		}
		if err := b.Refresh(t.Context(), conn); err != nil {
			t.Errorf("%s: a server that is behind: %v", c.name, err)
		}
		w.Page = func(p *api.SystemPage) { p.Height, p.System.Entries, p.Head = 3, nil, envelope.Hash{1} }
		if err := b.Refresh(t.Context(), conn); err == nil || !strings.Contains(err.Error(), "differs from this home's at position 3") {
			t.Errorf("%s: a server that is behind on another way: %v", c.name, err)
		}
	}
}

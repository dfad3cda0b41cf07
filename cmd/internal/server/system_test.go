package server

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

func octets(entries [][]byte) (n int) {
	for _, e := range entries {
		n += len(e)
	}
	return n
}

// TestLongLedger: a ledger that fits into no message comes to a server in pages,
// with a crash among them, and from there to its devices, to a source, and to
// whoever asks.
func TestLongLedger(t *testing.T) {
	b := newBeatRig(t, ledgertest.WithManyPersons())
	src := b.source("source-1")
	b.commission()
	all := b.sys.Long(t, 130)
	if n := octets(all); n < web.MaxBody || n < link.MaxMessage {
		t.Fatalf("%d octets are not long", n)
	}
	hand := func(entries [][]byte, after uint64) uint64 {
		for len(entries) > 0 {
			page := api.FirstOf(entries, api.PageOctets)
			after = b.hand("server-1", &api.System{After: after, Entries: page})
			entries = entries[len(page):]
		}
		return after
	}
	if at := hand(all[:60], 0); at != 60 {
		t.Fatalf("%d entries are taken of 60", at)
	}
	b.servers["server-1"].Close()
	b.start("server-1")
	if at := b.page("server-1", 1<<62, false).Height; at != 60 {
		t.Fatalf("%d entries of 60 are there after a restart", at)
	}
	if at := hand(all[60:], 60); at != 130 {
		t.Fatalf("%d entries are taken of 130", at)
	}
	for _, id := range []string{"device-1", "device-2", "device-3"} {
		eventually(t, "the ledger at "+id, func() bool { s := b.devices[id].Ledger(); return s.Height() == 130 && s.Head() == b.sys.State.Head() })
	}
	eventually(t, "the ledger at source-1", func() bool { src.mu.Lock(); defer src.mu.Unlock(); return src.state.Height() == 130 })
	src.mu.Lock()
	if least := octets(all) / (maxCatchup + ledger.MaxEntry); src.pages < least {
		t.Errorf("the source was told %d pages, at least %d have to be", src.pages, least)
	}
	src.mu.Unlock()

	var got [][]byte
	first := b.page("server-1", 0, true)
	var bundle ledger.Bundle
	if err := envelope.Unmarshal(first.System.Bundle, &bundle); err != nil || !bytes.Equal(bundle.Genesis, b.sys.Bundle.Genesis) {
		t.Errorf("the bundle: %v", err)
	}
	for p := first; ; p = b.page("server-1", uint64(len(got)), false) {
		if n := octets(p.System.Entries); n > api.PageOctets || p.Height != 130 || p.Head != b.sys.State.Head() {
			t.Fatalf("a page of %d octets, %d entries in all", n, p.Height)
		}
		if want, _ := b.sys.State.HashAt(uint64(len(got))); p.Prev != want {
			t.Errorf("the page after %d follows another entry", len(got))
		}
		if got = append(got, p.System.Entries...); len(got) == 130 {
			break
		}
	}
	if !slices.EqualFunc(got, all, bytes.Equal) {
		t.Error("another ledger came back")
	}
}

// TestPages: what does not follow is refused by name, and what came before it
// stays.
func TestPages(t *testing.T) {
	r := newRig(t)
	bundle, err := envelope.Marshal(r.sys.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	var entries [][]byte
	state := r.sys.State
	add := func(text string) []byte {
		x := r.sys.Entry(t, state, ledger.KindNotice, ledger.Notice{Text: text, From: r.unix(), Until: r.unix() + 600}, r.unix())
		raw, err := envelope.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		if text != "fork" {
			entries = append(entries, raw)
			if state, err = ledger.Catchup(state, []ledger.SignedEntry{x}); err != nil {
				t.Fatal(err)
			}
		}
		return raw
	}
	fork := add("fork")
	add("one")
	add("two")
	add("three")
	bad := slices.Clone(entries[2])
	bad[len(bad)-1] ^= 1
	no := func(what string, page *api.System, code int, word string, height uint64) {
		t.Helper()
		_, err := r.tryHand("server-1", page)
		refused(t, what, err, code, word)
		if at := r.page("server-1", 0, false).Height; at != height {
			t.Errorf("%s: %d entries are there, not %d", what, at, height)
		}
	}
	_, err = r.tryHand("server-1", &api.System{Entries: entries})
	refused(t, "entries without a bundle", err, http.StatusConflict, "begin with the bundle")
	if at := r.hand("server-1", &api.System{Bundle: bundle, Entries: entries[:1]}); at != 1 {
		t.Errorf("%d entries are there", at)
	}
	no("a gap", &api.System{After: 2, Entries: entries[2:]}, http.StatusConflict, "follows entry 2 of the ledger, and this server has 1", 1)
	no("one left out", &api.System{After: 1, Entries: entries[2:]}, http.StatusForbidden, "does not follow", 1)
	no("a fork", &api.System{Entries: [][]byte{fork}}, http.StatusConflict, "not a continuation", 1)
	no("no entry", &api.System{After: 1, Entries: [][]byte{{0xa0}}}, http.StatusForbidden, "entry 2", 1)
	no("a bad signature at the end", &api.System{After: 1, Entries: [][]byte{entries[1], bad}}, http.StatusForbidden, "signature", 2)
	for range 2 { // a page that is handed again is no mistake
		if at := r.hand("server-1", &api.System{Bundle: bundle, Entries: entries}); at != 3 {
			t.Errorf("%d entries are there", at)
		}
	}
	if at := r.hand("server-1", &api.System{After: 3}); at != 3 {
		t.Errorf("%d entries are there", at)
	}
	r.servers["server-1"].Close()
	r.start("server-1")
	if p := r.page("server-1", 2, false); p.Height != 3 || p.Head != state.Head() || len(p.System.Entries) != 1 {
		t.Errorf("after a restart: %d entries", p.Height)
	}

	// A second system that lists the same server.
	again := r.sys.Genesis
	again.Name = "Another"
	other := &ledgertest.System{Genesis: again, Devices: r.sys.Devices, Persons: r.sys.Persons, Sources: r.sys.Sources, Keys: r.sys.Keys}
	other.Commission(t)
	if bundle, err = envelope.Marshal(other.Bundle); err != nil {
		t.Fatal(err)
	}
	no("another system", &api.System{Bundle: bundle}, http.StatusConflict, "belongs to another system", 3)

	// The limit has a name; nobody signs so much for a test.
	sys := &system{state: r.sys.State, size: api.MaxLedger - len(entries[0]) - 1}
	if err := sys.fold(&api.System{Entries: entries}); !errors.Is(err, errFull) || len(sys.entries) != 1 {
		t.Errorf("%d entries above the limit: %v", len(sys.entries), err)
	}
}

// TestAsks: a source is given one page at a time, however fast it asks, and
// nobody else is given one.
func TestAsks(t *testing.T) {
	b := newBeatRig(t)
	b.commission()
	src := b.source("source-1")
	b.source("source-3")
	eventually(t, "the system", func() bool { systems, _ := src.told(); return systems == 1 })
	from := b.servers["server-1"].system().peers.m["source-1"]
	ask := func(by string, system envelope.Hash) error {
		frame := b.sources[by].ask(system)
		if !isAsk(from, frame) {
			t.Fatal("an ask that is not taken for one")
		}
		return b.servers["server-1"].askedSystem(b.servers["server-1"].system(), from, frame)
	}
	if err := ask("source-3", envelope.Hash{}); err != errForged {
		t.Errorf("another source's: %v", err)
	}
	if err := ask("source-1", envelope.Hash{1}); err != errForged {
		t.Errorf("of another system: %v", err)
	}
	port := b.servers["server-1"].port("source-1")
	port.behind <- struct{}{}
	if err := ask("source-1", b.sys.State.System()); err != errFlood {
		t.Errorf("while one is on its way: %v", err)
	}
	<-port.behind
	if err := ask("source-1", b.sys.State.System()); err != nil {
		t.Error(err)
	}
	eventually(t, "the system again", func() bool { systems, _ := src.told(); return systems == 2 })
	if from.device = true; isAsk(from, b.sources["source-1"].ask(envelope.Hash{})) {
		t.Error("a device's ask is taken")
	}
}

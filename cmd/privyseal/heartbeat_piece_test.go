package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/cmd/internal/source"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// A source's keys go from its disk into pieces, from two holders' cards to
// whoever restores it, and back onto a disk.
func TestHandOverPieces(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "source")
	row, err := source.Init(dir, source.Config{
		ID: "keys-1", Name: "Source in the cellar", Kind: ledger.SourceMessage, Server: "server-1", Operators: []string{ledgertest.Operator}, Link: "unix:/run/x",
	}, envelope.Hash{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	r := newRigWith(t, func(g *ledger.Genesis) { g.Sources = append(g.Sources, *row) }, "officer-1a", "officer-1b")
	bundle, err := envelope.Marshal(r.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	data, err := envelope.Marshal(heartbeat.System{Bundle: bundle, Entries: [][]byte{}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"ledger": data, "system": []byte(r.State.System().String() + "\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	saved := filepath.Join(t.TempDir(), "backup")
	m, err := source.Backup(dir, saved, 2, []source.Holder{{Person: "officer-1a", Card: 11}, {Person: "officer-1b"}, {Person: "officer-2a"}}, 2)
	if err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(t.TempDir(), "restored")
	ask, err := source.BeginRestore(fresh, m, "unix:/run/x", nil, 3)
	if err != nil {
		t.Fatal(err)
	}
	request := filepath.Join(fresh, "request.json")
	piece := func(n int) string { return filepath.Join(saved, m.Pieces[n].File) }
	answer := func(n int) string { return strings.TrimSuffix(piece(n), ".json") + ".answer.json" }
	args := []string{"heartbeat", "piece", piece(0), "--for", request}

	// Whoever cannot say the fingerprint did not speak with whom he helps. No PIN
	// is asked for, and the fingerprint is nowhere to be copied from.
	for _, typed := range []string{"0000 0000 0000 0000 0000\n", "\n", "", "y\n"} {
		x := r.run(r.nobody(), &typed, args...)
		if x.code != exitFailed || strings.Contains(x.out+x.err, ask.Fingerprint()) {
			t.Errorf("%q: %d\n%s%s", typed, x.code, x.out, x.err)
		}
	}
	typed := strings.ToUpper(ask.Fingerprint()) + "\n"
	x := r.run(&pins{give: []string{virtual.DefaultPIN}}, &typed, args...)
	if x.code != exitOK || !strings.Contains(x.out, "piece 1 of source keys-1 written to "+answer(0)) {
		t.Fatalf("%d\n%s%s", x.code, x.out, x.err)
	}
	for _, want := range []string{"1 of 3, of officer-1a, sealed to card 11", "keys-1 (Source in the cellar): any 2 pieces make it anew", "operated by requester"} {
		if !strings.Contains(x.err, want) {
			t.Errorf("no %q in:\n%s", want, x.err)
		}
	}
	r.fails(exitFailed, r.nobody(), "exists already", args...)
	// Not the card that the piece is sealed to: the piece stays closed.
	stolen, err := os.ReadFile(piece(0))
	if err != nil {
		t.Fatal(err)
	}
	other := file(t, "other.json", []byte(strings.Replace(string(stolen), `"card": 11`, `"card": 12`, 1)))
	x = r.run(&pins{give: []string{virtual.DefaultPIN}}, &typed, "heartbeat", "piece", other, "--for", request)
	if x.code != exitFailed || !strings.Contains(x.err, "this is another") {
		t.Errorf("%d\n%s", x.code, x.err)
	}
	// Without a home, on another day's machine.
	home := r.home
	r.home = t.TempDir()
	x = r.run(&pins{give: []string{virtual.DefaultPIN}}, &typed, "--json", "heartbeat", "piece", piece(1), "--for", request)
	if got := decode[struct{ File string }](t, x); x.code != exitOK || got.File != answer(1) {
		t.Fatalf("%d\n%s%s", x.code, x.out, x.err)
	}
	r.home = home

	back, _, err := source.Restore(fresh, []string{answer(0), answer(1)}, 4)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(back.Sign, back.Agree) != fmt.Sprint(row.Sign, row.Agree) {
		t.Error("another source came back")
	}

	// A request for another backup of the same source.
	if m, err = source.Backup(dir, filepath.Join(t.TempDir(), "later"), 2, []source.Holder{{Person: "officer-1a", Card: 11}, {Person: "officer-1b"}}, 5); err != nil {
		t.Fatal(err)
	}
	m.Check[0] ^= 1
	later := filepath.Join(t.TempDir(), "restored")
	if _, err := source.BeginRestore(later, m, "unix:/run/x", nil, 6); err != nil {
		t.Fatal(err)
	}
	r.fails(exitFailed, r.nobody(), "another backup", "heartbeat", "piece", piece(0), "--for", filepath.Join(later, "request.json"), "--out", filepath.Join(t.TempDir(), "x"))
	r.fails(exitFailed, r.nobody(), "no such file", "heartbeat", "piece", piece(0)+"x", "--for", request)
	r.fails(exitUsage, r.nobody(), "required flag", "heartbeat", "piece", piece(0))
}

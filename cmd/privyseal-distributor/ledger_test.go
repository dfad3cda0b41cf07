package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// TestLongLedger: a system whose ledger is in pages is brought to the distributor,
// which deals by the last of its tables; also one that fits into no message is
// read, up to the first entry that the authority did not sign.
func TestLongLedger(t *testing.T) {
	const entries = 33 // two pages
	r := newRig(t, ledgertest.WithManyPersons())
	operator := r.Persons[ledgertest.Requester]
	slices.Reverse(operator.Cards) // the first one is in a reader; this one needs none
	r.entries = r.Long(t, entries)
	id := r.State.System().String()
	dir := r.invite(r.plan(2, "none"))
	x := r.ok("", "show", dir, "--system", id)
	if want := fmt.Sprintf("ledger position %d, head %s", entries, r.State.Head()); !strings.Contains(x.out, want) {
		t.Errorf("no %q in\n%s", want, x.out)
	}
	before := listing(t, dir)
	spoilt := filepath.Join(t.TempDir(), "medium")
	r.check(os.CopyFS(spoilt, os.DirFS(dir)))
	r.check(os.Truncate(filepath.Join(spoilt, "ledger", "0002.cbor"), 1000))
	x = r.fails(command.ExitFailed, "ledger/0002.cbor: its checksum is not that in INVITED.sha256", "bank-ca\n", "deal", spoilt, "--system", id)
	if !strings.Contains(x.err, "take a new one and begin again") {
		t.Error(x.err)
	}
	r.ok("bank-ca\n", "deal", dir, "--system", id)
	if d := r.install(dir); len(d.Shares) != 5 || d.Dealing.Key.ID != "bank-ca" {
		t.Errorf("%d shares of %s", len(d.Shares), d.Dealing.Key.ID)
	}
	after := listing(t, dir)
	for name, was := range before {
		if after[name] != was {
			t.Errorf("%s was overwritten", name)
		}
	}

	none, err := envelope.Marshal(&ledger.SignedEntry{Entry: make([]byte, 60<<10)})
	r.check(err)
	for octets := 0; octets <= envelope.MaxMessage; octets += len(none) {
		r.entries = append(r.entries, none)
	}
	long := r.invite(r.plan(2, "none"))
	if _, err := os.Stat(filepath.Join(long, "ledger", "0009.cbor")); err != nil {
		t.Fatal(err)
	}
	r.fails(command.ExitFailed, fmt.Sprintf("ledger/0002.cbor: entry %d:", entries+2), "", "show", long, "--system", id)
}

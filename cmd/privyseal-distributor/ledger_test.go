package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// TestLongLedger: a system whose ledger fits into no message is brought to the
// distributor, which deals by the last of its tables.
func TestLongLedger(t *testing.T) {
	r := newRig(t, ledgertest.WithManyPersons())
	operator := r.Persons[ledgertest.Requester]
	slices.Reverse(operator.Cards) // the first one is in a reader; this one needs none
	r.entries = r.Long(t, 250)
	if n := len(slices.Concat(r.entries...)); n <= envelope.MaxMessage {
		t.Fatalf("%d octets are not long", n)
	}
	id := r.State.System().String()
	dir := r.invite(r.plan(2, "none"))
	x := r.ok("", "show", dir, "--system", id)
	if want := fmt.Sprintf("ledger position 250, head %s", r.State.Head()); !strings.Contains(x.out, want) {
		t.Errorf("no %q in\n%s", want, x.out)
	}
	before := listing(t, dir)
	spoilt := filepath.Join(t.TempDir(), "medium")
	r.check(os.CopyFS(spoilt, os.DirFS(dir)))
	r.check(os.Truncate(filepath.Join(spoilt, "ledger", "0007.cbor"), 1000))
	x = r.fails(exitFailed, "ledger/0007.cbor: its checksum is not that in INVITED.sha256", "bank-ca\n", "deal", spoilt, "--system", id)
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
}

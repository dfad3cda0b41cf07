package desk

import (
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

func TestPolicyLines(t *testing.T) {
	p := ledgertest.Policy()
	p.Destroy = 30 * 86400
	for _, want := range []string{
		"device-1 goes on while 2 of 3 sources speak; each beat grants 5 s",
		"its sources: message-1, sequence-1, satellite-1; asked every 1 s",
		"a source of messages speaks while 2 of them fall into 5 s",
		"of a sequence up to 3 values in a row may be lost",
		"its shares are destroyed after 30 days without beats, powered time only, once a tested backup of each is on record",
	} {
		if got := PolicyLines("device-1", &p); !slices.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	one := ledger.Heartbeat{Sources: []string{"a"}, Needed: 1, Period: 500, Lease: 1500}
	got := strings.Join(PolicyLines("device-1", &one), "; ")
	if got != "device-1 goes on while its only source speaks; each beat grants 1.5 s; its sources: a; asked every 0.5 s; its shares are never destroyed" {
		t.Errorf("%s", got)
	}
}

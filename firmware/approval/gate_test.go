package approval

import (
	"errors"
	"testing"

	"github.com/privyseal/privyseal/firmware/ledger"
)

// No genesis with such a quorum exists; if one did, nothing would pass.
func TestQuorumBelowTwo(t *testing.T) {
	for quorum := range uint64(ledger.MinQuorum) {
		g := gate{device: "device-1", holder: ledger.Holder{Quorum: quorum}}
		q, err := g.count(nil)
		var e *QuorumError
		if q != nil || !errors.As(err, &e) || e.Quorum != quorum {
			t.Errorf("quorum of %d: %v, %v", quorum, q, err)
		}
	}
}

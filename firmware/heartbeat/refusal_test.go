package heartbeat_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// TestCorruptRefusal has a corrupt source refuse with what it likes: the device
// says it on, with each of its reports, to people.
func TestCorruptRefusal(t *testing.T) {
	for text, want := range map[string]int{"": 1, "too late": 8, strings.Repeat("x", 1<<20): 256} {
		m := heartbeat.NewMonitor("d1", ledger.Heartbeat{Sources: []string{"t1"}, Needed: 1, Period: 1000, Lease: 3000},
			map[string]string{"t1": ledger.SourceSatellite}, 1)
		q, _, due := m.Challenge(1, [32]byte{1})
		if !due {
			t.Fatal("no challenge")
		}
		err := m.Accept(2, &heartbeat.Beat{Source: "t1", Kind: heartbeat.KindRefusal, Nonce: q.Nonce, Code: text, Text: text})
		var refused *heartbeat.RefusedError
		if !errors.As(err, &refused) || len(refused.Code) > 256 {
			t.Fatalf("%.100v", err)
		}
		if v := m.Sources(2)[0]; v.State != heartbeat.StateRefuses || len(v.Text) < want || len(v.Text) > 256 {
			t.Errorf("%.10q: %s with a text of %d octets", text, v.State, len(v.Text))
		}
	}
}

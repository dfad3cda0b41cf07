package coordinator_test

import (
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
)

// TestEvidenceTakenAway: a calculator may send a combiner other powers than it
// sends the distributor, and then prove the right ones; the combiner, which is
// right, is believed for what it can show. A site that repeats its word without
// what it shows has nobody named, neither before the combiner's own packet
// arrives nor in its place.
func TestEvidenceTakenAway(t *testing.T) {
	sys, a := printed(t)
	raw := coordtest.LayersRequest(t, sys, a, sys.State.Time(), 3600)
	for name, replaced := range map[string]bool{"in its place": true, "before it": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorldOf(t, sys, a)
			// To the distributor such a combiner looks as one that accuses without
			// reason. The difference is what it shows.
			w.fault(coordtest.FalseAccuser, device(6))
			stripped := 0
			w.cut = func(p tolerant.Packet, site string) bool {
				if p.Kind != tolerant.KindCombined || len(p.Evidence) == 0 {
					return false
				}
				q := p
				q.Evidence = nil
				msg, err := tolerant.Marshal(q)
				if err != nil {
					t.Fatal(err)
				}
				stripped++
				w.event(func() { w.deliver(site, msg) })
				return replaced
			}
			g := w.start("server-1", raw)
			w.pass(120)
			if stripped == 0 {
				t.Fatal("the combiner showed nothing")
			}
			if replaced {
				g.signed() // and nobody named
			} else {
				g.signed(device(6))
			}
			w.over()
		})
	}
}

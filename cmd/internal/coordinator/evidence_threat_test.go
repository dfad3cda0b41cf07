package coordinator_test

import (
	"fmt"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// TestEvidenceTakenAway: a combiner that accuses without reason has signed what
// it was given, and is named for that, whatever a site makes of its packets.
func TestEvidenceTakenAway(t *testing.T) {
	sys, a := printed(t)
	raw := coordtest.LayersRequest(t, sys, a, sys.State.Time(), 3600)
	for name, replaced := range map[string]bool{"in its place": true, "before it": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorldOf(t, sys, a)
			w.fault(coordtest.FalseAccuser, device(6))
			w.forge(replaced, nil)
			g := w.start("server-1", raw)
			w.pass(120)
			g.signed(device(6))
			w.over()
		})
	}
}

// forge has a site repeat what combiners say to the distributor with other
// evidence, before it or in its place.
func (w *world) forge(replaced bool, evidence [][]byte) {
	w.t.Helper()
	forged := map[string]bool{}
	before := w.cut
	w.cut = func(p tolerant.Packet, site string) bool {
		if before != nil && before(p, site) {
			return true
		}
		if p.Kind != tolerant.KindCombined || site != "server-1" || len(p.Evidence) == 0 {
			return false
		}
		q := p
		q.Evidence = evidence
		msg, err := tolerant.Marshal(q)
		if err != nil {
			w.t.Fatal(err)
		}
		if key := fmt.Sprint(q.Device, len(q.Evidence)); !forged[key] {
			forged[key] = true
			w.event(func() { w.deliver(site, msg) })
		}
		return replaced
	}
}

// TestTwoTongues: a calculator sends combiners wrong powers and the distributor
// the right ones, which it then proves, and a site that helps it takes away what
// the combiners show, or shows the right ones in its place. No combiner is named.
func TestTwoTongues(t *testing.T) {
	sys, a := printed(t)
	raw := coordtest.LayersRequest(t, sys, a, sys.State.Time(), 3600)
	for _, how := range []string{"shown", "taken away", "exchanged"} {
		for _, replaced := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, replaced %v", how, replaced), func(t *testing.T) {
				w := newWorldOf(t, sys, a)
				liar := device(2)
				w.fault(coordtest.Zero, liar)
				w.fault(coordtest.Silent, device(6)) // it is at the distributor's site
				var right []byte
				asked := false
				w.cut = func(p tolerant.Packet, site string) bool {
					if p.Kind == tolerant.KindConfirmed && p.Device == liar && len(p.Doubt) > 0 && !asked {
						asked = true
						w.fault(coordtest.Good, liar)
					}
					if p.Kind != tolerant.KindPowers || p.Device != liar || site != "server-1" || asked {
						return false
					}
					u, err := envelope.Parse(p.Message)
					if err != nil {
						t.Fatal(err)
					}
					var said firmware.Powers
					if err := envelope.Unmarshal(u.UnverifiedPayload(), &said); err != nil {
						t.Fatal(err)
					}
					if right == nil {
						said.Y = w.powersOf(a.Calculators[2], raw)
						right = w.devices[liar].Sign(firmware.TypePowers, said, [16]byte{3})
					}
					q := p
					q.Message = right
					msg, err := tolerant.Marshal(q)
					if err != nil {
						t.Fatal(err)
					}
					w.event(func() { w.deliver(site, msg) })
					return true
				}
				if how != "shown" {
					w.forge(replaced, nil)
				}
				if how == "exchanged" {
					cut := w.cut
					w.cut = func(p tolerant.Packet, site string) bool {
						if right != nil && p.Kind == tolerant.KindCombined && site == "server-1" && len(p.Evidence) > 0 && p.Evidence[0] != nil {
							q := p
							q.Evidence = [][]byte{right}
							if msg, err := tolerant.Marshal(q); err == nil {
								w.event(func() { w.deliver(site, msg) })
							}
							return replaced
						}
						return cut(p, site)
					}
				}
				g := w.start("server-1", raw)
				w.pass(120)
				out := g.r.Tracking()
				if out.State != api.StateDone || right == nil {
					t.Fatalf("%s: %s", out.State, out.Text)
				}
				for _, d := range out.Wrong {
					if d != liar {
						t.Errorf("%s is named: %+v", d, out.Liars)
					}
				}
				if how == "shown" && len(out.Wrong) == 0 {
					t.Error("who said two things is not named")
				}
			})
		}
	}
}

// powersOf are what a calculator should answer to a request.
func (w *world) powersOf(share twolayer.CalculatorShare, raw []byte) [][]byte {
	w.t.Helper()
	u, err := envelope.Parse(raw)
	if err != nil {
		w.t.Fatal(err)
	}
	var req document.Request
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &req); err != nil {
		w.t.Fatal(err)
	}
	checked, err := document.CheckIn(w.sys.State, &req, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	x, err := checked.EncodedMessage(u.UnverifiedDigest())
	if err != nil {
		w.t.Fatal(err)
	}
	key, _ := w.sys.State.Key(req.Key)
	var out [][]byte
	for _, d := range share.Keys {
		e, err := twolayer.NewExponentiator(&key.Public, d)
		if err != nil {
			w.t.Fatal(err)
		}
		y, err := twolayer.Power(&key.Public, x, e)
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, y)
	}
	return out
}

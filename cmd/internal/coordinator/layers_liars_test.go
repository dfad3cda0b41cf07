package coordinator_test

import (
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
)

// TestLiars: a calculator whose powers are wrong is named, and the signature is
// completed from others (P4). So is a combiner whose signature is wrong, or
// that says of right powers that they are wrong; who only is of no use is not.
func TestLiars(t *testing.T) {
	sys, a := printed(t)
	raw := coordtest.LayersRequest(t, sys, a, sys.State.Time(), 3600)
	cases := []struct {
		fault  coordtest.Fault
		who    []int
		unsure bool // whether it is found out depends on who is used; it may not be
	}{
		{coordtest.Random, []int{1}, false}, {coordtest.Random, []int{3}, false}, {coordtest.Random, []int{1, 2}, false},
		{coordtest.Zero, []int{2}, false}, {coordtest.Negated, []int{1}, false}, {coordtest.OtherInput, []int{2}, false},
		{coordtest.SwappedKeys, []int{3}, false}, {coordtest.Equivocal, []int{1}, false}, {coordtest.Repentant, []int{2}, false},
		{coordtest.BadProof, []int{1}, true}, // its powers are right
		{coordtest.NoProof, []int{1}, true},
		{coordtest.Refuser, []int{1, 2}, true}, {coordtest.Stranger, []int{1, 2}, true}, {coordtest.Locked, []int{1, 2}, true},
		{coordtest.Forger, []int{6}, false}, {coordtest.Forger, []int{6, 7}, false},
		{coordtest.FalseAccuser, []int{6}, false}, {coordtest.FalseAccuser, []int{7}, true},
		{coordtest.Helpless, []int{6, 7}, true}, {coordtest.Refuser, []int{6, 7}, true}, {coordtest.Stranger, []int{6, 7}, true},
	}
	for _, x := range cases {
		t.Run(fmt.Sprintf("%s %v", x.fault, x.who), func(t *testing.T) {
			w := newWorldOf(t, sys, a)
			var liars []string
			for _, i := range x.who {
				liars = append(liars, device(i))
			}
			w.fault(x.fault, liars...)
			if x.unsure {
				liars = nil
			}
			g := w.start("server-1", raw)
			w.settle()
			if state := g.r.Tracking().State; state != api.StateDone {
				t.Errorf("not signed at once: %s: %s", state, g.r.Tracking().Text)
			}
			w.pass(120)
			if x.fault == coordtest.FalseAccuser && x.unsure {
				// Its word may have come before the first signature, or not.
				for _, d := range g.r.Tracking().Wrong {
					if d != device(x.who[0]) {
						t.Errorf("%s is named", d)
					}
				}
				return
			}
			out := g.signed(liars...)
			for _, d := range liars {
				if d < device(6) && slices.Contains(out.Attempts[slices.IndexFunc(out.Attempts, func(h api.Attempt) bool { return h.Outcome == "signed" })].Devices, d) {
					t.Errorf("%s took part", d)
				}
			}
			if !g.r.Idle() {
				t.Error("not idle")
			}
		})
	}
}

// TestSuspicionSurvives: the distributor dies between the word against a
// calculator and its proofs. It has forgotten the powers, not the word.
func TestSuspicionSurvives(t *testing.T) {
	for _, f := range []coordtest.Fault{coordtest.Repentant, coordtest.Random, coordtest.Good} {
		w, a := newWorld(t)
		w.fault(f, device(1))
		if f == coordtest.Good {
			w.fault(coordtest.FalseAccuser, device(6))
		}
		w.cut = func(p tolerant.Packet, _ string) bool { return len(p.Doubt) > 0 }
		g := w.start("server-1", w.request(a))
		w.settle()
		if out := g.r.Tracking(); out.State != api.StateDone || len(out.Wrong) > 0 || !strings.Contains(out.Text, "finding out") {
			t.Fatalf("%s: %s %v", f, out.Text, out.Wrong)
		}
		g.restart()
		w.cut = nil
		w.pass(100)
		if f == coordtest.Good {
			g.signed(device(6))
		} else {
			g.signed(device(1))
		}
		w.over()
	}
}

// TestLiarsInAnyOrder: liars of both kinds at once, over bad channels: nobody
// who is right is ever named.
func TestLiarsInAnyOrder(t *testing.T) {
	sys, a := printed(t)
	raw := coordtest.LayersRequest(t, sys, a, sys.State.Time(), 3600)
	calculators := []coordtest.Fault{coordtest.Random, coordtest.Equivocal, coordtest.NoProof, coordtest.BadProof, coordtest.SwappedKeys, coordtest.Refuser}
	combiners := []coordtest.Fault{coordtest.Forger, coordtest.FalseAccuser, coordtest.Helpless, coordtest.Refuser}
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorldOf(t, sys, a)
			w.rng = mathrand.New(mathrand.NewPCG(seed, 2))
			w.lost, w.doubled, w.delay = w.rng.IntN(30), w.rng.IntN(30), w.rng.Int64N(3)
			// One liar less than would stop all: combiner 1 with any calculators that
			// include one of its combinations, and so on, is left.
			bad := device(w.rng.IntN(5) + 1)
			w.fault(calculators[w.rng.IntN(len(calculators))], bad)
			worse := device(w.rng.IntN(3) + 6)
			w.fault(combiners[w.rng.IntN(len(combiners))], worse)
			g := w.start("server-1", raw)
			w.pass(900)
			out := g.r.Tracking()
			if out.State != api.StateDone {
				t.Fatalf("%s (%s), %s (%s): %s: %s", bad, w.devices[bad].Fault, worse, w.devices[worse].Fault, out.State, out.Text)
			}
			for _, d := range out.Wrong {
				if d != bad && d != worse {
					t.Errorf("%s is named: %+v", d, out.Liars)
				}
			}
		})
	}
}

// TestNothingButLiars: then no signature is to be had, and it is said why.
func TestNothingButLiars(t *testing.T) {
	w, a := newWorld(t)
	w.fault(coordtest.Random, device(1), device(2), device(3))
	g := w.start("server-1", w.request(a))
	w.pass(200)
	out := g.r.Tracking()
	if out.State != api.StateFailed || len(out.Wrong) != 3 {
		t.Fatalf("%s: %s\n%+v", out.State, out.Text, out.Liars)
	}
	for _, l := range out.Liars {
		if !strings.Contains(out.Text, "("+l.Device+") "+l.Text) {
			t.Errorf("%s is not named: %s", l.Device, out.Text)
		}
	}
	w, a = newWorld(t)
	w.fault(coordtest.Forger, numbers(6, 8)...)
	g = w.start("server-1", w.request(a))
	w.pass(30)
	if out := g.r.Tracking(); out.State != api.StateFailed || len(out.Wrong) != 3 {
		t.Errorf("%s: %s", out.State, out.Text)
	}
}

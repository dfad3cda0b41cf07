package coordinator_test

import (
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// TestLayers: without any fault a task takes one packet of each kind that is
// needed, and no more; nobody is chosen.
func TestLayers(t *testing.T) {
	w, a := newWorld(t)
	g := w.start("server-1", w.request(a))
	w.pass(30)
	out := g.signed()
	w.over()
	if out.Enterprise != 1 || out.Distributor != 1 || out.Task != 1001 || out.Need != 3 || out.Made != 3 {
		t.Errorf("%+v", out)
	}
	kinds := map[string]int{}
	for _, p := range w.seen {
		kinds[p.Kind]++
	}
	want := map[string]int{tolerant.KindTask: 1, tolerant.KindAck: 8, tolerant.KindConfirmed: 8, tolerant.KindPowers: 5, tolerant.KindDone: 2}
	for kind, n := range want {
		if kinds[kind] != n {
			t.Errorf("%d packets %s, not %d", kinds[kind], kind, n)
		}
	}
	if n := kinds[tolerant.KindCombined]; n < 1 || n > 3 {
		t.Errorf("%d packets combined", n)
	}
	for _, x := range out.Devices {
		if x.Layer == 0 || x.Index == 0 || !x.Offered || len(x.Missing) > 0 {
			t.Errorf("%+v", x)
		}
	}
}

// TestAnyThree: every set of dead machines that leaves a combiner with a
// combination of living calculators. The signature comes in the first second,
// whoever is dead (B10); otherwise it comes when they are back.
func TestAnyThree(t *testing.T) {
	sys, a := printed(t)
	raw := coordtest.LayersRequest(t, sys, a, sys.State.Time(), 3600)
	g := &a.Dealing.Key.Layers.Grouping
	for set := range 1 << 8 {
		// All sets of calculators that can do, each with some of the sets of
		// combiners; and a few that cannot.
		calculators, combiners := set&31, set>>5
		alive := 0
		for i := range 5 {
			alive += 1 - calculators>>i&1
		}
		switch {
		case alive > 2 && combiners == calculators%7:
		case alive == 2 && combiners == 0 && calculators%3 == 0, alive == 5 && combiners == 7:
		default:
			continue
		}
		t.Run(fmt.Sprintf("%08b", set), func(t *testing.T) {
			w := newWorldOf(t, sys, a)
			var dead []string
			var have []uint64
			can := false
			for i := range 8 {
				if set>>i&1 == 1 {
					dead = append(dead, device(i+1))
				} else if i < 5 {
					have = append(have, uint64(i+1))
				} else {
					can = can || len(g.Match(uint64(i-4), have)) > 0
				}
			}
			w.fault(coordtest.Silent, dead...)
			x := w.start("server-2", raw)
			w.settle()
			if out := x.r.Tracking(); (out.State == api.StateDone) != can {
				t.Fatalf("%s with %v dead: %s", out.State, dead, out.Text)
			}
			if can {
				return
			}
			w.pass(20)
			out := x.r.Tracking()
			if out.State != api.StateOpen {
				t.Fatalf("%s with %v dead: %s", out.State, dead, out.Text)
			}
			for _, d := range dead {
				if !strings.Contains(out.Text, "("+d+") is not ready") {
					t.Errorf("%s is not named: %s", d, out.Text)
				}
			}
			w.fault(coordtest.Good, dead...)
			w.pass(60)
			x.signed()
			w.over()
		})
	}
}

// TestMachineAwake: a machine that comes back is not waited for until the next
// repetition.
func TestMachineAwake(t *testing.T) {
	w, a := newWorld(t)
	w.fault(coordtest.Silent, numbers(1, 8)...)
	g := w.start("server-1", w.request(a))
	w.pass(100)
	w.fault(coordtest.Good, numbers(1, 8)...)
	for i := 1; i <= 8; i++ {
		site := fmt.Sprintf("server-%d", (i-1)%5+1)
		w.carry(site, w.desks[site].Awake(w.now, device(i)))
		g.do(g.r.Awake(w.now, device(i)))
	}
	w.settle()
	g.signed()
}

// TestRestartedDevice: a device that lost its one-time key says so, its officers
// are asked once more, and nobody else is.
func TestRestartedDevice(t *testing.T) {
	w, a := newWorld(t)
	w.hush(numbers(1, 8)...)
	g := w.start("server-1", w.request(a))
	w.pass(2)
	for i := 1; i <= 8; i++ {
		w.devices[device(i)].Restart()
	}
	clear(w.silent)
	for i := range 8 {
		g.approveAll(device(i + 1))
	}
	w.pass(60)
	g.signed()
	w.over()
}

// TestLateOperators: a combiner that was confirmed long before the calculators,
// and whose desk has forgotten everything since, is told at once when there is
// something to combine.
func TestLateOperators(t *testing.T) {
	w, a := newWorld(t)
	w.hush(numbers(1, 5)...)
	g := w.start("server-1", w.request(a))
	w.pass(600)
	before := len(w.seen)
	w.pass(600)
	if n := len(w.seen) - before; n > 10 {
		t.Errorf("%d packets while everybody waits for people", n)
	}
	for _, s := range w.sys.Genesis.Servers {
		w.restartDesk(s.ID)
	}
	clear(w.silent)
	for i := range 5 {
		g.approveAll(device(i + 1))
	}
	w.pass(10)
	g.signed()
}

// TestLossy: whatever the channels lose, double, delay and disorder.
func TestLossy(t *testing.T) {
	sys, a := printed(t)
	raw := coordtest.LayersRequest(t, sys, a, sys.State.Time(), 3600)
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorldOf(t, sys, a)
			w.rng = mathrand.New(mathrand.NewPCG(seed, 1))
			w.lost, w.doubled, w.delay = w.rng.IntN(50), w.rng.IntN(50), w.rng.Int64N(5)
			dead := w.rng.Perm(5)[:w.rng.IntN(3)]
			for _, i := range dead {
				w.fault(coordtest.Silent, device(i+1))
			}
			g := w.start("server-1", raw)
			w.until("signed", func() bool { return !g.r.Open() })
			took := w.now - sys.State.Time()
			w.pass(900)
			g.signed()
			t.Logf("lost %d%%, doubled %d%%, delay %d, dead %v: signed after %d s, %d packets", w.lost, w.doubled, w.delay, dead, took, len(w.seen))
			if took > 30 {
				t.Errorf("it took %d s", took)
			}
			if n := len(w.seen); n > 700 {
				t.Errorf("%d packets: pauses do not grow", n)
			}
		})
	}
}

// TestLostOnce: no packet of a kind arrives for a while.
func TestLostOnce(t *testing.T) {
	sys, a := printed(t)
	raw := coordtest.LayersRequest(t, sys, a, sys.State.Time(), 3600)
	for _, kind := range []string{tolerant.KindTask, tolerant.KindAck, tolerant.KindConfirmed, tolerant.KindPowers, tolerant.KindCombined, tolerant.KindDone} {
		t.Run(kind, func(t *testing.T) {
			w := newWorldOf(t, sys, a)
			until := w.now + 5
			w.cut = func(p tolerant.Packet, _ string) bool { return p.Kind == kind && w.now < until }
			g := w.start("server-1", raw)
			w.pass(60)
			g.signed()
			w.over()
			if took := w.now - until; took > 25 {
				t.Errorf("it took %d s more", took)
			}
		})
	}
}

// TestRestartAnywhere: the distributor, or a desk, or all of them, die before
// any event.
func TestRestartAnywhere(t *testing.T) {
	sys, a := printed(t)
	raw := coordtest.LayersRequest(t, sys, a, sys.State.Time(), 3600)
	last := 183
	for n := 1; n <= last; n += 16 {
		for _, what := range []string{"distributor", "desk", "all"} {
			if (n/16)%3 != map[string]int{"distributor": 0, "desk": 1, "all": 2}[what] {
				continue
			}
			t.Run(fmt.Sprintf("%s before event %d", what, n), func(t *testing.T) {
				w := newWorldOf(t, sys, a)
				w.fault(coordtest.Random, device(1))
				var g *given
				w.before = func(i int) {
					if i != n || g == nil {
						return
					}
					if what != "desk" {
						g.restart()
					}
					for i, s := range sys.Genesis.Servers {
						if what == "all" || what == "desk" && i == n%5 {
							w.restartDesk(s.ID)
						}
					}
				}
				g = w.start("server-1", raw)
				w.pass(300)
				if g.r.Tracking().Task != 1001 {
					t.Error("the number changed")
				}
				out := g.r.Tracking()
				if out.State != api.StateDone {
					t.Fatalf("%s: %s", out.State, out.Text)
				}
				for _, d := range out.Wrong {
					if d != device(1) {
						t.Errorf("%s is named", d)
					}
				}
				if !g.r.Idle() {
					t.Error("not idle")
				}
			})
		}
	}
}

// TestSiteDown: a site is gone for a while. Without the distributor's own nothing
// begins; without another everything does.
func TestSiteDown(t *testing.T) {
	for _, i := range []int{1, 2, 4} {
		w, a := newWorld(t)
		site := fmt.Sprintf("server-%d", i)
		w.down[site] = true
		g := w.start("server-1", w.request(a))
		w.pass(30)
		if i > 1 {
			g.signed() // each site has two machines at most
			continue
		}
		clear(w.down)
		w.pass(60)
		g.signed()
		w.over()
	}
}

// TestNotADistributor: the numbers of tasks are a distributor's.
func TestNotADistributor(t *testing.T) {
	w, a := newWorld(t)
	_, err := coordinator.New(w.config("server-3"), w.request(a), w.now)
	if err == nil || !strings.Contains(err.Error(), "server-1") {
		t.Errorf("%v", err)
	}
	c := w.config("server-1")
	c.Distribution = nil
	if _, err := coordinator.New(c, w.request(a), w.now); err == nil {
		t.Error("a server without numbers")
	}
}

// TestTwoEnterprises on the same devices, with the same numbers at the same
// distributor, at the same time: nothing of one is the other's.
func TestTwoEnterprises(t *testing.T) {
	sys, a := printed(t)
	both := *sys
	b := both.Authority(t, ledgertest.PrintedPlan(2))
	w := newWorldOf(t, &both, a, b)
	w.rng = mathrand.New(mathrand.NewPCG(7, 7))
	// Somebody tells each enterprise's packets to the other as well.
	x := w.start("server-1", w.request(a))
	w.number = 1000
	y := w.start("server-1", w.request(b))
	for range 200 {
		if len(w.seen) > 0 {
			p := w.seen[w.rng.IntN(len(w.seen))]
			p.Enterprise = 3 - p.Enterprise
			w.broadcast("server-2", p)
			if len(w.seen)%2 == 0 {
				p.Request = map[bool]*given{true: x, false: y}[p.Enterprise == 1].r.Digest()
				w.broadcast("server-2", p)
			}
		}
		if len(w.events) > 20 {
			for range 20 {
				f := w.events[0]
				w.events = w.events[1:]
				f()
			}
		}
	}
	w.pass(60)
	for code, g := range map[uint64]*given{1: x, 2: y} {
		out := g.signed()
		if out.Enterprise != code || out.Task != 1001 {
			t.Errorf("%+v", out)
		}
	}
	w.over()
	if len(w.kept) > 0 {
		t.Errorf("illegal: %+v", w.kept)
	}
}

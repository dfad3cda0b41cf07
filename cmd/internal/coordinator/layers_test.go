package coordinator_test

import (
	"fmt"
	mathrand "math/rand/v2"
	"slices"
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

// TestOperatorsReject: machines whose operators say no take no part, and the
// request is over only when the others cannot do without them. Their task is
// illegal, and is to be seen (B6).
func TestOperatorsReject(t *testing.T) {
	w, a := newWorld(t)
	w.hush(numbers(1, 8)...)
	g := w.start("server-1", w.request(a))
	w.settle()
	reject := func(d string) {
		t.Helper()
		it := g.inbox[d].Items[0]
		_, e, err := g.r.Approve(w.now, coordtest.Approve(t, w.sys, w.sys.Persons[it.Person], it.Content, w.now, "not ours"))
		if err != nil {
			t.Fatal(err)
		}
		g.do(e)
		w.settle()
	}
	for _, i := range []int{1, 6, 7, 2} {
		reject(device(i))
		if out := g.r.Tracking(); out.State != api.StateOpen {
			t.Fatalf("after %d: %s: %s", i, out.State, out.Text)
		}
	}
	reject(device(8))
	out := g.r.Tracking()
	if out.State != api.StateRejected || !strings.Contains(out.Text, "combiner 3 (device-8) is out (rejected by Officer 8") || !strings.Contains(out.Text, "not ours") {
		t.Errorf("%s: %s", out.State, out.Text)
	}
	var seen []string
	for _, kept := range w.kept {
		for _, x := range kept {
			if x.Task != 1001 || x.Enterprise != 1 || x.Request != g.r.Digest() || !strings.Contains(x.Why, "not ours") {
				t.Errorf("%+v", x)
			}
			seen = append(seen, x.Device)
		}
	}
	slices.Sort(seen)
	if want := []string{"device-1", "device-2", "device-6", "device-7", "device-8"}; !slices.Equal(seen, want) {
		t.Errorf("illegal at %v, not %v", seen, want)
	}
}

// TestNoIsHeard: an operator's no reaches the machine's site, though the packet is
// lost, the distributor dies with it, or the site forgot the task, and at the
// latest before desks hear that it is done.
func TestNoIsHeard(t *testing.T) {
	for _, c := range []struct {
		name  string
		mend  func(w *world, g *given)
		spare int // packets that say no and are lost
	}{
		{"lost", func(w *world, _ *given) { w.pass(60) }, 3},
		{"the distributor dies", func(w *world, g *given) { g.restart(); w.pass(60) }, 1},
		{"the site starts anew", func(w *world, _ *given) { w.restartDesk("server-1"); w.pass(60) }, 1},
		{"done first", func(w *world, g *given) {
			clear(w.silent)
			for d := range w.devices {
				g.approveAll(d)
			}
			w.settle()
			if out := g.r.Tracking(); out.State != api.StateDone {
				t.Fatalf("%s: %s", out.State, out.Text)
			}
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, a := newWorld(t)
			w.hush(numbers(1, 8)...)
			g := w.start("server-2", w.request(a))
			w.settle()
			lost := 0
			w.cut = func(p tolerant.Packet, site string) bool {
				if p.Kind != tolerant.KindRejected || site != "server-1" || lost == c.spare {
					return false
				}
				lost++
				return true
			}
			it := g.inbox["device-1"].Items[0]
			_, e, err := g.r.Approve(w.now, coordtest.Approve(t, w.sys, w.sys.Persons[it.Person], it.Content, w.now, "not ours"))
			if err != nil {
				t.Fatal(err)
			}
			g.do(e)
			w.settle()
			if kept := w.kept["server-1"]; len(kept) > 0 || lost != 1 {
				t.Fatalf("%d lost, kept %+v", lost, kept)
			}
			c.mend(w, g)
			if kept := w.kept["server-1"]; len(kept) != 1 || kept[0].Device != "device-1" || !strings.Contains(kept[0].Why, "not ours") {
				t.Errorf("%d lost, kept %+v", lost, kept)
			}
		})
	}
}

// TestLastNoIsHeard: the no that ends a request reaches its site as well, though the
// packet is lost, or the site has just forgotten the task; then nothing is left.
func TestLastNoIsHeard(t *testing.T) {
	for _, c := range []struct {
		name          string
		lost          int // packets that say it
		forgets, dies bool
	}{{"lost twice", 2, false, false}, {"forgotten", 0, true, false}, {"forgotten and lost", 1, true, false}, {"the distributor dies", 2, false, true}} {
		t.Run(c.name, func(t *testing.T) {
			w, a := newWorld(t)
			w.hush(numbers(1, 8)...)
			g := w.start("server-2", w.request(a))
			w.settle()
			row, _ := w.sys.State.Device("device-8")
			lost := 0
			w.cut = func(p tolerant.Packet, site string) bool {
				if p.Kind != tolerant.KindRejected || p.Device != "device-8" || site != row.Server || lost == c.lost {
					return false
				}
				lost++
				return true
			}
			for _, i := range []int{6, 7, 8} {
				if i == 8 && c.forgets {
					w.restartDesk(row.Server)
				}
				it := g.inbox[device(i)].Items[0]
				_, e, err := g.r.Approve(w.now, coordtest.Approve(t, w.sys, w.sys.Persons[it.Person], it.Content, w.now, "not ours"))
				if err != nil {
					t.Fatal(err)
				}
				g.do(e)
			}
			if out := g.r.Tracking(); out.State != api.StateRejected {
				t.Fatalf("%s: %s", out.State, out.Text)
			}
			if c.dies {
				g.restart()
			}
			w.pass(30)
			heard := slices.ContainsFunc(w.kept[row.Server], func(x api.IllegalTask) bool {
				return x.Device == "device-8" && strings.Contains(x.Why, "not ours")
			})
			if !heard || lost != c.lost {
				t.Errorf("%d lost, kept %+v", lost, w.kept[row.Server])
			}
			if !g.r.Idle() {
				t.Error("not idle")
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

package coordinator_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
)

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

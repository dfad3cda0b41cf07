package coordinator_test

import (
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/coordinator"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// crediting is a world whose requests remember together whose suspicions came to
// nothing.
func crediting(t *testing.T) (*world, *ledgertest.Authority) {
	t.Helper()
	w, a := newWorld(t)
	w.doubts = coordinator.NewDoubts()
	return w, a
}

// demands counts the proofs that were asked for since the last time.
func (w *world) demands() (n int) {
	for _, p := range w.seen {
		if p.Kind == tolerant.KindConfirmed && len(p.Doubt) > 0 {
			n++
		}
	}
	w.seen = nil
	return n
}

// one has a task signed, and returns it when nothing is left to do.
func (w *world) one(a *ledgertest.Authority, seconds int64, liars ...string) *given {
	w.t.Helper()
	g := w.start("server-1", w.request(a))
	w.pass(seconds)
	g.signed(liars...)
	if !g.r.Idle() {
		w.t.Errorf("not idle after %d s: %s", seconds, g.r.Tracking().Text)
	}
	return g
}

const notFollowed = "suspects calculators, and is not followed"

// TestSuspecter: a combiner that suspects everybody, and nobody is ever wrong, soon
// costs calculators nothing any more. It is shown, and not named.
func TestSuspecter(t *testing.T) {
	w, a := crediting(t)
	w.fault(coordtest.Suspecter, device(6))
	w.fault(coordtest.Silent, device(7), device(8)) // every signature is its own
	text := func(g *given) string { return g.r.Tracking().Devices[5].Text }
	for n := range 3 {
		g := w.one(a, 60)
		if got := w.demands(); got < 3 { // who was there when it combined
			t.Fatalf("task %d: %d proofs are asked for", n+1, got)
		}
		if shown := strings.Contains(text(g), "none of those whom it suspected the last 3 times was found wrong"); shown != (n == 2) {
			t.Errorf("task %d: %q", n+1, text(g))
		}
	}
	for range 2 {
		began := w.now
		g := w.one(a, 40)
		if got := w.demands(); got != 0 || !strings.Contains(text(g), notFollowed) {
			t.Errorf("%d proofs are asked for: %q", got, text(g))
		}
		if took := w.now - began; took > 25 {
			t.Errorf("%d s for what is not followed", took)
		}
	}
	// It is heard again later, and less and less.
	w.now += 60
	if w.one(a, 60); w.demands() < 3 {
		t.Error("it is never heard again")
	}
	w.now += 60
	if w.one(a, 60); w.demands() != 0 {
		t.Error("its pauses do not grow")
	}
	// Another combiner has its own credit.
	w.fault(coordtest.Silent, device(6))
	w.fault(coordtest.Good, device(7))
	w.fault(coordtest.Random, device(1))
	if w.one(a, 60, device(1)); w.demands() == 0 {
		t.Error("a liar was found without proofs")
	}
	// And who finds a liar has all of it back.
	w.fault(coordtest.Silent, device(7))
	w.fault(coordtest.Good, device(6))
	w.now += 3600
	for range 5 {
		w.one(a, 60, device(1))
	}
	w.over()
}

// TestManyTasksOneLiar: tasks at the same time whose combiner suspects a liar: he is
// named in all of them, though only some are followed at first.
func TestManyTasksOneLiar(t *testing.T) {
	w, a := crediting(t)
	w.fault(coordtest.Random, device(1))
	w.fault(coordtest.Silent, device(7), device(8))
	var all []*given
	for range 8 {
		all = append(all, w.start("server-1", w.request(a)))
	}
	w.pass(60)
	for _, g := range all {
		g.signed(device(1))
	}
	w.over()
}

// TestHelplessWithoutCredit: one that says it finds no signature costs nothing while
// others find it, and is heard where nobody does.
func TestHelplessWithoutCredit(t *testing.T) {
	w, a := crediting(t)
	w.fault(coordtest.Suspecter, device(6))
	w.fault(coordtest.Silent, device(7), device(8))
	for range 3 {
		w.one(a, 60)
	}
	w.demands()
	w.fault(coordtest.Helpless, device(6))
	w.fault(coordtest.Good, device(7))
	if w.one(a, 60); w.demands() != 0 {
		t.Error("it is followed though there are signatures")
	}
	// A coalition that had an honest one lose its credit is found out where it keeps
	// signatures from being made.
	w.fault(coordtest.Good, device(6))
	w.fault(coordtest.Silent, device(7))
	w.fault(coordtest.Random, device(1), device(2), device(3))
	g := w.start("server-1", w.request(a))
	w.pass(200)
	if out := g.r.Tracking(); len(out.Wrong) != 3 {
		t.Errorf("named: %v: %s", out.Wrong, out.Text)
	}
	// It found them: it is followed at once.
	w.demands()
	w.fault(coordtest.Good, device(2), device(3))
	w.one(a, 60, device(1))
}

// TestCreditOfARestart: after a restart of the distributor suspicions are
// followed that it had put off.
func TestCreditOfARestart(t *testing.T) {
	w, a := crediting(t)
	w.fault(coordtest.Suspecter, device(6))
	w.fault(coordtest.Silent, device(7), device(8))
	for range 3 {
		w.one(a, 60)
	}
	w.fault(coordtest.Good, device(6))
	w.fault(coordtest.Random, device(1))
	g := w.start("server-1", w.request(a))
	w.settle()
	if out := g.r.Tracking(); !strings.Contains(out.Text, "finding out") || len(out.Wrong) > 0 {
		t.Fatal(out.Text)
	}
	w.doubts = coordinator.NewDoubts()
	g.restart()
	w.pass(60)
	g.signed(device(1))
	w.over()
}

package grouping

import (
	"fmt"
	"slices"
	"testing"
)

// TestKnownServesNothing: a combination that a combiner knows and does not work
// with serves no machine set, also when a search that began anew has taken away
// the one that did.
func TestKnownServesNothing(t *testing.T) {
	p, err := Params{K: 4, T: 2, L: 2, M: 2}.filled()
	if err != nil {
		t.Fatal(err)
	}
	b := newBuilder(p)
	rnd := p.random()
	limit := 64
	// Combiner 1 works with the first of its rows, and knows others; combiner 2
	// only knows; calculator 4 is gone.
	working, known := set(0b0011), []set{0b0101, 0b0110, 0b1001}
	b.combiners = 1
	for _, s := range append([]set{working}, known...) {
		if !b.serve(s, &rnd, limit) {
			t.Fatalf("no combination of machine set %b", s)
		}
	}
	b.combiners = 2
	if !b.serve(known[0], &rnd, limit) {
		t.Fatal("none for the second combiner")
	}
	b.only(0b0111, 1, []int{1, 0})
	served, missing := slices.Clone(b.served), b.missing
	if missing != 2 { // {1,3} and {2,3}
		t.Fatalf("%d machine sets are missing", missing)
	}
	state := func() string { return fmt.Sprint(b.served, b.missing) }
	for range 3 {
		for _, s := range known[:2] {
			if !b.serve(s, &rnd, limit) {
				t.Fatalf("machine set %b can be served, and is not", s)
			}
		}
		if b.missing != 0 || !b.served[known[0]].has(0) {
			t.Fatalf("all sets are served, and it says %s", state())
		}
		for range 2 { // as fill begins anew
			b.remove(0, nil)
		}
		if b.missing != missing || !slices.Equal(b.served, served) {
			t.Fatalf("after a new start it says %s, and at the first %d were missing: %v", state(), missing, served)
		}
	}
}

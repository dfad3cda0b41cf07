package grouping_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// keeps reports whether everything that was there is there, in its place.
func keeps(t *testing.T, before, after *grouping.Grouping) {
	t.Helper()
	if err := after.Check(); err != nil {
		t.Error(err)
	}
	for _, old := range before.Combiners {
		i := slices.IndexFunc(after.Combiners, func(g grouping.Group) bool { return g.Number == old.Number })
		if i < 0 || len(after.Combiners[i].Combinations) < len(old.Combinations) {
			t.Errorf("combiner %d lost something", old.Number)
			continue
		}
		for n, c := range old.Combinations {
			if c.String() != after.Combiners[i].Combinations[n].String() {
				t.Errorf("combiner %d: %v is now %v", old.Number, c, after.Combiners[i].Combinations[n])
			}
		}
	}
	if after.L != before.L || after.T != before.T {
		t.Errorf("l=%d t=%d became l=%d t=%d", before.L, before.T, after.L, after.T)
	}
}

func TestGrow(t *testing.T) {
	p := grouping.Params{Budget: 1 << 15}
	for _, g := range []*grouping.Grouping{
		printed(),
		found(t, grouping.Params{K: 5, T: 3, M: 3}),
		found(t, grouping.Params{K: 3, T: 2, M: 2}),
		found(t, grouping.Params{K: 5, T: 3, M: 3, Spare: 2}),
		found(t, grouping.Params{K: 5, T: 2, M: 3, Redundant: 5}),
	} {
		last := g.Calculators[len(g.Calculators)-1]
		one, err := g.Grow([]uint64{last + 1}, []uint64{4}, p, nil)
		if err != nil {
			t.Errorf("%v: %v", g, err)
			continue
		}
		keeps(t, g, one)
		two, err := one.Grow([]uint64{last + 7}, []uint64{9}, p, nil)
		if err != nil {
			t.Errorf("%v: %v", one, err)
			continue
		}
		keeps(t, one, two)
		if group := two.Combiners[len(two.Combiners)-1]; group.Number != 9 || len(group.Combinations) < 2 {
			t.Errorf("the new combiner has only %v", group)
		}
		// Some go, and one comes whose number lies between.
		less, err := two.Without([]uint64{2, last}, []uint64{1})
		if err != nil {
			t.Fatal(err)
		}
		three, err := less.Grow([]uint64{last + 2}, nil, p, nil)
		if err != nil {
			t.Errorf("%v: %v", less, err)
			continue
		}
		keeps(t, less, three)
		if !slices.IsSorted(three.Calculators) || !slices.Contains(three.Calculators, last+2) || slices.Contains(three.Calculators, last) {
			t.Error(three.Calculators)
		}
	}
}

func found(t *testing.T, p grouping.Params) *grouping.Grouping {
	t.Helper()
	p.Budget = 1 << 15
	g, err := grouping.Find(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestGrowAgainst(t *testing.T) {
	g := found(t, grouping.Params{K: 5, T: 3, L: 4, M: 3, Combiners: 2})
	more, err := g.Grow([]uint64{6}, []uint64{4}, grouping.Params{Combiners: 2, Spare: 1, Budget: 1 << 18}, nil)
	if err != nil {
		t.Fatal(err)
	}
	keeps(t, g, more)
	if err := more.CheckAgainst(2, 2); err != nil {
		t.Error(err)
	}
	if more.Spare() < 1 {
		t.Error("nothing to spare")
	}
}

func TestGrowNot(t *testing.T) {
	p := grouping.Params{Budget: 1 << 12}
	for reason, try := range map[string]func() (*grouping.Grouping, error){
		"a calculator 5 already": func() (*grouping.Grouping, error) { return printed().Grow([]uint64{5}, nil, p, nil) },
		"a combiner 2 already":   func() (*grouping.Grouping, error) { return printed().Grow(nil, []uint64{2}, p, nil) },
		"16 calculators, at most": func() (*grouping.Grouping, error) {
			return printed().Grow([]uint64{6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, nil, p, nil)
		},
		"would learn d": func() (*grouping.Grouping, error) {
			return printed().Grow([]uint64{6}, nil, grouping.Params{Combiners: 2, Budget: 1 << 12}, nil)
		},
		"all combiners together learn d mod 3: deal again": func() (*grouping.Grouping, error) {
			return found(t, grouping.Params{K: 3, T: 3, M: 2}).Grow([]uint64{4}, nil, p, nil)
		},
		"within the budget": func() (*grouping.Grouping, error) {
			return printed().Grow([]uint64{6, 7, 8, 9, 10}, nil, p, nil)
		},
		"too much memory": func() (*grouping.Grouping, error) {
			g := &grouping.Grouping{T: 7, L: 8, Calculators: upTo(13)}
			for _, n := range upTo(15) {
				g.Combiners = append(g.Combiners, grouping.Group{Number: n})
			}
			return g.Grow([]uint64{14}, nil, p, nil)
		},
	} {
		g, err := try()
		if err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v, %v", reason, g, err)
		}
	}
}

func TestWithout(t *testing.T) {
	g := printed()
	less, err := g.Without([]uint64{5}, []uint64{3})
	if err != nil {
		t.Fatal(err)
	}
	if err := less.Validate(); err != nil {
		t.Error(err)
	}
	if s := combinations(less.Combiners[0]) + combinations(less.Combiners[1]); s != "(11,22,31)(21,32,41)(11,21,42)(12,31,41)" {
		t.Error(s)
	}
	if err := less.Check(); err != nil {
		t.Error(err)
	}
	var uncovered *grouping.UncoveredError
	one, err := g.Without(nil, []uint64{1})
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Check(); !errors.As(err, &uncovered) || !slices.Equal(uncovered.Calculators, []uint64{2, 3, 4}) {
		t.Error(err)
	}
	for _, try := range [][2][]uint64{{{6}, nil}, {nil, {4}}, {{1, 2, 3}, nil}, {nil, {1, 2, 3}}} {
		if less, err := g.Without(try[0], try[1]); err == nil {
			t.Errorf("%v: %v", try, less)
		}
	}
	// What was handed out shares nothing with what it came from.
	grown, err := g.Grow(nil, []uint64{6}, grouping.Params{Budget: 1 << 12}, nil)
	if err != nil {
		t.Fatal(err)
	}
	grown.Combiners[0].Combinations[0][0].Key = 2
	if combinations(g.Combiners[0])[:10] != "(11,22,31)" {
		t.Error(g)
	}
}

func combinations(g grouping.Group) string {
	var s strings.Builder
	for _, c := range g.Combinations {
		s.WriteString(c.String())
	}
	return s.String()
}

func TestMatch(t *testing.T) {
	g := printed()
	for _, test := range []struct {
		combiner uint64
		have     []uint64
		want     string
	}{
		{1, []uint64{1, 2, 3}, "(11,22,31)"},
		{1, []uint64{5, 4, 3, 1}, "(31,42,51)(11,41,52)"},
		{2, []uint64{1, 2, 3}, ""},
		{3, []uint64{1, 2, 3, 4, 5}, "(11,32,41)(12,21,31)(11,22,51)(21,41,52)(31,42,51)"},
		{3, []uint64{1, 2}, ""},
		{4, []uint64{1, 2, 3}, ""},
	} {
		if s := combinations(grouping.Group{Combinations: g.Match(test.combiner, test.have)}); s != test.want {
			t.Errorf("%d, %v: %s", test.combiner, test.have, s)
		}
	}
}

// TestGrowBeside: what was given up is not forgotten. A grouping is taken apart
// and grown again and again; each is safe for itself, but who kept everything
// may be told too much unless Grow knows what was dealt before.
func TestGrowBeside(t *testing.T) {
	unsafe := 0
	for _, heed := range []bool{true, false} {
		g := printed()
		dealt := []*grouping.Grouping{g}
		for n := uint64(6); n <= 9; n++ {
			less, err := g.Without([]uint64{n - 4}, []uint64{n - 5})
			if err != nil {
				t.Fatal(err)
			}
			p := grouping.Params{Budget: 1 << 15}
			if heed {
				p.Dealt = dealt
			}
			if g, err = less.Grow([]uint64{n}, []uint64{n - 2}, p, nil); err != nil {
				t.Fatalf("%v, %v: %v", heed, less, err)
			}
			keeps(t, less, g)
			err = g.CheckBeside(dealt)
			if heed && err != nil {
				t.Error(err)
			}
			if err != nil {
				unsafe++
				break
			}
			dealt = append(dealt, g)
		}
	}
	if unsafe != 1 {
		t.Error("the test shows nothing: without heeding it is safe, too")
	}
	other := printed()
	other.L = 3
	if g, err := printed().Grow([]uint64{6}, nil, grouping.Params{Dealt: []*grouping.Grouping{other}}, nil); err == nil || !strings.Contains(err.Error(), "another dealing") {
		t.Error(g, err)
	}
}

// TestGrowAnew: a search that has to begin anew does not take for served what a
// combiner only knows, of a dealing whose combinations are not in use.
func TestGrowAnew(t *testing.T) {
	base := found(t, grouping.Params{K: 5, T: 3, M: 3})
	known, err := base.Grow([]uint64{6}, []uint64{9}, grouping.Params{Redundant: 1, Budget: 1 << 14}, nil)
	if err != nil {
		t.Fatal(err)
	}
	less, err := base.Without([]uint64{5}, nil)
	if err != nil {
		t.Fatal(err)
	}
	grown, err := less.Grow([]uint64{6}, nil, grouping.Params{Budget: 1 << 14, Dealt: []*grouping.Grouping{known}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	keeps(t, less, grown)
	if err := grown.CheckBeside([]*grouping.Grouping{known}); err != nil {
		t.Error(err)
	}
}

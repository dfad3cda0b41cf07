package grouping_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// sets counts the machine sets of a group.
func sets(g grouping.Group) int {
	seen := map[string]bool{}
	for _, c := range g.Combinations {
		seen[fmt.Sprint(c.Calculators())] = true
	}
	return len(seen)
}

func TestFind(t *testing.T) {
	for k := uint64(1); k <= 7; k++ {
		for n := uint64(1); n <= k; n++ {
			for m := uint64(1); m <= 4; m++ {
				g, err := grouping.Find(grouping.Params{K: k, T: n, M: m, Redundant: m - 1, Budget: 1 << 15}, nil)
				if err != nil {
					t.Error(err)
					continue
				}
				if err := g.Check(); err != nil {
					t.Errorf("k=%d t=%d m=%d: %v", k, n, m, err)
				}
				if g.T != n || len(g.Calculators) != int(k) || len(g.Combiners) != int(m) {
					t.Errorf("k=%d t=%d m=%d: %v", k, n, m, g)
				}
				if one := n == 1 || n == k; (g.L == 1) != one {
					t.Errorf("k=%d t=%d m=%d: l=%d", k, n, m, g.L)
				}
				least, most := 1<<20, 0
				for _, c := range g.Combiners {
					least, most = min(least, len(c.Combinations)), max(most, len(c.Combinations))
					if n := grouping.Capacity(int(k), int(n), int(g.L)); uint64(sets(c)) > n {
						t.Errorf("k=%d t=%d: %d machine sets in one group, at most %d were thought possible", k, g.T, sets(c), n)
					}
				}
				if most > 2*least+2 {
					t.Errorf("k=%d t=%d m=%d: from %d to %d combinations", k, n, m, least, most)
				}
			}
		}
	}
}

func TestFindMore(t *testing.T) {
	for _, test := range []struct {
		grouping.Params
		l, m uint64 // 0: any
	}{
		{grouping.Params{K: 5, T: 3, M: 3}, 2, 3},
		{grouping.Params{K: 5, T: 3, L: 2}, 2, 2},
		{grouping.Params{K: 5, T: 3, M: 3, Spare: 1}, 0, 3},
		{grouping.Params{K: 5, T: 3, M: 3, Spare: 2}, 3, 3},
		{grouping.Params{K: 5, T: 3, M: 4, Spare: 1, L: 2}, 2, 4},
		{grouping.Params{K: 5, T: 3, L: 2, M: 3, Combiners: 2}, 2, 3},
		{grouping.Params{K: 5, T: 3, M: 3, Combiners: 2}, 0, 3},
		{grouping.Params{K: 5, T: 3, M: 3, Combiners: 3}, 3, 3},
		{grouping.Params{K: 5, T: 3, M: 3, Combiners: 3, Calculators: 1, Redundant: 10}, 2, 3},
		{grouping.Params{K: 6, T: 4, M: 3, Combiners: 2, Calculators: 1, L: 3}, 3, 3},
		{grouping.Params{K: 7, T: 3, M: 15, Combiners: 15, Calculators: 2}, 0, 15},
		{grouping.Params{K: 9, T: 3, M: 4, L: 2}, 2, 4},
		{grouping.Params{K: 12, T: 4, M: 5}, 0, 5},
		{grouping.Params{K: 15, T: 2, L: 4, M: 1}, 4, 1},
	} {
		test.Budget = 1 << 16
		var last grouping.Progress
		g, err := grouping.Find(test.Params, func(p grouping.Progress) { last = p })
		if err != nil {
			t.Errorf("%v: %v", test.Params, err)
			continue
		}
		if err := g.Check(); err != nil {
			t.Errorf("%v: %v", test.Params, err)
		}
		if test.l > 0 && g.L != test.l || uint64(len(g.Combiners)) != test.m {
			t.Errorf("%v: l=%d m=%d", test.Params, g.L, len(g.Combiners))
		}
		if n := g.Spare(); n < test.Spare {
			t.Errorf("%v: %d to spare", test.Params, n)
		}
		s := test.Calculators
		if s == 0 {
			s = test.T - 1
		}
		if err := g.CheckAgainst(max(1, test.Combiners), s); err != nil {
			t.Errorf("%v: %v", test.Params, err)
		}
		if last.K != test.K || last.T != test.T || last.L == 0 || last.M == 0 || last.Served > last.Needed {
			t.Errorf("%v: %+v", test.Params, last)
		}
		// The same again.
		h, err := grouping.Find(test.Params, nil)
		if err != nil || fmt.Sprint(h) != fmt.Sprint(g) {
			t.Errorf("%v: another one: %v", test.Params, err)
		}
	}
}

func TestFindNothing(t *testing.T) {
	for _, test := range []struct {
		grouping.Params
		reason string
	}{
		{grouping.Params{K: 5}, "at least one calculator"},
		{grouping.Params{K: 3, T: 4}, "4 calculators are needed for every signature, and there are 3"},
		{grouping.Params{K: 5, T: 3, Calculators: 3}, "they sign"},
		{grouping.Params{K: 5, T: 3, M: 2, Spare: 2}, "no combiner is left"},
		{grouping.Params{K: 5, T: 3, L: 1, M: 10}, "all combiners together learn d mod 3"},
		{grouping.Params{K: 5, T: 3, L: 1}, "all combiners together learn d mod 3"},
		{grouping.Params{K: 5, T: 3, L: 2, M: 1}, "a complete search finds none"},
		{grouping.Params{K: 6, T: 3, L: 2, M: 1}, "k=5 already"},
		{grouping.Params{K: 7, T: 6, L: 2, M: 1}, "by counting"},
		{grouping.Params{K: 6, T: 5, L: 2, M: 3, Spare: 2}, "by counting"},
		{grouping.Params{K: 7, T: 6, L: 2, M: 2, Combiners: 2}, "by counting"},
	} {
		test.Budget = 1 << 16
		g, err := grouping.Find(test.Params, nil)
		var impossible *grouping.ImpossibleError
		if !errors.As(err, &impossible) || !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%v: %v, %v", test.Params, g, err)
		}
	}
	for _, p := range []grouping.Params{{K: 16, T: 2}, {K: 5, T: 2, L: 17}, {K: 5, T: 2, M: 16}, {K: 5, T: 2, Redundant: 1 << 40}} {
		if g, err := grouping.Find(p, nil); !errors.Is(err, grouping.ErrGrouping) {
			t.Errorf("%v: %v, %v", p, g, err)
		}
	}
	// What is neither found nor excluded is said to be just that.
	_, err := grouping.Find(grouping.Params{K: 9, T: 5, L: 2, M: 5, Budget: 1 << 10}, nil)
	var missing *grouping.NotFoundError
	if !errors.As(err, &missing) || missing.Best == 0 || missing.Best >= missing.Needed || missing.Needed != 126 || !strings.Contains(err.Error(), "within the budget") {
		t.Error(err)
	}
}

// TestFill: whatever one combiner is given one by one is safe, and never more
// than was thought possible.
func TestFill(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.Uint64Range(2, 6).Draw(t, "k")
		p := grouping.Params{K: k, T: rapid.Uint64Range(2, k).Draw(t, "t"), L: rapid.Uint64Range(1, 3).Draw(t, "l"), M: rapid.Uint64Range(1, 2).Draw(t, "m")}
		g := grouping.Fill(p)
		var uncovered *grouping.UncoveredError
		if err := g.Check(); err != nil && !errors.As(err, &uncovered) {
			t.Errorf("%v: %v: %v", p, g, err)
		}
		for _, c := range g.Combiners {
			if most := grouping.Capacity(int(p.K), int(p.T), int(p.L)); uint64(sets(c)) > most {
				t.Errorf("%v: %d machine sets in one group, at most %d were thought possible", p, sets(c), most)
			}
		}
	})
}

// TestExhaust: the complete search answers as a plain enumeration does.
func TestExhaust(t *testing.T) {
	for _, p := range []grouping.Params{
		{K: 3, T: 2, L: 1, M: 1}, {K: 3, T: 2, L: 1, M: 3}, {K: 3, T: 2, L: 2, M: 1}, {K: 3, T: 2, L: 2, M: 2},
		{K: 4, T: 3, L: 1, M: 3}, {K: 4, T: 3, L: 2, M: 1}, {K: 4, T: 2, L: 1, M: 2},
		{K: 3, T: 2, L: 2, M: 2, Combiners: 2},
	} {
		exist, decided := grouping.Exhaust(p)
		if !decided {
			t.Errorf("%v: not decided", p)
		}
		if plain := enumerate(p); plain != exist {
			t.Errorf("%v: %v, and by enumeration %v", p, exist, plain)
		}
	}
}

// enumerate gives every machine set to every combiner with every choice of keys.
func enumerate(p grouping.Params) bool {
	g := &grouping.Grouping{T: p.T, L: p.L}
	for j := range p.K {
		g.Calculators = append(g.Calculators, j+1)
	}
	for a := range p.M {
		g.Combiners = append(g.Combiners, grouping.Group{Number: a + 1})
	}
	var machines [][]uint64
	for s := range 1 << p.K {
		var of []uint64
		for j := range p.K {
			if s>>j&1 == 1 {
				of = append(of, j+1)
			}
		}
		if len(of) == int(p.T) {
			machines = append(machines, of)
		}
	}
	var place func(n int) bool
	place = func(n int) bool {
		if n == len(machines) {
			return g.Check() == nil && g.CheckAgainst(max(1, p.Combiners), p.T-1) == nil
		}
		for a := range g.Combiners {
			group := &g.Combiners[a]
			var keys func(c grouping.Combination) bool
			keys = func(c grouping.Combination) bool {
				if len(c) == int(p.T) {
					group.Combinations = append(group.Combinations, slices.Clone(c))
					found := place(n + 1)
					group.Combinations = group.Combinations[:len(group.Combinations)-1]
					return found
				}
				for i := range p.L {
					if keys(append(c, grouping.Term{Calculator: machines[n][len(c)], Key: i + 1})) {
						return true
					}
				}
				return false
			}
			if keys(nil) {
				return true
			}
		}
		return false
	}
	return place(0)
}

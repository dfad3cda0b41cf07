package grouping_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// TestBruteForce takes the definition at its word: it changes d by δ and every
// sub-key that the coalition does not know by any small amount, and sees
// whether all c_a and all known sub-keys stay what they were.
func TestBruteForce(t *testing.T) {
	const most, reach = 4, 3 // |δ|, |change of a sub-key|
	found := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		g := someGrouping(t)
		if len(g.Calculators) > 4 {
			return
		}
		calculators := subset(t, "calculators", g.Calculators)
		var hidden []grouping.Term
		used := map[grouping.Term]bool{}
		for _, group := range g.Combiners {
			for _, c := range group.Combinations {
				for _, term := range c {
					if !used[term] && !contains(calculators, term.Calculator) {
						hidden = append(hidden, term)
					}
					used[term] = true
				}
			}
		}
		if len(hidden) > 5 {
			return
		}
		gain := g.Gain(numbers(g), calculators)
		change := map[grouping.Term]int{}
		possible := map[int]bool{}
		var try func(n int)
		try = func(n int) {
			if n < len(hidden) {
				for c := -reach; c <= reach; c++ {
					change[hidden[n]] = c
					try(n + 1)
				}
				return
			}
			// All c_a stay if every combination's sub-keys change by δ.
			delta, first := 0, true
			for _, group := range g.Combiners {
				for _, c := range group.Combinations {
					sum := 0
					for _, term := range c {
						sum += change[term]
					}
					if !first && sum != delta {
						return
					}
					delta, first = sum, false
				}
			}
			for d := -most; d <= most; d++ {
				if first || d == delta {
					possible[d] = true
				}
			}
		}
		try(0)
		for d := -most; d <= most; d++ {
			want := d == 0
			if !gain.Whole() {
				want = d%int(gain.Modulus.Int64()) == 0
			}
			if possible[d] && !want {
				t.Errorf("%v of %v: %v, but d might be %d more", calculators, g, gain, d)
			}
			// So few equations have small solutions.
			if want && !possible[d] && abs(d) <= 2 {
				t.Errorf("%v of %v: %v, but d is not %d more", calculators, g, gain, d)
			}
		}
		found[gain.String()]++
	})
	if found["nothing"] == 0 || found["d"] == 0 {
		t.Errorf("the test saw only %v", found)
	}
}

func abs(n int) int { return max(n, -n) }

func contains(numbers []uint64, n uint64) bool {
	for _, m := range numbers {
		if m == n {
			return true
		}
	}
	return false
}

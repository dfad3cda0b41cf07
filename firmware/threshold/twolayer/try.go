package twolayer

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// match is a combination of the combiner.
type match struct {
	part        int // its place in the share
	combination grouping.Combination
	machines    uint32 // bit i: the i-th calculator of the grouping
}

// failure is a match that gave no signature, with the square of its product:
// powers come without their signs.
type failure struct {
	match
	square *big.Int
}

// combinationsOf are the combinations of a group with their machines. It returns
// ErrPublic for what no valid grouping has.
func combinationsOf(g *grouping.Grouping, group []grouping.Combination) ([]match, error) {
	if len(g.Calculators) > grouping.MaxCalculators {
		return nil, fmt.Errorf("%w: %d calculators; at most %d", ErrPublic, len(g.Calculators), grouping.MaxCalculators)
	}
	var all []match
	for i, c := range group {
		m := match{part: i, combination: c}
		for _, term := range c {
			at := slices.Index(g.Calculators, term.Calculator)
			if at < 0 || term.Key < 1 || term.Key > g.L {
				return nil, fmt.Errorf("%w: combination %v has a term that is not there", ErrPublic, c)
			}
			m.machines |= 1 << at
		}
		all = append(all, m)
	}
	return all, nil
}

// matching are the combinations whose calculators all sent powers: those first that
// failed least often in other documents, of these the one that won last.
func (s *Solver) matching(powers []Powers) []match {
	var present uint32
	for _, p := range powers {
		present |= s.machine(p.Calculator)
	}
	left := avoiding(s.all, ^present)
	slices.SortStableFunc(left, func(a, b match) int {
		if by := cmp.Compare(s.lost[a.part], s.lost[b.part]); by != 0 {
			return by
		}
		switch s.lastWon {
		case a.part:
			return -1
		case b.part:
			return 1
		}
		return 0
	})
	return left
}

// avoiding returns a new slice of the matches that have none of the machines.
func avoiding(all []match, machines uint32) (left []match) {
	for _, m := range all {
		if m.machines&machines == 0 {
			left = append(left, m)
		}
	}
	return left
}

// nextTry takes the match out of left that is to be tried next.
//
// A set of calculators explains the failures if it has one of each. The liars are
// such a set. Of the smallest sets that leave a match untouched, the one match
// that most of them leave untouched comes next: if it fails, they explain
// nothing any more. So with f liars and a match without them at most
// C(k,1) + … + C(k,f) tries fail, and with one liar at most t. If no set leaves a
// match untouched, the first of left comes next.
func nextTry(left []match, failed []uint32, calculators int) (match, []match) {
	best := 0
	// A set leaves m untouched if all others than those of m do, and these explain
	// the failures unless one is within m.
	untouchable := func(m match) bool {
		return !slices.ContainsFunc(failed, func(f uint32) bool { return f&^m.machines == 0 })
	}
	if len(failed) > 0 && slices.ContainsFunc(left, untouchable) {
		untouched := make([]int, len(left))
		for size, most := 1, 0; size <= calculators && most == 0; size++ {
			for set := range sets(calculators, size) {
				if slices.ContainsFunc(failed, func(f uint32) bool { return f&set == 0 }) {
					continue
				}
				for i, m := range left {
					if m.machines&set == 0 {
						if untouched[i]++; untouched[i] > most {
							best, most = i, untouched[i]
						}
					}
				}
			}
		}
	}
	try := left[best]
	return try, slices.Delete(left, best, best+1)
}

// sets yields the subsets of n things that have the given size, as masks.
func sets(n, size int) func(yield func(uint32) bool) {
	return func(yield func(uint32) bool) {
		// Gosper's hack: the next larger number with as many ones.
		for s := uint32(1)<<size - 1; s>>n == 0; {
			if !yield(s) {
				return
			}
			low := s & -s
			high := s + low
			s = high | (s^high)>>2/low
		}
	}
}

package grouping

import (
	"fmt"
	"slices"
)

// Match lists the combinations of a combiner whose calculators are all in have
// (B [0093]), in the order of its group.
func (g *Grouping) Match(combiner uint64, have []uint64) []Combination {
	var found []Combination
	for _, group := range g.Combiners {
		if group.Number != combiner {
			continue
		}
		for _, c := range group.Combinations {
			if !slices.ContainsFunc(c, func(t Term) bool { return !slices.Contains(have, t.Calculator) }) {
				found = append(found, c)
			}
		}
	}
	return found
}

// Without takes machines away, and with a calculator every combination that it
// is part of; the others stay in their order. Nobody learns more by it. Whether
// every machine set is still served is for [Grouping.Check]: it is if only
// calculators go.
func (g *Grouping) Without(calculators, combiners []uint64) (*Grouping, error) {
	for _, n := range calculators {
		if !slices.Contains(g.Calculators, n) {
			return nil, fmt.Errorf("grouping: there is no calculator %d to take away", n)
		}
	}
	for _, n := range combiners {
		if !slices.ContainsFunc(g.Combiners, func(group Group) bool { return group.Number == n }) {
			return nil, fmt.Errorf("grouping: there is no combiner %d to take away", n)
		}
	}
	left := &Grouping{T: g.T, L: g.L}
	for _, n := range g.Calculators {
		if !slices.Contains(calculators, n) {
			left.Calculators = append(left.Calculators, n)
		}
	}
	for _, group := range g.Combiners {
		if !slices.Contains(combiners, group.Number) {
			left.Combiners = append(left.Combiners, Group{group.Number, g.Match(group.Number, left.Calculators)})
		}
	}
	if err := left.Validate(); err != nil {
		return nil, fmt.Errorf("without calculators %v and combiners %v: %w", calculators, combiners, err)
	}
	return left, nil
}

// clone is a copy that shares no memory.
func (g *Grouping) clone() *Grouping {
	c := &Grouping{T: g.T, L: g.L, Calculators: slices.Clone(g.Calculators)}
	for _, group := range g.Combiners {
		copied := Group{Number: group.Number}
		for _, combination := range group.Combinations {
			copied.Combinations = append(copied.Combinations, slices.Clone(combination))
		}
		c.Combiners = append(c.Combiners, copied)
	}
	return c
}

// Spare is how many combiners may fail, whichever they are, so that every
// machine set is still served; of those that are served now.
func (g *Grouping) Spare() uint64 {
	p := g.places()
	by := map[set]set{}
	for a, group := range g.Combiners {
		for _, c := range group.Combinations {
			by[p.machines(c)] |= 1 << a
		}
	}
	least := len(g.Combiners)
	for _, combiners := range by {
		least = min(least, size(combiners))
	}
	return uint64(max(least, 1) - 1)
}

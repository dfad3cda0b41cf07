package grouping

import (
	"fmt"
	"slices"
)

// Grow adds calculators and combiners, and the combinations that then serve
// every machine set; those that are there stay, in their places, and new ones
// are appended. Every calculator keeps its sub-keys, so there are never more of
// them. Of the parameters Grow heeds Combiners, Calculators, Redundant and
// Budget. The error is ErrGrouping, an *UnsafeError (the grouping was not safe
// before), an *ImpossibleError or a *NotFoundError.
func (g *Grouping) Grow(calculators, combiners []uint64, p Params, progress func(Progress)) (*Grouping, error) {
	if err := g.Validate(); err != nil {
		return nil, err
	}
	grown := g.clone()
	for _, n := range calculators {
		if slices.Contains(grown.Calculators, n) {
			return nil, fmt.Errorf("%w: there is a calculator %d already: give a new one a number of its own", ErrGrouping, n)
		}
		grown.Calculators = append(grown.Calculators, n)
	}
	slices.Sort(grown.Calculators)
	for _, n := range combiners {
		if slices.ContainsFunc(grown.Combiners, func(group Group) bool { return group.Number == n }) {
			return nil, fmt.Errorf("%w: there is a combiner %d already: give a new one a number of its own", ErrGrouping, n)
		}
		grown.Combiners = append(grown.Combiners, Group{Number: n})
	}
	slices.SortFunc(grown.Combiners, func(a, b Group) int { return int(a.Number) - int(b.Number) })
	if err := grown.Validate(); err != nil {
		return nil, err
	}
	p.K, p.T, p.L, p.M = uint64(len(grown.Calculators)), g.T, g.L, uint64(len(grown.Combiners))
	p, err := p.filled()
	if err != nil {
		return nil, err
	}
	if err := grown.checkSafe(p); err != nil {
		return nil, err
	}
	if reason := excluded(p); reason != "" {
		return nil, &ImpossibleError{p, reason + ": deal again with more sub-keys, or add combiners"}
	}
	if err := grown.extend(p, progress); err != nil {
		return nil, err
	}
	// What was built by small steps is checked as a whole.
	if err := grown.checkSafe(p); err != nil {
		return nil, err
	}
	if err := grown.Check(); err != nil {
		return nil, err
	}
	return grown, nil
}

// checkSafe checks everything that the parameters demand but completeness.
func (g *Grouping) checkSafe(p Params) error {
	for _, who := range [][2]uint64{{1, g.T - 1}, {p.Combiners, p.Calculators}, {uint64(len(g.Combiners)), 0}} {
		if err := g.CheckAgainst(who[0], who[1]); err != nil {
			return err
		}
	}
	return nil
}

func (g *Grouping) extend(p Params, progress func(Progress)) error {
	b := newBuilder(p)
	needed := binomial(len(g.Calculators), int(g.T))
	if b == nil {
		return &NotFoundError{Params: p, Needed: needed}
	}
	places := g.places()
	for a, group := range g.Combiners {
		for _, row := range places.rows(group.Combinations) {
			if _, ok := b.add(a, row); !ok {
				return &NotFoundError{Params: p, Needed: needed}
			}
		}
	}
	rnd := random(p.K<<24 | p.T<<16 | p.L<<8 | p.M | 1<<48)
	ok, missing := b.fill(&rnd, p.Budget, func(step uint64, missing int) {
		if progress != nil {
			progress(Progress{p.K, p.T, p.L, p.M, step, p.Budget, needed - uint64(missing), needed, "combinations"})
		}
	})
	if !ok {
		return &NotFoundError{p, needed - uint64(missing), needed}
	}
	b.enrich(&rnd, p.Redundant, b.steps+p.Budget)
	for a := range g.Combiners {
		group := &g.Combiners[a]
		group.Combinations = append(group.Combinations, b.combinations(a, len(group.Combinations), g.Calculators)...)
	}
	return nil
}

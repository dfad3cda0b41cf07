package grouping

import (
	"fmt"
	"slices"
)

// Grow adds calculators and combiners, and the combinations that then serve
// every machine set; those that are there stay, in their places, and new ones
// are appended. Every calculator keeps its sub-keys, so there are never more of
// them. Of the parameters Grow heeds Combiners, Calculators, Spare, Redundant,
// Dealt and Budget; a new combiner gets its share of what the others have in any case. If
// no number of combiners did harm with T−1 calculators before, then it stays so
// where it can. The error is ErrGrouping, an *UnsafeError (the grouping was not
// safe before), an *ImpossibleError or a *NotFoundError.
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
	known, err := grown.with(p.Dealt)
	if err != nil {
		return nil, err
	}
	if err := known.checkSafe(p); err != nil {
		return nil, err
	}
	if reason := excluded(p); reason != "" {
		return nil, &ImpossibleError{p, reason + ": deal again with more sub-keys, or add combiners"}
	}
	strong := known.strongest(p)
	strong.Budget /= 4
	if strong.Combiners == p.Combiners || grown.extend(known, strong, progress) != nil {
		if err := grown.extend(known, p, progress); err != nil {
			return nil, err
		}
	}
	// What was built by small steps is checked as a whole.
	if known, err = grown.with(p.Dealt); err != nil {
		return nil, err
	}
	if err := known.checkSafe(p); err != nil {
		return nil, err
	}
	if err := grown.Check(); err != nil {
		return nil, err
	}
	return grown, nil
}

// CheckBeside is Check, where machines still know what was dealt to them before
// of the same sub-keys.
func (g *Grouping) CheckBeside(dealt []*Grouping) error {
	if err := g.Check(); err != nil {
		return err
	}
	known, err := g.with(dealt)
	if err != nil {
		return err
	}
	return known.checkSafe(Params{})
}

// with adds all that was dealt before: what the machines know at most.
func (g *Grouping) with(dealt []*Grouping) (*Grouping, error) {
	all := g.clone()
	for _, d := range dealt {
		if err := d.Validate(); err != nil {
			return nil, fmt.Errorf("dealt before: %w", err)
		}
		if d.T != g.T || d.L != g.L {
			return nil, fmt.Errorf("%w: dealt before with t=%d and l=%d, now t=%d and l=%d: that is another dealing", ErrGrouping, d.T, d.L, g.T, g.L)
		}
		for _, n := range d.Calculators {
			if !slices.Contains(all.Calculators, n) {
				all.Calculators = append(all.Calculators, n)
			}
		}
		for _, group := range d.Combiners {
			i := slices.IndexFunc(all.Combiners, func(h Group) bool { return h.Number == group.Number })
			if i < 0 {
				i = len(all.Combiners)
				all.Combiners = append(all.Combiners, Group{Number: group.Number})
			}
			seen := map[string]bool{}
			for _, c := range all.Combiners[i].Combinations {
				seen[c.String()] = true
			}
			for _, c := range group.Combinations {
				if !seen[c.String()] {
					all.Combiners[i].Combinations = append(all.Combiners[i].Combinations, slices.Clone(c))
				}
			}
		}
	}
	slices.Sort(all.Calculators)
	slices.SortFunc(all.Combiners, func(a, b Group) int { return int(a.Number) - int(b.Number) })
	if err := all.Validate(); err != nil {
		return nil, fmt.Errorf("with all that were ever dealt: %w: deal again", err)
	}
	return all, nil
}

// strongest demands that no number of combiners does harm with T−1 calculators,
// if that is so now.
func (g *Grouping) strongest(p Params) Params {
	if m := uint64(len(g.Combiners)); p.Combiners < m && g.CheckAgainst(m, g.T-1) == nil {
		p.Combiners, p.Calculators = m, g.T-1
	}
	return p
}

// checkSafe checks everything that the parameters demand but completeness.
func (g *Grouping) checkSafe(p Params) error {
	demands := [][2]uint64{{1, g.T - 1}, {uint64(len(g.Combiners)), 0}}
	if p.Combiners > 1 {
		demands = append(demands, [2]uint64{p.Combiners, p.Calculators})
	}
	for _, who := range demands {
		if err := g.CheckAgainst(who[0], who[1]); err != nil {
			return err
		}
	}
	return nil
}

// builder starts from the combinations of a grouping. It is nil if that is too
// large.
func (g *Grouping) builder(p Params) *builder {
	b := newBuilder(p)
	if b == nil {
		return nil
	}
	places := g.places()
	for a, group := range g.Combiners {
		for _, row := range places.rows(group.Combinations) {
			if _, ok := b.add(a, row); !ok {
				return nil
			}
		}
	}
	return b
}

// take appends what a builder has more.
func (g *Grouping) take(b *builder) {
	for a := range g.Combiners {
		group := &g.Combiners[a]
		group.Combinations = append(group.Combinations, b.combinations(a, len(group.Combinations), g.Calculators)...)
	}
}

// extend adds combinations to g that are safe beside all that is known.
func (g *Grouping) extend(known *Grouping, p Params, progress func(Progress)) error {
	needed := binomial(len(g.Calculators), int(g.T))
	q := p
	q.K, q.M = uint64(len(known.Calculators)), uint64(len(known.Combiners))
	b := known.builder(q)
	if b == nil {
		return &NotFoundError{Params: p, Needed: needed, Reason: "what every coalition may learn takes too much memory here: deal again"}
	}
	var working set
	groups := make([]*Group, len(known.Combiners)) // by place in known, nil: gone
	rows := make([]int, len(groups))               // known has those of g first
	for i := range g.Combiners {
		at := slices.IndexFunc(known.Combiners, func(h Group) bool { return h.Number == g.Combiners[i].Number })
		groups[at] = &g.Combiners[i]
		rows[at] = len(g.Combiners[i].Combinations)
		working |= 1 << at
	}
	b.only(known.places().set(g.Calculators), working, rows)
	rnd := p.random()
	ok, missing := b.fill(&rnd, p.Budget, func(step uint64, missing int) {
		if progress != nil {
			progress(Progress{K: p.K, T: p.T, L: p.L, M: p.M, Step: step, Budget: p.Budget, Served: needed - min(needed, uint64(missing)), Needed: needed, Method: "combinations"})
		}
	})
	if !ok {
		return &NotFoundError{Params: p, Best: needed - min(needed, uint64(missing)), Needed: needed}
	}
	wanted := make([]int, len(groups))
	for a, group := range groups {
		if group == nil {
			continue
		}
		wanted[a] = len(b.groups[a]) + int(p.Redundant)
		if len(group.Combinations) == 0 { // a new one has its share of the work
			wanted[a] = max(wanted[a], int((needed+p.M-1)/p.M))
		}
	}
	b.enrich(&rnd, wanted, p.Budget)
	for a, group := range groups {
		if group != nil {
			group.Combinations = append(group.Combinations, b.combinations(a, len(known.Combiners[a].Combinations), known.Calculators)...)
		}
	}
	return nil
}

// enrich gives combiners what they lack of their redundant combinations: those
// that are in the grouping already are its own or such.
func (g *Grouping) enrich(p Params) {
	p = g.strongest(p)
	b := g.builder(p)
	if b == nil {
		return
	}
	rnd := p.random()
	share := int((binomial(b.k, b.t)*(p.Spare+1) + p.M - 1) / p.M)
	wanted := make([]int, len(b.groups))
	for a := range wanted {
		wanted[a] = share + int(p.Redundant)
	}
	b.enrich(&rnd, wanted, p.Budget)
	g.take(b)
}

package dealing

import (
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// group finds the grouping: anew, or as what the one in force becomes.
func (d *Prepared) group(progress func(string)) error {
	var g *grouping.Grouping
	var err error
	if d.row == nil {
		g, err = d.find(progress)
	} else {
		g, err = d.change(progress)
	}
	if err != nil {
		return err
	}
	for i, c := range g.Combiners {
		switch n := len(c.Combinations); {
		case n == 0 && d.row != nil && d.had(c.Number):
			return planErr(at("combiners", i), "combiner %d has nothing left to combine: leave it out", c.Number)
		case n == 0:
			return planErr(at("combiners", i), "combiner %d would have nothing to combine: the others serve every machine set; leave it out, or ask for more redundant combinations", c.Number)
		case n > ledger.MaxParts:
			return planErr(at("combiners", i), "combiner %d would hold %d combinations, at most %d are possible: add combiners, or ask for fewer redundant ones",
				c.Number, n, ledger.MaxParts)
		}
	}
	d.Grouping = *g
	return nil
}

// params is what the plan asks of a grouping.
func (d *Prepared) params() grouping.Params {
	p := d.plan
	out := grouping.Params{
		K: uint64(len(p.Calculators)), T: p.Need, L: p.SubKeys, M: uint64(len(p.Combiners)), Spare: p.Spare, Redundant: p.Redundant,
		Budget: searchSteps,
	}
	// That all combiners without a calculator learn nothing holds for every
	// grouping, and so does the default.
	if r := p.resist(); r.Calculators > 0 {
		out.Combiners, out.Calculators = r.Combiners, r.Calculators
	}
	return out
}

func (d *Prepared) find(progress func(string)) (*grouping.Grouping, error) {
	g, err := grouping.Find(d.params(), searching(progress))
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	switch {
	case d.plan.SubKeys != 0:
		d.Searched = fmt.Sprintf("%d sub-keys a calculator, as planned", g.L)
	default:
		d.Searched = fmt.Sprintf("%d sub-keys a calculator: the fewest that were found for %d combiners", g.L, len(g.Combiners))
	}
	d.advise(g)
	return g, nil
}

// advise looks whether some more sub-keys would leave no coalition weak.
func (d *Prepared) advise(g *grouping.Grouping) {
	m := uint64(len(g.Combiners))
	if g.CheckAgainst(m, g.T-1) == nil {
		return
	}
	p := d.params()
	p.Combiners, p.Calculators, p.Budget = m, g.T-1, adviceSteps
	for p.L = g.L + 1; p.L <= min(g.L+maxAdvice, grouping.MaxKeys); p.L++ {
		if _, err := grouping.Find(p, nil); err == nil {
			d.Warnings = append(d.Warnings, fmt.Sprintf(
				"some coalitions with fewer than %d calculators learn something (see below); with \"sub_keys: %d\" none would, for %d more exponentiations of a calculator in every signature",
				g.T, p.L, p.L-g.L))
			return
		}
	}
}

func searching(progress func(string)) func(grouping.Progress) {
	return func(p grouping.Progress) {
		progress(fmt.Sprintf("grouping: %d sub-keys, %s, %d of %d machine sets served", p.L, p.Method, p.Served, p.Needed))
	}
}

// change makes of the grouping in force what the plan has: without the machines
// that it lacks, grown by those that are new.
func (d *Prepared) change(progress func(string)) (*grouping.Grouping, error) {
	old := &d.row.Key.Layers.Grouping
	var combiners []uint64
	for _, c := range old.Combiners {
		combiners = append(combiners, c.Number)
	}
	newCalculators, lostCalculators := compare(old.Calculators, d.plan.Calculators)
	newCombiners, lostCombiners := compare(combiners, d.plan.Combiners)
	g, err := old.Without(lostCalculators, lostCombiners)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	d.Searched = "the grouping in force"
	if len(lostCalculators)+len(lostCombiners) > 0 {
		d.Searched += ", with machines taken away: they still know what they were dealt until their tokens are destroyed"
	}
	if len(newCalculators)+len(newCombiners) == 0 {
		err := g.Check()
		var uncovered *grouping.UncoveredError
		if err == nil || !errors.As(err, &uncovered) {
			return g, err
		}
		if d.plan.Reserve == nil {
			// What was lost is lost, and the ledger has to be able to say so.
			d.Warnings = append(d.Warnings, fmt.Sprintf("not all machine sets are served any more: %v", err))
			return g, nil
		}
	}
	if err := d.checkExposed(); err != nil {
		return nil, err
	}
	g, err = d.grow(g, newCalculators, newCombiners, progress)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	d.Searched += ", grown"
	if n := len(d.abandoned) + len(d.known); n > 0 {
		d.Searched += fmt.Sprintf(", safe beside %d dealings that never came into force", n)
	}
	// The ledger knows what was entered, and the distributor what it was brought.
	others := "a dealing"
	if len(d.abandoned)+len(d.known) > 0 {
		others = "another dealing"
	}
	d.Warnings = append(d.Warnings, fmt.Sprintf(
		"if %s of this authority was ever given out and never entered, this one is not judged beside it, and a combiner with shares of both may learn the key with fewer than %d calculators: then invite again, with --abandoned and its dealing.cbor",
		others, g.T))
	return g, nil
}

// grow adds machines to a grouping, safely beside all that was ever given out.
// The same plan again finds what an abandoned dealing of it gave out already, and
// tells nobody more: so that is tried first, as long as the ledger does not count
// it.
func (d *Prepared) grow(old *grouping.Grouping, calculators, combiners []uint64, progress func(string)) (*grouping.Grouping, error) {
	p, ever := d.params(), d.ever()
	p.Dealt = ever[:1]
	g, err := old.Grow(calculators, combiners, p, searching(progress))
	if len(d.abandoned)+len(d.known) == 0 {
		return g, err
	}
	if err != nil || g.CheckBeside(ever) != nil {
		p.Dealt = ever
		if g, err = d.given(old, calculators, combiners).Grow(nil, nil, p, searching(progress)); err != nil {
			return nil, fmt.Errorf("beside what was given out and never entered: %w; or deal to the same machines as that did", err)
		}
	}
	return g, d.checkHidden(g)
}

// given is a grouping with the machines of the plan that are new, and with the
// combinations of them all that abandoned dealings gave out already: to give them
// once more tells nobody more, and every other one would.
func (d *Prepared) given(old *grouping.Grouping, calculators, combiners []uint64) *grouping.Grouping {
	known := together(append([]*grouping.Grouping{old}, d.ever()...)...)
	out := &grouping.Grouping{T: old.T, L: old.L, Calculators: slices.Sorted(slices.Values(slices.Concat(old.Calculators, calculators)))}
	working := slices.Clone(combiners)
	for _, c := range old.Combiners {
		working = append(working, c.Number)
	}
	slices.Sort(working)
	for _, n := range working {
		out.Combiners = append(out.Combiners, grouping.Group{Number: n, Combinations: known.Match(n, out.Calculators)})
	}
	return out
}

// count says what is to be said of abandoned dealings where the grouping did not
// grow, and what becomes of them.
func (d *Prepared) count() error {
	if err := d.checkExposed(); err != nil {
		if d.NeedsReserve() {
			return err
		}
		// To take a machine away tells nobody more, and may be urgent.
		d.Warnings = append(d.Warnings, err.Error())
	}
	d.settle()
	return nil
}

// compare says which numbers of a layer are new in a plan, and which it lacks.
func compare(now []uint64, plan []Machine) (come, leave []uint64) {
	want := numbers(plan)
	for _, n := range want {
		if !slices.Contains(now, n) {
			come = append(come, n)
		}
	}
	for _, n := range now {
		if !slices.Contains(want, n) {
			leave = append(leave, n)
		}
	}
	return come, leave
}

// had reports whether a combiner is in force.
func (d *Prepared) had(number uint64) bool {
	_, ok := d.row.Key.Machine(ledger.LayerCombiner, number)
	return ok
}

// grows reports whether a combiner in force gets combinations that it lacks.
func (d *Prepared) grows(layer, number uint64) bool {
	if layer != ledger.LayerCombiner {
		return false
	}
	had := combinationsOf(d.row.Key.Layers.Grouping.Combiners, number)
	return slices.ContainsFunc(combinationsOf(d.Grouping.Combiners, number), func(c grouping.Combination) bool {
		return !slices.ContainsFunc(had, func(x grouping.Combination) bool { return slices.Equal(x, c) })
	})
}

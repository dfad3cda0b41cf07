package grouping

import "fmt"

// verdict is how a complete search ended.
type verdict int

const (
	undecided verdict = iota // the budget was used up
	exists                   // the builder holds one
	absent                   // there is none
)

// option is a combination that a combiner may still get.
type option struct {
	combiner int
	row      []int
}

// exhaust tries everything that differs by more than names, where nothing was
// added yet: sub-keys of a calculator, and combiners, get their names in the
// order in which they are used. A machine set that has no option left ends a
// branch, and the one with the fewest is decided first.
func (b *builder) exhaust(budget uint64, report func(step uint64, missing int)) verdict {
	if b.missing == 0 {
		return exists
	}
	keys := 1
	for range b.t {
		keys *= b.l
	}
	options := map[set][]option{}
	b.effort.spend(binomial(b.k, b.t) * uint64(len(b.groups)*keys*b.t*workOfTerm))
	for s := range subsets(b.k, b.t) {
		for a := range b.groups {
			for n := range keys {
				options[s] = append(options[s], option{a, b.row(s, func(int) int {
					i := n % b.l
					n /= b.l
					return i
				})})
			}
		}
	}
	return b.branch(options, budget, report)
}

func (b *builder) branch(options map[set][]option, budget uint64, report func(step uint64, missing int)) verdict {
	if b.missing == 0 {
		return exists
	}
	if b.over(budget) {
		return undecided
	}
	report(b.steps, b.missing)
	left := map[set][]option{}
	var next set
	for s := range subsets(b.k, b.t) {
		if b.served[s] != 0 {
			continue
		}
		var still []option
		for _, o := range options[s] {
			if b.allows(o.combiner, o.row) {
				still = append(still, o)
			}
		}
		if len(still) == 0 {
			return absent
		}
		if left[s] = still; next == 0 || len(still) < len(left[next]) {
			next = s
		}
	}
	result := absent
	for _, o := range left[next] {
		if !b.canonical(o) {
			continue
		}
		before, ok := b.add(o.combiner, o.row)
		if !ok {
			result = undecided // the numbers grew too large to know
			continue
		}
		v := b.branch(left, budget, report)
		if v == exists {
			return exists
		}
		b.remove(o.combiner, before)
		if v == undecided {
			if result = undecided; b.over(budget) {
				return undecided
			}
		}
	}
	return result
}

// canonical reports whether an option names nothing out of turn: no sub-key and
// no combiner when the one before it is still unused.
func (b *builder) canonical(o option) bool {
	if o.combiner > 0 && len(b.groups[o.combiner-1]) == 0 {
		return false
	}
	for _, x := range o.row {
		if x%b.l > 0 && !b.uses(x-1) {
			return false
		}
	}
	return true
}

func (b *builder) uses(x int) bool {
	for _, rows := range b.groups {
		for _, row := range rows {
			for _, y := range row {
				if x == y {
					return true
				}
			}
		}
	}
	return false
}

// bySearch decides small cases completely. Whoever leaves out a calculator of a
// grouping has one for fewer; and who takes one for known, and looks at the sets
// with it, has one combiner for one fewer of fewer. So the smallest cases that
// exclude p come first.
func bySearch(p Params, budget uint64, report func(method string, step, served uint64)) (*Grouping, string) {
	if p.Spare > 0 {
		return nil, "" // that is bounded by counting only, see excluded
	}
	if p.M > 1 && p.M <= p.Combiners && p.Calculators == p.T-1 {
		// All together are as harmless as one that has what all have.
		p.M, p.Combiners = 1, 1
		if _, reason := bySearch(p, budget, report); reason != "" {
			return nil, "all combiners together would be like one; " + reason
		}
		return nil, ""
	}
	for k := p.T + 1; k <= p.K; k++ {
		lowest := p.T
		if p.M == 1 {
			lowest = min(p.T, 2)
		}
		for t := lowest; t <= p.T; t++ {
			q := p
			q.T, q.K = t, k-(p.T-t)
			if t < p.T {
				q.Combiners, q.Calculators = 1, t-1
			}
			if !q.few() {
				continue
			}
			b := newBuilder(q)
			if b == nil {
				continue
			}
			switch b.exhaust(budget, func(step uint64, missing int) {
				report("proof", step, binomial(int(q.K), int(q.T))-uint64(missing))
			}) {
			case absent:
				if q.K == p.K {
					return nil, "a complete search finds none"
				}
				if t < p.T {
					return nil, fmt.Sprintf("a complete search finds none for k=%d and t=%d, and it would hold one of these: that of the sets with %d certain calculators", q.K, q.T, p.T-t)
				}
				return nil, fmt.Sprintf("a complete search finds none for k=%d already", q.K)
			case exists:
				if q.K == p.K {
					g := p.number()
					for a := range g.Combiners {
						g.Combiners[a].Combinations = b.combinations(a, 0, g.Calculators)
					}
					return g, ""
				}
			case undecided:
				if t == p.T {
					return nil, "" // larger ones take longer
				}
			}
		}
	}
	return nil, ""
}

// few reports whether a complete search might end.
func (p Params) few() bool {
	n := binomial(int(p.K), int(p.T)) * p.M
	for range p.T {
		if n *= p.L; n > MaxOptions {
			return false
		}
	}
	return true
}

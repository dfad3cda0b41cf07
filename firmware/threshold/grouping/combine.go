package grouping

import (
	"cmp"
	"slices"
)

// builder adds combinations one by one, as B [0080] does, and knows of every
// coalition that must learn nothing what it cannot tell: so a combination that
// would be too much is found at once.
type builder struct {
	k, t, l  int
	groups   [][][]int // rows by combiner
	machines [][]set   // of the rows; 0 for one that is known and not worked with
	served   []set     // by machine set: the combiners
	need     int       // how many of these there have to be
	missing  int       // how many are short, over all machine sets
	views    []*view
	of       [][]*view // by combiner; those that objected last come first
	steps    uint64
	effort   *effort

	// Calculators and combiners that work; others only know something.
	calculators, combiners set
}

// view is what a coalition sees.
type view struct {
	combiners set
	column    []int // sub-key -> unknown, −1: known
	lattice   *lattice
}

// project is a row without what the coalition knows.
func (v *view) project(row, into []int) []int {
	into = into[:0]
	for _, x := range row {
		if c := v.column[x]; c >= 0 {
			into = append(into, c)
		}
	}
	return into
}

// newBuilder starts without combinations, for k calculators and m combiners. It
// is nil if there are too many coalitions to keep.
func newBuilder(p Params) *builder {
	b := &builder{k: int(p.K), t: int(p.T), l: int(p.L), effort: p.effort}
	m := int(p.M)
	b.groups, b.machines = make([][][]int, m), make([][]set, m)
	b.served = make([]set, 1<<b.k)
	b.need = int(p.Spare) + 1
	b.missing = b.need * int(binomial(b.k, b.t))
	b.calculators, b.combiners = 1<<b.k-1, 1<<m-1
	b.of = make([][]*view, m)
	type kind struct{ combiners, calculators int }
	kinds := []kind{{1, b.t - 1}}
	if c := min(int(p.Combiners), m); c > 1 {
		kinds = append(kinds, kind{c, int(p.Calculators)})
	}
	if m > 1 && (m > int(p.Combiners)) {
		kinds = append(kinds, kind{m, 0})
	}
	entries := uint64(0)
	for _, kind := range kinds {
		v := uint64((b.k - kind.calculators) * b.l)
		entries += binomial(m, kind.combiners) * binomial(b.k, kind.calculators) * v * v
	}
	if entries > MaxEntries || !p.effort.affords(entries) {
		return nil
	}
	p.effort.spend(entries)
	for _, kind := range kinds {
		for who := range subsets(m, kind.combiners) {
			for known := range subsets(b.k, kind.calculators) {
				v := &view{combiners: who, column: make([]int, b.k*b.l)}
				n := 0
				for x := range v.column {
					if v.column[x] = -1; !known.has(x / b.l) {
						v.column[x] = n
						n++
					}
				}
				v.lattice = newLattice(n)
				b.views = append(b.views, v)
				for a := range m {
					if who.has(a) {
						b.of[a] = append(b.of[a], v)
					}
				}
			}
		}
	}
	return b
}

// over reports whether a search of so many steps ends here.
func (b *builder) over(budget uint64) bool { return b.steps >= budget || b.effort.over() }

// allows reports whether no coalition learns anything by a further row of
// combiner a.
func (b *builder) allows(a int, row []int) bool {
	var space [MaxCalculators]int
	b.steps++
	for i, v := range b.of[a] {
		if i%8 == 7 {
			b.steps++
		}
		b.effort.spend(workOfView)
		if !v.lattice.keeps(v.project(row, space[:])) {
			copy(b.of[a][1:i+1], b.of[a][:i])
			b.of[a][0] = v
			return false
		}
	}
	return true
}

// saved are the lattices before a row was added.
type saved struct {
	view    *view
	lattice *lattice
}

// add adds a row that is allowed. It is false, and nothing is added, if numbers
// grow too large.
func (b *builder) add(a int, row []int) ([]saved, bool) {
	b.steps += uint64(len(b.of[a]))
	b.effort.spend(uint64(len(b.of[a])) * workOfView)
	var before []saved
	var space [MaxCalculators]int
	for _, v := range b.of[a] {
		r := v.project(row, space[:])
		if v.lattice.residue(r) == 0 && v.lattice.gcdOf(r) == 0 {
			continue // nothing new to them
		}
		b.effort.spend(uint64(len(v.lattice.null)+1) * uint64(len(v.lattice.particular)))
		before = append(before, saved{v, v.lattice})
		v.lattice = v.lattice.clone()
		if !v.lattice.meet(r) {
			b.restore(before)
			return nil, false
		}
	}
	s := b.machinesOf(row)
	b.groups[a], b.machines[a] = append(b.groups[a], row), append(b.machines[a], s)
	if !b.served[s].has(a) && b.combiners.has(a) && s&^b.calculators == 0 {
		if b.served[s] |= 1 << a; size(b.served[s]) <= b.need {
			b.missing--
		}
	}
	return before, true
}

// remove takes the last row of combiner a away again.
func (b *builder) remove(a int, before []saved) {
	b.restore(before)
	n := len(b.groups[a]) - 1
	s := b.machines[a][n]
	b.groups[a], b.machines[a] = b.groups[a][:n], b.machines[a][:n]
	if b.served[s].has(a) && !slices.Contains(b.machines[a], s) {
		if b.served[s] &^= 1 << a; size(b.served[s]) < b.need {
			b.missing++
		}
	}
}

func (b *builder) restore(before []saved) {
	for _, s := range before {
		s.view.lattice = s.lattice
	}
}

func (b *builder) machinesOf(row []int) set {
	var s set
	for _, x := range row {
		s |= 1 << (x / b.l)
	}
	return s
}

// row is the combination of a machine set with these keys, by calculator.
func (b *builder) row(machines set, key func(j int) int) []int {
	row := make([]int, 0, b.t)
	for j := range b.k {
		if machines.has(j) {
			row = append(row, j*b.l+key(j))
		}
	}
	return row
}

// only has some calculators and combiners work, these with the first so many of
// their rows; all know what they know. The other rows serve nothing: not even
// when remove takes one of the same machine set away.
func (b *builder) only(calculators, combiners set, rows []int) {
	b.calculators, b.combiners = calculators, combiners
	clear(b.served)
	b.missing = b.need * int(binomial(size(calculators), b.t))
	for a := range b.groups {
		clear(b.machines[a][rows[a]:])
		for _, s := range b.machines[a][:rows[a]] {
			if !b.served[s].has(a) && combiners.has(a) && s&^calculators == 0 {
				if b.served[s] |= 1 << a; size(b.served[s]) <= b.need {
					b.missing--
				}
			}
		}
	}
}

// wanted are the machine sets of calculators that work.
func (b *builder) wanted() func(yield func(set) bool) {
	return func(yield func(set) bool) {
		for s := range subsets(b.k, b.t) {
			if s&^b.calculators == 0 && !yield(s) {
				return
			}
		}
	}
}

// candidates are rows of a machine set for combiner a, those first that are
// likely: that use, of one part of its group or of all groups, the sub-keys
// which the part uses already, and one that no other part uses where it has
// none. All others follow in random order, or some if there are many.
func (b *builder) candidates(a int, machines set, rnd *random, limit int) [][]int {
	var rows [][]int
	for a := range b.groups {
		b.effort.spend(uint64(len(b.groups[a]) * b.t * workOfTerm))
	}
	b.effort.spend(uint64(limit * b.t * workOfTerm))
	for _, group := range [][][]int{b.groups[a], slices.Concat(b.groups...)} {
		taken := make([]bool, b.k*b.l)
		for _, row := range group {
			for _, x := range row {
				taken[x] = true
			}
		}
		for _, part := range components(b.k*b.l, group) {
			used := make([][]int, b.k)
			for _, row := range part {
				for _, x := range row {
					if j := x / b.l; !slices.Contains(used[j], x%b.l) {
						used[j] = append(used[j], x%b.l)
					}
				}
			}
			for range 2 {
				rows = append(rows, b.row(machines, func(j int) int {
					if len(used[j]) > 0 {
						return used[j][rnd.below(len(used[j]))]
					}
					key := rnd.below(b.l)
					for n := 0; n < b.l && taken[j*b.l+key]; n++ {
						key = (key + 1) % b.l
					}
					return key
				}))
			}
		}
	}
	rnd.shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	likely := len(rows)
	all := 1
	for range b.t {
		all = min(all*b.l, limit+1)
	}
	if all > limit {
		for range limit {
			rows = append(rows, b.row(machines, func(int) int { return rnd.below(b.l) }))
		}
		return rows
	}
	for n := range all {
		rows = append(rows, b.row(machines, func(int) int {
			key := n % b.l
			n /= b.l
			return key
		}))
	}
	others := rows[likely:]
	rnd.shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	return rows
}

// serve finds a combination for a machine set, with the combiner that has least
// if it can.
func (b *builder) serve(machines set, rnd *random, limit int) bool {
	for _, a := range b.byLoad(rnd) {
		if b.served[machines].has(a) || !b.combiners.has(a) {
			continue
		}
		for _, row := range b.candidates(a, machines, rnd, limit) {
			if b.effort.over() {
				return false
			}
			if b.allows(a, row) {
				if _, ok := b.add(a, row); ok {
					return true
				}
			}
		}
	}
	return false
}

func (b *builder) byLoad(rnd *random) []int {
	order := make([]int, len(b.groups))
	for a := range order {
		order[a] = a
	}
	rnd.shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	slices.SortStableFunc(order, func(x, y int) int { return cmp.Compare(len(b.groups[x]), len(b.groups[y])) })
	return order
}

// fill serves what is missing, again and again from the same start until all is
// served or the budget is used up: those sets come first that failed before.
// What it did not serve at best is the second result.
func (b *builder) fill(rnd *random, budget uint64, report func(step uint64, missing int)) (ok bool, least int) {
	start := make([]*lattice, len(b.views))
	for i, v := range b.views {
		start[i] = v.lattice
	}
	length := make([]int, len(b.groups))
	for a := range b.groups {
		length[a] = len(b.groups[a])
	}
	failed := make([]int, 1<<b.k)
	least = b.missing
	limit := 64
	for b.missing > 0 && !b.over(budget) {
		report(b.steps, least)
		var order []set
		for s := range b.wanted() {
			for range b.need - size(b.served[s]) {
				order = append(order, s)
			}
		}
		rnd.shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		slices.SortStableFunc(order, func(x, y set) int { return cmp.Compare(failed[y], failed[x]) })
		for _, s := range order {
			if b.over(budget) {
				break
			}
			if !b.serve(s, rnd, limit) {
				failed[s]++
			}
		}
		least = min(least, b.missing)
		if b.missing == 0 {
			break
		}
		// Back to the start.
		for i, v := range b.views {
			v.lattice = start[i]
		}
		for a := range b.groups {
			for len(b.groups[a]) > length[a] {
				b.remove(a, nil)
			}
		}
	}
	return b.missing == 0, least
}

// enrich gives every combiner further combinations until it has as many as
// wanted says, of the machine sets that fewest combiners serve.
func (b *builder) enrich(rnd *random, wanted []int, budget uint64) {
	budget += b.steps
	full := make([]bool, len(b.groups))
	for slices.Contains(full, false) {
		for a := range b.groups {
			full[a] = full[a] || len(b.groups[a]) >= min(wanted[a], MaxCombinations) || b.steps > budget || b.effort.over() || !b.another(a, rnd, budget)
		}
	}
}

// another gives combiner a one more combination.
func (b *builder) another(a int, rnd *random, budget uint64) bool {
	rank := func(s set) int {
		r := 2 * size(b.served[s])
		if b.served[s].has(a) {
			r++ // it would only be an equivalent one
		}
		return r
	}
	sets := slices.Collect(b.wanted())
	rnd.shuffle(len(sets), func(i, j int) { sets[i], sets[j] = sets[j], sets[i] })
	slices.SortStableFunc(sets, func(x, y set) int { return cmp.Compare(rank(x), rank(y)) })
	for _, s := range sets {
		for _, row := range b.candidates(a, s, rnd, 64) {
			if b.steps > budget || b.effort.over() {
				return false
			}
			if slices.ContainsFunc(b.groups[a], func(r []int) bool { return slices.Equal(r, row) }) || !b.allows(a, row) {
				continue
			}
			if _, ok := b.add(a, row); ok {
				return true
			}
		}
	}
	return false
}

// combinations are the rows of combiner a, from a place on.
func (b *builder) combinations(a, from int, calculators []uint64) []Combination {
	var out []Combination
	for _, row := range b.groups[a][from:] {
		var c Combination
		for _, x := range row {
			c = append(c, Term{Calculator: calculators[x/b.l], Key: uint64(x%b.l + 1)})
		}
		out = append(out, c)
	}
	return out
}

// byCombinations looks for a grouping combination by combination.
func byCombinations(p Params, budget uint64, report func(method string, step, served uint64)) (*Grouping, uint64) {
	b := newBuilder(p)
	if b == nil {
		return nil, 0
	}
	needed := binomial(b.k, b.t)
	rnd := p.random()
	ok, missing := b.fill(&rnd, budget, func(step uint64, missing int) { report("combinations", step, needed-min(needed, uint64(missing))) })
	if !ok {
		return nil, needed - min(needed, uint64(missing))
	}
	g := p.number()
	for a := range g.Combiners {
		g.Combiners[a].Combinations = b.combinations(a, 0, g.Calculators)
	}
	return g, needed
}

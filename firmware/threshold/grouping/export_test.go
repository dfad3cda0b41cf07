package grouping

import "math/big"

// Order is what a coalition learns for which the rows over v unknowns are left,
// and BigOrder the same with integers of any size.
func Order(v int, rows [][]int) *big.Int    { return order(v, rows) }
func BigOrder(v int, rows [][]int) *big.Int { return bigOrder(v, rows) }

// Particular is an integer x with which every row is δ = g.
func Particular(v int, rows [][]int) (x []int32, g int64, ok bool) {
	l := newLattice(v)
	for _, row := range rows {
		// keeps has to foretell what meet does.
		foretold, before := l.keeps(row), l.g
		if !l.meet(row) {
			return nil, 0, false
		}
		if foretold != (l.g == before) {
			panic("keeps is wrong")
		}
	}
	return l.particular, l.g, true
}

// Left is the equations of a coalition as rows over its unknowns.
func (g *Grouping) Left(combiners, calculators []uint64) (v int, rows [][]int) {
	names := map[Term]int{}
	for _, group := range g.Combiners {
		for _, c := range group.Combinations {
			row := []int{}
			for _, t := range c {
				if !contains(calculators, t.Calculator) {
					if _, ok := names[t]; !ok {
						names[t] = len(names)
					}
					row = append(row, names[t])
				}
			}
			if contains(combiners, group.Number) {
				rows = append(rows, row)
			}
		}
	}
	return len(names), rows
}

func contains(numbers []uint64, n uint64) bool {
	for _, m := range numbers {
		if m == n {
			return true
		}
	}
	return false
}

// Blinds gives the same answers as Gain, with what was found before.
func (g *Grouping) Blinds() func(calculators []uint64) Gain {
	var rows [][]int
	p := g.places()
	for _, group := range g.Combiners {
		rows = append(rows, p.rows(group.Combinations)...)
	}
	b := newBlinds(len(g.Calculators), int(g.L), rows)
	return func(calculators []uint64) Gain { return b.gain(p.set(calculators)) }
}

// Implies reports whether who learns g learns h.
func (g Gain) Implies(h Gain) bool { return g.implies(h) }

// Capacity bounds the machine sets of one combiner.
func Capacity(k, t, l int) uint64 { return capacity(k, t, l) }

// Exhaust decides by complete search whether p can be had.
func Exhaust(p Params) (exist, decided bool) {
	p, err := p.filled()
	if err != nil {
		panic(err)
	}
	v := newBuilder(p).exhaust(1<<40, func(uint64, int) {})
	return v == exists, v != undecided
}

// Fill is a grouping built one by one, as far as it goes.
func Fill(p Params) *Grouping {
	p, err := p.filled()
	if err != nil {
		panic(err)
	}
	g := p.number()
	b := newBuilder(p)
	rnd := p.random()
	for s := range subsets(b.k, b.t) {
		b.serve(s, &rnd, 1<<10)
	}
	g.take(b)
	return g
}

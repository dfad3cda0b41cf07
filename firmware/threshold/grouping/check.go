package grouping

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// UnsafeError names a coalition that learns something of d and should not.
type UnsafeError struct {
	Combiners, Calculators []uint64
	Gain                   Gain
}

func (e *UnsafeError) Error() string {
	return fmt.Sprintf("grouping: %s would learn %v: deal other combinations", coalition(e.Combiners, e.Calculators), e.Gain)
}

// UncoveredError names calculators that are enough and that no combiner serves.
type UncoveredError struct{ Calculators []uint64 }

func (e *UncoveredError) Error() string {
	return fmt.Sprintf("grouping: no combiner has a combination of %s: add one, or calculators would wait for others in vain", machines("calculator", e.Calculators))
}

// coalition is "combiners 1+3 with calculator 4".
func coalition(combiners, calculators []uint64) string {
	switch {
	case len(combiners) == 0:
		return machines("calculator", calculators)
	case len(calculators) == 0:
		return machines("combiner", combiners)
	}
	return machines("combiner", combiners) + " with " + machines("calculator", calculators)
}

func machines(kind string, numbers []uint64) string {
	if len(numbers) != 1 {
		kind += "s"
	}
	return kind + " " + plus(numbers)
}

func plus(numbers []uint64) string {
	var s []string
	for _, n := range numbers {
		s = append(s, strconv.FormatUint(n, 10))
	}
	return strings.Join(s, "+")
}

// Check reports whether the grouping is valid, safe and complete: every T
// calculators are served by a combiner; and nothing is learned of d by one
// combiner with any T−1 calculators (B [0074]), nor by all combiners. All
// calculators without a combiner hold random numbers that d is no part of. The
// error is ErrGrouping, an *UnsafeError or an *UncoveredError.
func (g *Grouping) Check() error {
	if err := g.Validate(); err != nil {
		return err
	}
	if err := g.CheckAgainst(1, g.T-1); err != nil {
		return err
	}
	if err := g.CheckAgainst(uint64(len(g.Combiners)), 0); err != nil {
		return err
	}
	return g.checkCovered()
}

func (g *Grouping) checkCovered() error {
	served := make([]bool, 1<<len(g.Calculators))
	p := g.places()
	for _, group := range g.Combiners {
		for _, c := range group.Combinations {
			served[p.machines(c)] = true
		}
	}
	for s := range subsets(len(g.Calculators), int(g.T)) {
		if !served[s] {
			return &UncoveredError{members(s, g.Calculators)}
		}
	}
	return nil
}

// CheckAgainst reports whether any number of combiners up to combiners with any
// number of calculators up to calculators learn nothing; the error is an
// *UnsafeError.
func (g *Grouping) CheckAgainst(combiners, calculators uint64) error {
	k := len(g.Calculators)
	s := min(int(calculators), k)
	c := min(int(combiners), len(g.Combiners))
	if c == 0 {
		return nil
	}
	p := g.places()
	rows := make([][][]int, len(g.Combiners))
	for i, group := range g.Combiners {
		rows[i] = p.rows(group.Combinations)
	}
	var numbers []uint64
	for _, group := range g.Combiners {
		numbers = append(numbers, group.Number)
	}
	// Smaller coalitions learn less: the largest are all that count.
	for who := range subsets(len(g.Combiners), c) {
		var all [][]int
		for i := range rows {
			if who.has(i) {
				all = append(all, rows[i]...)
			}
		}
		safe := newBlinds(k, int(g.L), all)
		for known := range subsets(k, s) {
			if gain := safe.gain(known); !gain.Nothing() {
				return &UnsafeError{members(who, numbers), members(known, g.Calculators), gain}
			}
		}
	}
	return nil
}

// blinds answers quickly, for one set of equations, whether calculators learn
// nothing by it. A blind is an integer x with sum 1 over every row: to those
// who know none of the sub-keys that it moves, it hides d. Rows that share no
// sub-key, even through others, are parts with blinds of their own; one blind
// of each part is needed.
type blinds struct {
	k, l  int
	parts []part
}

type part struct {
	rows  [][]int
	known []set // calculators whose sub-keys a blind moves
}

func newBlinds(k, l int, rows [][]int) *blinds {
	b := &blinds{k: k, l: l}
	for _, rows := range components(k*l, rows) {
		b.parts = append(b.parts, part{rows: rows})
	}
	return b
}

func (b *blinds) gain(known set) Gain {
	all := nothing
	for i := range b.parts {
		all = all.with(b.parts[i].gain(b.k, b.l, known))
	}
	return all
}

func (p *part) gain(k, l int, known set) Gain {
	for _, s := range p.known {
		if s&known == 0 {
			return nothing
		}
	}
	x := solve(k, l, p.rows, known)
	if x == nil {
		return gainOf(k, l, p.rows, known)
	}
	var moved set
	for i, a := range x {
		if a != 0 {
			moved |= 1 << (i / l)
		}
	}
	p.known = append(p.known, moved)
	return nothing
}

// solve finds an integer x with sum 1 over every row that is 0 for the known
// calculators, or nil: there is none, or it has too large entries.
func solve(k, l int, rows [][]int, known set) []int32 {
	of := make([]int, 0, k*l) // unknown -> sub-key
	names := make([]int, k*l)
	for i := range names {
		if names[i] = -1; !known.has(i / l) {
			names[i] = len(of)
			of = append(of, i)
		}
	}
	lat := newLattice(len(of))
	unknown := make([]int, 0, MaxCalculators)
	for _, row := range rows {
		unknown = unknown[:0]
		for _, x := range row {
			if names[x] >= 0 {
				unknown = append(unknown, names[x])
			}
		}
		if !lat.meet(unknown) || lat.g != 1 {
			return nil
		}
	}
	x := make([]int32, k*l)
	for i, a := range lat.particular {
		x[of[i]] = a
	}
	// What is claimed is checked: that is cheap.
	for _, row := range rows {
		if sum(x, row) != 1 {
			return nil
		}
	}
	return x
}

// components divides rows into those that share no unknown.
func components(v int, rows [][]int) [][][]int {
	root := make([]int, v)
	for i := range root {
		root[i] = i
	}
	find := func(i int) int {
		for root[i] != i {
			root[i] = root[root[i]]
			i = root[i]
		}
		return i
	}
	for _, row := range rows {
		for _, x := range row[1:] {
			root[find(x)] = find(row[0])
		}
	}
	place := map[int]int{}
	var parts [][][]int
	for _, row := range rows {
		r := find(row[0])
		i, ok := place[r]
		if !ok {
			i = len(parts)
			place[r] = i
			parts = append(parts, nil)
		}
		parts[i] = append(parts[i], row)
	}
	return parts
}

func size(s set) int { return bits.OnesCount16(uint16(s)) }

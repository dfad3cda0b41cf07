package grouping

import (
	"math/big"
	"slices"
)

// Gain is what a coalition learns of d: d mod Modulus and no more; all of it
// if Modulus is 0, nothing if it is 1 or nil.
type Gain struct{ Modulus *big.Int }

var nothing = Gain{big.NewInt(1)}

// Nothing reports whether every value of d is possible.
func (g Gain) Nothing() bool { return g.Modulus == nil || g.Modulus.CmpAbs(nothing.Modulus) == 0 }

// Whole reports whether d is known.
func (g Gain) Whole() bool { return g.Modulus != nil && g.Modulus.Sign() == 0 }

// String is "nothing", "d mod 6" or "d".
func (g Gain) String() string {
	switch {
	case g.Nothing():
		return "nothing"
	case g.Whole():
		return "d"
	}
	return "d mod " + g.Modulus.String()
}

// implies reports whether who learns g learns h.
func (g Gain) implies(h Gain) bool {
	switch {
	case h.Nothing() || g.Whole():
		return true
	case g.Nothing() || h.Whole():
		return false
	}
	return new(big.Int).Rem(g.Modulus, h.Modulus).Sign() == 0
}

// with is what the two know together of d, if they share nothing else.
func (g Gain) with(h Gain) Gain {
	switch {
	case g.implies(h):
		return g
	case h.implies(g):
		return h
	}
	m := new(big.Int).GCD(nil, nil, g.Modulus, h.Modulus)
	return Gain{m.Mul(g.Modulus, m.Quo(h.Modulus, m))}
}

// Gain is what combiners with calculators learn of d together, exactly. Numbers
// that the grouping has not are of machines that know nothing. The grouping has
// to be valid.
func (g *Grouping) Gain(combiners, calculators []uint64) Gain {
	var rows [][]int
	p := g.places()
	for _, group := range g.Combiners {
		if slices.Contains(combiners, group.Number) {
			rows = append(rows, p.rows(group.Combinations)...)
		}
	}
	return gainOf(len(g.Calculators), int(g.L), rows, p.set(calculators))
}

// gainOf is what those learn who know the equations of rows and the sub-keys of
// the calculators of known.
func gainOf(k, l int, rows [][]int, known set) Gain {
	// Unknowns are numbered as rows mention them.
	names := make([]int, k*l)
	v := 0
	var left [][]int
	for _, row := range rows {
		var unknown []int
		for _, x := range row {
			if known.has(x / l) {
				continue
			}
			if names[x] == 0 {
				v++
				names[x] = v
			}
			unknown = append(unknown, names[x]-1)
		}
		if len(unknown) == 0 {
			return Gain{new(big.Int)} // d = c_a + what they know
		}
		left = append(left, unknown)
	}
	slices.SortFunc(left, slices.Compare)
	left = slices.CompactFunc(left, slices.Equal)
	return Gain{order(v, left)}
}

// set is a set of calculators by their places in Grouping.Calculators, or of
// combiners by theirs.
type set uint16

func (s set) has(i int) bool { return s>>i&1 == 1 }

// places finds calculators in Grouping.Calculators.
type places struct {
	of map[uint64]int
	l  int
}

func (g *Grouping) places() places {
	p := places{map[uint64]int{}, int(g.L)}
	for i, n := range g.Calculators {
		p.of[n] = i
	}
	return p
}

func (p places) set(calculators []uint64) set {
	var s set
	for _, n := range calculators {
		if i, ok := p.of[n]; ok {
			s |= 1 << i
		}
	}
	return s
}

// row is a combination as the numbers of its sub-keys: place·l + key − 1.
func (p places) row(c Combination) []int {
	row := make([]int, len(c))
	for i, t := range c {
		row[i] = p.of[t.Calculator]*p.l + int(t.Key) - 1
	}
	return row
}

func (p places) rows(cs []Combination) [][]int {
	rows := make([][]int, len(cs))
	for i, c := range cs {
		rows[i] = p.row(c)
	}
	return rows
}

// machines is the machine set of a combination.
func (p places) machines(c Combination) set {
	var s set
	for _, t := range c {
		s |= 1 << p.of[t.Calculator]
	}
	return s
}

// members lists the numbers of a set.
func members(s set, numbers []uint64) []uint64 {
	var out []uint64
	for i, n := range numbers {
		if s.has(i) {
			out = append(out, n)
		}
	}
	return out
}

// subsets calls yield for every set of size of n, in ascending order of their
// bits.
func subsets(n, size int) func(yield func(set) bool) {
	return func(yield func(set) bool) {
		if size < 0 || size > n {
			return
		}
		for s := uint32(1)<<size - 1; s < 1<<n; {
			if !yield(set(s)) || s == 0 {
				return
			}
			// The next number with as many bits (Knuth 4A, 7.1.3, (37)).
			low := s & -s
			up := s + low
			s = up | (s^up)/low>>2
		}
	}
}

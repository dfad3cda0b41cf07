package grouping

import "math/big"

// lattice holds what a coalition cannot tell from nothing: all integer (δ, x)
// for which δ = Σ x over the terms of every row so far. Had the distributor
// drawn d+δ and the sub-keys +x instead, the coalition would hold the same.
// The pairs are s·(g, particular) + any integer combination of (0, null): so
// the δ are the multiples of g.
type lattice struct {
	g          int64 // 0: only δ = 0 is left
	particular []int32
	null       [][]int32 // a basis
}

// maxEntry bounds the entries so that they fit and no product of int64 overflows:
// a row has at most 2⁴ terms, its sum less than 2³¹, and 2·2³¹·2²⁷ < 2⁶³.
const maxEntry = 1 << 27

// newLattice starts with v unknowns and no row: δ is free, and so is every x.
func newLattice(v int) *lattice {
	l := &lattice{g: 1, particular: make([]int32, v), null: make([][]int32, v)}
	entries := make([]int32, v*v)
	for i := range l.null {
		l.null[i], entries = entries[:v:v], entries[v:]
		l.null[i][i] = 1
	}
	return l
}

func (l *lattice) clone() *lattice {
	v := len(l.particular)
	entries := make([]int32, v*(len(l.null)+1))
	c := &lattice{g: l.g, null: make([][]int32, len(l.null))}
	c.particular, entries = entries[:v:v], entries[v:]
	copy(c.particular, l.particular)
	for i, b := range l.null {
		c.null[i], entries = entries[:v:v], entries[v:]
		copy(c.null[i], b)
	}
	return c
}

// residue is by how much (g, particular) misses a row.
func (l *lattice) residue(row []int) int64 { return sum(l.particular, row) - l.g }

// gcdOf is what the rows' sums over the null vectors generate.
func (l *lattice) gcdOf(row []int) int64 {
	var g int64
	for _, b := range l.null {
		if g = gcd(g, sum(b, row)); g == 1 {
			return 1
		}
	}
	return g
}

// keeps reports whether a further row leaves g as it is: exactly when the null
// vectors can make up for what the particular solution misses.
func (l *lattice) keeps(row []int) bool {
	r := l.residue(row)
	if r == 0 || l.g == 0 {
		return true
	}
	g := l.gcdOf(row)
	return g != 0 && r%g == 0
}

// meet adds a row. It is false when an entry grew too large for the type; the
// lattice is of no use then.
func (l *lattice) meet(row []int) bool {
	if l.g == 0 {
		return true
	}
	r := l.residue(row)
	pivot := -1
	var h int64 // the row's sum over the pivot
	for i := range l.null {
		for {
			a := sum(l.null[i], row)
			if a == 0 {
				break
			}
			if pivot < 0 {
				pivot, h = i, a
				break
			}
			// Euclid: the smaller one reduces the other.
			if abs(a) < abs(h) {
				l.null[pivot], l.null[i] = l.null[i], l.null[pivot]
				a, h = h, a
			}
			if !subtract(l.null[i], a/h, l.null[pivot]) {
				return false
			}
		}
	}
	if pivot < 0 {
		if r != 0 {
			l.g = 0 // only 0·(g, particular) satisfies the row
		}
		return true
	}
	f := abs(h) / gcd(h, r) // the least multiple of r that h divides
	p := l.null[pivot]
	q := f * r / h
	for i := range l.particular {
		x := f*int64(l.particular[i]) - q*int64(p[i])
		if abs(x) > maxEntry {
			return false
		}
		l.particular[i] = int32(x)
	}
	l.g *= f
	last := len(l.null) - 1
	l.null[pivot], l.null = l.null[last], l.null[:last]
	return l.g <= maxEntry
}

func subtract(a []int32, q int64, b []int32) bool {
	for i := range a {
		if b[i] != 0 {
			x := int64(a[i]) - q*int64(b[i])
			if abs(x) > maxEntry {
				return false
			}
			a[i] = int32(x)
		}
	}
	return true
}

func sum(x []int32, row []int) int64 {
	var s int64
	for _, i := range row {
		s += int64(x[i])
	}
	return s
}

func abs(a int64) int64 {
	if a < 0 {
		return -a
	}
	return a
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return abs(a)
}

// order is g of all rows over v unknowns, of any size.
func order(v int, rows [][]int) *big.Int {
	l := newLattice(v)
	for _, row := range rows {
		if !l.meet(row) {
			return bigOrder(v, rows)
		}
	}
	return big.NewInt(l.g)
}

// bigOrder is order without a bound on the entries: the same steps.
func bigOrder(v int, rows [][]int) *big.Int {
	g, particular := big.NewInt(1), bigVector(v)
	null := make([][]*big.Int, v)
	for i := range null {
		null[i] = bigVector(v)
		null[i][i].SetInt64(1)
	}
	for _, row := range rows {
		r := new(big.Int).Sub(bigSum(particular, row), g)
		pivot := -1
		h := new(big.Int)
		for i := range null {
			for {
				a := bigSum(null[i], row)
				if a.Sign() == 0 {
					break
				}
				if pivot < 0 {
					pivot, h = i, a
					break
				}
				if a.CmpAbs(h) < 0 {
					null[pivot], null[i] = null[i], null[pivot]
					a, h = h, a
				}
				q := new(big.Int).Quo(a, h)
				for j, b := range null[pivot] {
					null[i][j].Sub(null[i][j], new(big.Int).Mul(q, b))
				}
			}
		}
		if pivot < 0 {
			if r.Sign() != 0 {
				return new(big.Int)
			}
			continue
		}
		f := new(big.Int).GCD(nil, nil, new(big.Int).Abs(h), new(big.Int).Abs(r))
		f.Quo(new(big.Int).Abs(h), f)
		q := new(big.Int).Mul(f, r)
		q.Quo(q, h)
		for i, x := range particular {
			x.Mul(x, f).Sub(x, new(big.Int).Mul(q, null[pivot][i]))
		}
		g.Mul(g, f)
		null[pivot] = null[len(null)-1]
		null = null[:len(null)-1]
	}
	return g
}

func bigVector(n int) []*big.Int {
	v := make([]*big.Int, n)
	for i := range v {
		v[i] = new(big.Int)
	}
	return v
}

func bigSum(x []*big.Int, row []int) *big.Int {
	s := new(big.Int)
	for _, i := range row {
		s.Add(s, x[i])
	}
	return s
}

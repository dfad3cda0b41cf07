package grouping_test

import (
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// The second way to know what a coalition learns, which shares nothing with the
// package: Smith's normal form over the integers, and ranks. With the rows'
// matrix A over the unknowns and L = A·Z^v, g is the order of 1 = (1,…,1) in
// Z^r/L. 1 is in the span of L over the rationals, or g = 0; and then
//
//	g = [L + Z·1 : L] = the product of the Smith invariants of A, divided by
//	    that of the invariants of A with the column 1 (Newman, Integral Matrices,
//	    II.15)
//
// and, looked at one prime power at a time, p^f divides g for the least f for
// which p^f·1 is in L modulo p^e, the power of p in the last invariant.

type matrix [][]*big.Int

func matrixOf(v int, rows [][]int, ones bool) matrix {
	m := make(matrix, len(rows))
	for i, row := range rows {
		n := v
		if ones {
			n++
		}
		m[i] = make([]*big.Int, n)
		for j := range m[i] {
			m[i][j] = new(big.Int)
		}
		for _, x := range row {
			m[i][x].Add(m[i][x], big.NewInt(1))
		}
		if ones {
			m[i][v].SetInt64(1)
		}
	}
	return m
}

// smith gives the invariants that are not 0, each dividing the next, by row and
// column operations.
func (m matrix) smith() []*big.Int {
	var out []*big.Int
	if len(m) == 0 {
		return nil
	}
	rows, cols := len(m), len(m[0])
	for n := range min(rows, cols) {
	again:
		// The least entry that is not 0 goes to (n, n).
		pi, pj := -1, -1
		for i := n; i < rows; i++ {
			for j := n; j < cols; j++ {
				if m[i][j].Sign() != 0 && (pi < 0 || m[i][j].CmpAbs(m[pi][pj]) < 0) {
					pi, pj = i, j
				}
			}
		}
		if pi < 0 {
			return out
		}
		m[n], m[pi] = m[pi], m[n]
		for i := range m {
			m[i][n], m[i][pj] = m[i][pj], m[i][n]
		}
		p := m[n][n]
		clean := true
		for i := n + 1; i < rows; i++ {
			q := new(big.Int).Quo(m[i][n], p)
			for j := n; j < cols; j++ {
				m[i][j].Sub(m[i][j], new(big.Int).Mul(q, m[n][j]))
			}
			clean = clean && m[i][n].Sign() == 0
		}
		for j := n + 1; j < cols; j++ {
			q := new(big.Int).Quo(m[n][j], p)
			for i := n; i < rows; i++ {
				m[i][j].Sub(m[i][j], new(big.Int).Mul(q, m[i][n]))
			}
			clean = clean && m[n][j].Sign() == 0
		}
		if !clean {
			goto again
		}
		for i := n + 1; i < rows; i++ {
			for j := n + 1; j < cols; j++ {
				if new(big.Int).Rem(m[i][j], p).Sign() != 0 {
					for c := n; c < cols; c++ {
						m[n][c].Add(m[n][c], m[i][c])
					}
					goto again
				}
			}
		}
		out = append(out, new(big.Int).Abs(p))
	}
	return out
}

// bySmith is g by the invariants.
func bySmith(v int, rows [][]int) *big.Int {
	a, b := matrixOf(v, rows, false).smith(), matrixOf(v, rows, true).smith()
	if len(b) > len(a) {
		return new(big.Int)
	}
	product := func(s []*big.Int) *big.Int {
		p := big.NewInt(1)
		for _, x := range s {
			p.Mul(p, x)
		}
		return p
	}
	return new(big.Int).Quo(product(a), product(b))
}

// rank over the rationals (p = 0) or modulo a prime, by Gauss.
func (m matrix) rank(p int64) int {
	r := 0
	if len(m) == 0 {
		return 0
	}
	mod := func(x *big.Int) *big.Int {
		if p > 0 {
			x.Mod(x, big.NewInt(p))
		}
		return x
	}
	for _, row := range m {
		for _, x := range row {
			mod(x)
		}
	}
	for c := range m[0] {
		at := -1
		for i := r; i < len(m); i++ {
			if m[i][c].Sign() != 0 {
				at = i
				break
			}
		}
		if at < 0 {
			continue
		}
		m[r], m[at] = m[at], m[r]
		for i := r + 1; i < len(m); i++ {
			f, h := new(big.Int).Set(m[i][c]), new(big.Int).Set(m[r][c])
			for j := c; j < len(m[i]); j++ {
				m[i][j].Mul(m[i][j], h)
				mod(m[i][j].Sub(m[i][j], new(big.Int).Mul(f, m[r][j])))
			}
		}
		r++
	}
	return r
}

// byPowers is g by the ranks over the rationals, and by solving modulo the
// prime powers of the last invariant.
func byPowers(t *rapid.T, v int, rows [][]int) *big.Int {
	if matrixOf(v, rows, true).rank(0) > matrixOf(v, rows, false).rank(0) {
		return new(big.Int)
	}
	s := matrixOf(v, rows, false).smith()
	g, last := big.NewInt(1), big.NewInt(1)
	if len(s) > 0 {
		last = s[len(s)-1]
	}
	if !last.IsInt64() || last.Int64() > 1<<20 {
		t.Skip("a large invariant")
	}
	n := last.Int64()
	for p := int64(2); p <= n; p++ {
		power := int64(1)
		for n%p == 0 {
			power *= p
			n /= p
		}
		f := int64(1)
		for ; power > 1 && !solvable(matrixOf(v, rows, false), f, p, power); f *= p {
		}
		g.Mul(g, big.NewInt(f))
	}
	return g
}

// solvable reports whether A·x ≡ (f,…,f) modulo q, a power of p, by elimination
// with the pivot that p divides least.
func solvable(m matrix, f, p, q int64) bool {
	a := make([][]int64, len(m))
	for i, row := range m {
		for _, x := range row {
			a[i] = append(a[i], x.Int64()%q)
		}
		a[i] = append(a[i], f%q)
	}
	value := func(x int64) int64 { // the power of p in x
		w := int64(1)
		for ; w < q && x%p == 0; x /= p {
			w *= p
		}
		return w
	}
	used := make([]bool, len(a))
	for range a {
		pi, pj, least := -1, -1, q
		for i := range a {
			for j := range len(a[i]) - 1 {
				if w := value(a[i][j]); !used[i] && w < least {
					pi, pj, least = i, j, w
				}
			}
		}
		if pi < 0 {
			break
		}
		used[pi] = true
		unit := new(big.Int).ModInverse(big.NewInt(a[pi][pj]/least), big.NewInt(q)).Int64()
		for i := range a {
			if i == pi || used[i] {
				continue
			}
			c := a[i][pj] / least % q * unit % q
			for j := range a[i] {
				a[i][j] = ((a[i][j]-c*a[pi][j])%q + q) % q
			}
		}
		// The row with the pivot can be met if the pivot divides its right side:
		// all else in it is a multiple of the pivot.
		if a[pi][len(a[pi])-1]%least != 0 {
			return false
		}
	}
	for i := range a {
		if !used[i] && a[i][len(a[i])-1]%q != 0 {
			return false
		}
	}
	return true
}

// someRows draws equations; an unknown may come several times in one, which no
// combination has, for the arithmetic's sake.
func someRows(t *rapid.T) (v int, rows [][]int) {
	v = rapid.IntRange(1, 6).Draw(t, "v")
	n := rapid.IntRange(0, 7).Draw(t, "rows")
	for range n {
		rows = append(rows, rapid.SliceOfN(rapid.IntRange(0, v-1), 1, 6).Draw(t, "row"))
	}
	return v, rows
}

func TestOrderAgrees(t *testing.T) {
	found := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		v, rows := someRows(t)
		g := grouping.Order(v, rows)
		if h := grouping.BigOrder(v, rows); g.Cmp(h) != 0 {
			t.Errorf("%v: %v with small and %v with large integers", rows, g, h)
		}
		if h := bySmith(v, rows); g.Cmp(h) != 0 {
			t.Errorf("%v: %v, by Smith's form %v", rows, g, h)
		}
		if h := byPowers(t, v, rows); g.Cmp(h) != 0 {
			t.Errorf("%v: %v, by ranks modulo prime powers %v", rows, g, h)
		}
		x, h, ok := grouping.Particular(v, rows)
		if !ok || g.Cmp(big.NewInt(h)) != 0 {
			t.Errorf("%v: %v, %v", rows, g, h)
		}
		for _, row := range rows {
			var sum int64
			for _, i := range row {
				sum += int64(x[i])
			}
			if h != 0 && sum != h {
				t.Errorf("%v: %v is no solution for %v", rows, x, h)
			}
		}
		switch {
		case g.Sign() == 0:
			found["d"]++
		case g.IsInt64() && g.Int64() == 1:
			found["nothing"]++
		default:
			found["a residue"]++
		}
	})
	if found["nothing"] == 0 || found["d"] == 0 {
		t.Errorf("the test saw only %v", found)
	}
}

// TestPrimesAreNotEnough: modulo each prime the ranks say that nothing is
// learned, and d mod 2 is: L is all (a, b) with 4 | a+b, and (1,1) is twice in
// it, not once; but modulo 2 it is (1,1) in the span of (1,3).
func TestPrimesAreNotEnough(t *testing.T) {
	rows := [][]int{{0, 1, 1, 1, 1}, {0, 0, 0, 2, 2, 2, 2}}
	for _, p := range []int64{0, 2, 3, 5} {
		if a, b := matrixOf(3, rows, false).rank(p), matrixOf(3, rows, true).rank(p); a != b {
			t.Errorf("modulo %d the ranks are %d and %d", p, a, b)
		}
	}
	if g := grouping.Order(3, rows); g.Int64() != 2 {
		t.Errorf("%v", g)
	}
}

// TestOrderLarge: where small integers overflow, large ones go on.
func TestOrderLarge(t *testing.T) {
	want := big.NewInt(1)
	var rows [][]int
	for i, p := range []int64{2, 3, 5, 7, 11, 13, 17, 19, 23, 29} {
		rows = append(rows, slices.Repeat([]int{i}, int(p))) // δ = p·x_i
		want.Mul(want, big.NewInt(p))
	}
	if _, _, ok := grouping.Particular(10, rows); ok {
		t.Error("that fits into small integers")
	}
	if g := grouping.Order(10, rows); g.Cmp(want) != 0 {
		t.Errorf("%v, not %v", g, want)
	}
}

// TestGainsOfGroupings: the same for the equations of real coalitions.
func TestGainsOfGroupings(t *testing.T) {
	found := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		g := someGrouping(t)
		calculators := subset(t, "calculators", g.Calculators)
		combiners := numbers(g)
		if rapid.Bool().Draw(t, "not all combiners") {
			combiners = subset(t, "combiners", combiners)
		}
		gain := g.Gain(combiners, calculators)
		v, rows := g.Left(combiners, calculators)
		want := bySmith(v, rows)
		if slices.ContainsFunc(rows, func(row []int) bool { return len(row) == 0 }) {
			want = new(big.Int)
		}
		if gain.Modulus.Cmp(want) != 0 {
			t.Errorf("%v with %v of %v: %v, by Smith's form %v", combiners, calculators, g, gain, want)
		}
		if h := byPowers(t, v, rows); gain.Modulus.Cmp(h) != 0 {
			t.Errorf("%v with %v of %v: %v, by ranks modulo prime powers %v", combiners, calculators, g, gain, h)
		}
		// Who is more learns no less.
		more := append(slices.Clone(calculators), rapid.SampledFrom(g.Calculators).Draw(t, "one more"))
		if h := g.Gain(combiners, more); !h.Implies(gain) {
			t.Errorf("%v with %v of %v: %v, with %v only %v", combiners, calculators, g, gain, more, h)
		}
		all := g.Gain(numbers(g), calculators)
		if !all.Implies(gain) {
			t.Errorf("%v with %v of %v: %v, all combiners only %v", combiners, calculators, g, gain, all)
		}
		if h := g.Blinds()(calculators); h.String() != all.String() {
			t.Errorf("%v of %v: %v and %v", calculators, g, all, h)
		}
		found[gain.String()]++
	})
	if found["nothing"] == 0 || found["d"] == 0 {
		t.Errorf("the test saw only %v", found)
	}
}

func numbers(g *grouping.Grouping) []uint64 {
	var out []uint64
	for _, c := range g.Combiners {
		out = append(out, c.Number)
	}
	return out
}

func subset(t *rapid.T, name string, of []uint64) []uint64 {
	var out []uint64
	for _, n := range of {
		if rapid.IntRange(0, 2).Draw(t, name) == 0 {
			out = append(out, n)
		}
	}
	return out
}

// someGrouping draws combinations with no thought of safety.
func someGrouping(t *rapid.T) *grouping.Grouping {
	k := rapid.IntRange(1, 6).Draw(t, "k")
	n := rapid.IntRange(1, k).Draw(t, "t")
	g := &grouping.Grouping{T: uint64(n), L: rapid.SampledFrom([]uint64{1, 1, 2, 3}).Draw(t, "l")}
	for j := range k {
		g.Calculators = append(g.Calculators, uint64(3*j+1))
	}
	for a := range rapid.IntRange(1, 3).Draw(t, "m") {
		group := grouping.Group{Number: uint64(2*a + 5)}
		seen := map[string]bool{}
		for range rapid.IntRange(0, 12).Draw(t, "combinations") {
			of := rapid.Permutation(g.Calculators).Draw(t, "calculators")[:n]
			slices.Sort(of)
			var c grouping.Combination
			for _, j := range of {
				c = append(c, grouping.Term{Calculator: j, Key: rapid.Uint64Range(1, g.L).Draw(t, "key")})
			}
			if !seen[c.String()] {
				seen[c.String()] = true
				group.Combinations = append(group.Combinations, c)
			}
		}
		g.Combiners = append(g.Combiners, group)
	}
	if err := g.Validate(); err != nil {
		t.Fatal(err)
	}
	return g
}

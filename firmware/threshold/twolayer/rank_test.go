package twolayer_test

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// The rank condition of B [0073], written out plainly as a judge of the code: with
// textbook elimination on a matrix of integers, and without what packages grouping
// and twolayer do.

// matrix has a row for each combination and a column for each unknown sub-key.
func matrix(rows []grouping.Combination, known []uint64) [][]*big.Int {
	place := map[grouping.Term]int{}
	for _, row := range rows {
		for _, term := range row {
			if _, ok := place[term]; !ok && !slices.Contains(known, term.Calculator) {
				place[term] = len(place)
			}
		}
	}
	m := make([][]*big.Int, len(rows))
	for r, row := range rows {
		m[r] = make([]*big.Int, len(place))
		for i := range m[r] {
			m[r][i] = new(big.Int)
		}
		for _, term := range row {
			if at, ok := place[term]; ok {
				m[r][at].SetInt64(1)
			}
		}
	}
	return m
}

// withOnes adds the column of d.
func withOnes(m [][]*big.Int) [][]*big.Int {
	out := make([][]*big.Int, len(m))
	for i, row := range m {
		out[i] = append(slices.Clone(row), big.NewInt(1))
	}
	return out
}

// divisor returns the rank r over the rationals and the gcd of all r×r minors,
// which is the product of the Smith invariants, by making the matrix diagonal with
// row and column operations over the integers.
func divisor(in [][]*big.Int) (rank int, product *big.Int) {
	m := make([][]*big.Int, len(in))
	for i, row := range in {
		for _, x := range row {
			m[i] = append(m[i], new(big.Int).Set(x))
		}
	}
	product = big.NewInt(1)
	for len(m) > 0 && len(m[0]) > 0 {
		pi, pj := -1, -1
		for i := range m {
			for j, x := range m[i] {
				if x.Sign() != 0 && (pi < 0 || x.CmpAbs(m[pi][pj]) < 0) {
					pi, pj = i, j
				}
			}
		}
		if pi < 0 {
			break
		}
		p, clean := m[pi][pj], true
		for i := range m {
			if q := new(big.Int).Quo(m[i][pj], p); i != pi && m[i][pj].Sign() != 0 {
				for j := range m[i] {
					m[i][j] = new(big.Int).Sub(m[i][j], new(big.Int).Mul(q, m[pi][j]))
				}
				clean = clean && m[i][pj].Sign() == 0
			}
		}
		for j := range m[pi] {
			if q := new(big.Int).Quo(m[pi][j], p); j != pj && m[pi][j].Sign() != 0 {
				for i := range m {
					m[i][j] = new(big.Int).Sub(m[i][j], new(big.Int).Mul(q, m[i][pj]))
				}
				clean = clean && m[pi][j].Sign() == 0
			}
		}
		if !clean {
			continue // a smaller pivot has appeared
		}
		rank++
		product.Mul(product, new(big.Int).Abs(p))
		m = slices.Delete(m, pi, pi+1)
		for i := range m {
			m[i] = slices.Delete(m[i], pj, pj+1)
		}
	}
	return rank, product
}

// rankMod returns the rank modulo a prime.
func rankMod(in [][]*big.Int, p int64) int {
	var m [][]int64
	for _, row := range in {
		var r []int64
		for _, x := range row {
			r = append(r, new(big.Int).Mod(x, big.NewInt(p)).Int64())
		}
		m = append(m, r)
	}
	rank := 0
	for j := 0; len(m) > 0 && j < len(m[0]); j++ {
		at := slices.IndexFunc(m, func(r []int64) bool { return r[j] != 0 })
		if at < 0 {
			continue
		}
		pivot := m[at]
		m = slices.Delete(m, at, at+1)
		rank++
		inv := new(big.Int).ModInverse(big.NewInt(pivot[j]), big.NewInt(p)).Int64()
		for i := range m {
			q := m[i][j] * inv % p
			for c := range m[i] {
				m[i][c] = ((m[i][c]-q*pivot[c])%p + p) % p
			}
		}
	}
	return rank
}

// primes lists the primes that divide n.
func primes(n *big.Int) []int64 {
	var list []int64
	rest := new(big.Int).Set(n)
	for p := int64(2); rest.Cmp(big.NewInt(1)) > 0; p++ {
		for first := true; new(big.Int).Mod(rest, big.NewInt(p)).Sign() == 0; first = false {
			if first {
				list = append(list, p)
			}
			rest.Quo(rest, big.NewInt(p))
		}
	}
	return list
}

// learnsNothing applies the whole condition: d is not in the span over the
// rationals, nor modulo a prime of the Smith invariants; nor modulo a power of
// one, which ranks modulo primes alone do not show.
func learnsNothing(rows []grouping.Combination, known []uint64) (bool, string) {
	a := matrix(rows, known)
	b := withOnes(a)
	ra, da := divisor(a)
	rb, db := divisor(b)
	if ra != rb {
		return false, "d"
	}
	for _, p := range primes(da) {
		if rankMod(a, p) != rankMod(b, p) {
			return false, fmt.Sprintf("d mod %d", p)
		}
	}
	if da.Cmp(db) != 0 {
		return false, "d modulo a part of a prime power"
	}
	return true, ""
}

// printed are the three groups of B [0085] to [0087].
func printed() grouping.Grouping {
	return grouping.Grouping{T: 3, L: 2, Calculators: []uint64{1, 2, 3, 4, 5}, Combiners: []grouping.Group{
		group(1, "11,22,31", "21,32,41", "31,42,51", "11,41,52", "12,21,51"),
		group(2, "11,21,42", "22,41,51", "21,31,52", "11,32,51", "12,31,41"),
		group(3, "11,32,41", "12,21,31", "11,22,51", "21,41,52", "31,42,51"),
	}}
}

// TestCoalitions: at real parameters, any t − 1 calculators, any combiner with
// t − 1 calculators, all combiners and all calculators do not determine d.
func TestCoalitions(t *testing.T) {
	for name, g := range map[string]grouping.Grouping{"printed example": printed(), "t=2 of 3": twoOfThree()} {
		if err := twolayer.CheckHiding(&g); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, c := range promised(&g) {
			if ok, what := learnsNothing(c.rows(&g), c.calculators); !ok {
				t.Errorf("%s: %+v learn %s", name, c, what)
			}
			if b, err := twolayer.Hiding(&g, c.combiners, c.calculators); err != nil || b < 120 {
				t.Errorf("%s: %+v: d is hidden by %d bits: %v", name, c, b, err)
			}
		}
	}
}

// TestWeakCoalitions: what is not promised, and is found: in B's example two
// combiners with one calculator learn d, or its parity.
func TestWeakCoalitions(t *testing.T) {
	g := printed()
	for _, c := range []struct {
		coalition
		want string
	}{
		{coalition{[]uint64{1, 2}, []uint64{1}}, "d"},
		{coalition{[]uint64{1, 2}, []uint64{5}}, "d"},
		{coalition{[]uint64{1, 3}, []uint64{4}}, "d mod 2"},
	} {
		ok, what := learnsNothing(c.rows(&g), c.calculators)
		if ok || what != c.want {
			t.Errorf("%+v learn %q, not %q", c.coalition, what, c.want)
		}
		if _, err := twolayer.Hiding(&g, c.combiners, c.calculators); !errors.Is(err, twolayer.ErrLearns) {
			t.Errorf("%+v: %v", c.coalition, err)
		}
	}
}

// TestUnsafeGroupings: a dealer refuses them and names a coalition.
func TestUnsafeGroupings(t *testing.T) {
	for name, g := range map[string]grouping.Grouping{
		// 11 + 21, 11 + 31, 21 + 31: with one calculator all sub-keys and d.
		"one sub-key each": {T: 2, L: 1, Calculators: []uint64{1, 2, 3}, Combiners: []grouping.Group{group(1, "11,21", "11,31", "21,31")}},
		// Safe one by one, and together d mod 2: the sum of all three is 2·(…).
		"all combiners": {T: 2, L: 1, Calculators: []uint64{1, 2, 3}, Combiners: []grouping.Group{group(1, "11,21"), group(2, "11,31"), group(3, "21,31")}},
	} {
		var unsafe *twolayer.UnsafeError
		_, err := twolayer.Deal(nil, key(), g)
		if !errors.As(err, &unsafe) || !errors.Is(err, twolayer.ErrLearns) {
			t.Fatalf("%s: %v", name, err)
		}
		if ok, _ := learnsNothing(coalition{combiners: unsafe.Combiners}.rows(&g), unsafe.Calculators); ok {
			t.Errorf("%s: %v is wrong", name, err)
		}
	}
}

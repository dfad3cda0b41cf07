// Package lagrange interpolates polynomials at 0 where nobody can divide: in
// exponents modulo an order that is secret, or over the integers.
//
// For a set S of points from 1 to n, f(0) = Σ_{i∈S} λ_i·f(i) for every polynomial of
// degree below |S|, where
//
//	λ_i = Π_{j∈S, j≠i} j/(j − i)
//
// has a denominator that divides Δ = n!, so that Δ·λ_i is an integer: both
// i−1 and n−i are at most n − 1, and (i−1)!·(n−i)! divides n! (Shoup 2000, §2.2;
// Frankel, Gemmell, MacKenzie, Yung 1997).
package lagrange

import (
	"fmt"
	"io"
	"math/big"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/modexp"
)

// Delta returns Δ = n!.
func Delta(n uint64) *big.Int { return new(big.Int).MulRange(1, int64(n)) }

// Coefficients returns Δ·λ_i for the members i of a set within 1 to n, ascending.
func Coefficients(n uint64, set threshold.Subset) []*big.Int {
	var out []*big.Int
	for _, i := range set.Indices() {
		numerator, denominator := Delta(n), big.NewInt(1)
		for _, j := range set.Indices() {
			if j != i {
				numerator.Mul(numerator, big.NewInt(int64(j)))
				denominator.Mul(denominator, big.NewInt(int64(j)-int64(i)))
			}
		}
		out = append(out, numerator.Quo(numerator, denominator)) // exact
	}
	return out
}

// Draw returns a polynomial with a given constant term, t − 1 other coefficients
// uniform in [0, m). The constant term becomes part of it; if it fails, it is wiped.
func Draw(rand io.Reader, constant *big.Int, t uint64, m *big.Int) ([]*big.Int, error) {
	f := []*big.Int{constant}
	for range t - 1 {
		a, err := Uniform(rand, m)
		if err != nil {
			Wipe(f...)
			return nil, err
		}
		f = append(f, a)
	}
	return f, nil
}

// Evaluate returns f(x) for the coefficients of f, the constant one first.
func Evaluate(f []*big.Int, x uint64) *big.Int {
	y, at := new(big.Int), new(big.Int).SetUint64(x)
	for i := len(f) - 1; i >= 0; i-- {
		y.Mul(y, at).Add(y, f[i])
	}
	return y
}

// BitLens returns the lengths of numbers.
func BitLens(numbers ...*big.Int) []int {
	var bits []int
	for _, x := range numbers {
		bits = append(bits, x.BitLen())
	}
	return bits
}

// ProductVarTime returns min(w, N − w) for w = Π y_i^c_i mod N. The powers and
// the exponents, which may be negative, are public.
func ProductVarTime(pub *threshold.PublicKey, powers [][]byte, exponents []*big.Int) ([]byte, error) {
	mod, err := modexp.New(pub.N)
	if err != nil {
		return nil, err
	}
	n := new(big.Int).SetBytes(pub.N)
	above, below := big.NewInt(1), big.NewInt(1)
	for i, c := range exponents {
		if c.Sign() == 0 {
			continue
		}
		// Of |c|, and in constant time only because that is the fastest way there is.
		y, err := mod.Exp(powers[i], c.Bytes())
		if err != nil {
			return nil, err
		}
		side := above
		if c.Sign() < 0 {
			side = below
		}
		side.Mul(side, new(big.Int).SetBytes(y)).Mod(side, n)
	}
	if below.ModInverse(below, n) == nil {
		return nil, fmt.Errorf("%w: not coprime to N", threshold.ErrValue)
	}
	w := above.Mul(above, below)
	w.Mod(w, n)
	if other := new(big.Int).Sub(n, w); other.Cmp(w) < 0 {
		w = other
	}
	return w.FillBytes(make([]byte, pub.Len())), nil
}

// Wipe erases numbers as well as math/big allows: see [threshold.WholeKey.Wipe].
func Wipe(numbers ...*big.Int) {
	for _, x := range numbers {
		if x == nil {
			continue
		}
		words := x.Bits()
		clear(words[:cap(words)])
		x.SetInt64(0)
	}
}

// Uniform returns a uniform number in [0, m), by rejection.
func Uniform(rand io.Reader, m *big.Int) (*big.Int, error) {
	bits := m.BitLen()
	b := make([]byte, (bits+7)/8)
	defer clear(b)
	for {
		if _, err := io.ReadFull(rand, b); err != nil {
			return nil, fmt.Errorf("lagrange: reading randomness: %w", err)
		}
		b[0] &= 0xff >> (8*len(b) - bits)
		if x := new(big.Int).SetBytes(b); x.Cmp(m) < 0 {
			return x, nil
		}
	}
}

package integer

import (
	"io"
	"math/big"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/lagrange"
	"github.com/privyseal/privyseal/firmware/threshold/internal/polynomial"
)

// SlackBits is log₂ N^ε.
const SlackBits = 128

// Public is what everybody knows of a dealing: any T of N devices sign; V[i−1] is
// G^s_i mod N.
type Public struct {
	T uint64   `cbor:"1,keyasint"`
	N uint64   `cbor:"2,keyasint"`
	G []byte   `cbor:"3,keyasint"`
	V [][]byte `cbor:"4,keyasint"`
}

// Share is what device Index holds: s_i, ShareLen bytes.
type Share = polynomial.Share

// Sharing returns what can be done with a dealing of the key pub. Errors are those
// of [polynomial.CheckNumbers].
func (p *Public) Sharing(pub *threshold.PublicKey) (*polynomial.Sharing, error) {
	if err := polynomial.CheckNumbers(pub, p.T, p.N); err != nil {
		return nil, err
	}
	// Σ λ_i·s_i = f(0) = d − P, and e·(d − P) = 1 − e·P modulo φ(N).
	P, _ := public(p.N)
	D := new(big.Int).Mul(P, big.NewInt(threshold.PublicExponent))
	return &polynomial.Sharing{
		Key: pub, T: p.T, N: p.N, G: p.G, V: p.V, Kind: "partial signature by sharing over the integers", Width: ShareLen(pub.Bits(), p.T, p.N),
		B: big.NewInt(1), D: D.Sub(big.NewInt(1), D),
	}, nil
}

// ShareLen returns the length of a share in bytes, for a modulus of so many bits:
// that of the largest value that f(n)/L can have.
func ShareLen(bits int, t, n uint64) int {
	largest := new(big.Int).Lsh(lagrange.Delta(n), uint(bits)) // above L·k
	f := []*big.Int{largest}
	for range t - 1 {
		f = append(f, steps(bits, t, n)) // above a_j/L
	}
	return (lagrange.Evaluate(f, n).BitLen() + 7) / 8
}

// steps returns how many values a coefficient a_j takes: a_j/L is uniform from 0 to
// 2L²N^{2+ε}t, where 2^|N| stands for N.
func steps(bits int, t, n uint64) *big.Int {
	l := lagrange.Delta(n)
	s := new(big.Int).Mul(l, l)
	s.Mul(s, new(big.Int).SetUint64(t)).Lsh(s, uint(1+2*bits+SlackBits))
	return s.Add(s, big.NewInt(1))
}

// public returns P and s' with 1 = e·P + L²·s', 0 ≤ P < L².
func public(n uint64) (P, s *big.Int) {
	e, square := big.NewInt(threshold.PublicExponent), lagrange.Delta(n)
	square.Mul(square, square)
	P = new(big.Int).ModInverse(e, square)
	if P == nil { // n = 1: everything is 0 modulo L² = 1
		P = new(big.Int)
	}
	s = new(big.Int).Mul(e, P)
	s.Sub(big.NewInt(1), s).Quo(s, square) // exact
	return P, s
}

// Deal shares a key. It does not wipe it.
func Deal(rand io.Reader, k *threshold.WholeKey, t, n uint64) ([]Share, *Public, error) {
	p := &Public{T: t, N: n}
	s, err := p.Sharing(k.Public())
	if err != nil {
		return nil, nil, err
	}
	secret, err := exponent(k, n)
	if err != nil {
		return nil, nil, err
	}
	// f/L, with the constant term L²·k/L: no product with L is ever made.
	f, err := lagrange.Draw(rand, secret.Mul(secret, lagrange.Delta(n)), t, steps(s.Key.Bits(), t, n))
	if err != nil {
		return nil, nil, err
	}
	defer lagrange.Wipe(f...)
	if s.G, err = k.Public().RandomSquare(rand); err != nil {
		return nil, nil, err
	}
	shares, err := s.Deal(f, nil)
	if err != nil {
		return nil, nil, err
	}
	p.G, p.V = s.G, s.V
	return shares, p, nil
}

// exponent returns k = d·s' mod φ(N).
func exponent(k *threshold.WholeKey, n uint64) (*big.Int, error) {
	p, q, err := k.Factors()
	if err != nil {
		return nil, err
	}
	defer p.Wipe()
	defer q.Wipe()
	p1, q1 := new(big.Int).SetBytes(p.Reveal()), new(big.Int).SetBytes(q.Reveal())
	p1.Sub(p1, big.NewInt(1))
	q1.Sub(q1, big.NewInt(1))
	phi := new(big.Int).Mul(p1, q1)
	defer lagrange.Wipe(p1, q1, phi)
	d := new(big.Int).ModInverse(big.NewInt(threshold.PublicExponent), phi)
	_, s := public(n)
	return d.Mul(d, s).Mod(d, phi), nil
}

// CombineExponents returns the lengths in bits of the exponents of
// Sharing.CombineVarTime for a set, besides 1: one of each partial signature, and
// that of the message, P.
func CombineExponents(n uint64, set threshold.Subset) []int {
	P, _ := public(n)
	return lagrange.BitLens(append(lagrange.Coefficients(n, set), P)...)
}

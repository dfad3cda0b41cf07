package shoup

import (
	"errors"
	"io"
	"math/big"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/lagrange"
	"github.com/privyseal/privyseal/firmware/threshold/internal/polynomial"
)

// ErrPrimes is returned for a key whose primes are not safe.
var ErrPrimes = errors.New("shoup: the key's primes are not safe primes: make another key")

// Public is what everybody knows of a dealing: any T of N devices sign; G is v and
// V[i−1] is v_i.
type Public struct {
	T uint64   `cbor:"1,keyasint"`
	N uint64   `cbor:"2,keyasint"`
	G []byte   `cbor:"3,keyasint"`
	V [][]byte `cbor:"4,keyasint"`
}

// Share is what device Index holds: s_i, |N| bytes.
type Share = polynomial.Share

// Sharing returns what can be done with a dealing of the key pub. Errors are those
// of [polynomial.CheckNumbers].
func (p *Public) Sharing(pub *threshold.PublicKey) (*polynomial.Sharing, error) {
	if err := polynomial.CheckNumbers(pub, p.T, p.N); err != nil {
		return nil, err
	}
	delta := lagrange.Delta(p.N) // Σ λ_i·s_i = Δ·d, and e·d = 1 modulo m
	return &polynomial.Sharing{
		Key: pub, T: p.T, N: p.N, G: p.G, V: p.V, Kind: "partial signature by Shoup's sharing", Width: pub.Len(),
		B: new(big.Int).Lsh(delta, 1), D: delta, Squares: true,
	}, nil
}

// Deal shares a key with safe primes. It does not wipe the key.
func Deal(rand io.Reader, k *threshold.WholeKey, t, n uint64) ([]Share, *Public, error) {
	p := &Public{T: t, N: n}
	s, err := p.Sharing(k.Public())
	if err != nil {
		return nil, nil, err
	}
	f, m, err := draw(rand, k, t)
	defer lagrange.Wipe(append(f, m)...)
	if err != nil {
		return nil, nil, err
	}
	if s.G, err = k.Public().RandomSquare(rand); err != nil {
		return nil, nil, err
	}
	shares, err := s.Deal(f, m)
	if err != nil {
		return nil, nil, err
	}
	p.G, p.V = s.G, s.V
	return shares, p, nil
}

// draw returns f with f(0) = d, and m.
func draw(rand io.Reader, k *threshold.WholeKey, t uint64) (f []*big.Int, m *big.Int, err error) {
	if safe, err := k.SafePrimes(); err != nil {
		return nil, nil, err
	} else if !safe {
		return nil, nil, ErrPrimes
	}
	p, q, err := k.Factors()
	if err != nil {
		return nil, nil, err
	}
	defer p.Wipe()
	defer q.Wipe()
	p1, q1 := new(big.Int).SetBytes(p.Reveal()), new(big.Int).SetBytes(q.Reveal())
	m = new(big.Int).Mul(p1.Rsh(p1, 1), q1.Rsh(q1, 1))
	lagrange.Wipe(p1, q1)
	d := new(big.Int).ModInverse(big.NewInt(threshold.PublicExponent), m)
	f, err = lagrange.Draw(rand, d, t, m)
	return f, m, err
}

// CombineExponents returns the lengths in bits of the exponents of
// Sharing.CombineVarTime for a set: one of each partial signature, and those of
// w and of the message.
func CombineExponents(n uint64, set threshold.Subset) []int {
	exponents := lagrange.Coefficients(n, set)
	for _, c := range exponents {
		c.Lsh(c, 1)
	}
	square := lagrange.Delta(n)
	square.Mul(square, square).Lsh(square, 2)
	a, b := polynomial.Bezout(square)
	return lagrange.BitLens(append(exponents, a, b)...)
}

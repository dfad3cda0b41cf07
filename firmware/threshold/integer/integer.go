package integer

import (
	"fmt"
	"io"
	"math/big"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/lagrange"
	"github.com/privyseal/privyseal/firmware/threshold/modexp"
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
type Share struct {
	Index uint64           `cbor:"1,keyasint"`
	Value threshold.Secret `cbor:"2,keyasint"`
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
	if err := lagrange.CheckNumbers(t, n); err != nil {
		return nil, nil, err
	}
	pub := k.Public()
	// f/L, the constant coefficient first: no product with L is ever made.
	f, err := polynomial(rand, k, t, n)
	defer lagrange.Wipe(f...)
	if err != nil {
		return nil, nil, err
	}
	p := &Public{T: t, N: n}
	if p.G, err = pub.RandomSquare(rand); err != nil {
		return nil, nil, err
	}
	shares := make([]Share, n)
	width := ShareLen(pub.Bits(), t, n)
	for i := range shares {
		s := lagrange.Evaluate(f, uint64(i+1))
		shares[i] = Share{uint64(i + 1), threshold.NewSecret(s.FillBytes(make([]byte, width)))}
		lagrange.Wipe(s)
	}
	for i := range shares {
		v, err := p.power(pub, p.G, &shares[i])
		if err != nil {
			for j := range shares {
				shares[j].Value.Wipe()
			}
			return nil, nil, err
		}
		p.V = append(p.V, v)
	}
	return shares, p, nil
}

func (p *Public) power(pub *threshold.PublicKey, x []byte, s *Share) ([]byte, error) {
	e, err := p.NewExponentiator(pub, s)
	if err != nil {
		return nil, err
	}
	return e.Exp(x)
}

func polynomial(rand io.Reader, k *threshold.WholeKey, t, n uint64) ([]*big.Int, error) {
	secret, err := exponent(k, n)
	if err != nil {
		return nil, err
	}
	f := []*big.Int{secret.Mul(secret, lagrange.Delta(n))} // L²·k / L
	for range t - 1 {
		a, err := lagrange.Uniform(rand, steps(k.Public().Bits(), t, n))
		if err != nil {
			return f, err
		}
		f = append(f, a)
	}
	return f, nil
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

type exponentiator struct {
	mod *modexp.Modulus
	d   threshold.Secret
}

// NewExponentiator returns an Exponentiator for a share that uses libcrypto, in
// time that depends on the share's length only. It fails with ErrWiped once the
// share is wiped.
func (p *Public) NewExponentiator(pub *threshold.PublicKey, s *Share) (threshold.Exponentiator, error) {
	if err := pub.Validate(); err != nil {
		return nil, err
	}
	if width := ShareLen(pub.Bits(), p.T, p.N); s.Value.Len() != width {
		return nil, fmt.Errorf("%w: share of %d bytes, not %d", threshold.ErrShare, s.Value.Len(), width)
	}
	mod, err := modexp.New(pub.N)
	if err != nil {
		return nil, err
	}
	return &exponentiator{mod, s.Value}, nil
}

func (e *exponentiator) Exp(x []byte) ([]byte, error) {
	if e.d.Len() == 0 {
		return nil, threshold.ErrWiped
	}
	return e.mod.Exp(x, e.d.Reveal())
}

// Validate checks the form: numbers, and all values units.
func (p *Public) Validate(pub *threshold.PublicKey) error {
	return lagrange.CheckValues(pub, p.T, p.N, p.G, p.V)
}

// CheckDealing shows everybody that any t shares give d: (g^P·Π v_i^λ_i)^e = g for
// enough sets, up to the sign.
func (p *Public) CheckDealing(pub *threshold.PublicKey) error {
	P, _ := public(p.N)
	return lagrange.CheckDealing(pub, p.T, p.N, p.G, p.V, P, big.NewInt(1))
}

// CheckShare checks what a device got against its check value, in constant time.
func (p *Public) CheckShare(pub *threshold.PublicKey, s *Share) error {
	if err := p.Validate(pub); err != nil {
		return err
	}
	e, err := p.NewExponentiator(pub, s)
	if err != nil {
		return err
	}
	return lagrange.CheckShare(p.N, p.V, s.Index, e, p.G)
}

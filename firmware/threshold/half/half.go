package half

import (
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/lagrange"
	"github.com/privyseal/privyseal/firmware/threshold/modexp"
)

// SlackBits is −log₂ of the distance up to which t − 1 shares hide d.
const SlackBits = 128

var (
	// ErrFactors is returned for a key one of whose factors is longer than half of
	// N: then δ is longer than the shares hide.
	ErrFactors = errors.New("half: the key's factors are not of half its length: make another key")

	// ErrPublic is returned for a κ that cannot be.
	ErrPublic = errors.New("half: published values refused")
)

// Public is what everybody knows of a dealing: any T of N devices sign; V[i−1] is
// G^s_i mod N; K is κ.
type Public struct {
	T uint64   `cbor:"1,keyasint"`
	N uint64   `cbor:"2,keyasint"`
	K uint64   `cbor:"3,keyasint"`
	G []byte   `cbor:"4,keyasint"`
	V [][]byte `cbor:"5,keyasint"`
}

// Share is what device Index holds: s_i, ShareLen bytes.
type Share struct {
	Index uint64           `cbor:"1,keyasint"`
	Value threshold.Secret `cbor:"2,keyasint"`
}

// ShareLen returns the length of a share in bytes, for a modulus of so many bits:
// that of the largest value that f(n) can have.
func ShareLen(bits int, t, n uint64) int {
	f := []*big.Int{new(big.Int).Lsh(lagrange.Delta(n), uint(bits/2+1))} // above Δ·δ
	for range t - 1 {
		f = append(f, coefficients(bits, t, n))
	}
	return (lagrange.Evaluate(f, n).BitLen() + 7) / 8
}

// coefficients returns how many values an a_j takes.
func coefficients(bits int, t, n uint64) *big.Int {
	r := lagrange.Delta(n)
	return r.Mul(r, new(big.Int).SetUint64(t)).Lsh(r, uint(bits/2+1+SlackBits))
}

// Deal shares a key. It does not wipe it.
func Deal(rand io.Reader, k *threshold.WholeKey, t, n uint64) ([]Share, *Public, error) {
	if err := lagrange.CheckNumbers(t, n); err != nil {
		return nil, nil, err
	}
	pub := k.Public()
	p := &Public{T: t, N: n}
	delta, err := p.split(pub, k)
	if err != nil {
		return nil, nil, err
	}
	f := []*big.Int{delta.Mul(delta, lagrange.Delta(n))}
	defer func() { lagrange.Wipe(f...) }()
	for range t - 1 {
		a, err := lagrange.Uniform(rand, coefficients(pub.Bits(), t, n))
		if err != nil {
			return nil, nil, err
		}
		f = append(f, a)
	}
	square, err := pub.RandomSquare(rand)
	if err != nil {
		return nil, nil, err
	}
	if p.G, err = p.Base(pub, square); err != nil {
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

// split sets κ and returns δ = C − d.
func (p *Public) split(pub *threshold.PublicKey, k *threshold.WholeKey) (*big.Int, error) {
	ps, qs, err := k.Factors()
	if err != nil {
		return nil, err
	}
	defer ps.Wipe()
	defer qs.Wipe()
	one := big.NewInt(1)
	p1, q1 := new(big.Int).SetBytes(ps.Reveal()), new(big.Int).SetBytes(qs.Reveal())
	defer lagrange.Wipe(p1, q1)
	if max(p1.BitLen(), q1.BitLen()) > pub.Bits()/2 {
		return nil, ErrFactors
	}
	phi := new(big.Int).Mul(p1.Sub(p1, one), q1.Sub(q1, one))
	e := new(big.Int).SetUint64(pub.E)
	d := new(big.Int).ModInverse(e, phi)
	kappa := new(big.Int).Mul(e, d)
	kappa.Quo(kappa, phi) // (e·d − 1)/φ(N), as 1 < φ(N)
	p.K = kappa.Uint64()
	delta := new(big.Int).Sub(p.upper(pub), d)
	lagrange.Wipe(phi, d)
	if delta.Sign() <= 0 || delta.BitLen() > pub.Bits()/2+1 {
		return nil, ErrFactors // cannot be: see above
	}
	return delta, nil
}

// upper returns C.
func (p *Public) upper(pub *threshold.PublicKey) *big.Int {
	e := new(big.Int).SetUint64(pub.E)
	c := new(big.Int).SetBytes(pub.N)
	c.Add(c, big.NewInt(1)).Mul(c, new(big.Int).SetUint64(p.K)).Add(c, big.NewInt(1))
	c.Add(c, e).Sub(c, big.NewInt(1)) // to round up
	return c.Quo(c, e)
}

type exponentiator struct {
	mod *modexp.Modulus
	d   threshold.Secret
}

// NewExponentiator returns an Exponentiator for a share that uses libcrypto, in
// time that depends on the share's length only. It fails with ErrWiped once the
// share is wiped.
func (p *Public) NewExponentiator(pub *threshold.PublicKey, s *Share) (threshold.Exponentiator, error) {
	if err := p.check(pub); err != nil {
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

func (p *Public) power(pub *threshold.PublicKey, x []byte, s *Share) ([]byte, error) {
	e, err := p.NewExponentiator(pub, s)
	if err != nil {
		return nil, err
	}
	return e.Exp(x)
}

// check is of what a computation needs: the key and the numbers.
func (p *Public) check(pub *threshold.PublicKey) error {
	if err := pub.Validate(); err != nil {
		return err
	}
	if err := lagrange.CheckNumbers(p.T, p.N); err != nil {
		return err
	}
	if p.K < 1 || p.K >= pub.E {
		return fmt.Errorf("%w: κ = %d", ErrPublic, p.K)
	}
	return nil
}

// Validate checks the form: numbers, and all values units.
func (p *Public) Validate(pub *threshold.PublicKey) error {
	if err := p.check(pub); err != nil {
		return err
	}
	return lagrange.CheckValues(pub, p.T, p.N, p.G, p.V)
}

// CheckDealing shows everybody that any t shares give d: for enough sets, up to the
// sign, (g^(Δ²·C)·Π v_i^−λ_i)^e = g^Δ².
func (p *Public) CheckDealing(pub *threshold.PublicKey) error {
	if err := p.Validate(pub); err != nil {
		return err
	}
	// In the form of lagrange, of which this is the inverse: f(0) is Δ·δ, not d.
	square := lagrange.Delta(p.N)
	square.Mul(square, square)
	c := p.upper(pub)
	d := new(big.Int).Mul(c, new(big.Int).SetUint64(pub.E))
	d.Sub(d, big.NewInt(1)).Mul(d, square) // e·δ = e·C − 1 mod φ(N)
	return lagrange.CheckDealing(pub, p.T, p.N, p.G, p.V, new(big.Int), d)
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

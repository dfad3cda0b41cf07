package half

import (
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/lagrange"
	"github.com/privyseal/privyseal/firmware/threshold/internal/polynomial"
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
type Share = polynomial.Share

// Sharing returns what can be done with a dealing of the key pub. It returns
// ErrPublic for an impossible κ; other errors are those of
// [polynomial.CheckNumbers].
func (p *Public) Sharing(pub *threshold.PublicKey) (*polynomial.Sharing, error) {
	if err := polynomial.CheckNumbers(pub, p.T, p.N); err != nil {
		return nil, err
	}
	if p.K < 1 || p.K >= pub.E {
		return nil, fmt.Errorf("%w: κ = %d", ErrPublic, p.K)
	}
	// Σ λ_i·s_i = Δ·f(0) = Δ²·δ, and e·δ = e·C − 1 modulo φ(N).
	delta := lagrange.Delta(p.N)
	D := new(big.Int).Mul(p.upper(pub), new(big.Int).SetUint64(pub.E))
	D.Sub(D, big.NewInt(1)).Mul(D, delta).Mul(D, delta)
	return &polynomial.Sharing{
		Key: pub, T: p.T, N: p.N, G: p.G, V: p.V, Kind: "partial signature by half-length sharing", Width: ShareLen(pub.Bits(), p.T, p.N),
		B: delta, D: D,
	}, nil
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
	pub := k.Public()
	if err := polynomial.CheckNumbers(pub, t, n); err != nil {
		return nil, nil, err
	}
	p := &Public{T: t, N: n}
	delta, err := p.split(pub, k)
	if err != nil {
		return nil, nil, err
	}
	f, err := lagrange.Draw(rand, delta.Mul(delta, lagrange.Delta(n)), t, coefficients(pub.Bits(), t, n))
	if err != nil {
		return nil, nil, err
	}
	defer lagrange.Wipe(f...)
	s, err := p.Sharing(pub)
	if err != nil {
		return nil, nil, err
	}
	square, err := pub.RandomSquare(rand)
	if err != nil {
		return nil, nil, err
	}
	if s.G, err = s.Base(square); err != nil {
		return nil, nil, err
	}
	shares, err := s.Deal(f, nil)
	if err != nil {
		return nil, nil, err
	}
	p.G, p.V = s.G, s.V
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
	lagrange.Wipe(phi, d, kappa) // kappa's memory has held e·d
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

// CombineExponents returns the lengths in bits of the exponents of
// Sharing.CombineVarTime for a set, at most: one of each partial signature, that of
// their product, and that of the message.
func CombineExponents(bits int, n uint64, set threshold.Subset) []int {
	const e = 17 // bits of a, and of κ/e·N at most those of N
	cube := new(big.Int).Exp(lagrange.Delta(n), big.NewInt(3), nil)
	return append(lagrange.BitLens(lagrange.Coefficients(n, set)...), e, e+cube.BitLen()+bits)
}

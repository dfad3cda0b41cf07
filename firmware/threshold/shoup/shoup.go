package shoup

import (
	"errors"
	"io"
	"math/big"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/lagrange"
	"github.com/privyseal/privyseal/firmware/threshold/prime"
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
type Share struct {
	Index uint64           `cbor:"1,keyasint"`
	Value threshold.Secret `cbor:"2,keyasint"`
}

// Deal shares a key with safe primes. It does not wipe the key.
func Deal(rand io.Reader, k *threshold.WholeKey, t, n uint64) ([]Share, *Public, error) {
	if err := lagrange.CheckNumbers(t, n); err != nil {
		return nil, nil, err
	}
	f, m, err := polynomial(rand, k, t)
	defer lagrange.Wipe(append(f, m)...)
	if err != nil {
		return nil, nil, err
	}
	pub := k.Public()
	p := &Public{T: t, N: n}
	if p.G, err = pub.RandomSquare(rand); err != nil {
		return nil, nil, err
	}
	shares := make([]Share, n)
	for i := range shares {
		s := lagrange.Evaluate(f, uint64(i+1))
		shares[i] = Share{uint64(i + 1), threshold.NewSecret(s.Mod(s, m).FillBytes(make([]byte, pub.Len())))}
		lagrange.Wipe(s)
	}
	for i := range shares {
		v, err := power(pub, p.G, &shares[i])
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

func power(pub *threshold.PublicKey, x []byte, s *Share) ([]byte, error) {
	e, err := threshold.NewHostExponentiator(pub, s.Value)
	if err != nil {
		return nil, err
	}
	return e.Exp(x)
}

// polynomial returns f with f(0) = d, and m.
func polynomial(rand io.Reader, k *threshold.WholeKey, t uint64) (f []*big.Int, m *big.Int, err error) {
	p, q, err := k.Factors()
	if err != nil {
		return nil, nil, err
	}
	defer p.Wipe()
	defer q.Wipe()
	half := func(secret threshold.Secret) (*big.Int, error) {
		x := new(big.Int).SetBytes(secret.Reveal())
		defer lagrange.Wipe(x)
		if ok, err := prime.CheckSafe(x); err != nil {
			return nil, err
		} else if !ok {
			return nil, ErrPrimes
		}
		return new(big.Int).Rsh(x, 1), nil
	}
	p1, err := half(p)
	if err != nil {
		return nil, nil, err
	}
	q1, err := half(q)
	if err != nil {
		return nil, nil, err
	}
	m = p1.Mul(p1, q1)
	lagrange.Wipe(q1)
	f = []*big.Int{new(big.Int).ModInverse(big.NewInt(threshold.PublicExponent), m)}
	for range t - 1 {
		a, err := lagrange.Uniform(rand, m)
		if err != nil {
			return f, m, err
		}
		f = append(f, a)
	}
	return f, m, nil
}

// Validate checks the form: numbers, and all values units.
func (p *Public) Validate(pub *threshold.PublicKey) error {
	return lagrange.CheckValues(pub, p.T, p.N, p.G, p.V)
}

// CheckDealing shows everybody that any t shares give d: Π v_i^(λ_i·e) = v^Δ for
// enough sets, up to the sign.
func (p *Public) CheckDealing(pub *threshold.PublicKey) error {
	return lagrange.CheckDealing(pub, p.T, p.N, p.G, p.V, new(big.Int), lagrange.Delta(p.N))
}

// CheckShare checks what a device got against v_i, in constant time.
func (p *Public) CheckShare(pub *threshold.PublicKey, s *Share) error {
	if err := p.Validate(pub); err != nil {
		return err
	}
	e, err := threshold.NewHostExponentiator(pub, s.Value)
	if err != nil {
		return err
	}
	return lagrange.CheckShare(p.N, p.V, s.Index, e, p.G)
}

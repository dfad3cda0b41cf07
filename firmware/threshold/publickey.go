package threshold

import (
	"bytes"
	"crypto/rsa"
	"fmt"
	"io"
	"math/big"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold/modexp"
)

// PublicKey is an RSA public key: N big-endian without leading zeros, E =
// PublicExponent.
type PublicKey struct {
	N []byte `cbor:"1,keyasint"`
	E uint64 `cbor:"2,keyasint"`
}

// Bits returns the length of N in bits.
func (k *PublicKey) Bits() int { return new(big.Int).SetBytes(k.N).BitLen() }

// Len returns the length of N in bytes, which is that of every message,
// partial signature, sub-share and signature of the key.
func (k *PublicKey) Len() int { return len(k.N) }

// RSA returns the key as crypto/rsa has it.
func (k *PublicKey) RSA() *rsa.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).SetBytes(k.N), E: int(k.E)}
}

// Equal reports whether both keys are the same.
func (k *PublicKey) Equal(o *PublicKey) bool { return k.E == o.E && bytes.Equal(k.N, o.N) }

// Validate returns ErrPublicKey unless N is odd and has exactly 2048, 3072 or
// 4096 bits and E is PublicExponent.
func (k *PublicKey) Validate() error {
	switch {
	case len(k.N) == 0 || k.N[0] == 0 || !slices.Contains(modulusBits, k.Bits()):
		return fmt.Errorf("%w: modulus of %d bytes; need exactly %d bits", ErrPublicKey, len(k.N), modulusBits)
	case k.N[len(k.N)-1]&1 == 0:
		return fmt.Errorf("%w: even modulus", ErrPublicKey)
	case k.E != PublicExponent:
		return fmt.Errorf("%w: public exponent %d; need %d", ErrPublicKey, k.E, PublicExponent)
	}
	return nil
}

// group is the public key ready for computation: the unit group of Z/N.
type group struct {
	pub *PublicKey
	n   *big.Int
	mod *modexp.Modulus
}

func (k *PublicKey) group() (*group, error) {
	if err := k.Validate(); err != nil {
		return nil, err
	}
	mod, err := modexp.New(k.N)
	if err != nil {
		return nil, err
	}
	return &group{pub: k, n: new(big.Int).SetBytes(k.N), mod: mod}, nil
}

func (g *group) bytes(x *big.Int) []byte { return x.FillBytes(make([]byte, g.pub.Len())) }

var one = big.NewInt(1)

// inRange parses x and returns ErrValue unless it is |N| bytes and 1 < x < N−1.
// 1 and N−1 are their own powers and would let a signature pass that no share has
// touched.
func (g *group) inRange(x []byte) (*big.Int, error) {
	if len(x) != g.pub.Len() {
		return nil, fmt.Errorf("%w: %d bytes, not %d", ErrValue, len(x), g.pub.Len())
	}
	v := new(big.Int).SetBytes(x)
	if v.Cmp(one) <= 0 || v.Cmp(new(big.Int).Sub(g.n, one)) >= 0 {
		return nil, fmt.Errorf("%w: not between 1 and N − 1", ErrValue)
	}
	return v, nil
}

// unit parses x and returns ErrValue unless it is in range and coprime to N:
// multiples of p or q reveal the factors.
func (g *group) unit(x []byte) (*big.Int, error) {
	v, err := g.inRange(x)
	if err != nil {
		return nil, err
	}
	return v, g.coprime(v)
}

func (g *group) coprime(v *big.Int) error {
	if !coprime(v, g.n) {
		return fmt.Errorf("%w: not coprime to N", ErrValue)
	}
	return nil
}

// canonical parses y, which must be in range and the smaller of y and N − y.
func (g *group) canonical(y []byte) (*big.Int, error) {
	v, err := g.inRange(y)
	if err != nil {
		return nil, err
	}
	if v.Cmp(g.smaller(v)) != 0 {
		return nil, fmt.Errorf("%w: partial signature is not the smaller of y and N − y", ErrValue)
	}
	return v, nil
}

// partial parses y, which must be a unit and the smaller of y and N − y.
func (g *group) partial(y []byte) (*big.Int, error) {
	v, err := g.canonical(y)
	if err != nil {
		return nil, err
	}
	return v, g.coprime(v)
}

// smaller returns min(v, N − v). N is odd, so they are never equal.
func (g *group) smaller(v *big.Int) *big.Int {
	if other := new(big.Int).Sub(g.n, v); other.Cmp(v) < 0 {
		return other
	}
	return v
}

// RandomSquare returns a random square mod N other than 1 mod p and mod q, |N|
// bytes. If the primes are safe, the squares form a cyclic group of order
// (p−1)/2·(q−1)/2, and every such element generates it.
func (k *PublicKey) RandomSquare(rand io.Reader) ([]byte, error) {
	if err := k.Validate(); err != nil {
		return nil, err
	}
	g := &group{pub: k, n: new(big.Int).SetBytes(k.N)}
	for {
		h, err := uniform(rand, g.n)
		if err != nil {
			return nil, err
		}
		h.Mul(h, h).Mod(h, g.n)
		if coprime(h, g.n) && coprime(new(big.Int).Sub(h, one), g.n) {
			return g.bytes(h), nil
		}
	}
}

// CheckUnit returns ErrValue unless x is |N| bytes, 1 < x < N−1 and coprime to
// N, as every message and published check value has to be.
func (k *PublicKey) CheckUnit(x []byte) error {
	g := &group{pub: k, n: new(big.Int).SetBytes(k.N)}
	_, err := g.unit(x)
	return err
}

// CheckPartial returns ErrValue unless y is such a number and the smaller of y
// and N − y, as partial signatures travel.
func (k *PublicKey) CheckPartial(y []byte) error {
	g := &group{pub: k, n: new(big.Int).SetBytes(k.N)}
	_, err := g.partial(y)
	return err
}

func (g *group) square(v *big.Int) []byte {
	w := new(big.Int).Mul(v, v)
	return g.bytes(w.Mod(w, g.n))
}

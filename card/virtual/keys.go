package virtual

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
)

var errKey = errors.New("virtual: not a private key of that algorithm")

// rsaBits returns the modulus length of an RSA algorithm, or 0.
func rsaBits(a Algorithm) int {
	switch a {
	case RSA1024:
		return 1024
	case RSA2048:
		return 2048
	case RSA3072:
		return 3072
	case RSA4096:
		return 4096
	}
	return 0
}

func curve(a Algorithm) elliptic.Curve {
	switch a {
	case P256:
		return elliptic.P256()
	case P384:
		return elliptic.P384()
	}
	return nil
}

// generateKey makes a private key: *rsa.PrivateKey, *ecdsa.PrivateKey,
// ed25519.PrivateKey or *ecdh.PrivateKey.
func generateKey(rand io.Reader, a Algorithm) (any, error) {
	if bits := rsaBits(a); bits != 0 {
		return rsa.GenerateKey(rand, bits)
	}
	if crv := curve(a); crv != nil {
		// Rejection sampling, FIPS 186-5 appendix A.2.2: both orders lie just
		// below a power of two, so a second round is rare; the bound is for
		// sources that repeat themselves.
		for range 64 {
			b := make([]byte, (crv.Params().BitSize+7)/8)
			if _, err := io.ReadFull(rand, b); err != nil {
				return nil, fmt.Errorf("virtual: reading entropy: %w", err)
			}
			if k, err := ecdsa.ParseRawPrivateKey(crv, b); err == nil {
				return k, nil
			}
		}
		return nil, errors.New("virtual: the entropy source yields no private key")
	}
	seed := make([]byte, 32)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return nil, fmt.Errorf("virtual: reading entropy: %w", err)
	}
	switch a {
	case Ed25519:
		return ed25519.NewKeyFromSeed(seed), nil
	case X25519:
		return ecdh.X25519().NewPrivateKey(seed)
	}
	return nil, errKey
}

// newKey packs a private key with its policies.
func newKey(a Algorithm, private any, pin, touch, origin byte) (*Key, error) {
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("virtual: encoding a private key: %w", err)
	}
	return &Key{Algorithm: a, PIN: pin, Touch: touch, Origin: origin, Private: der}, nil
}

// private unpacks the key and checks that it is of its algorithm.
func (k *Key) private() (any, error) {
	p, err := x509.ParsePKCS8PrivateKey(k.Private)
	if err != nil {
		return nil, err
	}
	ok := false
	switch p := p.(type) {
	case *rsa.PrivateKey:
		ok = len(p.Primes) == 2 && p.N.BitLen() == rsaBits(k.Algorithm)
	case *ecdsa.PrivateKey:
		ok = p.Curve == curve(k.Algorithm)
	case ed25519.PrivateKey:
		ok = k.Algorithm == Ed25519
	case *ecdh.PrivateKey:
		ok = k.Algorithm == X25519 && p.Curve() == ecdh.X25519()
	}
	if !ok {
		return nil, errKey
	}
	return p, nil
}

// publicTemplate is the content of the public key template 7F49
// (SP 800-73-4 Part 2, table 11).
func publicTemplate(private any) ([]byte, error) {
	switch k := private.(type) {
	case *rsa.PrivateKey:
		return append(tlv(0x81, k.N.Bytes()), tlv(0x82, big.NewInt(int64(k.E)).Bytes())...), nil
	case *ecdsa.PrivateKey:
		point, err := k.PublicKey.Bytes()
		if err != nil {
			return nil, err
		}
		return tlv(0x86, point), nil
	case ed25519.PrivateKey:
		return tlv(0x86, k.Public().(ed25519.PublicKey)), nil
	case *ecdh.PrivateKey:
		return tlv(0x86, k.PublicKey().Bytes()), nil
	}
	return nil, errKey
}

func publicOf(private any) (crypto.PublicKey, error) {
	if k, ok := private.(interface{ Public() crypto.PublicKey }); ok {
		return k.Public(), nil
	}
	return nil, errKey
}

// load returns the key of a slot and its parsed form.
func (c *Card) load(slot byte) (*Key, any, uint16) {
	name := slotName(slot)
	k := c.state.Keys[name]
	if k == nil {
		return nil, nil, swReferenceNotFound
	}
	if p, ok := c.parsed[name]; ok && c.keys[name] == k {
		return k, p, swOK
	}
	p, err := k.private()
	if err != nil {
		return nil, nil, swMemoryFailure
	}
	c.keys[name], c.parsed[name] = k, p
	return k, p, swOK
}

// importRSA builds a key from its two primes, each half as long as the
// modulus. The public exponent is 65537: the card is not told.
func importRSA(bits int, p, q []byte) (*rsa.PrivateKey, error) {
	if len(p) != bits/16 || len(q) != bits/16 {
		return nil, errKey
	}
	P, Q := new(big.Int).SetBytes(p), new(big.Int).SetBytes(q)
	if P.Bit(0) == 0 || Q.Bit(0) == 0 || P.Cmp(Q) == 0 {
		return nil, errKey
	}
	n := new(big.Int).Mul(P, Q)
	if n.BitLen() != bits {
		return nil, errKey
	}
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(P, one), new(big.Int).Sub(Q, one))
	d := new(big.Int).ModInverse(big.NewInt(65537), phi)
	if d == nil {
		return nil, errKey
	}
	k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 65537}, D: d, Primes: []*big.Int{P, Q}}
	k.Precompute()
	if err := k.Validate(); err != nil {
		return nil, errKey
	}
	return k, nil
}

// rawRSA is x^d mod N by the Chinese remainder theorem. It is not constant
// time: a virtual card keeps no secret from its host.
func rawRSA(k *rsa.PrivateKey, x []byte) ([]byte, bool) {
	m := new(big.Int).SetBytes(x)
	if m.Cmp(k.N) >= 0 {
		return nil, false
	}
	one := big.NewInt(1)
	p, q := k.Primes[0], k.Primes[1]
	mp := new(big.Int).Exp(m, new(big.Int).Mod(k.D, new(big.Int).Sub(p, one)), p)
	mq := new(big.Int).Exp(m, new(big.Int).Mod(k.D, new(big.Int).Sub(q, one)), q)
	h := new(big.Int).Sub(mp, mq)
	h.Mul(h, new(big.Int).ModInverse(q, p)).Mod(h, p)
	h.Mul(h, q).Add(h, mq)
	return h.FillBytes(make([]byte, k.Size())), true
}

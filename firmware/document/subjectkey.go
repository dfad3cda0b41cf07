package document

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/firmware/threshold"
)

// ErrWeakKey: the subject's key is of a kind or size that is not certified.
var ErrWeakKey = errors.New("the subject's key is too weak or of an unknown kind")

// subjectKey is a public key that may be certified.
type subjectKey struct {
	public any
	spki   []byte
}

// describe names kind and size.
func (k subjectKey) describe() string {
	switch p := k.public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d bits, exponent %d", p.N.BitLen(), p.E)
	case *ecdsa.PublicKey:
		return "ECDSA " + p.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return "unknown"
}

// fingerprint is the SHA-256 of the SubjectPublicKeyInfo.
func (k subjectKey) fingerprint() [32]byte { return sha256.Sum256(k.spki) }

// smallPrimes is the product of the odd primes below 752, as the CA/Browser
// Forum's Baseline Requirements 6.1.6 ask: a modulus with such a factor was not
// made by a sound generator.
var smallPrimes = func() *big.Int {
	product := big.NewInt(1)
	for i := int64(3); i < 752; i += 2 {
		if p := big.NewInt(i); p.ProbablyPrime(0) {
			product.Mul(product, p)
		}
	}
	return product
}()

// parseSubjectKey reads a SubjectPublicKeyInfo and refuses weak keys and other
// encodings than the usual one. Errors wrap ErrWeakKey.
func parseSubjectKey(spki []byte) (subjectKey, error) {
	bad := func(format string, args ...any) (subjectKey, error) {
		return subjectKey{}, fmt.Errorf("%w: %s; make one with RSA of at least %d bits, ECDSA P-256, P-384 or P-521, or Ed25519",
			ErrWeakKey, fmt.Sprintf(format, args...), minRSABits)
	}
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return bad("it cannot be read (%v)", err)
	}
	switch p := pub.(type) {
	case *rsa.PublicKey:
		bits := p.N.BitLen()
		switch {
		case bits < minRSABits:
			return bad("RSA of %d bits", bits)
		case bits > maxRSABits:
			return bad("RSA of %d bits, more than %d", bits, maxRSABits)
		case p.E < 1<<16+1 || p.E&1 == 0: // FIPS 186-5 5.4(b)
			return bad("RSA with the exponent %d, which must be odd and at least 65537", p.E)
		case p.N.Bit(0) == 0 || new(big.Int).GCD(nil, nil, p.N, smallPrimes).Cmp(big.NewInt(1)) != 0:
			return bad("RSA with a modulus that has a small factor")
		}
	case *ecdsa.PublicKey:
		switch p.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
		default:
			return bad("ECDSA on %s", p.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	default:
		return bad("a key of type %T", pub)
	}
	// One key, one encoding: otherwise a fingerprint could be had twice.
	again, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil || !bytes.Equal(again, spki) {
		return bad("it is not in the usual encoding")
	}
	return subjectKey{pub, spki}, nil
}

// SPKI encodes an RSA key as SubjectPublicKeyInfo, RFC 3279 2.3.1.
func SPKI(pub *threshold.PublicKey) ([]byte, error) {
	if err := pub.Validate(); err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey(pub.RSA())
}

// KeyIdentifier is the subject key identifier this system uses: the leftmost
// 160 bits of the SHA-256 of the key's BIT STRING, RFC 7093 section 2 (1). spki
// must be one that x509 wrote.
func KeyIdentifier(spki []byte) ([]byte, error) {
	in := cryptobyte.String(spki)
	var seq, bits cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !seq.SkipASN1(asn1.SEQUENCE) || !seq.ReadASN1(&bits, asn1.BIT_STRING) || len(bits) < 2 {
		return nil, fmt.Errorf("%w: it cannot be read", ErrWeakKey)
	}
	sum := sha256.Sum256(bits[1:])
	return sum[:20], nil
}

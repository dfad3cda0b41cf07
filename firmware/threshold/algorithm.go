package threshold

import (
	"crypto"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes that algorithms name
	_ "crypto/sha512"
	"fmt"

	"github.com/privyseal/privyseal/firmware/threshold/emsa"
)

// Algorithm is a signature algorithm by its JOSE name (RFC 7518 §3.1).
type Algorithm string

const (
	RS256 Algorithm = "RS256" // RSASSA-PKCS1-v1_5 with SHA-256
	RS384 Algorithm = "RS384"
	RS512 Algorithm = "RS512"
	PS256 Algorithm = "PS256" // RSASSA-PSS with SHA-256, MGF1 with SHA-256, salt of 32 bytes
	PS384 Algorithm = "PS384"
	PS512 Algorithm = "PS512"
)

// Algorithms returns all algorithms.
func Algorithms() []Algorithm { return []Algorithm{RS256, RS384, RS512, PS256, PS384, PS512} }

// Hash returns the algorithm's hash function, 0 for an unknown algorithm.
func (a Algorithm) Hash() crypto.Hash {
	switch a {
	case RS256, PS256:
		return crypto.SHA256
	case RS384, PS384:
		return crypto.SHA384
	case RS512, PS512:
		return crypto.SHA512
	}
	return 0
}

// PSS reports whether the algorithm is an RSASSA-PSS one and needs a salt.
func (a Algorithm) PSS() bool { return a == PS256 || a == PS384 || a == PS512 }

// SaltLen returns the length of the salt in bytes: that of the hash for PSS, as
// RFC 8017 §9.1 and RFC 7518 §3.5 have it, and 0 for PKCS #1 v1.5.
func (a Algorithm) SaltLen() int {
	if !a.PSS() {
		return 0
	}
	return a.Hash().Size()
}

// CheckDigest returns ErrAlgorithm unless the algorithm is known and the digest as
// long as its hash.
func (a Algorithm) CheckDigest(digest []byte) error {
	hash := a.Hash()
	if hash == 0 {
		return fmt.Errorf("%w: %q is unknown", ErrAlgorithm, string(a))
	}
	if len(digest) != hash.Size() {
		return fmt.Errorf("%w: digest of %d bytes for %s", ErrAlgorithm, len(digest), a)
	}
	return nil
}

// Encode returns the encoded message EM for a digest under a modulus of the
// given number of bits: an integer below N of exactly |N| bytes. salt must be
// nil for the RS algorithms and SaltLen bytes for the PS ones.
//
// All devices must use the same salt, and nobody should be able to choose it:
// derive it from the request.
func Encode(a Algorithm, digest, salt []byte, bits int) ([]byte, error) {
	hash := a.Hash()
	if hash == 0 {
		return nil, fmt.Errorf("%w: %q is unknown", ErrAlgorithm, string(a))
	}
	if len(salt) != a.SaltLen() {
		return nil, fmt.Errorf("%w: %s takes a salt of %d bytes, not %d", ErrAlgorithm, a, a.SaltLen(), len(salt))
	}
	if bits%8 != 0 {
		return nil, fmt.Errorf("%w: modulus of %d bits", ErrPublicKey, bits)
	}
	var em []byte
	var err error
	if a.PSS() {
		em, err = emsa.EncodePSS(hash, digest, salt, bits-1)
	} else {
		em, err = emsa.EncodePKCS1v15(hash, digest, bits/8)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAlgorithm, err)
	}
	return em, nil
}

// VerifySignature returns nil if sig is a valid signature of digest, and
// ErrSignature if not. It is crypto/rsa's verification and nothing else. A PSS
// signature must have a salt as long as the hash.
func VerifySignature(pub *PublicKey, a Algorithm, digest, sig []byte) error {
	if err := pub.Validate(); err != nil {
		return err
	}
	if err := a.CheckDigest(digest); err != nil {
		return err
	}
	hash := a.Hash()
	var err error
	if a.PSS() {
		err = rsa.VerifyPSS(pub.RSA(), hash, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	} else {
		err = rsa.VerifyPKCS1v15(pub.RSA(), hash, digest, sig)
	}
	if err != nil {
		return fmt.Errorf("%w: %s", ErrSignature, a)
	}
	return nil
}

package threshold

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold/modexp"
)

// publicExponent is PublicExponent, big-endian.
var publicExponent = []byte{1, 0, 1}

// Verifier checks many signatures under one key against encoded messages that its
// caller made himself. [VerifySignature] sets up the modulus for every signature,
// which at 4096 bits takes several times as long as the exponentiation; a Verifier
// does it once.
//
// It is immutable, holds nothing secret, and may be used by any number of
// goroutines at once.
type Verifier struct {
	mod *modexp.Modulus
	n   []byte
}

// NewVerifier returns a Verifier for a key, of which it keeps a copy. It returns
// ErrPublicKey for a key that [PublicKey.Validate] refuses, and
// [modexp.ErrSelfTest] on a machine that computes wrongly.
func NewVerifier(pub *PublicKey) (*Verifier, error) {
	if err := pub.Validate(); err != nil {
		return nil, err
	}
	n := slices.Clone(pub.N)
	mod, err := modexp.New(n)
	if err != nil {
		return nil, err
	}
	return &Verifier{mod, n}, nil
}

// Verify returns nil if sig^e = x mod N, and ErrSignature if not, or if sig or x
// is not exactly |N| bytes or not below N. Time depends on the arguments, which
// are public.
//
// x must be the encoded message that the caller made, with [Encode], of a digest
// (and for PSS a salt) that he knows. Then this is RSASSA-PKCS1-v1_5 verification
// by comparison of encoded messages, as RFC 8017 §8.2.2 has it in step 4, and for
// PSS stricter than §8.1.2, which accepts any salt. Nothing is parsed that the
// signature decrypts to. N − sig, whose power is N − x, does not pass.
//
// An error other than ErrSignature is no verdict: libcrypto had no memory.
func (v *Verifier) Verify(x, sig []byte) error {
	y, err := v.power(sig)
	if err != nil {
		return err
	}
	// y is |N| bytes and below N: no other x can be equal to it.
	if !bytes.Equal(y, x) {
		return fmt.Errorf("%w: its power is not the encoded message", ErrSignature)
	}
	return nil
}

// power returns sig^e mod N.
func (v *Verifier) power(sig []byte) ([]byte, error) {
	if len(sig) != len(v.n) {
		return nil, fmt.Errorf("%w: %d bytes, not %d", ErrSignature, len(sig), len(v.n))
	}
	// RFC 8017 §5.2.2 step 1: the representative must be between 0 and N − 1.
	y, err := v.mod.ExpVarTime(sig, publicExponent)
	if errors.Is(err, modexp.ErrOperand) {
		return nil, fmt.Errorf("%w: not below N", ErrSignature)
	}
	return y, err
}

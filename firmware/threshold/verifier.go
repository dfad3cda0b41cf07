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
type Verifier struct{ g *group }

// NewVerifier returns a Verifier for a key, of which it keeps a copy. It returns
// ErrPublicKey for a key that [PublicKey.Validate] refuses, and
// [modexp.ErrSelfTest] on a machine that computes wrongly.
func NewVerifier(pub *PublicKey) (*Verifier, error) {
	g, err := (&PublicKey{N: slices.Clone(pub.N), E: pub.E}).group()
	if err != nil {
		return nil, err
	}
	return &Verifier{g}, nil
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
	if len(sig) != v.g.pub.Len() {
		return fmt.Errorf("%w: %d bytes, not %d", ErrSignature, len(sig), v.g.pub.Len())
	}
	// RFC 8017 §5.2.2 step 1: the representative must be between 0 and N − 1.
	y, err := v.g.mod.ExpVarTime(sig, publicExponent)
	if errors.Is(err, modexp.ErrOperand) {
		return fmt.Errorf("%w: not below N", ErrSignature)
	}
	if err != nil {
		return err
	}
	// y is |N| bytes and below N: no other x can be equal to it.
	if !bytes.Equal(y, x) {
		return fmt.Errorf("%w: its power is not the encoded message", ErrSignature)
	}
	return nil
}

// VerifyAll is Verify for several documents: nil if there is a signature of each
// encoded message, in their order.
func (v *Verifier) VerifyAll(x, sigs [][]byte) error {
	if len(sigs) != len(x) {
		return fmt.Errorf("%w: %d signatures of %d documents", ErrSignature, len(sigs), len(x))
	}
	for i := range x {
		if err := v.Verify(x[i], sigs[i]); err != nil {
			return fmt.Errorf("signature %d of %d: %w", i+1, len(x), err)
		}
	}
	return nil
}

// FinishVarTime is [FinishSequentialVarTime] under the Verifier's key. What it
// returns has passed crypto/rsa.
func (v *Verifier) FinishVarTime(a Algorithm, digest, y []byte) ([]byte, error) {
	return v.g.finishSequential(a, digest, y)
}

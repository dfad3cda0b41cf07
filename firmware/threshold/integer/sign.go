package integer

import (
	"errors"
	"fmt"
	"io"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/lagrange"
)

// Partial returns the partial signature of an encoded message x by the share
// that e raises to, min(y, N − y) for y = x^s_i, |N| bytes. It is
// [threshold.Partial].
func Partial(pub *threshold.PublicKey, x []byte, e threshold.Exponentiator) ([]byte, error) {
	return threshold.Partial(pub, x, e)
}

// CombineVarTime makes the signature of the encoded message em from the partial
// signatures of t different devices and returns it after it has been verified.
// Their Subset is 0: they are for every set. All its inputs are public.
//
// It returns ErrSubset if there are not t of them, of different devices of this
// dealing, WrongPartialError naming those out of range, and CombineError if
// the result does not verify.
func (p *Public) CombineVarTime(pub *threshold.PublicKey, a threshold.Algorithm, digest, em []byte, partials []threshold.PartialSignature) ([]byte, error) {
	if err := errors.Join(pub.Validate(), lagrange.CheckNumbers(p.T, p.N)); err != nil {
		return nil, err
	}
	if err := pub.CheckUnit(em); err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	set, powers, err := lagrange.Select(pub, p.T, p.N, partials)
	if err != nil {
		return nil, err
	}
	P, _ := public(p.N)
	y, err := lagrange.ProductVarTime(pub, append(powers, em), append(lagrange.Coefficients(p.N, set), P))
	if err != nil {
		return nil, err
	}
	sig, err := threshold.FinishSequentialVarTime(pub, a, digest, y)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", &threshold.CombineError{Subset: set}, err)
	}
	return sig, nil
}

// CombineExponents returns the lengths in bits of the exponents of
// CombineVarTime for a set: one of each partial signature, and that of the
// message.
func CombineExponents(n uint64, set threshold.Subset) []int {
	P, _ := public(n)
	var bits []int
	for _, c := range append(lagrange.Coefficients(n, set), P) {
		bits = append(bits, c.BitLen())
	}
	return bits
}

// Prove proves that y is the share's partial signature of the encoded message x
// ([threshold.Equality]). b.Subset and b.Position must be 0. rand gives 32 bytes.
func (p *Public) Prove(rand io.Reader, pub *threshold.PublicKey, b threshold.Binding, x, y []byte, s *Share) (*threshold.Proof, error) {
	st, err := p.statement(pub, b, s.Index, x, y)
	if err != nil {
		return nil, err
	}
	return st.Prove(rand, pub, s.Value)
}

// VerifyProof checks such a proof by the device with the given index. All its
// inputs are public.
func (p *Public) VerifyProof(pub *threshold.PublicKey, b threshold.Binding, index uint64, x, y []byte, proof *threshold.Proof) error {
	st, err := p.statement(pub, b, index, x, y)
	if err != nil {
		return err
	}
	if err := st.Verify(pub, proof); err != nil {
		return fmt.Errorf("share %d: %w", index, err)
	}
	return nil
}

func (p *Public) statement(pub *threshold.PublicKey, b threshold.Binding, index uint64, x, y []byte) (*threshold.Equality, error) {
	if err := p.Validate(pub); err != nil {
		return nil, err
	}
	if err := pub.CheckUnit(x); err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	if index < 1 || index > p.N {
		return nil, fmt.Errorf("%w: share %d of %d", threshold.ErrSubset, index, p.N)
	}
	return lagrange.Statement("partial signature by sharing over the integers", b, p.T, p.N, index, x,
		threshold.Equality{G: p.G, V: p.V[index-1], X: x, Y: y, Width: ShareLen(pub.Bits(), p.T, p.N)})
}

// VerifyPartials checks the proofs of partial signatures of em and names every
// device whose partial signature or proof is wrong, missing included, in a
// WrongPartialError. b.Share is taken from the partial signatures.
func (p *Public) VerifyPartials(pub *threshold.PublicKey, b threshold.Binding, em []byte, partials []threshold.PartialSignature) error {
	b.Share = "any"
	if _, err := p.statement(pub, b, 1, em, em); err != nil {
		return err
	}
	return lagrange.Blame(partials, func(s threshold.PartialSignature) error {
		at := b
		at.Share = s.Share
		return p.VerifyProof(pub, at, s.Index, em, s.Value, s.Proof)
	})
}

package shoup

import (
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/lagrange"
	"github.com/privyseal/privyseal/firmware/threshold/modexp"
)

// Base returns x^(2Δ) mod N for an encoded message x: what a device raises to its
// share. It is public.
func (p *Public) Base(pub *threshold.PublicKey, x []byte) ([]byte, error) {
	if err := errors.Join(pub.Validate(), lagrange.CheckNumbers(p.T, p.N)); err != nil {
		return nil, err
	}
	if err := pub.CheckUnit(x); err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	mod, err := modexp.New(pub.N)
	if err != nil {
		return nil, err
	}
	two := lagrange.Delta(p.N)
	return mod.Exp(x, two.Lsh(two, 1).Bytes())
}

// Partial returns the partial signature of an encoded message x by the share that
// e raises to, min(x_i, N − x_i), |N| bytes. Errors are those of
// [threshold.Partial].
func (p *Public) Partial(pub *threshold.PublicKey, x []byte, e threshold.Exponentiator) ([]byte, error) {
	base, err := p.Base(pub, x)
	if err != nil {
		return nil, err
	}
	return threshold.Partial(pub, base, e)
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
	exponents := lagrange.Coefficients(p.N, set)
	for _, c := range exponents {
		c.Lsh(c, 1) // 2λ_i
	}
	w, err := lagrange.ProductVarTime(pub, powers, exponents)
	if err != nil {
		return nil, err
	}
	A, B := bezout(p.N)
	y, err := lagrange.ProductVarTime(pub, [][]byte{w, em}, []*big.Int{A, B})
	if err != nil {
		return nil, err
	}
	sig, err := threshold.FinishSequentialVarTime(pub, a, digest, y)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", &threshold.CombineError{Subset: set}, err)
	}
	return sig, nil
}

// bezout returns a and b with a·4Δ² + b·e = 1.
func bezout(n uint64) (a, b *big.Int) {
	square := lagrange.Delta(n)
	square.Mul(square, square).Lsh(square, 2)
	a, b = new(big.Int), new(big.Int)
	new(big.Int).GCD(a, b, square, big.NewInt(threshold.PublicExponent))
	return a, b
}

// CombineExponents returns the lengths in bits of the exponents of
// CombineVarTime for a set: one of each partial signature, and those of w
// and of the message.
func CombineExponents(n uint64, set threshold.Subset) []int {
	var bits []int
	for _, c := range lagrange.Coefficients(n, set) {
		bits = append(bits, c.BitLen()+1)
	}
	a, b := bezout(n)
	return append(bits, a.BitLen(), b.BitLen())
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
	base, err := p.Base(pub, x)
	if err != nil {
		return nil, err
	}
	if index < 1 || index > p.N {
		return nil, fmt.Errorf("%w: share %d of %d", threshold.ErrSubset, index, p.N)
	}
	return lagrange.Statement("partial signature by Shoup's sharing", b, p.T, p.N, index, x,
		threshold.Equality{G: p.G, V: p.V[index-1], X: base, Y: y, Width: pub.Len()})
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

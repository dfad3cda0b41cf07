package half

import (
	"fmt"
	"io"
	"math/big"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/lagrange"
	"github.com/privyseal/privyseal/firmware/threshold/modexp"
)

// Base returns x^Δ mod N for an encoded message x: what a device raises to its
// share. It is public.
func (p *Public) Base(pub *threshold.PublicKey, x []byte) ([]byte, error) {
	if err := p.check(pub); err != nil {
		return nil, err
	}
	if err := pub.CheckUnit(x); err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	mod, err := modexp.New(pub.N)
	if err != nil {
		return nil, err
	}
	return mod.Exp(x, lagrange.Delta(p.N).Bytes())
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
	if err := p.check(pub); err != nil {
		return nil, err
	}
	if err := pub.CheckUnit(em); err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	set, powers, err := lagrange.Select(pub, p.T, p.N, partials)
	if err != nil {
		return nil, err
	}
	ofMessage, ofPowers := p.exponents(pub)
	w, err := lagrange.ProductVarTime(pub, powers, lagrange.Coefficients(p.N, set))
	if err != nil {
		return nil, err
	}
	y, err := lagrange.ProductVarTime(pub, [][]byte{em, w}, []*big.Int{ofMessage, ofPowers})
	if err != nil {
		return nil, err
	}
	sig, err := threshold.FinishSequentialVarTime(pub, a, digest, y)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", &threshold.CombineError{Subset: set}, err)
	}
	return sig, nil
}

// exponents returns a·Δ³·C + b and −a, for a·Δ³ + b·e = 1.
func (p *Public) exponents(pub *threshold.PublicKey) (ofMessage, ofPowers *big.Int) {
	cube := new(big.Int).Exp(lagrange.Delta(p.N), big.NewInt(3), nil)
	a, b := new(big.Int), new(big.Int)
	new(big.Int).GCD(a, b, cube, new(big.Int).SetUint64(pub.E))
	ofMessage = cube.Mul(cube, a)
	ofMessage.Mul(ofMessage, p.upper(pub)).Add(ofMessage, b)
	return ofMessage, a.Neg(a)
}

// CombineExponents returns the lengths in bits of the exponents of CombineVarTime
// for a set, at most: one of each partial signature, that of their product, and
// that of the message.
func CombineExponents(bits int, n uint64, set threshold.Subset) []int {
	var out []int
	for _, c := range lagrange.Coefficients(n, set) {
		out = append(out, c.BitLen())
	}
	const e = 17 // bits of a, and of κ/e·N at most those of N
	cube := new(big.Int).Exp(lagrange.Delta(n), big.NewInt(3), nil)
	return append(out, e, e+cube.BitLen()+bits)
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
	return lagrange.Statement("partial signature by half-length sharing", b, p.T, p.N, index, x,
		threshold.Equality{G: p.G, V: p.V[index-1], X: base, Y: y, Width: ShareLen(pub.Bits(), p.T, p.N)})
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

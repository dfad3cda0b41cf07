package polynomial

import (
	"fmt"
	"math/big"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/lagrange"
	"github.com/privyseal/privyseal/firmware/threshold/modexp"
)

// Base returns x^B mod N for an encoded message x: what a device raises to its
// share. It is public.
func (s *Sharing) Base(x []byte) ([]byte, error) {
	if err := s.Key.CheckUnit(x); err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	mod, err := modexp.New(s.Key.N)
	if err != nil {
		return nil, err
	}
	return mod.Exp(x, s.B.Bytes())
}

// Partial returns the partial signature of an encoded message x by the share that
// e raises to, min(x_i, N − x_i), |N| bytes. Errors are those of
// [threshold.Partial].
func (s *Sharing) Partial(x []byte, e threshold.Exponentiator) ([]byte, error) {
	base, err := s.Base(x)
	if err != nil {
		return nil, err
	}
	return threshold.Partial(s.Key, base, e)
}

// CombineVarTime makes the signature of the encoded message em from the partial
// signatures of t different devices and returns it after it has been verified.
// Their Subset is 0: they are for every set. All its inputs are public.
//
// It returns ErrSubset if there are not t of them, of different devices of this
// dealing, WrongPartialError naming those out of range, and CombineError if
// the result does not verify.
func (s *Sharing) CombineVarTime(a threshold.Algorithm, digest, em []byte, partials []threshold.PartialSignature) ([]byte, error) {
	if err := s.Key.CheckUnit(em); err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	set, powers, err := s.choose(partials)
	if err != nil {
		return nil, err
	}
	ofX := new(big.Int).Mul(s.B, s.D) // e times what w is a power of x by
	exponents := lagrange.Coefficients(s.N, set)
	if s.Squares {
		for _, x := range append(exponents, ofX) {
			x.Lsh(x, 1)
		}
	}
	w, err := lagrange.ProductVarTime(s.Key, powers, exponents)
	if err != nil {
		return nil, err
	}
	ofW, ofEM := Bezout(ofX)
	y, err := lagrange.ProductVarTime(s.Key, [][]byte{w, em}, []*big.Int{ofW, ofEM})
	if err != nil {
		return nil, err
	}
	sig, err := threshold.FinishSequentialVarTime(s.Key, a, digest, y)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", &threshold.CombineError{Subset: set}, err)
	}
	return sig, nil
}

// Bezout returns small a and b with a·x + b·e = 1 for an x coprime to e.
func Bezout(x *big.Int) (a, b *big.Int) {
	a, b = new(big.Int), new(big.Int)
	new(big.Int).GCD(a, b, x, big.NewInt(threshold.PublicExponent))
	return a, b
}

// choose checks that partial signatures are of t different devices of n, each for
// no set in particular, and in range, and returns them in the order of their
// indices and the set of these.
func (s *Sharing) choose(partials []threshold.PartialSignature) (threshold.Subset, [][]byte, error) {
	var indices []uint64
	for _, p := range partials {
		if p.Subset != 0 {
			return 0, nil, fmt.Errorf("%w: share %d signed for %v only", threshold.ErrSubset, p.Index, p.Subset)
		}
		indices = append(indices, p.Index)
	}
	set, err := threshold.SubsetOf(indices...)
	if err != nil {
		return 0, nil, err
	}
	if uint64(set.Len()) != s.T || uint64(set)>>s.N != 0 {
		return 0, nil, fmt.Errorf("%w: %v is not %d of the shares 1 to %d", threshold.ErrSubset, set, s.T, s.N)
	}
	var powers [][]byte
	var wrong []uint64
	for _, i := range set.Indices() {
		for _, p := range partials {
			if p.Index != i {
				continue
			}
			if s.Key.CheckPartial(p.Value) != nil {
				wrong = append(wrong, i)
			}
			powers = append(powers, p.Value)
		}
	}
	if len(wrong) > 0 {
		return 0, nil, &threshold.WrongPartialError{Indices: wrong}
	}
	return set, powers, nil
}

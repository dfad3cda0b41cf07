package twolayer

import (
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

var (
	// ErrPublic is returned for published values that are malformed or do not
	// fit the grouping or the key.
	ErrPublic = errors.New("twolayer: published values refused")

	// ErrShare is returned for a share that is malformed or does not match the
	// published check values. Ask the distributor for it again.
	ErrShare = errors.New("twolayer: share refused")

	// ErrKey is returned for a private key that cannot be dealt in two layers.
	ErrKey = errors.New("twolayer: key cannot be dealt in two layers")

	// ErrGrowth is returned for a grouping that does not continue the one that
	// was dealt.
	ErrGrowth = errors.New("twolayer: grouping does not continue the dealing")

	// ErrPowers is returned for powers that no calculator of the grouping sends,
	// or that are there twice.
	ErrPowers = errors.New("twolayer: powers refused")

	// ErrTerm is returned for a term or a machine that the grouping does not have.
	ErrTerm = errors.New("twolayer: no such machine or sub-key")
)

// UnsafeError names a coalition from which the secret exponent would not be hidden
// well enough.
type UnsafeError struct {
	Combiners, Calculators []uint64
	// Bits is what [Hiding] found, or 0 if they learn the exponent or a residue of
	// it for certain.
	Bits int
}

func (e *UnsafeError) Error() string {
	who := fmt.Sprintf("combiners %d with calculators %d", e.Combiners, e.Calculators)
	if e.Bits == 0 {
		return "twolayer: " + who + " would learn the secret exponent or a residue of it: choose another grouping"
	}
	return fmt.Sprintf("twolayer: the secret exponent would be hidden from %s by %d bits only, not %d: choose another grouping", who, e.Bits, MinHiding)
}

// WrongPowersError names calculators whose powers are out of range.
type WrongPowersError struct{ Calculators []uint64 }

func (e *WrongPowersError) Error() string {
	return fmt.Sprintf("twolayer: powers of calculators %d are out of range", e.Calculators)
}

// CombineError says that powers, each acceptable in form, do not make a
// signature in a combination: at least one of them, or the combiner's own, is
// wrong.
type CombineError struct{ Combination grouping.Combination }

func (e *CombineError) Error() string {
	return fmt.Sprintf("twolayer: the powers of %v do not combine to a valid signature: at least one is wrong", e.Combination)
}

// Unwrap makes errors.Is(err, threshold.ErrSignature) true.
func (e *CombineError) Unwrap() error { return threshold.ErrSignature }

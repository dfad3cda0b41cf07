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

// UnsafeError names a coalition from which the secret exponent would not be
// hidden. Err is ErrLearns or ErrThin.
type UnsafeError struct {
	Combiners, Calculators []uint64
	Err                    error
}

func (e *UnsafeError) Error() string {
	return fmt.Sprintf("%v: combiners %d with calculators %d: choose another grouping", e.Err, e.Combiners, e.Calculators)
}

// Unwrap returns Err.
func (e *UnsafeError) Unwrap() error { return e.Err }

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

package threshold

import (
	"errors"
	"fmt"
)

var (
	// ErrValue is returned for an integer that is out of its range: not |N|
	// bytes, 0, 1, N − 1, above N, not coprime to N, or a partial signature
	// that is not the smaller of y and N − y.
	ErrValue = errors.New("threshold: value out of range")

	// ErrPublicKey is returned for a public key that this package does not
	// work with.
	ErrPublicKey = errors.New("threshold: public key refused")

	// ErrSplit is returned for a split that is impossible or beyond the limits.
	ErrSplit = errors.New("threshold: split refused")

	// ErrSubset is returned for a subset that does not fit the split, or for
	// partial signatures that do not belong to one subset, one of each device.
	ErrSubset = errors.New("threshold: subset refused")

	// ErrShare is returned for a share that is malformed or does not match the
	// published commitment. Ask the lead for it again.
	ErrShare = errors.New("threshold: share refused")

	// ErrCommitment is returned for a malformed or inconsistent commitment.
	ErrCommitment = errors.New("threshold: commitment refused")

	// ErrProof is returned for a proof that does not verify.
	ErrProof = errors.New("threshold: proof refused")

	// ErrSignature is returned for a signature that does not verify under the
	// public key.
	ErrSignature = errors.New("threshold: signature does not verify")

	// ErrAlgorithm is returned for an unknown algorithm or a digest or salt
	// whose length does not fit it.
	ErrAlgorithm = errors.New("threshold: algorithm refused")

	// ErrOpening is returned by both sides of the commit-and-open check for a
	// challenge or an answer that does not match what was committed to.
	ErrOpening = errors.New("threshold: opening refused")

	// ErrSeed is returned for seeds from which no key should be made.
	ErrSeed = errors.New("threshold: seed refused")

	// ErrWiped is returned for the use of a secret after it was wiped.
	ErrWiped = errors.New("threshold: secret was wiped")
)

// WrongPartialError names the devices whose partial signatures are wrong or
// come with a proof that does not hold. Complete the signature with others.
type WrongPartialError struct {
	Indices []uint64 // share indices, in ascending order for parallel signing
}

func (e *WrongPartialError) Error() string {
	return fmt.Sprintf("threshold: wrong partial signature of share %d: complete the signature with other devices", e.Indices)
}

// CombineError says that the partial signatures of a subset, each acceptable
// in form, do not make a signature: at least one of them is wrong. Ask for
// proofs, or run the commit-and-open check, to learn which.
type CombineError struct {
	Subset Subset
}

func (e *CombineError) Error() string {
	return fmt.Sprintf("threshold: the partial signatures of shares %d do not combine to a valid signature: at least one is wrong", e.Subset.Indices())
}

// Unwrap makes errors.Is(err, ErrSignature) true.
func (e *CombineError) Unwrap() error { return ErrSignature }

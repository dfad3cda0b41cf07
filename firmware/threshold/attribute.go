package threshold

import (
	"errors"
	"fmt"
	"slices"
)

// VerifyPartials checks the proofs of partial signatures made in parallel over
// the encoded message em, and returns WrongPartialError naming every device
// whose partial signature or proof is wrong, missing included. b.Share and
// b.Position are taken from the partial signatures.
//
// Combine first: proofs cost far more than the check of the final signature, and
// are needed only when that fails.
func VerifyPartials(pub *PublicKey, c *Commitment, b Binding, em []byte, partials []PartialSignature) error {
	if err := checkVerifier(pub, b, em); err != nil {
		return err
	}
	var wrong []uint64
	for _, p := range partials {
		if p.Subset != b.Subset || !b.Subset.Has(p.Index) {
			return fmt.Errorf("%w: share %d of subset %v in a signature by %v", ErrSubset, p.Index, p.Subset, b.Subset)
		}
		at := b
		at.Share, at.Position = p.Share, 0
		err := VerifyProof(pub, c, at, p.Index, em, p.Value, p.Proof)
		if err != nil && !blames(err) {
			return err
		}
		if err != nil && !slices.Contains(wrong, p.Index) {
			wrong = append(wrong, p.Index)
		}
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return &WrongPartialError{wrong}
	}
	return nil
}

// VerifySequence checks the partial signatures made so far in a sequence and
// returns the value to advance: em if there are none yet, else the last one's.
// em is the encoded message that the verifier made itself, of the document that
// its officers approved.
//
// A device in the middle must do this before it exponentiates. Otherwise a
// corrupt first device could start from another document, and the honest ones,
// which raise what they are handed, would finish a valid signature of it. With
// it, the first partial signature is proved to be of em, each next one of that
// before, and what is returned is ±em raised to the sub-shares so far.
//
// Step i (from 1) must be of a member of b.Subset that did not sign before and
// carry a proof for position i. The first step that fails is named in a
// WrongPartialError; nothing can be said of those after it. b.Share and
// b.Position are taken from the steps.
func VerifySequence(pub *PublicKey, c *Commitment, b Binding, em []byte, steps []PartialSignature) ([]byte, error) {
	if err := checkVerifier(pub, b, em); err != nil {
		return nil, err
	}
	x := em
	var done Subset
	for i, p := range steps {
		if p.Subset != b.Subset || !b.Subset.Has(p.Index) || done.Has(p.Index) {
			return nil, fmt.Errorf("%w: share %d of subset %v at position %d of a signature by %v", ErrSubset, p.Index, p.Subset, i+1, b.Subset)
		}
		done |= 1 << (p.Index - 1)
		at := b
		at.Share, at.Position = p.Share, uint64(i+1)
		if err := VerifyProof(pub, c, at, p.Index, x, p.Value, p.Proof); blames(err) {
			return nil, fmt.Errorf("%w (%w)", &WrongPartialError{[]uint64{p.Index}}, err)
		} else if err != nil {
			return nil, err
		}
		x = p.Value
	}
	return slices.Clone(x), nil
}

// checkVerifier checks what the verifier brings himself, so that nobody else is
// blamed for it.
func checkVerifier(pub *PublicKey, b Binding, em []byte) error {
	g, err := pub.group()
	if err != nil {
		return err
	}
	b.Share, b.Position = "any", 0
	if err := b.Validate(); err != nil {
		return err
	}
	if _, err := g.unit(em); err != nil {
		return fmt.Errorf("encoded message: %w", err)
	}
	return nil
}

// blames reports whether an error of VerifyProof is the prover's fault, once
// checkVerifier has passed: not a missing check value or want of memory.
func blames(err error) bool {
	return errors.Is(err, ErrProof) || errors.Is(err, ErrValue) && !errors.Is(err, ErrCommitment)
}

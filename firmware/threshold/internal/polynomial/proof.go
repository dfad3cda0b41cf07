package polynomial

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/tuplehash"
)

// Prove proves that y is the share's partial signature of the encoded message x
// ([threshold.Equality]). b.Subset and b.Position must be 0. rand gives 32 bytes.
func (s *Sharing) Prove(rand io.Reader, b threshold.Binding, x, y []byte, share *Share) (*threshold.Proof, error) {
	base, err := s.provable(x)
	if err != nil {
		return nil, err
	}
	st, err := s.statement(b, share.Index, x, base, y)
	if err != nil {
		return nil, err
	}
	return st.Prove(rand, s.Key, share.Value)
}

// VerifyProof checks such a proof by the device with the given index. All its
// inputs are public.
func (s *Sharing) VerifyProof(b threshold.Binding, index uint64, x, y []byte, proof *threshold.Proof) error {
	base, err := s.provable(x)
	if err != nil {
		return err
	}
	return s.verify(b, index, x, base, y, proof)
}

// VerifyPartials checks the proofs of partial signatures of em and names every
// device whose partial signature or proof is wrong, missing included, in a
// WrongPartialError. b.Share is taken from the partial signatures.
func (s *Sharing) VerifyPartials(b threshold.Binding, em []byte, partials []threshold.PartialSignature) error {
	// What the verifier brings himself comes first, so that nobody else is blamed
	// for it.
	base, err := s.provable(em)
	if err != nil {
		return err
	}
	b.Share = "any"
	if _, err := s.statement(b, 1, em, base, em); err != nil {
		return err
	}
	var wrong []uint64
	for _, p := range partials {
		b.Share = p.Share
		err := s.verify(b, p.Index, em, base, p.Value, p.Proof)
		blames := errors.Is(err, threshold.ErrProof) || errors.Is(err, threshold.ErrValue) && !errors.Is(err, threshold.ErrCommitment)
		if err != nil && !blames {
			return err
		}
		if err != nil && !slices.Contains(wrong, p.Index) {
			wrong = append(wrong, p.Index)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return &threshold.WrongPartialError{Indices: wrong}
}

// provable checks what all proofs about x have in common and returns x^B.
func (s *Sharing) provable(x []byte) ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return s.Base(x)
}

func (s *Sharing) verify(b threshold.Binding, index uint64, x, base, y []byte, proof *threshold.Proof) error {
	st, err := s.statement(b, index, x, base, y)
	if err != nil {
		return err
	}
	if err := st.Verify(s.Key, proof); err != nil {
		return fmt.Errorf("share %d: %w", index, err)
	}
	return nil
}

// statement returns what a proof about a share says: y is to the base as v_i is to
// g. It is bound to b, whose Subset and Position must be 0 (a share serves every
// set), and to x.
func (s *Sharing) statement(b threshold.Binding, index uint64, x, base, y []byte) (*threshold.Equality, error) {
	switch {
	case index < 1 || index > s.N:
		return nil, fmt.Errorf("%w: share %d of %d", threshold.ErrSubset, index, s.N)
	case b.Key == "" || len(b.Key) > threshold.MaxNameLen || b.Share == "" || len(b.Share) > threshold.MaxNameLen:
		return nil, fmt.Errorf("%w: key id of %d bytes, share id of %d", threshold.ErrProof, len(b.Key), len(b.Share))
	case b.Subset != 0 || b.Position != 0:
		return nil, fmt.Errorf("%w: this share signs for every set of devices and in no order", threshold.ErrSubset)
	}
	return &threshold.Equality{
		Kind: s.Kind,
		Bind: func(h *tuplehash.XOF) {
			h.Add(b.System[:])
			h.AddString(b.Key)
			h.AddUint(b.Epoch)
			h.AddString(b.Share)
			h.Add(b.Request[:])
			h.AddUint(s.T)
			h.AddUint(s.N)
			h.AddUint(index)
			h.Add(x)
		},
		G: s.G, V: s.V[index-1], X: base, Y: y, Width: s.Width,
	}, nil
}

package lagrange

import (
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/tuplehash"
)

// Statement returns what a proof about the share index of t of n says: y is to
// the base as v is to g, with a secret exponent of so many bytes. It is bound to
// b, whose Subset and Position must be 0 (such a share serves every set), and to
// the encoded message em.
func Statement(kind string, b threshold.Binding, t, n, index uint64, em []byte, e threshold.Equality) (*threshold.Equality, error) {
	switch {
	case index < 1 || index > n:
		return nil, fmt.Errorf("%w: share %d of %d", threshold.ErrSubset, index, n)
	case b.Key == "" || len(b.Key) > threshold.MaxNameLen || b.Share == "" || len(b.Share) > threshold.MaxNameLen:
		return nil, fmt.Errorf("%w: key id of %d bytes, share id of %d", threshold.ErrProof, len(b.Key), len(b.Share))
	case b.Subset != 0 || b.Position != 0:
		return nil, fmt.Errorf("%w: this share signs for every set of devices and in no order", threshold.ErrSubset)
	}
	e.Kind = kind
	e.Bind = func(h *tuplehash.XOF) {
		h.Add(b.System[:])
		h.AddString(b.Key)
		h.AddUint(b.Epoch)
		h.AddString(b.Share)
		h.Add(b.Request[:])
		h.AddUint(t)
		h.AddUint(n)
		h.AddUint(index)
		h.Add(em)
	}
	return &e, nil
}

// Blame verifies each partial signature and returns a WrongPartialError that
// names all that fail. What the verifier brings himself has to be checked before,
// so that nobody else is blamed for it.
func Blame(partials []threshold.PartialSignature, verify func(threshold.PartialSignature) error) error {
	var wrong []uint64
	for _, p := range partials {
		err := verify(p)
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

package ittc

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold"
)

// Share is what one device holds: a part of every group, in the order of the
// family's groups, |N| bytes each.
type Share struct {
	Index uint64             `cbor:"1,keyasint"`
	Parts []threshold.Secret `cbor:"2,keyasint"`
}

// Wipe erases all parts.
func (s *Share) Wipe() {
	for _, p := range s.Parts {
		p.Wipe()
	}
}

// Commitment is what is published about a dealing: check values of all parts,
// one commitment for each group, in which an index is the number of a part.
type Commitment struct {
	Groups []threshold.Commitment `cbor:"1,keyasint"`
}

// Deal splits a key for the devices 1 to n of a family. It does not wipe the
// key.
func Deal(rand io.Reader, k *threshold.WholeKey, f *Family) ([]Share, *Commitment, error) {
	if err := f.Validate(); err != nil {
		return nil, nil, err
	}
	shares := make([]Share, f.N)
	for i := range shares {
		shares[i].Index = uint64(i + 1)
	}
	c := &Commitment{}
	for _, g := range f.Groups {
		// A division into t parts is a dealing to t devices that all must sign.
		parts, com, err := threshold.Deal(rand, k, f.split())
		if err != nil {
			for i := range shares {
				shares[i].Wipe()
			}
			return nil, nil, err
		}
		for i, part := range g {
			shares[i].Parts = append(shares[i].Parts, parts[part-1].Subs[0].Value.Clone())
		}
		for i := range parts {
			parts[i].Wipe()
		}
		c.Groups = append(c.Groups, *com)
	}
	return shares, c, nil
}

// split is how d is divided in each group.
func (f *Family) split() threshold.Split {
	return threshold.Split{Scheme: threshold.Additive, T: f.T, N: f.T}
}

// Check returns an error unless the commitment shows, for every group, parts
// that sum to the private exponent.
func (c *Commitment) Check(pub *threshold.PublicKey, f *Family) error {
	if err := f.Validate(); err != nil {
		return err
	}
	if len(c.Groups) != len(f.Groups) {
		return fmt.Errorf("%w: %d groups, not %d", threshold.ErrCommitment, len(c.Groups), len(f.Groups))
	}
	for i := range c.Groups {
		if err := c.Groups[i].CheckDealing(pub, f.split()); err != nil {
			return fmt.Errorf("group %d: %w", i+1, err)
		}
	}
	return nil
}

// CheckShare checks each part that a device got against the commitment, in
// constant time.
func (c *Commitment) CheckShare(pub *threshold.PublicKey, f *Family, s *Share) error {
	if err := c.Check(pub, f); err != nil {
		return err
	}
	if s.Index < 1 || s.Index > f.N || len(s.Parts) != len(f.Groups) {
		return fmt.Errorf("%w: share %d with %d parts; there are %d devices and %d groups", threshold.ErrShare, s.Index, len(s.Parts), f.N, len(f.Groups))
	}
	for i, g := range f.Groups {
		as := threshold.Share{Index: g[s.Index-1], Subs: []threshold.SubShare{{Subset: f.parts(), Value: s.Parts[i]}}}
		if err := c.Groups[i].CheckShare(pub, f.split(), &as); err != nil {
			return fmt.Errorf("group %d: %w", i+1, err)
		}
	}
	return nil
}

// parts is the set of all parts of a group.
func (f *Family) parts() threshold.Subset { return threshold.Subset(1<<f.T - 1) }

// Part returns what the device exponentiates when a set signs.
func (s *Share) Part(f *Family, set threshold.Subset) (threshold.Secret, error) {
	group, ok := f.Choose(set)
	if !ok || !set.Has(s.Index) || len(s.Parts) != len(f.Groups) {
		return threshold.Secret{}, fmt.Errorf("%w: share %d has no part for %v", threshold.ErrSubset, s.Index, set)
	}
	return s.Parts[group], nil
}

// Prove proves that y is the power of em by the device's part, for the binding's
// subset, as [threshold.Prove] does.
func (s *Share) Prove(rand io.Reader, pub *threshold.PublicKey, f *Family, c *Commitment, b threshold.Binding, em, y []byte) (*threshold.Proof, error) {
	d, err := s.Part(f, b.Subset)
	if err != nil {
		return nil, err
	}
	com, part, b, err := f.statement(c, b, s.Index)
	if err != nil {
		return nil, err
	}
	return threshold.Prove(rand, pub, com, b, part, em, y, d)
}

// statement translates what is said of a device, which signs as one of the
// binding's subset, into the terms of its group. The device and the set go into
// the share's name, so that proofs of two that hold the same part differ.
func (f *Family) statement(c *Commitment, b threshold.Binding, index uint64) (*threshold.Commitment, uint64, threshold.Binding, error) {
	group, ok := f.Choose(b.Subset)
	if !ok || !b.Subset.Has(index) || len(c.Groups) != len(f.Groups) {
		return nil, 0, b, fmt.Errorf("%w: share %d in %v", threshold.ErrSubset, index, b.Subset)
	}
	b.Share = fmt.Sprintf("ittc group %d, device %d of %v: %s", group+1, index, b.Subset, b.Share)
	b.Subset = f.parts()
	return &c.Groups[group], f.Groups[group][index-1], b, nil
}

// CombineVarTime multiplies the partial signatures of a set of devices, one of
// each, and returns the signature after it has been verified. Their Subset is
// the set. Errors are those of [threshold.CombineAdditiveVarTime].
func CombineVarTime(pub *threshold.PublicKey, f *Family, a threshold.Algorithm, digest []byte, partials []threshold.PartialSignature) ([]byte, error) {
	if len(partials) > 0 {
		if _, ok := f.Choose(partials[0].Subset); !ok {
			return nil, fmt.Errorf("%w: %v is no set of %d of %d devices", threshold.ErrSubset, partials[0].Subset, f.T, f.N)
		}
	}
	// Each holds another part and so the product is that of all.
	return threshold.CombineAdditiveVarTime(pub, a, digest, partials)
}

// VerifyPartials checks the proofs of partial signatures and names in a
// [threshold.WrongPartialError] every device whose partial signature or proof
// is wrong. b.Share is taken from the partial signatures.
func VerifyPartials(pub *threshold.PublicKey, f *Family, c *Commitment, b threshold.Binding, em []byte, partials []threshold.PartialSignature) error {
	var wrong []uint64
	for _, p := range partials {
		if p.Subset != b.Subset {
			return fmt.Errorf("%w: share %d of %v in a signature by %v", threshold.ErrSubset, p.Index, p.Subset, b.Subset)
		}
		at := b
		at.Share = p.Share
		com, part, at, err := f.statement(c, at, p.Index)
		if err != nil {
			return err
		}
		p.Index, p.Subset, p.Share = part, at.Subset, at.Share
		err = threshold.VerifyPartials(pub, com, at, em, []threshold.PartialSignature{p})
		var blamed *threshold.WrongPartialError
		if err != nil && !errors.As(err, &blamed) {
			return err
		}
		if err != nil {
			wrong = append(wrong, f.holder(b.Subset, part))
		}
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return &threshold.WrongPartialError{Indices: slices.Compact(wrong)}
	}
	return nil
}

// holder returns the device of a set that holds a part of the set's group.
func (f *Family) holder(set threshold.Subset, part uint64) uint64 {
	group, _ := f.Choose(set)
	for _, i := range set.Indices() {
		if f.Groups[group][i-1] == part {
			return i
		}
	}
	return 0
}

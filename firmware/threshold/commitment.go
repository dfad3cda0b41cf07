package threshold

import (
	"bytes"
	"fmt"
	"math/big"
)

// Commitment is what the lead publishes about a dealing: a square g and
// v = g^d mod N for every sub-share d, sorted by subset and index. It is public
// and part of the ledger.
type Commitment struct {
	G []byte          `cbor:"1,keyasint"`
	V []SubCommitment `cbor:"2,keyasint"`
}

// SubCommitment is g^d mod N for the sub-share d of one index in one subset.
type SubCommitment struct {
	Subset Subset `cbor:"1,keyasint"`
	Index  uint64 `cbor:"2,keyasint"`
	Value  []byte `cbor:"3,keyasint"`
}

// Lookup returns v for the sub-share of an index in a subset.
func (c *Commitment) Lookup(subset Subset, index uint64) ([]byte, error) {
	for _, v := range c.V {
		if v.Subset == subset && v.Index == index {
			return v.Value, nil
		}
	}
	return nil, fmt.Errorf("%w: no check value of share %d in subset %v", ErrCommitment, index, subset)
}

// Validate checks the form: g and one v for every index in every subset of
// the split, in order, all units.
func (c *Commitment) Validate(pub *PublicKey, split Split) error {
	grp, err := pub.group()
	if err != nil {
		return err
	}
	if err := split.Validate(); err != nil {
		return err
	}
	if _, err := grp.unit(c.G); err != nil {
		return fmt.Errorf("%w: g: %w", ErrCommitment, err)
	}
	rest := c.V
	for _, subset := range split.Subsets() {
		for _, index := range subset.Indices() {
			if len(rest) == 0 || rest[0].Subset != subset || rest[0].Index != index {
				return fmt.Errorf("%w: check value of share %d in subset %v is missing or not in its place", ErrCommitment, index, subset)
			}
			if _, err := grp.unit(rest[0].Value); err != nil {
				return fmt.Errorf("%w: share %d in subset %v: %w", ErrCommitment, index, subset, err)
			}
			rest = rest[1:]
		}
	}
	if len(rest) > 0 {
		return fmt.Errorf("%w: %d check values too many", ErrCommitment, len(rest))
	}
	return nil
}

// CheckDealing validates the commitment and, for the additive scheme, checks
// that every subset's sub-shares sum to the private exponent:
//
//	(Π_{j∈T} v_{T,j})^e = g^{e·Σ d_{T,j}} = g
//
// This shows the sum right modulo the order of g. Products of exponents cannot
// be checked in this way: a multiplicative dealing is checked by a test
// signature of every subset, which the ceremony makes for both schemes.
func (c *Commitment) CheckDealing(pub *PublicKey, split Split) error {
	if err := c.Validate(pub, split); err != nil {
		return err
	}
	if split.Scheme != Additive {
		return nil
	}
	grp, err := pub.group()
	if err != nil {
		return err
	}
	rest := c.V
	for _, subset := range split.Subsets() {
		product := new(big.Int).Set(one)
		for range subset.Len() {
			product.Mul(product, new(big.Int).SetBytes(rest[0].Value)).Mod(product, grp.n)
			rest = rest[1:]
		}
		if !bytes.Equal(grp.bytes(grp.powE(product)), c.G) {
			return fmt.Errorf("%w: sub-shares of subset %v do not sum to the private exponent", ErrCommitment, subset)
		}
	}
	return nil
}

// CheckShare validates a share and checks each of its sub-shares against the
// commitment, in constant time. A device does this when it receives its share:
// the answer to ErrShare is to ask the lead again, not to sign.
func (c *Commitment) CheckShare(pub *PublicKey, split Split, s *Share) error {
	if err := s.Validate(pub, split); err != nil {
		return err
	}
	grp, err := pub.group()
	if err != nil {
		return err
	}
	for _, sub := range s.Subs {
		want, err := c.Lookup(sub.Subset, s.Index)
		if err != nil {
			return err
		}
		got, err := grp.mod.Exp(c.G, sub.Value.Reveal())
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%w: share %d, subset %v does not match the published check value", ErrShare, s.Index, sub.Subset)
		}
	}
	return nil
}

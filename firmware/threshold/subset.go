package threshold

import (
	"fmt"
	"math/bits"
)

// Scheme says how the parts of a key are put together again.
type Scheme uint64

const (
	// Additive shares sum to d; partial signatures are made in parallel.
	Additive Scheme = 1
	// Multiplicative shares multiply to d; partial signatures are made one
	// after the other, in any order.
	Multiplicative Scheme = 2
	// TwoLayer shares are those of package twolayer: calculators' sub-keys and
	// combiners' complements. No [Split] has it.
	TwoLayer Scheme = 3
)

func (s Scheme) String() string {
	switch s {
	case Additive:
		return "additive"
	case Multiplicative:
		return "multiplicative"
	case TwoLayer:
		return "two-layer"
	}
	return fmt.Sprintf("unknown scheme %d", uint64(s))
}

// Split is a scheme and its threshold: any T of N devices sign.
type Split struct {
	Scheme Scheme `cbor:"1,keyasint"`
	T      uint64 `cbor:"2,keyasint"`
	N      uint64 `cbor:"3,keyasint"`
}

// Validate returns ErrSplit unless 1 ≤ T ≤ N ≤ MaxDevices and a device holds at
// most MaxSubShares sub-shares. T = 1 is sound mathematics (every device can
// sign alone) and refused by the ledger, not here.
func (s Split) Validate() error {
	switch {
	case s.Scheme != Additive && s.Scheme != Multiplicative:
		return fmt.Errorf("%w: %v", ErrSplit, s.Scheme)
	case s.T < 1 || s.T > s.N || s.N > MaxDevices:
		return fmt.Errorf("%w: %d of %d devices; need 1 ≤ t ≤ n ≤ %d", ErrSplit, s.T, s.N, MaxDevices)
	case s.SubShares() > MaxSubShares:
		return fmt.Errorf("%w: %d of %d devices need %d sub-shares a device, more than %d: choose t nearer to 1 or n", ErrSplit, s.T, s.N, s.SubShares(), MaxSubShares)
	}
	return nil
}

// SubShares returns C(N−1, T−1), the number of sub-shares that each device
// holds, or 0 if T or N is out of range.
func (s Split) SubShares() int {
	if s.T < 1 || s.T > s.N || s.N > MaxDevices {
		return 0
	}
	c := 1
	for i := range int(s.T) - 1 {
		c = c * (int(s.N) - 1 - i) / (i + 1) // exact: a product of i+1 neighbours
	}
	return c
}

// NeedsProof reports whether the partial signature at a position, counted from
// 0, must come with a [Proof]: in a chain, where the next place would advance
// it blindly. The last place verifies the signature, so the one before it owes
// no proof.
func (s Split) NeedsProof(position uint64) bool {
	return s.Scheme == Multiplicative && position+2 < s.T
}

// Subsets returns all C(N, T) subsets of T devices, in ascending order of their
// masks. It returns nil for a split that does not validate.
func (s Split) Subsets() []Subset {
	if s.Validate() != nil {
		return nil
	}
	var all []Subset
	for mask := uint32(1); mask < 1<<s.N; mask++ {
		if bits.OnesCount32(mask) == int(s.T) {
			all = append(all, Subset(mask))
		}
	}
	return all
}

// Check returns ErrSubset unless x has exactly T members, none above N.
func (s Split) Check(x Subset) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if x.Len() != int(s.T) || uint32(x)>>s.N != 0 {
		return fmt.Errorf("%w: %v is not %d of the shares 1 to %d", ErrSubset, x, s.T, s.N)
	}
	return nil
}

// Subset is a set of share indices: bit j−1 stands for index j.
type Subset uint16

// SubsetOf returns the set of the given indices. It returns ErrSubset for an
// index that is 0, above MaxDevices or given twice.
func SubsetOf(indices ...uint64) (Subset, error) {
	var s Subset
	for _, i := range indices {
		if i < 1 || i > MaxDevices {
			return 0, fmt.Errorf("%w: share index %d is not 1 to %d", ErrSubset, i, MaxDevices)
		}
		if s.Has(i) {
			return 0, fmt.Errorf("%w: share index %d given twice", ErrSubset, i)
		}
		s |= 1 << (i - 1)
	}
	return s, nil
}

// Has reports whether index i is in the set.
func (s Subset) Has(i uint64) bool { return 1 <= i && i <= MaxDevices && s>>(i-1)&1 == 1 }

// Len returns the number of members.
func (s Subset) Len() int { return bits.OnesCount16(uint16(s)) }

// Indices returns the members in ascending order.
func (s Subset) Indices() []uint64 {
	members := make([]uint64, 0, s.Len())
	for i := uint64(1); i <= MaxDevices; i++ {
		if s.Has(i) {
			members = append(members, i)
		}
	}
	return members
}

// String returns the members, as in "{1 3 4}".
func (s Subset) String() string {
	text := fmt.Sprint(s.Indices())
	return "{" + text[1:len(text)-1] + "}"
}

package twolayer

import (
	"bytes"
	"fmt"
	"math/big"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// Public is what the distributor publishes of a dealing. It is part of the
// ledger.
type Public struct {
	Grouping grouping.Grouping `cbor:"1,keyasint"`

	// H is h = g^d mod N for g = h^e: whoever knows h knows g, and with V the
	// check value of every c_a, g^c_a = h·Π g^−d_ji.
	H []byte `cbor:"2,keyasint"`

	// V holds g^d_ji mod N of every sub-key, ascending by calculator and key:
	// len(Grouping.Calculators)·L of |N| bytes.
	V [][]byte `cbor:"3,keyasint"`
}

// CalculatorShare is what a calculator holds.
type CalculatorShare struct {
	Number uint64             `cbor:"1,keyasint"` // j
	Keys   []threshold.Secret `cbor:"2,keyasint"` // d_j1 … d_jl, SubKeyLen bytes each
}

// CombinerShare is what a combiner holds: c_a of each combination of its group,
// in the same order, |N| bytes each.
type CombinerShare struct {
	Number uint64             `cbor:"1,keyasint"`
	Parts  []threshold.Secret `cbor:"2,keyasint"`
}

// SubKeyLen returns the length in bytes of a sub-key for a modulus of the given
// bits: |N|/2 + SlackBits bits.
func SubKeyLen(bits int) int { return (bits/2 + SlackBits) / 8 }

// Wipe erases all sub-keys.
func (s *CalculatorShare) Wipe() { wipeAll(s.Keys) }

// Wipe erases all parts.
func (s *CombinerShare) Wipe() { wipeAll(s.Parts) }

func wipeAll(secrets []threshold.Secret) {
	for _, s := range secrets {
		s.Wipe()
	}
}

// Validate checks the form: the grouping's, h, and one check value for every
// sub-key, all units and no two the same. That a grouping is safe, [Deal] and
// [grouping.Grouping.Check] tell; that the values are those of the shares, only
// the holders can tell.
//
// Two equal check values would be two sub-keys that are one: the combinations would
// no longer be those that the grouping was judged by.
func (p *Public) Validate(pub *threshold.PublicKey) error {
	if err := pub.Validate(); err != nil {
		return err
	}
	if err := p.Grouping.Validate(); err != nil {
		return err
	}
	if err := pub.CheckUnit(p.H); err != nil {
		return fmt.Errorf("%w: h: %w", ErrPublic, err)
	}
	if want := len(p.Grouping.Calculators) * int(p.Grouping.L); len(p.V) != want {
		return fmt.Errorf("%w: %d check values, not %d", ErrPublic, len(p.V), want)
	}
	seen := map[string]bool{string(p.H): true, string(p.G(pub)): true}
	for i, v := range p.V {
		if err := pub.CheckUnit(v); err != nil {
			return fmt.Errorf("%w: check value %d: %w", ErrPublic, i+1, err)
		}
		if seen[string(v)] {
			return fmt.Errorf("%w: check value %d is there twice", ErrPublic, i+1)
		}
		seen[string(v)] = true
	}
	return nil
}

// G returns g = h^e mod N, |N| bytes.
func (p *Public) G(pub *threshold.PublicKey) []byte {
	n := new(big.Int).SetBytes(pub.N)
	g := new(big.Int).SetBytes(p.H)
	return g.Exp(g, new(big.Int).SetUint64(pub.E), n).FillBytes(make([]byte, pub.Len()))
}

// CheckValue returns the check value g^d_ji of a sub-key, or ErrTerm.
func (p *Public) CheckValue(t grouping.Term) ([]byte, error) {
	at, ok := slices.BinarySearch(p.Grouping.Calculators, t.Calculator)
	if !ok || t.Key < 1 || t.Key > p.Grouping.L {
		return nil, fmt.Errorf("%w: %v", ErrTerm, t)
	}
	i := at*int(p.Grouping.L) + int(t.Key) - 1
	if i >= len(p.V) {
		return nil, fmt.Errorf("%w: no check value of %v", ErrPublic, t)
	}
	return p.V[i], nil
}

// PartCheckValue returns the check value g^c_a = h·Π g^−d_ji of a combination's part.
func (p *Public) PartCheckValue(pub *threshold.PublicKey, c grouping.Combination) ([]byte, error) {
	n := new(big.Int).SetBytes(pub.N)
	product := big.NewInt(1)
	for _, term := range c {
		v, err := p.CheckValue(term)
		if err != nil {
			return nil, err
		}
		product.Mul(product, new(big.Int).SetBytes(v)).Mod(product, n)
	}
	if product.ModInverse(product, n) == nil {
		return nil, fmt.Errorf("%w: a check value is not coprime to N", ErrPublic)
	}
	product.Mul(product, new(big.Int).SetBytes(p.H)).Mod(product, n)
	return product.FillBytes(make([]byte, pub.Len())), nil
}

// Group returns the combinations of a combiner, or ErrTerm.
func (p *Public) Group(combiner uint64) ([]grouping.Combination, error) {
	for _, g := range p.Grouping.Combiners {
		if g.Number == combiner {
			return g.Combinations, nil
		}
	}
	return nil, fmt.Errorf("%w: combiner %d", ErrTerm, combiner)
}

// CheckCalculator checks a calculator's share against the published values, in
// time that does not depend on it. A device does this when it receives its share.
func (p *Public) CheckCalculator(pub *threshold.PublicKey, s *CalculatorShare) error {
	if err := pub.Validate(); err != nil {
		return err
	}
	if !slices.Contains(p.Grouping.Calculators, s.Number) {
		return fmt.Errorf("%w: calculator %d", ErrTerm, s.Number)
	}
	if uint64(len(s.Keys)) != p.Grouping.L {
		return fmt.Errorf("%w: calculator %d has %d sub-keys, not %d", ErrShare, s.Number, len(s.Keys), p.Grouping.L)
	}
	g := p.G(pub)
	for i, key := range s.Keys {
		term := grouping.Term{Calculator: s.Number, Key: uint64(i + 1)}
		if key.Len() != SubKeyLen(pub.Bits()) {
			return fmt.Errorf("%w: sub-key %v of %d bytes, not %d", ErrShare, term, key.Len(), SubKeyLen(pub.Bits()))
		}
		want, err := p.CheckValue(term)
		if err != nil {
			return err
		}
		if err := matches(pub, g, key, want); err != nil {
			return fmt.Errorf("sub-key %v: %w", term, err)
		}
	}
	return nil
}

// CheckCombiner checks a combiner's share against the published values, as
// CheckCalculator does.
func (p *Public) CheckCombiner(pub *threshold.PublicKey, s *CombinerShare) error {
	if err := pub.Validate(); err != nil {
		return err
	}
	combinations, err := p.Group(s.Number)
	if err != nil {
		return err
	}
	if len(s.Parts) != len(combinations) {
		return fmt.Errorf("%w: combiner %d has %d parts, not %d", ErrShare, s.Number, len(s.Parts), len(combinations))
	}
	g := p.G(pub)
	for i, part := range s.Parts {
		if part.Len() != pub.Len() {
			return fmt.Errorf("%w: part of %v of %d bytes, not %d", ErrShare, combinations[i], part.Len(), pub.Len())
		}
		want, err := p.PartCheckValue(pub, combinations[i])
		if err != nil {
			return err
		}
		if err := matches(pub, g, part, want); err != nil {
			return fmt.Errorf("part of %v: %w", combinations[i], err)
		}
	}
	return nil
}

// matches returns ErrShare unless g^d = want. Only the exponentiation touches d;
// its result is public if it is right.
func matches(pub *threshold.PublicKey, g []byte, d threshold.Secret, want []byte) error {
	e, err := NewExponentiator(pub, d)
	if err != nil {
		return err
	}
	got, err := e.Exp(g)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%w: it does not match the published check value", ErrShare)
	}
	return nil
}

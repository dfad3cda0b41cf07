package polynomial

import (
	"bytes"
	"fmt"
	"math/big"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/lagrange"
)

// Validate checks the form of what is published: a check value of each device, all
// units.
func (s *Sharing) Validate() error {
	if err := CheckNumbers(s.Key, s.T, s.N); err != nil {
		return err
	}
	if uint64(len(s.V)) != s.N {
		return fmt.Errorf("%w: %d check values for %d devices", threshold.ErrCommitment, len(s.V), s.N)
	}
	for _, x := range append([][]byte{s.G}, s.V...) {
		if err := s.Key.CheckUnit(x); err != nil {
			return fmt.Errorf("%w: %w", threshold.ErrCommitment, err)
		}
	}
	return nil
}

// CheckDealing shows everybody that any t of the shares give d. For each set of
// the first t − 1 devices and one other it checks, up to the sign, that
//
//	(Π v_i^λ_i)^e = g^D.
//
// The sets have t − 1 points and the value at 0 in common, so all points lie on one
// polynomial, modulo the order of g as far as Δ is invertible there.
func (s *Sharing) CheckDealing() error {
	if err := s.Validate(); err != nil {
		return err
	}
	want, err := lagrange.ProductVarTime(s.Key, [][]byte{s.G}, []*big.Int{s.D})
	if err != nil {
		return err
	}
	e := new(big.Int).SetUint64(s.Key.E)
	for last := s.T; last <= s.N; last++ {
		set := threshold.Subset(1<<(s.T-1) - 1 | 1<<(last-1))
		var powers [][]byte
		for _, i := range set.Indices() {
			powers = append(powers, s.V[i-1])
		}
		exponents := lagrange.Coefficients(s.N, set)
		for _, x := range exponents {
			x.Mul(x, e)
		}
		got, err := lagrange.ProductVarTime(s.Key, powers, exponents)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%w: shares %v do not give the private exponent", threshold.ErrCommitment, set)
		}
	}
	return nil
}

// CheckShare checks what a device got against its check value, in constant time.
func (s *Sharing) CheckShare(share *Share) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if share.Index < 1 || share.Index > s.N {
		return fmt.Errorf("%w: index %d of %d", threshold.ErrShare, share.Index, s.N)
	}
	got, err := s.power(s.G, share)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, s.V[share.Index-1]) {
		return fmt.Errorf("%w: share %d does not match the published check value", threshold.ErrShare, share.Index)
	}
	return nil
}

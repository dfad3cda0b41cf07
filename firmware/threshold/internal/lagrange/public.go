package lagrange

import (
	"bytes"
	"fmt"
	"math/big"

	"github.com/privyseal/privyseal/firmware/threshold"
)

// CheckNumbers returns threshold.ErrSplit unless 1 ≤ t ≤ n ≤ MaxDevices.
func CheckNumbers(t, n uint64) error {
	if t < 1 || t > n || n > threshold.MaxDevices {
		return fmt.Errorf("%w: %d of %d devices; need 1 ≤ t ≤ n ≤ %d", threshold.ErrSplit, t, n, threshold.MaxDevices)
	}
	return nil
}

// CheckValues checks the form of what is published of a dealing: a base g and a
// check value of each device, all units.
func CheckValues(pub *threshold.PublicKey, t, n uint64, g []byte, v [][]byte) error {
	if err := pub.Validate(); err != nil {
		return err
	}
	if err := CheckNumbers(t, n); err != nil {
		return err
	}
	if uint64(len(v)) != n {
		return fmt.Errorf("%w: %d check values for %d devices", threshold.ErrCommitment, len(v), n)
	}
	for _, x := range append([][]byte{g}, v...) {
		if err := pub.CheckUnit(x); err != nil {
			return fmt.Errorf("%w: %w", threshold.ErrCommitment, err)
		}
	}
	return nil
}

// CheckDealing shows everybody that any t of the shares give d. For each set of
// the first t − 1 devices and one other it checks, up to the sign, that
//
//	(g^P·Π v_i^λ_i)^e = g^D,
//
// where P and D are those of the sharing. The sets have t − 1 points and the value
// at 0 in common, so all points lie on one polynomial, modulo the order of g as
// far as Δ is invertible there.
func CheckDealing(pub *threshold.PublicKey, t, n uint64, g []byte, v [][]byte, P, D *big.Int) error {
	if err := CheckValues(pub, t, n, g, v); err != nil {
		return err
	}
	want, err := ProductVarTime(pub, [][]byte{g}, []*big.Int{D})
	if err != nil {
		return err
	}
	e := new(big.Int).SetUint64(pub.E)
	for last := t; last <= n; last++ {
		set := threshold.Subset(1<<(t-1) - 1 | 1<<(last-1))
		powers, exponents := [][]byte{g}, []*big.Int{new(big.Int).Set(P)}
		for _, i := range set.Indices() {
			powers = append(powers, v[i-1])
		}
		exponents = append(exponents, Coefficients(n, set)...)
		for _, x := range exponents {
			x.Mul(x, e)
		}
		got, err := ProductVarTime(pub, powers, exponents)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%w: shares %v do not give the private exponent", threshold.ErrCommitment, set)
		}
	}
	return nil
}

// CheckShare checks the power of g that a device computed with its share against
// its check value.
func CheckShare(n uint64, v [][]byte, index uint64, e threshold.Exponentiator, g []byte) error {
	if index < 1 || index > n {
		return fmt.Errorf("%w: index %d of %d", threshold.ErrShare, index, n)
	}
	got, err := e.Exp(g)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, v[index-1]) {
		return fmt.Errorf("%w: share %d does not match the published check value", threshold.ErrShare, index)
	}
	return nil
}

package twolayer

import (
	"fmt"
	"math/big"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// Powers are what one calculator sends for a task: min(y, N − y) for
// y = M^d_ji mod N, i = 1 … l, |N| bytes each.
type Powers struct {
	Calculator uint64
	Y          [][]byte
}

func find(powers []Powers, calculator uint64) *Powers {
	i := slices.IndexFunc(powers, func(p Powers) bool { return p.Calculator == calculator })
	if i < 0 {
		return nil
	}
	return &powers[i]
}

// CombineVarTime multiplies the powers of one combination with the combiner's
// own, yc = M^c_a as Power returns it, and returns the signature of |N| bytes after
// it has been verified: S or N − S, whichever does. All its inputs are public.
//
// It returns ErrPowers if a power is missing, WrongPowersError if some are out of
// range, CombineError if the product does not verify, threshold.ErrValue if yc is
// out of range.
func CombineVarTime(pub *threshold.PublicKey, alg threshold.Algorithm, digest []byte, c grouping.Combination, powers []Powers, yc []byte) ([]byte, error) {
	if err := pub.Validate(); err != nil {
		return nil, err
	}
	if err := pub.CheckPartial(yc); err != nil {
		return nil, fmt.Errorf("the combiner's own power: %w", err)
	}
	factors := [][]byte{yc}
	wrong := &WrongPowersError{}
	for _, term := range c {
		p := find(powers, term.Calculator)
		if p == nil || term.Key < 1 || term.Key > uint64(len(p.Y)) {
			return nil, fmt.Errorf("%w: %v is missing", ErrPowers, term)
		}
		y := p.Y[term.Key-1]
		if pub.CheckPartial(y) != nil {
			wrong.Calculators = append(wrong.Calculators, term.Calculator)
		}
		factors = append(factors, y)
	}
	if len(wrong.Calculators) > 0 {
		return nil, wrong
	}
	sig, err := threshold.FinishSequentialVarTime(pub, alg, digest, product(pub, factors))
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", &CombineError{c}, err)
	}
	return sig, nil
}

// product returns min(y, N − y) for the product y of the factors mod N.
func product(pub *threshold.PublicKey, factors [][]byte) []byte {
	n := new(big.Int).SetBytes(pub.N)
	y := big.NewInt(1)
	for _, f := range factors {
		y.Mul(y, new(big.Int).SetBytes(f)).Mod(y, n)
	}
	if other := new(big.Int).Sub(n, y); other.Cmp(y) < 0 {
		y = other
	}
	return y.FillBytes(make([]byte, pub.Len()))
}

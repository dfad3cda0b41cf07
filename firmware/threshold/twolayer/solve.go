package twolayer

import (
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// Solution is what a combiner found for a task.
type Solution struct {
	Signature   []byte // |N| bytes, verified
	Combination grouping.Combination

	// Wrong are calculators whose powers are wrong for certain, whatever the
	// others did: each of them would fail to prove all its powers, and one that
	// proves them proves this combiner a liar. Ascending.
	Wrong []uint64

	// Suspects are calculators of combinations that failed. Ask them for proofs:
	// see [Solve]. Ascending, none of them in Wrong.
	Suspects []uint64
}

// UnsolvedError says that no combination that was tried gave a signature.
type UnsolvedError struct {
	Tried    []grouping.Combination
	Left     int      // matching combinations that were not tried: see MaxTries
	Wrong    []uint64 // as in Solution
	Suspects []uint64
}

func (e *UnsolvedError) Error() string {
	if len(e.Tried) == 0 {
		return "twolayer: no combination of this combiner matches the calculators that answered: wait for others"
	}
	return fmt.Sprintf("twolayer: %d combinations tried, %d left, and no signature: one or more of calculators %d are wrong, or this combiner's share is", len(e.Tried), e.Left, e.Suspects)
}

// Unwrap makes errors.Is(err, threshold.ErrSignature) true.
func (e *UnsolvedError) Unwrap() error { return threshold.ErrSignature }

// Solve is a combiner's whole work: it matches its combinations with the powers
// at hand (B [0112]), raises M to the part of a matching one through exp, which
// is given the part's place in the share and returns M^c_a as Power does,
// multiplies and verifies, and tries other combinations if that fails.
func Solve(pub *threshold.PublicKey, alg threshold.Algorithm, digest []byte, p *Public, combiner uint64, powers []Powers, exp func(part int) ([]byte, error)) (*Solution, error) {
	group, err := p.Group(combiner)
	if err != nil {
		return nil, err
	}
	good, wrong, err := sort(pub, p, powers)
	if err != nil {
		return nil, err
	}
	for i, c := range group {
		if !slices.ContainsFunc(c.Calculators(), func(j uint64) bool { return find(good, j) == nil }) {
			yc, err := exp(i)
			if err != nil {
				return nil, err
			}
			sig, err := CombineVarTime(pub, alg, digest, c, good, yc)
			if errors.Is(err, threshold.ErrSignature) {
				continue
			}
			if err != nil {
				return nil, err
			}
			return &Solution{Signature: sig, Combination: c, Wrong: wrong}, nil
		}
	}
	return nil, &UnsolvedError{Wrong: wrong}
}

// sort parts the powers that are acceptable in form from those that are not,
// whose makers it names.
func sort(pub *threshold.PublicKey, p *Public, powers []Powers) (good []Powers, wrong []uint64, err error) {
	if err := pub.Validate(); err != nil {
		return nil, nil, err
	}
	for i, x := range powers {
		switch {
		case !slices.Contains(p.Grouping.Calculators, x.Calculator):
			return nil, nil, fmt.Errorf("%w: calculator %d", ErrTerm, x.Calculator)
		case find(powers[:i], x.Calculator) != nil:
			return nil, nil, fmt.Errorf("%w: calculator %d is there twice", ErrPowers, x.Calculator)
		case uint64(len(x.Y)) != p.Grouping.L || slices.ContainsFunc(x.Y, func(y []byte) bool { return pub.CheckPartial(y) != nil }):
			wrong = append(wrong, x.Calculator)
		default:
			good = append(good, x)
		}
	}
	slices.Sort(wrong)
	return good, wrong, nil
}

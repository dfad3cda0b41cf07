package twolayer

import (
	"errors"
	"fmt"
	"math/big"
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
// multiplies and verifies, and tries other combinations, at most MaxTries, if that
// fails. It returns UnsolvedError if none gives a signature, and what exp returns
// if that fails.
//
// # Whom a failure accuses
//
// Powers that are malformed convict their sender. Otherwise a combination that
// fails contains a wrong power, and alone says no more: then there is no verdict,
// only suspects. If another one verifies, its powers are right if fewer than two of
// its calculators lie, and the suspects are those of the failed combination whose
// powers it did not use: often one.
//
// That is no conviction. Two liars can send y·r and y'·r⁻¹: they pass together,
// and a combination of one of them with an honest third fails. Wrong is therefore
// what holds whatever the others did: two combinations that differ in the
// sub-keys of one calculator only, and in what is wrong with their products,
// convict it, as all else in them is the same. For the rest proofs are the judge
// ([VerifyProof]): first of the suspects, and if those are right, of all
// calculators of the failed combinations.
//
// All of this supposes that the combiner's own share is right, which
// [Public.CheckCombiner] has shown.
func Solve(pub *threshold.PublicKey, alg threshold.Algorithm, digest []byte, p *Public, combiner uint64, powers []Powers, exp func(part int) ([]byte, error)) (*Solution, error) {
	group, err := p.Group(combiner)
	if err != nil {
		return nil, err
	}
	good, wrong, err := sift(pub, p, powers)
	if err != nil {
		return nil, err
	}
	left := matching(group, good)
	var failed []failure
	for len(left) > 0 && len(failed) < MaxTries {
		var try match
		try, left = nextTry(left, failed, len(good))
		yc, err := exp(try.part)
		if err != nil {
			return nil, err
		}
		sig, err := CombineVarTime(pub, alg, digest, try.combination, good, yc)
		if err == nil {
			w, s := verdict(failed, try.combination, wrong)
			return &Solution{sig, try.combination, w, s}, nil
		}
		if !errors.Is(err, threshold.ErrSignature) {
			return nil, err
		}
		failed = append(failed, failure{try, square(pub, try.combination, good, yc)})
	}
	e := &UnsolvedError{Left: len(left)}
	for _, f := range failed {
		e.Tried = append(e.Tried, f.combination)
	}
	e.Wrong, e.Suspects = verdict(failed, nil, wrong)
	return nil, e
}

// sift parts the powers that are acceptable in form from those that are not,
// whose senders it names.
func sift(pub *threshold.PublicKey, p *Public, powers []Powers) (good []Powers, wrong []uint64, err error) {
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

// match is a combination whose calculators all sent powers.
type match struct {
	part        int // its place in the share
	combination grouping.Combination
	machines    uint32 // bit i: the calculator of the i-th powers
}

// failure is a match that gave no signature, with the square of its product:
// powers come without their signs.
type failure struct {
	match
	square *big.Int
}

func matching(group []grouping.Combination, powers []Powers) []match {
	var all []match
next:
	for i, c := range group {
		m := match{part: i, combination: c}
		for _, j := range c.Calculators() {
			at := slices.IndexFunc(powers, func(p Powers) bool { return p.Calculator == j })
			if at < 0 {
				continue next
			}
			m.machines |= 1 << at
		}
		all = append(all, m)
	}
	return all
}

// nextTry takes the match out of left that is to be tried next.
//
// A set of calculators explains the failures if it has one of each. The liars are
// such a set. Of the smallest sets that leave a match untouched, the one match
// that most of them leave untouched comes next: if it fails, they explain
// nothing any more. So with f liars and a match without them there are at most
// 1 + C(k,1) + … + C(k,f) tries, and with one liar at most t + 1.
func nextTry(left []match, failed []failure, calculators int) (match, []match) {
	best := 0
	if len(failed) > 0 {
		untouched := make([]int, len(left))
		for size, most := 1, 0; size <= calculators && most == 0; size++ {
			for set := range sets(calculators, size) {
				if slices.ContainsFunc(failed, func(f failure) bool { return f.machines&set == 0 }) {
					continue
				}
				for i, m := range left {
					if m.machines&set == 0 {
						if untouched[i]++; untouched[i] > most {
							best, most = i, untouched[i]
						}
					}
				}
			}
		}
	}
	try := left[best]
	return try, slices.Delete(left, best, best+1)
}

// sets yields the subsets of n things that have the given size, as masks.
func sets(n, size int) func(yield func(uint32) bool) {
	return func(yield func(uint32) bool) {
		// Gosper's hack: the next larger number with as many ones.
		for s := uint32(1)<<size - 1; s>>n == 0; {
			if !yield(s) {
				return
			}
			low := s & -s
			high := s + low
			s = high | (s^high)>>2/low
		}
	}
}

// verdict says who is wrong for certain and who may be: see Solve. verified is nil
// if no combination was.
func verdict(failed []failure, verified grouping.Combination, malformed []uint64) (wrong, suspects []uint64) {
	wrong = slices.Clone(malformed)
	for i, f := range failed {
		for _, g := range failed[:i] {
			if j, ok := onlyDifference(f.combination, g.combination); ok && f.square.Cmp(g.square) != 0 {
				wrong = append(wrong, j)
			}
		}
		if j, ok := onlyDifference(f.combination, verified); ok {
			wrong = append(wrong, j)
		}
	}
	wrong = ascending(wrong)
	for _, f := range failed {
		if slices.ContainsFunc(f.combination, func(t grouping.Term) bool { return slices.Contains(wrong, t.Calculator) }) {
			continue // explained
		}
		for _, term := range f.combination {
			if !slices.Contains(verified, term) {
				suspects = append(suspects, term.Calculator)
			}
		}
	}
	return wrong, ascending(suspects)
}

// onlyDifference returns the calculator whose sub-keys are all that two different
// combinations differ in.
func onlyDifference(a, b grouping.Combination) (uint64, bool) {
	var differ []uint64
	for i := range a {
		if len(a) != len(b) || a[i].Calculator != b[i].Calculator {
			return 0, false
		}
		if a[i].Key != b[i].Key {
			differ = append(differ, a[i].Calculator)
		}
	}
	if len(differ) != 1 {
		return 0, false
	}
	return differ[0], true
}

// square returns the square of the product that failed.
func square(pub *threshold.PublicKey, c grouping.Combination, powers []Powers, yc []byte) *big.Int {
	factors := [][]byte{yc}
	for _, term := range c {
		factors = append(factors, find(powers, term.Calculator).Y[term.Key-1])
	}
	y := new(big.Int).SetBytes(product(pub, factors))
	return y.Exp(y, big.NewInt(2), new(big.Int).SetBytes(pub.N))
}

func ascending(numbers []uint64) []uint64 {
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

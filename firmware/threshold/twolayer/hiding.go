package twolayer

import (
	"errors"
	"math/bits"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// ErrLearns is what an UnsafeError wraps if the coalition learns d, or d modulo
// some number, for certain.
var ErrLearns = errors.New("twolayer: the parts that they hold determine the secret exponent, or a residue of it")

// ErrThin is what an UnsafeError wraps if they learn nothing for certain, and the
// slack of the sub-keys is too short to say that they learn nothing at all.
var ErrThin = errors.New("twolayer: the sub-keys are too short to hide the secret exponent behind the parts that they hold")

// hidingBits is −log₂ of the distance for a shift of 1 in all: see Hiding.
const hidingBits = SlackBits + 4

// Hiding returns b such that all that the given combiners and calculators see,
// now and in any number of signatures, says of the secret key what e, N, 16 bits
// of φ(N) and the signatures themselves say, up to a statistical distance of 2^−b.
// It returns ErrLearns or ErrThin if there is no such b.
//
// # Why half-length sub-keys are enough
//
// Since e·d = 1 + κ·φ(N) and φ(N) = N + 1 − s for s = p + q,
//
//	d = (1 + κ·(N + 1 − s)) / e,   0 < κ < e.
//
// s has |N|/2 + 1 bits: the upper half of d is that of κ·N/e, which everyone can
// compute for each of the e − 1 values of κ (Boneh, Durfee, Frankel, "An Attack on
// RSA Given a Small Fraction of the Private Key Bits", Asiacrypt '98). With
// e = 65537 there is nothing to hide in it but κ ≡ −φ(N)⁻¹ mod e, which an attacker
// can guess: who is given κ gains a factor of e at most. Were e as long as N, the
// upper half of c_a would give away that of a secret; e is checked to be 65537
// wherever a public key is.
//
// Given κ, what is unknown of d lies in a short interval. Both factors have |N|/2
// bits, hence with N ≥ 2^(|N|−1)
//
//	2√N ≤ s ≤ 2^(|N|/2) + N/2^(|N|/2),   an interval of less than (1 − 1/√2)²·2^(|N|/2)
//
// and d differs from D, the public number in the middle of its own interval, by
// δ = d − D with |δ| < 2^(|N|/2 − 4.5) + 1 < 2^(|N|/2 − 4).
//
// # A coalition and its shift
//
// Let A be a coalition's combinations as a matrix: a row for each a, a column for
// each sub-key that its calculators do not hold, 1 where the sub-key is in a, else
// 0. Let x be these sub-keys. The parts are A·x subtracted from d, less what the
// coalition knows. Suppose that there is an integer vector u, a shift, with
//
//	A·u = (1, 1, …, 1).
//
// There is one if and only if no integer combination of the parts gives d or d
// modulo some q > 1, that is, if [grouping.Gain] is nothing. (The "only if" is the
// security condition of B [0073], made exact: a rational w with integral w·A and
// fractional w·1 exists exactly if there is no u, and tells d mod the denominator.)
//
// Then someone who knows neither d nor x can play the distributor and all other
// machines. He draws a random square h, sets g = h^e, draws x' as the distributor
// draws x, hands out D in place of d:
//
//	c_a = D − (A·x')_a − known      g^x_i = g^x'_i·(h·g^−D)^u_i
//	M^x_i = M^x'_i·(S·M^−D)^u_i     for every signature S of M = S^e
//
// (every M that an honest machine raises counts as signed), and simulates proofs,
// which hide the exponent. With x = x' + δ·u all of that is what the true key d
// would give: D − A·x' = d − A·x for all rows at once, and h·g^−D = g^δ. So the
// coalition sees the same function of x, once with x uniform in the box [0, 2^B)^v,
// B = |N|/2 + 128, and once with x uniform in the box shifted by δ·u. A function
// brings distributions no further apart, and coordinate by coordinate (one uniform
// on 2^B numbers, and the same moved by |δ·u_i|)
//
//	distance ≤ Σ_i |δ·u_i| / 2^B < |u|·2^(|N|/2 − 4) / 2^(|N|/2 + 128) = |u|·2^−132
//
// for |u| = Σ|u_i|. The sum is over sub-keys, not over parts: one shift serves all
// parts of the coalition, however many, and all signatures ever made. For one c_a
// alone |u| = 1. Whoever forges with probability P with what a coalition holds
// forges with (P − distance)/(e − 1), guessing κ, with the signatures only. An
// attacker who chooses the coalition as he goes is covered by guessing it as well:
// there are fewer than 2¹⁷, so that a distance of 2^−100 counts as one of 2^−83.
//
// Calculators alone hold no row, and numbers that have nothing to do with d: the
// distance is 0.
//
// # What is promised
//
// Deal and Extend look for the shift of each combiner with each t − 1 calculators
// (fewer know less) and of all combiners together, and deal only if b ≥ MinHiding
// for all. The size of u has no useful bound in general (by Cramer's rule it may
// reach a power of t + 1 with half the rank as exponent), which is why it is not
// argued but computed: in the groupings in use it is below 100.
//
// With sub-keys of exactly half the length of N, as B [0063] has them, the bound
// would be |u|/16, and it is not far from the truth: the tests measure both.
func Hiding(g *grouping.Grouping, combiners, calculators []uint64) (int, error) {
	return hiding(g.Combiners, combiners, calculators)
}

func hiding(groups []grouping.Group, combiners, calculators []uint64) (int, error) {
	var rows []grouping.Combination
	for _, g := range groups {
		if slices.Contains(combiners, g.Number) {
			rows = append(rows, g.Combinations...)
		}
	}
	u, err := shift(rows, calculators)
	if err != nil {
		return 0, err
	}
	b := hidingBits
	if sum := norm(u.values); sum > 1 {
		b -= bits.Len64(uint64(sum - 1)) // log₂, rounded up
	}
	if b < MinHiding {
		return b, ErrThin
	}
	return b, nil
}

// checkHiding returns UnsafeError unless the exponent is hidden from each combiner
// with each t − 1 of the calculators, and from all combiners.
func checkHiding(t uint64, groups []grouping.Group, calculators []uint64) error {
	var all []uint64
	for _, g := range groups {
		all = append(all, g.Number)
	}
	if _, err := hiding(groups, all, nil); err != nil {
		return &UnsafeError{all, nil, err}
	}
	subset := make([]uint64, 0, t)
	var each func(from int) error
	each = func(from int) error {
		if len(subset) == int(t)-1 {
			for _, c := range all {
				if _, err := hiding(groups, []uint64{c}, subset); err != nil {
					return &UnsafeError{[]uint64{c}, slices.Clone(subset), err}
				}
			}
			return nil
		}
		for i := from; i < len(calculators); i++ {
			subset = append(subset, calculators[i])
			if err := each(i + 1); err != nil {
				return err
			}
			subset = subset[:len(subset)-1]
		}
		return nil
	}
	return each(0)
}

// vector has a number for each of some terms.
type vector struct {
	terms  []grouping.Term
	values []int64
}

// shift returns an integer u that is 0 for the known calculators' terms, and whose
// sum over each row is 1. It returns ErrLearns if there is none, ErrThin if its
// numbers grow beyond maxEntry on the way.
//
// It takes one row after the other and keeps all solutions of those taken: u plus
// any integer combination of a basis, at first 0 plus everything. A row that some
// of the basis changes is met by one basis vector, after Euclid's algorithm has
// made the row's sum 0 for all others; that vector leaves the basis.
func shift(rows []grouping.Combination, known []uint64) (vector, error) {
	columns := map[grouping.Term]int{}
	var terms []grouping.Term
	lists := make([][]int, len(rows)) // of columns
	for r, row := range rows {
		for _, term := range row {
			if slices.Contains(known, term.Calculator) {
				continue
			}
			at, ok := columns[term]
			if !ok {
				at = len(terms)
				columns[term] = at
				terms = append(terms, term)
			}
			lists[r] = append(lists[r], at)
		}
	}
	u := make([]int64, len(terms))
	basis := make([][]int64, len(terms))
	for i := range basis {
		basis[i] = make([]int64, len(terms))
		basis[i][i] = 1
	}
	for _, row := range lists {
		rest := 1 - sumAt(u, row)
		pivot, err := clear1(basis, row)
		if err != nil {
			return vector{}, err
		}
		if pivot < 0 {
			if rest != 0 {
				return vector{}, ErrLearns
			}
			continue
		}
		step := sumAt(basis[pivot], row)
		if rest%step != 0 {
			return vector{}, ErrLearns
		}
		if !add(u, rest/step, basis[pivot]) {
			return vector{}, ErrThin
		}
		basis = slices.Delete(basis, pivot, pivot+1)
	}
	shorten(u, basis)
	return vector{terms, u}, nil
}

// clear1 changes the basis, without changing what it spans, so that at most one
// vector has a sum other than 0 over the row, and returns its place, or −1.
func clear1(basis [][]int64, row []int) (int, error) {
	for {
		pivot := -1
		var least, short int64
		for i, b := range basis {
			s := abs(sumAt(b, row))
			if s == 0 {
				continue
			}
			if n := norm(b); pivot < 0 || s < least || s == least && n < short {
				pivot, least, short = i, s, n
			}
		}
		if pivot < 0 {
			return -1, nil
		}
		done := true
		step := sumAt(basis[pivot], row)
		for i, b := range basis {
			s := sumAt(b, row)
			if i == pivot || s == 0 {
				continue
			}
			if !add(b, -(s / step), basis[pivot]) {
				return 0, ErrThin
			}
			done = done && sumAt(b, row) == 0
		}
		if done {
			return pivot, nil
		}
	}
}

// shorten makes |u| smaller by multiples of basis vectors as long as one of them
// does.
func shorten(u []int64, basis [][]int64) {
	for changed := true; changed; {
		changed = false
		for _, b := range basis {
			for _, sign := range []int64{1, -1} {
				for normWith(u, sign, b) < norm(u) && add(u, sign, b) {
					changed = true
				}
			}
		}
	}
}

// add adds q·b to a, unless a number would exceed maxEntry: then a is of no more
// use, and it reports false.
func add(a []int64, q int64, b []int64) bool {
	for i := range a {
		a[i] += q * b[i]
		if abs(a[i]) > maxEntry {
			return false
		}
	}
	return true
}

func sumAt(v []int64, places []int) int64 {
	var s int64
	for _, i := range places {
		s += v[i]
	}
	return s
}

func norm(v []int64) int64 { return normWith(v, 0, v) }

// normWith returns |v + q·b|.
func normWith(v []int64, q int64, b []int64) int64 {
	var s int64
	for i := range v {
		s += abs(v[i] + q*b[i])
	}
	return s
}

func abs(x int64) int64 {
	if x < 0 {
		return -x
	}
	return x
}

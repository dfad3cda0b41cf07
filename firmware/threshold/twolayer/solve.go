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

// A Solver is a combiner's work on a task of one or more documents under one
// algorithm, one document after the other. It keeps what does not change from one
// to the next, and remembers who was right.
//
// # What it remembers
//
// A failure in one document counts in those after it, for the order in which
// combinations are tried and for nothing else. The liars of all documents have one
// of themselves in every failed combination, whichever document it was. So with f
// liars, who may lie in some documents and not in others, and with a combination
// without them in each document, no more combinations fail in all documents
// together than may fail in one: t with one liar, C(k,1) + … + C(k,f) with f (see
// nextTry). If they lie always, and the same calculators answer, nothing fails after
// the first document: nothing has changed since the combination was chosen that won
// there, and it is chosen again.
//
// Whoever is thereby passed over is not accused in the later documents: what is
// known of a task is what is known of any of its documents. An honest calculator
// that liars make look wrong comes last too, and loses nothing by it: for a document
// without a signature all matching combinations, up to MaxTries, are tried.
//
// Its methods must not be called at the same time.
type Solver struct {
	maker
	public  *Public
	all     []match  // of the combiner's combinations
	failed  []uint32 // sets of machines one of which, at least, lied in some document
	lost    []int    // how often the combination in each place has failed
	lastWon int      // the place of the last that verified, −1 before
}

// NewSolver returns a Solver for a combiner of a dealing that has been validated. It
// returns ErrTerm for a combiner that is not there.
func NewSolver(pub *threshold.PublicKey, alg threshold.Algorithm, p *Public, combiner uint64) (*Solver, error) {
	group, err := p.Group(combiner)
	if err != nil {
		return nil, err
	}
	all, err := combinationsOf(&p.Grouping, group)
	if err != nil {
		return nil, err
	}
	m, err := newMaker(pub, alg)
	if err != nil {
		return nil, err
	}
	return &Solver{maker: *m, public: p, all: all, lost: make([]int, len(group)), lastWon: -1}, nil
}

// Solve is NewSolver and Solver.Solve for a task of one document.
func Solve(pub *threshold.PublicKey, alg threshold.Algorithm, digest []byte, p *Public, combiner uint64, powers []Powers, exp func(part int) ([]byte, error)) (*Solution, error) {
	s, err := NewSolver(pub, alg, p, combiner)
	if err != nil {
		return nil, err
	}
	return s.Solve(digest, powers, exp)
}

// Solve is a combiner's whole work on one document: it matches its combinations
// with the powers at hand (B [0112]), raises M to the part of a matching one
// through exp, which is given the part's place in the share and returns M^c_a as
// Power does, multiplies and verifies, and tries other combinations, at most
// MaxTries, if that fails. It returns UnsolvedError if none gives a signature, and
// what exp returns if that fails.
//
// # Whom a failure accuses
//
// Powers that are malformed convict their sender, and so do powers that have a
// factor in common with N, which is asked only after a failure: a product with one
// fails for certain. Otherwise a combination that fails contains a wrong power, and
// alone says no more: then there is no verdict, only suspects. If another one
// verifies, its powers are right if fewer than two of its calculators lie, and the
// suspects are those of the failed combination whose powers it did not use: often
// one.
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
func (s *Solver) Solve(digest []byte, powers []Powers, exp func(part int) ([]byte, error)) (*Solution, error) {
	x, err := s.Begin(digest, powers)
	if err != nil {
		return nil, err
	}
	for {
		if sol, err := x.Try(exp); sol != nil || err != nil {
			return sol, err
		}
	}
}

// A Search is a Solver's work on one document, one combination at a time, for
// whoever has other things to do between two exponentiations. A Solver has one at a
// time.
type Search struct {
	s      *Solver
	digest []byte
	good   []Powers
	wrong  []uint64
	left   []match
	failed []failure
}

// Begin starts the work that Solve does.
func (s *Solver) Begin(digest []byte, powers []Powers) (*Search, error) {
	if err := s.alg.CheckDigest(digest); err != nil {
		return nil, err
	}
	good, wrong, err := s.sift(powers)
	if err != nil {
		return nil, err
	}
	return &Search{s: s, digest: digest, good: good, wrong: wrong, left: s.matching(good)}, nil
}

// Try tries the next combination, with one call of exp, and returns nil and no
// error if it gave no signature. Its results and errors are those of Solve.
func (x *Search) Try(exp func(part int) ([]byte, error)) (*Solution, error) {
	s := x.s
	if len(x.left) == 0 || len(x.failed) >= MaxTries {
		return nil, x.unsolved()
	}
	var try match
	try, x.left = nextTry(x.left, s.failed, len(s.public.Grouping.Calculators))
	yc, err := exp(try.part)
	if err != nil {
		return nil, err
	}
	if !s.formed(yc) {
		return nil, ownPower(s.pub.CheckPartial(yc))
	}
	sig, product, err := s.combine(x.digest, try.combination, x.good, yc)
	if err == nil {
		s.lastWon = try.part
		w, suspects := verdict(x.failed, try.combination, x.wrong)
		return &Solution{sig, try.combination, w, suspects}, nil
	}
	if !errors.Is(err, threshold.ErrSignature) {
		return nil, err
	}
	if err := s.pub.CheckPartial(yc); err != nil {
		return nil, ownPower(err)
	}
	if len(x.failed) == 0 { // the powers stay the same
		for _, j := range s.notUnits(x.good) {
			x.wrong = append(x.wrong, j)
			x.left = avoiding(x.left, s.machine(j))
			s.remember(s.machine(j))
		}
	}
	x.failed = append(x.failed, failure{try, s.square(product)})
	s.lost[try.part]++
	s.remember(try.machines)
	return nil, nil
}

func (x *Search) unsolved() *UnsolvedError {
	e := &UnsolvedError{Left: len(x.left)}
	for _, f := range x.failed {
		e.Tried = append(e.Tried, f.combination)
	}
	e.Wrong, e.Suspects = verdict(x.failed, nil, x.wrong)
	return e
}

// sift parts the powers that are acceptable in form from those that are not,
// whose senders it names.
func (s *Solver) sift(powers []Powers) (good []Powers, wrong []uint64, err error) {
	g := &s.public.Grouping
	for i, x := range powers {
		switch {
		case !slices.Contains(g.Calculators, x.Calculator):
			return nil, nil, fmt.Errorf("%w: calculator %d", ErrTerm, x.Calculator)
		case find(powers[:i], x.Calculator) != nil:
			return nil, nil, fmt.Errorf("%w: calculator %d is there twice", ErrPowers, x.Calculator)
		case uint64(len(x.Y)) != g.L || slices.ContainsFunc(x.Y, func(y []byte) bool { return !s.formed(y) }):
			wrong = append(wrong, x.Calculator)
		default:
			good = append(good, x)
		}
	}
	return good, wrong, nil
}

// notUnits are the senders of powers, acceptable in form, that are not coprime to N.
func (s *Solver) notUnits(powers []Powers) (senders []uint64) {
	for _, x := range powers {
		if slices.ContainsFunc(x.Y, func(y []byte) bool { return s.pub.CheckPartial(y) != nil }) {
			senders = append(senders, x.Calculator)
		}
	}
	return senders
}

// remember notes that one of the machines at least is a liar.
func (s *Solver) remember(machines uint32) {
	if slices.Contains(s.failed, machines) {
		return
	}
	if len(s.failed) == maxFailures {
		s.failed = slices.Delete(s.failed, 0, 1)
	}
	s.failed = append(s.failed, machines)
}

// machine is the set of one calculator.
func (s *Solver) machine(calculator uint64) uint32 {
	return 1 << slices.Index(s.public.Grouping.Calculators, calculator)
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

func ascending(numbers []uint64) []uint64 {
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

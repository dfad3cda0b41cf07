package twolayer_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

func (x *task) solver(t testing.TB, combiner uint64) *twolayer.Solver {
	t.Helper()
	s, err := twolayer.NewSolver(x.pub, threshold.RS256, &x.dealing.Public, combiner)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// solved lets a Solver work on the task's document, and counts exponentiations.
func (x *task) solved(s *twolayer.Solver, combiner uint64, powers []twolayer.Powers) (sol *twolayer.Solution, tries int, err error) {
	sol, err = s.Solve(x.digest, powers, func(part int) ([]byte, error) {
		tries++
		return x.parts[combiner-1][part], nil
	})
	return sol, tries, err
}

// TestSolverDocuments: one Solver signs different documents, each with its own
// powers, under every algorithm.
func TestSolverDocuments(t *testing.T) {
	s := deal(t, printed())
	share := s.dealing.Combiners[1]
	for _, alg := range threshold.Algorithms() {
		solver, err := twolayer.NewSolver(s.pub, alg, &s.dealing.Public, share.Number)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			digest, em := message(t, alg, fmt.Sprint("document ", i), s.pub.Bits())
			powers := s.powers(em, s.dealing.Public.Grouping.Calculators...)
			exp := func(part int) ([]byte, error) { return s.power(em, share.Parts[part]), nil }
			sol, err := solver.Solve(digest, powers, exp)
			if err != nil || threshold.VerifySignature(s.pub, alg, digest, sol.Signature) != nil {
				t.Errorf("%s, document %d: %v", alg, i, err)
			}
			if _, err := solver.Solve(digest[1:], powers, exp); !errors.Is(err, threshold.ErrAlgorithm) {
				t.Errorf("%s, a short digest: %v", alg, err)
			}
		}
	}
}

// TestSolverPassesOver: a calculator that lies in all documents costs
// exponentiations in the first only, whichever it is and with whichever of its
// sub-keys it lies, and is suspected there.
func TestSolverPassesOver(t *testing.T) {
	x := printedTask(t)
	n := new(big.Int).SetBytes(x.pub.N)
	p, _, err := key().Factors()
	if err != nil {
		t.Fatal(err)
	}
	factor := new(big.Int).SetBytes(p.Reveal())
	extra := 0
	for name, r := range map[string]*big.Int{"a wrong power": big.NewInt(7), "no unit": factor.Mod(factor, n)} {
		for j := uint64(1); j <= 5; j++ {
			for keys := 1; keys <= 3; keys++ {
				powers := x.powers
				for i := range 2 {
					if keys>>i&1 == 1 {
						powers = x.times(powers, j, uint64(i+1), r)
					}
				}
				for combiner := uint64(1); combiner <= 3; combiner++ {
					s := x.solver(t, combiner)
					for document := range 5 {
						sol, tries, err := x.solved(s, combiner, powers)
						if err != nil || threshold.VerifySignature(x.pub, threshold.RS256, x.digest, sol.Signature) != nil {
							t.Fatalf("%s of %d, combiner %d: %v", name, j, combiner, err)
						}
						blamed := append(slices.Clone(sol.Wrong), sol.Suspects...)
						if document > 0 && (tries != 1 || len(blamed) > 0) || tries > 4 || (tries > 1) != slices.Contains(blamed, j) {
							t.Errorf("%s of %d, combiner %d, document %d: %d tries, blamed %d", name, j, combiner, document, tries, blamed)
						}
						extra += tries - 1
					}
				}
			}
		}
	}
	if extra == 0 {
		t.Error("no liar was ever met")
	}
}

// TestSolverOnlyMachines: where only one set of machines answers, and one of them
// lies with one sub-key, the combination that won is tried first from then on.
func TestSolverOnlyMachines(t *testing.T) {
	x := newTask(t, grouping.Grouping{T: 2, L: 2, Calculators: []uint64{1, 2, 3}, Combiners: []grouping.Group{
		group(1, "11,21", "11,22", "12,21"),
	}})
	powers := x.times(x.powers, 1, 1, big.NewInt(2))
	s := x.solver(t, 1)
	for document, want := range []int{3, 1, 1} {
		sol, tries, err := x.solved(s, 1, powers)
		if err != nil || tries != want || sol.Combination.String() != "(12,21)" {
			t.Fatalf("document %d: %+v, %d tries, %v", document, sol, tries, err)
		}
	}
	// Now the other one lies, and the first no more.
	powers = x.times(x.powers, 1, 2, big.NewInt(2))
	for document, want := range []int{2, 1} {
		if _, tries, err := x.solved(s, 1, powers); err != nil || tries != want {
			t.Fatalf("document %d after the change: %d tries, %v", document, tries, err)
		}
	}
}

// TestSolverGoesOn: what went wrong in one document does not stop the next.
func TestSolverGoesOn(t *testing.T) {
	x := printedTask(t)
	s := x.solver(t, 1)
	all := x.powers
	for j := uint64(1); j <= 5; j++ {
		all = x.times(all, j, 1, big.NewInt(int64(j)+1))
		all = x.times(all, j, 2, big.NewInt(int64(j)+10))
	}
	var unsolved *twolayer.UnsolvedError
	if _, tries, err := x.solved(s, 1, all); !errors.As(err, &unsolved) || tries != 5 || unsolved.Left != 0 {
		t.Errorf("all lie: %v, %d tries", err, tries)
	}
	if _, _, err := x.solved(s, 1, x.powers[:1]); !errors.As(err, &unsolved) || len(unsolved.Tried) != 0 {
		t.Errorf("one answers: %v", err)
	}
	broken := errors.New("broken")
	if _, err := s.Solve(x.digest, x.powers, func(int) ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("no exponentiation: %v", err)
	}
	if sol, tries, err := x.solved(s, 1, x.powers); err != nil || tries != 1 || len(sol.Suspects)+len(sol.Wrong) > 0 {
		t.Errorf("all are honest again: %+v, %d tries, %v", sol, tries, err)
	}
}

// TestNewSolverRefuses what no dealing has.
func TestNewSolverRefuses(t *testing.T) {
	x := printedTask(t)
	g := x.dealing.Public.Grouping
	g.Combiners = []grouping.Group{group(1, "11,22,63")}
	for name, c := range map[string]struct {
		pub      *threshold.PublicKey
		public   *twolayer.Public
		combiner uint64
		want     error
	}{
		"a combiner that is not there":            {x.pub, &x.dealing.Public, 4, twolayer.ErrTerm},
		"a key that is none":                      {&threshold.PublicKey{}, &x.dealing.Public, 1, threshold.ErrPublicKey},
		"a combination of who is not there":       {x.pub, &twolayer.Public{Grouping: g}, 1, twolayer.ErrPublic},
		"a combiner that is not there, of no key": {&threshold.PublicKey{}, &x.dealing.Public, 4, twolayer.ErrTerm},
	} {
		if s, err := twolayer.NewSolver(c.pub, threshold.RS256, c.public, c.combiner); !errors.Is(err, c.want) || s != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := twolayer.NewSolver(x.pub, "none", &x.dealing.Public, 1)
	if err == nil {
		_, _, err = x.solved(s, 1, x.powers)
	}
	if !errors.Is(err, threshold.ErrAlgorithm) {
		t.Errorf("an unknown algorithm: %v", err)
	}
}

// TestSolverProperty: over some documents, in each of which any calculators answer
// and any of them lie in any way, a Solver signs whenever there is a combination of
// honest ones, as one that remembers nothing does, and convicts no honest one.
func TestSolverProperty(t *testing.T) {
	x := printedTask(t)
	rapid.Check(t, func(t *rapid.T) {
		combiner := rapid.Uint64Range(1, 3).Draw(t, "combiner")
		group, _ := x.dealing.Public.Group(combiner)
		s, err := twolayer.NewSolver(x.pub, threshold.RS256, &x.dealing.Public, combiner)
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 4).Draw(t, "documents") {
			present, powers, liars := x.someLie(t, 3)
			clean := slices.ContainsFunc(group, func(c grouping.Combination) bool {
				return !slices.ContainsFunc(c.Calculators(), func(j uint64) bool { return liars[j] || !slices.Contains(present, j) })
			})
			sol, _, err := x.solved(s, combiner, powers)
			_, _, alone := x.combine(combiner, powers)
			var unsolved *twolayer.UnsolvedError
			var wrong []uint64
			switch {
			case err == nil && alone == nil:
				if threshold.VerifySignature(x.pub, threshold.RS256, x.digest, sol.Signature) != nil {
					t.Fatal("a wrong signature")
				}
				wrong = sol.Wrong
			case errors.As(err, &unsolved) && alone != nil && !clean:
				wrong = unsolved.Wrong
			default:
				t.Fatalf("powers of %d, liars %v: %v; without memory: %v", present, liars, err, alone)
			}
			if i := slices.IndexFunc(wrong, func(j uint64) bool { return !liars[j] }); i >= 0 {
				t.Fatalf("honest calculator %d convicted", wrong[i])
			}
		}
	})
}

// BenchmarkSolve reports what a combiner does for one document besides its
// exponentiation, and that.
func BenchmarkSolve(b *testing.B) {
	for _, bits := range []int{2048, 3072, 4096} {
		k := thresholdtest.Key(bits, false)
		d, err := twolayer.Deal(rand.Reader, k, printed())
		if err != nil {
			b.Fatal(err)
		}
		s := &system{b, k, k.Public(), d}
		digest, em := message(b, threshold.RS256, "document", bits)
		powers := s.powers(em, d.Public.Grouping.Calculators...)
		share := d.Combiners[0]
		var parts [][]byte
		for _, part := range share.Parts {
			parts = append(parts, s.power(em, part))
		}
		known := func(part int) ([]byte, error) { return parts[part], nil }
		solver, err := twolayer.NewSolver(s.pub, threshold.RS256, &d.Public, share.Number)
		if err != nil {
			b.Fatal(err)
		}
		e, err := twolayer.NewExponentiator(s.pub, share.Parts[0])
		if err != nil {
			b.Fatal(err)
		}
		for _, op := range []struct {
			name string
			run  func() error
		}{
			{"one-document", func() error {
				_, err := twolayer.Solve(s.pub, threshold.RS256, digest, &d.Public, share.Number, powers, known)
				return err
			}},
			{"of-many", func() error { _, err := solver.Solve(digest, powers, known); return err }},
			{"exponentiation", func() error { _, err := twolayer.Power(s.pub, em, e); return err }},
		} {
			b.Run(fmt.Sprintf("%s/%d", op.name, bits), func(b *testing.B) {
				for b.Loop() {
					if err := op.run(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

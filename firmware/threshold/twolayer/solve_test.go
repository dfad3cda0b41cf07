package twolayer_test

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// task is one document with every power that machines can make of it, made once:
// tests then only choose who lies.
type task struct {
	*system
	digest, em []byte
	powers     []twolayer.Powers
	parts      [][][]byte // by place of combiner and combination
}

func newTask(t testing.TB, g grouping.Grouping) *task {
	s := deal(t, g)
	x := &task{system: s}
	x.digest, x.em = message(t, threshold.RS256, "document", s.pub.Bits())
	x.powers = s.powers(x.em, g.Calculators...)
	for _, share := range s.dealing.Combiners {
		var ys [][]byte
		for _, part := range share.Parts {
			ys = append(ys, s.power(x.em, part))
		}
		x.parts = append(x.parts, ys)
	}
	return x
}

var printedTaskOnce *task

// printedTask is a dealing of the printed example, made once. Nobody changes it.
func printedTask(t testing.TB) *task {
	t.Helper()
	if printedTaskOnce == nil {
		printedTaskOnce = newTask(t, printed())
	}
	return printedTaskOnce
}

// combine lets a combiner work with some powers, and counts its exponentiations.
func (x *task) combine(combiner uint64, powers []twolayer.Powers) (sol *twolayer.Solution, tries int, err error) {
	at := slices.IndexFunc(x.dealing.Combiners, func(s twolayer.CombinerShare) bool { return s.Number == combiner })
	sol, err = twolayer.Solve(x.pub, threshold.RS256, x.digest, &x.dealing.Public, combiner, powers, func(part int) ([]byte, error) {
		tries++
		return x.parts[at][part], nil
	})
	return sol, tries, err
}

// times returns a copy of powers in which calculator j sends its key-th power
// times r.
func (x *task) times(powers []twolayer.Powers, j, key uint64, r *big.Int) []twolayer.Powers {
	n := new(big.Int).SetBytes(x.pub.N)
	out := slices.Clone(powers)
	for i, p := range out {
		if p.Calculator == j {
			y := new(big.Int).SetBytes(p.Y[key-1])
			y.Mul(y, r).Mod(y, n)
			if other := new(big.Int).Sub(n, y); other.Cmp(y) < 0 {
				y = other
			}
			out[i].Y = slices.Clone(p.Y)
			out[i].Y[key-1] = y.FillBytes(make([]byte, x.pub.Len()))
		}
	}
	return out
}

// TestOneLiar: whoever of five lies, and with whichever of his sub-keys, each
// combiner of the printed example that has a combination without him signs after
// at most t + 1 tries, and the liar is among the suspects of a failure.
func TestOneLiar(t *testing.T) {
	x := printedTask(t)
	for j := uint64(1); j <= 5; j++ {
		for keys := 1; keys <= 3; keys++ {
			powers := x.powers
			for i := range 2 {
				if keys>>i&1 == 1 {
					powers = x.times(powers, j, uint64(i+1), big.NewInt(int64(5+i)))
				}
			}
			for combiner := uint64(1); combiner <= 3; combiner++ {
				sol, tries, err := x.combine(combiner, powers)
				if err != nil || tries > 4 {
					t.Fatalf("calculator %d lies, combiner %d: %v, %d tries", j, combiner, err, tries)
				}
				if threshold.VerifySignature(x.pub, threshold.RS256, x.digest, sol.Signature) != nil {
					t.Error("wrong signature released")
				}
				if tries > 1 != slices.Contains(sol.Suspects, j) || slices.ContainsFunc(sol.Wrong, func(w uint64) bool { return w != j }) {
					t.Errorf("calculator %d lies, %d tries: wrong %d, suspects %d", j, tries, sol.Wrong, sol.Suspects)
				}
			}
		}
	}
}

// TestCollusion: two liars whose errors cancel pass together, and make an honest
// third look wrong in the next combination. Nobody may be convicted for that.
func TestCollusion(t *testing.T) {
	x := newTask(t, grouping.Grouping{T: 3, L: 2, Calculators: []uint64{1, 2, 3, 4}, Combiners: []grouping.Group{
		group(1, "11,31,41", "11,21,31"),
	}})
	r := big.NewInt(7)
	inverse := new(big.Int).ModInverse(r, new(big.Int).SetBytes(x.pub.N))
	powers := x.times(x.times(x.powers, 1, 1, r), 2, 1, inverse)
	sol, tries, err := x.combine(1, powers)
	if err != nil || tries != 2 || sol.Combination.String() != "(11,21,31)" {
		t.Fatalf("%+v, %d tries, %v", sol, tries, err)
	}
	if len(sol.Wrong) > 0 || !slices.Equal(sol.Suspects, []uint64{4}) {
		t.Errorf("wrong %d, suspects %d", sol.Wrong, sol.Suspects)
	}
}

// TestConviction: two combinations that differ in one calculator's sub-keys only
// convict it, whether one of them verifies or neither does.
func TestConviction(t *testing.T) {
	x := newTask(t, grouping.Grouping{T: 2, L: 2, Calculators: []uint64{1, 2, 3}, Combiners: []grouping.Group{
		group(1, "11,21", "12,21"),
	}})
	two, three := big.NewInt(2), big.NewInt(3)
	for name, c := range map[string]struct {
		powers []twolayer.Powers
		wrong  []uint64
		solved bool
	}{
		"one of two powers":                 {x.times(x.powers, 1, 1, two), []uint64{1}, true},
		"both, differently":                 {x.times(x.times(x.powers, 1, 1, two), 1, 2, three), []uint64{1}, false},
		"both alike: could be the other":    {x.times(x.times(x.powers, 1, 1, two), 1, 2, two), nil, false},
		"the other":                         {x.times(x.powers, 2, 1, two), nil, false},
		"the other, and one of two powers":  {x.times(x.times(x.powers, 2, 1, two), 1, 1, three), []uint64{1}, false},
		"a sign only, which does not count": {x.times(x.powers, 1, 1, big.NewInt(-1)), nil, true},
	} {
		sol, _, err := x.combine(1, c.powers)
		var unsolved *twolayer.UnsolvedError
		switch {
		case c.solved && err == nil:
			if !slices.Equal(sol.Wrong, c.wrong) || len(sol.Suspects) > 0 {
				t.Errorf("%s: wrong %d, suspects %d", name, sol.Wrong, sol.Suspects)
			}
		case !c.solved && errors.As(err, &unsolved) && errors.Is(err, threshold.ErrSignature):
			if !slices.Equal(unsolved.Wrong, c.wrong) || len(unsolved.Tried) != 2 || unsolved.Left != 0 {
				t.Errorf("%s: %+v", name, unsolved)
			}
			if len(c.wrong) == 0 && !slices.Equal(unsolved.Suspects, []uint64{1, 2}) {
				t.Errorf("%s: suspects %d", name, unsolved.Suspects)
			}
		default:
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNoVerdict: with one combination at hand there are suspects only, with none
// there is nothing to try.
func TestNoVerdict(t *testing.T) {
	x := printedTask(t)
	only := func(numbers ...uint64) []twolayer.Powers {
		var some []twolayer.Powers
		for _, p := range x.powers {
			if slices.Contains(numbers, p.Calculator) {
				some = append(some, p)
			}
		}
		return some
	}
	var unsolved *twolayer.UnsolvedError
	_, tries, err := x.combine(1, x.times(only(1, 2, 3), 2, 2, big.NewInt(9)))
	if !errors.As(err, &unsolved) || tries != 1 || len(unsolved.Wrong) > 0 || !slices.Equal(unsolved.Suspects, []uint64{1, 2, 3}) {
		t.Errorf("%+v, %v, %d tries", unsolved, err, tries)
	}
	_, tries, err = x.combine(1, only(1, 3))
	if !errors.As(err, &unsolved) || tries != 0 || len(unsolved.Tried) > 0 || len(unsolved.Suspects) > 0 {
		t.Errorf("%+v, %v, %d tries", unsolved, err, tries)
	}
	if _, tries, err = x.combine(1, nil); !errors.As(err, &unsolved) || tries != 0 {
		t.Errorf("no powers: %v", err)
	}
}

// TestMalformedPowers convict their sender, and do not stop the others.
func TestMalformedPowers(t *testing.T) {
	x := printedTask(t)
	n := new(big.Int).SetBytes(x.pub.N)
	p, _, err := key().Factors()
	if err != nil {
		t.Fatal(err)
	}
	fixed := func(v *big.Int) []byte { return v.FillBytes(make([]byte, x.pub.Len())) }
	good := x.powers[3].Y
	found := false
	for name, y := range map[string][][]byte{
		"none":          nil,
		"one":           good[:1],
		"three":         {good[0], good[1], good[0]},
		"nil":           {nil, good[1]},
		"short":         {good[0], good[1][1:]},
		"long":          {append([]byte{0}, good[0]...), good[1]},
		"0":             {make([]byte, x.pub.Len()), good[1]},
		"1":             {fixed(big.NewInt(1)), good[1]},
		"N − 1":         {good[0], fixed(new(big.Int).Sub(n, big.NewInt(1)))},
		"N":             {good[0], x.pub.N},
		"a factor":      {fixed(new(big.Int).SetBytes(p.Reveal())), good[1]},
		"not canonical": {good[0], fixed(new(big.Int).Sub(n, new(big.Int).SetBytes(good[1])))},
	} {
		powers := slices.Clone(x.powers)
		powers[3].Y = y
		for combiner := uint64(1); combiner <= 3; combiner++ {
			sol, tries, err := x.combine(combiner, powers)
			if name == "a factor" && err == nil && (tries == 1) == (len(sol.Wrong) == 0) {
				// Found if it made a product fail, and only then.
				found = found || tries == 2 && slices.Equal(sol.Wrong, []uint64{4}) && len(sol.Suspects) == 0
				continue
			}
			if err != nil || tries != 1 || !slices.Equal(sol.Wrong, []uint64{4}) || len(sol.Suspects) > 0 {
				t.Errorf("%s: %+v, %d tries, %v", name, sol, tries, err)
			}
		}
		c := combination("11,32,41")
		var wrong *twolayer.WrongPowersError
		if _, err := twolayer.CombineVarTime(x.pub, threshold.RS256, x.digest, c, powers, x.parts[2][0]); len(y) == 2 && bytesEqual(y[1], good[1]) {
			if !errors.As(err, &wrong) || !slices.Equal(wrong.Calculators, []uint64{4}) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if !found {
		t.Error("the factor was in no product")
	}
}

func bytesEqual(a, b []byte) bool { return string(a) == string(b) }

// TestSolveRefuses what is the caller's mistake, and hands on what his
// exponentiation returns.
func TestSolveRefuses(t *testing.T) {
	x := printedTask(t)
	broken := errors.New("broken")
	solve := func(combiner uint64, powers []twolayer.Powers, y []byte, err error) error {
		_, e := twolayer.Solve(x.pub, threshold.RS256, x.digest, &x.dealing.Public, combiner, powers, func(int) ([]byte, error) { return y, err })
		return e
	}
	for name, c := range map[string]struct {
		got, want error
	}{
		"a combiner that is not there":   {solve(4, x.powers, nil, nil), twolayer.ErrTerm},
		"a calculator that is not there": {solve(1, []twolayer.Powers{{Calculator: 6}}, nil, nil), twolayer.ErrTerm},
		"powers twice":                   {solve(1, append(slices.Clone(x.powers), x.powers[0]), nil, nil), twolayer.ErrPowers},
		"no exponentiation":              {solve(1, x.powers, nil, broken), broken},
		"nonsense of it":                 {solve(1, x.powers, []byte{1}, nil), threshold.ErrValue},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v", name, c.got)
		}
	}
	if _, err := twolayer.CombineVarTime(x.pub, threshold.RS256, x.digest, combination("11,22,31"), x.powers[:2], x.parts[0][0]); !errors.Is(err, twolayer.ErrPowers) {
		t.Errorf("a power is missing: %v", err)
	}
	if _, err := twolayer.CombineVarTime(x.pub, threshold.RS256, x.digest, combination("11,22,33"), x.powers, x.parts[0][0]); !errors.Is(err, twolayer.ErrPowers) {
		t.Errorf("a power that no calculator has: %v", err)
	}
	var combine *twolayer.CombineError
	if _, err := twolayer.CombineVarTime(x.pub, threshold.RS256, x.digest, combination("11,22,31"), x.powers, x.parts[0][1]); !errors.As(err, &combine) || !errors.Is(err, threshold.ErrSignature) {
		t.Errorf("the part of another combination: %v", err)
	}
	other, _ := message(t, threshold.RS256, "another document", 2048)
	if _, err := twolayer.CombineVarTime(x.pub, threshold.RS256, other, combination("11,22,31"), x.powers, x.parts[0][0]); !errors.As(err, &combine) {
		t.Errorf("another document: %v", err)
	}
}

// someLie draws calculators that answer, and up to lies of theirs.
func (x *task) someLie(t *rapid.T, lies int) (present []uint64, powers []twolayer.Powers, liars map[uint64]bool) {
	n := new(big.Int).SetBytes(x.pub.N)
	present = rapid.SliceOfNDistinct(rapid.Uint64Range(1, 5), 0, 5, rapid.ID[uint64]).Draw(t, "present")
	for _, j := range present {
		powers = append(powers, x.powers[j-1])
	}
	liars = map[uint64]bool{}
	for range rapid.IntRange(0, lies).Draw(t, "lies") {
		j, i := rapid.Uint64Range(1, 5).Draw(t, "liar"), rapid.Uint64Range(1, 2).Draw(t, "key")
		r := big.NewInt(rapid.SampledFrom([]int64{2, 3, 4}).Draw(t, "factor"))
		if rapid.Bool().Draw(t, "inverse") {
			r.ModInverse(r, n)
		}
		powers = x.times(powers, j, i, r)
		liars[j] = true
	}
	return present, powers, liars
}

// TestSolveProperty: any calculators answer, any of them lie in any way, colluding
// or not. A combiner signs whenever it has a combination of honest ones (and so few
// tries suffice), never convicts an honest one, and every failure has a suspect or
// a convict.
func TestSolveProperty(t *testing.T) {
	x := printedTask(t)
	rapid.Check(t, func(t *rapid.T) {
		present, powers, liars := x.someLie(t, 4)
		combiner := rapid.Uint64Range(1, 3).Draw(t, "combiner")
		group, _ := x.dealing.Public.Group(combiner)
		clean := slices.ContainsFunc(group, func(c grouping.Combination) bool {
			return !slices.ContainsFunc(c.Calculators(), func(j uint64) bool { return liars[j] || !slices.Contains(present, j) })
		})
		sol, tries, err := x.combine(combiner, powers)
		var wrong, suspects []uint64
		var unsolved *twolayer.UnsolvedError
		switch {
		case err == nil:
			if threshold.VerifySignature(x.pub, threshold.RS256, x.digest, sol.Signature) != nil {
				t.Fatal("a wrong signature")
			}
			wrong, suspects = sol.Wrong, sol.Suspects
		case errors.As(err, &unsolved) && !clean:
			wrong, suspects = unsolved.Wrong, unsolved.Suspects
		default:
			t.Fatalf("powers of %d, liars %v: %v", present, liars, err)
		}
		for _, j := range wrong {
			if !liars[j] {
				t.Fatalf("honest calculator %d convicted", j)
			}
		}
		failures := tries
		if err == nil {
			failures--
		}
		if failures > 0 && len(wrong)+len(suspects) == 0 {
			t.Fatal("failures without a suspect")
		}
	})
}

// TestBoundedTries: a combiner gives up after MaxTries, and says what is left.
func TestBoundedTries(t *testing.T) {
	x := printedTask(t)
	g := grouping.Grouping{T: 3, L: 1, Combiners: []grouping.Group{{Number: 1}}}
	var powers []twolayer.Powers
	for j := uint64(1); j <= 10; j++ {
		g.Calculators = append(g.Calculators, j)
		powers = append(powers, twolayer.Powers{Calculator: j, Y: x.powers[0].Y[:1]})
		for i := uint64(1); i < j; i++ {
			for h := uint64(1); h < i; h++ {
				g.Combiners[0].Combinations = append(g.Combiners[0].Combinations, grouping.Combination{{Calculator: h, Key: 1}, {Calculator: i, Key: 1}, {Calculator: j, Key: 1}})
			}
		}
	}
	tried := map[int]bool{}
	_, err := twolayer.Solve(x.pub, threshold.RS256, x.digest, &twolayer.Public{Grouping: g}, 1, powers, func(part int) ([]byte, error) {
		tried[part] = true
		return x.parts[0][0], nil
	})
	var unsolved *twolayer.UnsolvedError
	if !errors.As(err, &unsolved) || len(unsolved.Tried) != twolayer.MaxTries || len(tried) != twolayer.MaxTries || unsolved.Left != 120-twolayer.MaxTries {
		t.Errorf("%d tried: %v", len(tried), err)
	}
}

func ExampleUnsolvedError() {
	fmt.Println(&twolayer.UnsolvedError{Tried: make([]grouping.Combination, 1), Suspects: []uint64{1, 2, 3}})
	// Output: twolayer: 1 combinations tried, 0 left, and no signature: one or more of calculators [1 2 3] are wrong, or this combiner's share is
}

package grouping_test

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// printed are the three groups of B [0085] to [0087], with k=5, t=3, l=2.
func printed() *grouping.Grouping {
	return &grouping.Grouping{T: 3, L: 2, Calculators: []uint64{1, 2, 3, 4, 5}, Combiners: []grouping.Group{
		group(1, "11,22,31", "21,32,41", "31,42,51", "11,41,52", "12,21,51"),
		group(2, "11,21,42", "22,41,51", "21,31,52", "11,32,51", "12,31,41"),
		group(3, "11,32,41", "12,21,31", "11,22,51", "21,41,52", "31,42,51"),
	}}
}

// group reads combinations as B prints them.
func group(number uint64, combinations ...string) grouping.Group {
	g := grouping.Group{Number: number}
	for _, s := range combinations {
		var c grouping.Combination
		for term := range strings.SplitSeq(s, ",") {
			c = append(c, grouping.Term{Calculator: uint64(term[0] - '0'), Key: uint64(term[1] - '0')})
		}
		g.Combinations = append(g.Combinations, c)
	}
	return g
}

// TestPrintedGroups: they are safe as B says, and two combiners together are
// not, which B does not say.
func TestPrintedGroups(t *testing.T) {
	g := printed()
	if err := g.Check(); err != nil {
		t.Error(err)
	}
	table := g.Table()
	want := []string{
		"combiners 1+2 with calculator 1: d",
		"combiners 1+2 with calculator 2: d",
		"combiners 1+2 with calculator 3: d",
		"combiners 1+2 with calculator 4: d",
		"combiners 1+2 with calculator 5: d",
		"combiners 1+3 with calculator 4: d mod 2",
		"combiners 2+3 with calculator 1: d",
		"combiners 2+3 with calculator 2: d",
		"combiners 2+3 with calculator 3: d",
		"combiners 2+3 with calculator 4: d",
		"combiners 2+3 with calculator 5: d",
		"combiners 1+3 with calculators 1+3: d",
		"combiners 1+3 with calculators 1+4: d",
		"combiners 1+3 with calculators 1+5: d",
		"combiners 1+3 with calculators 2+3: d",
		"combiners 1+3 with calculators 2+4: d",
		"combiners 1+3 with calculators 2+5: d",
		"combiners 1+3 with calculators 3+4: d",
		"combiners 1+3 with calculators 4+5: d",
	}
	var weak []string
	for _, w := range table.Weak {
		weak = append(weak, w.String())
	}
	if !slices.Equal(weak, want) {
		t.Errorf("weak are\n%s", strings.Join(weak, "\n"))
	}
	cells := map[[2]uint64]grouping.Cell{}
	for _, c := range table.Cells {
		cells[[2]uint64{c.Combiners, c.Calculators}] = c
	}
	for at, want := range map[[2]uint64]grouping.Cell{
		{1, 2}: {Coalitions: 30, Weak: 0},
		{2, 0}: {Coalitions: 3, Weak: 0},
		{3, 0}: {Coalitions: 1, Weak: 0},
		{2, 1}: {Coalitions: 15, Weak: 11},
		{2, 2}: {Coalitions: 30, Weak: 28}, // not 1+3 with 1+2 or 3+5
		{3, 1}: {Coalitions: 5, Weak: 5},
	} {
		if c := cells[at]; c.Coalitions != want.Coalitions || c.Weak != want.Weak {
			t.Errorf("%v: %+v, not %+v", at, c, want)
		}
	}
	text := table.String()
	for _, line := range []string{
		"k=5 calculators with l=2 sub-keys each, any t=3 of them sign with one of m=3 combiners",
		"   1     nothing     nothing     nothing\n",
		"   2     nothing           d           d\n",
		"  combiners 1+2 with any one calculator: d\n",
		"  combiners 1+3 with calculator 4: d mod 2\n",
		"  combiners 1+3 with calculators 1+3, 1+4, 1+5, 2+3, 2+4, 2+5, 3+4 or 4+5: d\n",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("there is no %q in\n%s", line, text)
		}
	}
	// By ranks alone 1+3 with 4 looks harmless.
	v, rows := g.Left([]uint64{1, 3}, []uint64{4})
	if a, b := matrixOf(v, rows, false).rank(0), matrixOf(v, rows, true).rank(0); a != b {
		t.Errorf("over the rationals the ranks are %d and %d", a, b)
	}
	if a, b := matrixOf(v, rows, false).rank(2), matrixOf(v, rows, true).rank(2); a == b {
		t.Errorf("modulo 2 both ranks are %d", a)
	}
	if gain := g.Gain([]uint64{1, 3}, []uint64{4}); gain.String() != "d mod 2" {
		t.Error(gain)
	}
	if gain := g.Gain([]uint64{3}, []uint64{1, 3, 2}); !gain.Whole() {
		t.Error("who can sign knows d; here only", gain)
	}
	if gain := g.Gain(nil, g.Calculators); !gain.Nothing() {
		t.Error("calculators alone learn", gain)
	}
	if n := g.Spare(); n != 0 {
		t.Errorf("%d to spare; (1,2,4) is in one group only", n)
	}
}

func TestPlantedBadGroups(t *testing.T) {
	for name, plant := range map[string]struct {
		change                 func(*grouping.Grouping)
		combiners, calculators []uint64
		gain                   string
	}{
		"one more combination": {
			func(g *grouping.Grouping) {
				g.Combiners[0].Combinations = append(g.Combiners[0].Combinations, group(0, "11,22,41").Combinations...)
			}, []uint64{1}, []uint64{2, 3}, "d",
		},
		"sub-keys used again": {
			func(g *grouping.Grouping) { g.Combiners[1] = group(2, "11,21,31", "11,21,41", "11,31,41", "21,31,41") },
			[]uint64{2}, []uint64{1, 2}, "d",
		},
	} {
		g := printed()
		plant.change(g)
		err := g.Check()
		var unsafe *grouping.UnsafeError
		if !errors.As(err, &unsafe) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if gain := g.Gain(unsafe.Combiners, unsafe.Calculators); gain.Nothing() || gain.String() != unsafe.Gain.String() {
			t.Errorf("%s: %v, but the gain is %v", name, err, gain)
		}
		if gain := g.Gain(plant.combiners, plant.calculators); gain.String() != plant.gain || !strings.Contains(err.Error(), "with calculators "+plus(plant.calculators)+" would learn "+plant.gain) {
			t.Errorf("%s: %v; with %v it is %v", name, err, plant.calculators, gain)
		}
	}
	g := printed()
	g.Combiners = g.Combiners[:1]
	var uncovered *grouping.UncoveredError
	if err := g.Check(); !errors.As(err, &uncovered) || !slices.Equal(uncovered.Calculators, []uint64{1, 2, 4}) {
		t.Error(err)
	}
	g.Combiners[0].Combinations[0][0].Key = 3
	if err := g.Check(); !errors.Is(err, grouping.ErrGrouping) {
		t.Error(err)
	}
}

func plus(numbers []uint64) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(numbers), " ", "+"), "[]")
}

// TestOneKeyEach: with l=1 all combiners together learn d mod t, however the
// combinations are divided, unless there is one machine set only.
func TestOneKeyEach(t *testing.T) {
	g := &grouping.Grouping{T: 3, L: 1, Calculators: []uint64{1, 2, 3, 4, 5}}
	n := uint64(0)
	for a := 1; a <= 5; a++ {
		for b := a + 1; b <= 5; b++ {
			for c := b + 1; c <= 5; c++ {
				n++
				g.Combiners = append(g.Combiners, grouping.Group{Number: n, Combinations: []grouping.Combination{
					{{Calculator: uint64(a), Key: 1}, {Calculator: uint64(b), Key: 1}, {Calculator: uint64(c), Key: 1}}}})
			}
		}
	}
	if err := g.CheckAgainst(1, 2); err != nil {
		t.Errorf("one combination each: %v", err)
	}
	var unsafe *grouping.UnsafeError
	if err := g.Check(); !errors.As(err, &unsafe) || unsafe.Gain.String() != "d mod 3" || len(unsafe.Combiners) != 10 || len(unsafe.Calculators) != 0 {
		t.Error(err)
	}
}

func TestGain(t *testing.T) {
	for _, test := range []struct {
		gain           grouping.Gain
		s              string
		nothing, whole bool
	}{
		{grouping.Gain{}, "nothing", true, false},
		{grouping.Gain{Modulus: big.NewInt(1)}, "nothing", true, false},
		{grouping.Gain{Modulus: big.NewInt(0)}, "d", false, true},
		{grouping.Gain{Modulus: big.NewInt(6)}, "d mod 6", false, false},
	} {
		if test.gain.String() != test.s || test.gain.Nothing() != test.nothing || test.gain.Whole() != test.whole {
			t.Errorf("%v: %q", test, test.gain)
		}
	}
}

package twolayer

import (
	"errors"
	"math/big"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
)

// TestTries plays the order of tries with a combiner that has all combinations of
// three of ten: whichever calculators lie, up to two of them, it finds an honest
// combination within MaxTries and within the bound that nextTry states.
func TestTries(t *testing.T) {
	const k, size = 10, 3
	var all []match
	for set := range sets(k, size) {
		all = append(all, match{part: len(all), machines: set})
	}
	if len(all) != 120 {
		t.Fatalf("%d combinations", len(all))
	}
	r := rand.New(rand.NewPCG(1, 2))
	most := [3]int{}
	for liars := range uint32(1 << k) {
		f := bits.OnesCount32(liars)
		if f > 2 {
			continue
		}
		left := slices.Clone(all)
		r.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
		var failed []uint32
		tries := 0
		for {
			var try match
			try, left = nextTry(left, failed, k)
			if tries++; try.machines&liars == 0 {
				break
			}
			failed = append(failed, try.machines)
		}
		most[f] = max(most[f], tries)
	}
	if most[0] != 1 || most[1] > size+1 || most[2] > min(MaxTries, 1+10+45) {
		t.Errorf("tries at most, by the number of liars: %d", most)
	}
}

func TestSets(t *testing.T) {
	for n := range 8 {
		for size := 1; size <= n; size++ {
			count := 0
			for s := range sets(n, size) {
				if bits.OnesCount32(s) != size || s>>n != 0 {
					t.Errorf("%b of %d", s, n)
				}
				count++
			}
			want := 1
			for i := range size {
				want = want * (n - i) / (i + 1)
			}
			if count != want {
				t.Errorf("%d sets of %d of %d", count, size, n)
			}
		}
	}
}

// TestMachines: only combinations whose calculators all answered match; those that
// won come first, those that failed last.
func TestMachines(t *testing.T) {
	g := &grouping.Grouping{L: 2, Calculators: []uint64{1, 2, 3, 9}}
	all, err := combinationsOf(g, []grouping.Combination{
		{{Calculator: 3, Key: 1}},
		{{Calculator: 2, Key: 1}, {Calculator: 9, Key: 2}},
		{{Calculator: 1, Key: 1}, {Calculator: 9, Key: 2}},
		{{Calculator: 1, Key: 2}, {Calculator: 2, Key: 2}},
	})
	if err != nil || len(all) != 4 || all[1].part != 1 || all[1].machines != 0b1010 {
		t.Fatalf("%+v, %v", all, err)
	}
	s := &Solver{public: &Public{Grouping: *g}, all: all, lost: make([]int, 4), lastWon: -1}
	order := func() (parts []int) {
		for _, m := range s.matching([]Powers{{Calculator: 9}, {Calculator: 1}, {Calculator: 2}}) {
			parts = append(parts, m.part)
		}
		return parts
	}
	if got := order(); !slices.Equal(got, []int{1, 2, 3}) {
		t.Errorf("at first %d", got)
	}
	s.lost[1], s.lastWon = 1, 3
	if got := order(); !slices.Equal(got, []int{3, 2, 1}) {
		t.Errorf("after a failure and a signature %d", got)
	}
	s.lastWon = 1
	if got := order(); !slices.Equal(got, []int{2, 3, 1}) {
		t.Errorf("if what failed once has won since %d", got)
	}
	if len(s.all) != 4 || s.all[0].part != 0 {
		t.Error("the combinations changed")
	}
	for name, c := range map[string]grouping.Combination{
		"no such calculator": {{Calculator: 4, Key: 1}}, "key 0": {{Calculator: 1}}, "key 3": {{Calculator: 1, Key: 3}},
	} {
		if _, err := combinationsOf(g, []grouping.Combination{c}); !errors.Is(err, ErrPublic) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := combinationsOf(&grouping.Grouping{Calculators: make([]uint64, grouping.MaxCalculators+1)}, nil); !errors.Is(err, ErrPublic) {
		t.Errorf("too many calculators: %v", err)
	}
}

// TestFailuresOfATask plays many documents with a combiner that has all combinations
// of three of ten. Up to two calculators lie, always or by the toss of a coin, and
// in the latter case honest ones are slow at times. The failures of all documents
// together stay within the bound of one; and if the liars lie always and all
// answer, all failures are in the first document.
func TestFailuresOfATask(t *testing.T) {
	const k, size, documents = 10, 3, 30
	public := &Public{}
	var everybody []Powers
	for j := range uint64(k) {
		public.Grouping.Calculators = append(public.Grouping.Calculators, j+1)
		everybody = append(everybody, Powers{Calculator: j + 1})
	}
	var all []match
	for set := range sets(k, size) {
		all = append(all, match{part: len(all), machines: set})
	}
	r := rand.New(rand.NewPCG(3, 4))
	most := [3]int{}
	for liars := range uint32(1 << k) {
		f := bits.OnesCount32(liars)
		if f > 2 {
			continue
		}
		for _, always := range []bool{true, false} {
			r.Shuffle(len(all), func(i, j int) { all[i].machines, all[j].machines = all[j].machines, all[i].machines })
			s := &Solver{public: public, all: all, lost: make([]int, len(all)), lastWon: -1}
			failures, first := 0, 0
			for document := range documents {
				powers := everybody
				if !always {
					slow := 1<<r.IntN(k) | 1<<r.IntN(k)
					powers = slices.DeleteFunc(slices.Clone(everybody), func(p Powers) bool { return slow&^int(liars)>>(p.Calculator-1)&1 == 1 })
				}
				left := s.matching(powers)
				for {
					var try match
					try, left = nextTry(left, s.failed, k)
					if try.machines&liars == 0 || !always && r.IntN(2) == 0 {
						s.lastWon = try.part
						break
					}
					s.remember(try.machines)
					s.lost[try.part]++
					failures++
				}
				if document == 0 {
					first = failures
				}
			}
			most[f] = max(most[f], failures)
			if always && failures != first {
				t.Errorf("liars %b: %d failures after the first document", liars, failures-first)
			}
		}
	}
	if most[0] != 0 || most[1] > size || most[2] > 10+45 || most[1] == 0 || most[2] <= most[1] {
		t.Errorf("failures at most, by the number of liars: %d", most)
	}
}

// TestRemember: the memory is bounded, and has nothing twice.
func TestRemember(t *testing.T) {
	s := &Solver{}
	for i := range uint32(2 * maxFailures) {
		s.remember(i + 1)
		s.remember(i + 1)
	}
	if len(s.failed) != maxFailures || s.failed[0] != maxFailures+1 || s.failed[maxFailures-1] != 2*maxFailures {
		t.Errorf("%d, from %d", len(s.failed), s.failed[0])
	}
}

// TestFormed: formed and CheckPartial differ only in what is not coprime to N.
func TestFormed(t *testing.T) {
	k := thresholdtest.Key(2048, false)
	m, err := newMaker(k.Public(), threshold.RS256)
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := k.Factors()
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for _, at := range []*big.Int{new(big.Int), m.n, new(big.Int).Rsh(m.n, 1), new(big.Int).SetBytes(p.Reveal()), big.NewInt(256)} {
		for i := int64(-3); i <= 3; i++ {
			if v := new(big.Int).Add(at, big.NewInt(i)); v.Sign() >= 0 {
				y := v.FillBytes(make([]byte, 256))
				all = append(all, y, y[1:], append([]byte{0}, y...))
			}
		}
	}
	good := 0
	for _, y := range append(all, nil) {
		unit := len(y) == 0 || new(big.Int).GCD(nil, nil, new(big.Int).SetBytes(y), m.n).Cmp(big.NewInt(1)) == 0
		if got := m.formed(y); got != (m.pub.CheckPartial(y) == nil) && unit || got && !unit && new(big.Int).SetBytes(y).Cmp(new(big.Int).SetBytes(p.Reveal())) != 0 {
			t.Errorf("%x: %v, %v", y, got, m.pub.CheckPartial(y))
		} else if got {
			good++
		}
	}
	if good == 0 || !m.formed(new(big.Int).SetBytes(p.Reveal()).FillBytes(make([]byte, 256))) {
		t.Error("nothing is formed")
	}
}

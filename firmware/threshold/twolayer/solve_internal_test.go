package twolayer

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
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
		var failed []failure
		tries := 0
		for {
			var try match
			try, left = nextTry(left, failed, k)
			if tries++; try.machines&liars == 0 {
				break
			}
			failed = append(failed, failure{match: try})
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

// TestMachines: only combinations whose calculators all answered match.
func TestMachines(t *testing.T) {
	c := grouping.Combination{{Calculator: 2, Key: 1}, {Calculator: 9, Key: 2}}
	m := matching([]grouping.Combination{c, {{Calculator: 3, Key: 1}}}, []Powers{{Calculator: 9}, {Calculator: 1}, {Calculator: 2}})
	if len(m) != 1 || m[0].part != 0 || m[0].machines != 0b101 {
		t.Errorf("%+v", m)
	}
}

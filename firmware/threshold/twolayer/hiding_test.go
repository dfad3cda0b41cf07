package twolayer_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// coalition is who works together in a test.
type coalition struct {
	combiners, calculators []uint64
}

// rows are the combinations that they know.
func (c coalition) rows(g *grouping.Grouping) []grouping.Combination {
	var rows []grouping.Combination
	for _, group := range g.Combiners {
		if slices.Contains(c.combiners, group.Number) {
			rows = append(rows, group.Combinations...)
		}
	}
	return rows
}

// promised lists the coalitions that a grouping has to resist.
func promised(g *grouping.Grouping) []coalition {
	var all []uint64
	for _, group := range g.Combiners {
		all = append(all, group.Number)
	}
	list := []coalition{{nil, g.Calculators}, {all, nil}}
	for mask := range uint(1) << len(g.Calculators) {
		var few []uint64
		for i, j := range g.Calculators {
			if mask>>i&1 == 1 {
				few = append(few, j)
			}
		}
		if len(few) != int(g.T)-1 {
			continue
		}
		list = append(list, coalition{nil, few})
		for _, c := range all {
			list = append(list, coalition{[]uint64{c}, few})
		}
	}
	return list
}

// view is all that a coalition sees of a toy dealing.
func view(g *grouping.Grouping, c coalition, keys, parts []int64) string {
	var seen []int64
	for i, j := range g.Calculators {
		if slices.Contains(c.calculators, j) {
			seen = append(seen, keys[i*int(g.L):(i+1)*int(g.L)]...)
		}
	}
	for _, group := range g.Combiners {
		if slices.Contains(c.combiners, group.Number) {
			seen = append(seen, parts[:len(group.Combinations)]...)
		}
		parts = parts[len(group.Combinations):]
	}
	return fmt.Sprint(seen)
}

// toyKey is an RSA key so small that all dealings of it can be counted. Its
// exponent is small compared with N, as that of a real key is.
type toyKey struct {
	n, e, d int64
	half    int   // bits of a factor
	public  int64 // D: what everyone who guesses kappa takes d for
}

// toyKeys lists all keys of two primes of half bits with N of exactly twice as
// many.
func toyKeys(half int, e int64) []toyKey {
	var list []toyKey
	for p := int64(1) << (half - 1); p < 1<<half; p++ {
		for q := p + 1; q < 1<<half; q++ {
			n, phi := p*q, (p-1)*(q-1)
			if !big.NewInt(p).ProbablyPrime(0) || !big.NewInt(q).ProbablyPrime(0) || n>>(2*half-1) == 0 {
				continue
			}
			d := new(big.Int).ModInverse(big.NewInt(e), big.NewInt(phi))
			if d == nil {
				continue
			}
			kappa := (e*d.Int64() - 1) / phi
			low, high := 2*math.Sqrt(float64(n)), float64(int64(1)<<half)+float64(n)/float64(int64(1)<<half)
			middle := (1 + float64(kappa)*(float64(n)+1-(low+high)/2)) / float64(e)
			list = append(list, toyKey{n, e, d.Int64(), half, int64(math.Round(middle))})
		}
	}
	return list
}

// TestPublicHalf: with e and kappa, everyone knows d up to 2^(|N|/2 − 4.5) + 1,
// and without kappa he has e − 1 guesses.
func TestPublicHalf(t *testing.T) {
	for half := 5; half <= 8; half++ {
		var furthest float64
		for _, e := range []int64{3, 5, 17, 257} {
			for _, k := range toyKeys(half, e) {
				furthest = max(furthest, math.Abs(float64(k.d-k.public)))
			}
		}
		if limit := math.Exp2(float64(half)-4.5) + 1; furthest == 0 || furthest > limit {
			t.Errorf("factors of %d bits: d is up to %g from what is public, not %g", half, furthest, limit)
		}
	}
}

// bound is the distance that [twolayer.Hiding] states, for any numbers: of what
// a coalition sees of d and of d + delta, with sub-keys of so many bits.
func bound(u map[grouping.Term]int64, delta int64, bits int) float64 {
	var sum float64
	for _, x := range u {
		sum += math.Abs(float64(x))
	}
	return min(1, sum*math.Abs(float64(delta))/math.Exp2(float64(bits)))
}

// counted is how often a coalition sees what, over all choices of the sub-keys.
// The known sub-keys only move what is seen, whatever d is, and are left at 0.
type counted struct {
	of    map[int64]int32 // by the row sums d − c_a, as digits of one number
	total float64
	one   int64 // what another exponent, larger by 1, adds to that number
}

// count goes through all dealings with sub-keys of so many bits. It returns
// false if they are more than 2^limit.
func count(g *grouping.Grouping, c coalition, bits, limit int, maxDelta int64) (counted, bool) {
	place := map[grouping.Term]int{}
	var rows [][]int
	for _, row := range c.rows(g) {
		var unknown []int
		for _, term := range row {
			if slices.Contains(c.calculators, term.Calculator) {
				continue
			}
			if _, ok := place[term]; !ok {
				place[term] = len(place)
			}
			unknown = append(unknown, place[term])
		}
		rows = append(rows, unknown)
	}
	v := len(place)
	if v*bits > limit {
		return counted{}, false
	}
	base := int64(g.T)<<bits + maxDelta + 1 // no carry from one row to the next
	n := counted{of: map[int64]int32{}, total: math.Exp2(float64(v * bits))}
	for range rows {
		if n.one > math.MaxInt64/base/2 {
			return counted{}, false
		}
		n.one = n.one*base + 1
	}
	for all := range int64(1) << (v * bits) {
		var cell int64
		for _, row := range rows {
			var s int64
			for _, i := range row {
				s += all >> (i * bits) & (1<<bits - 1)
			}
			cell = cell*base + s
		}
		n.of[cell]++
	}
	return n, true
}

// distance is the statistical distance of what is seen of d and of d + delta.
func (n counted) distance(delta int64) float64 {
	var apart int64
	for cell, times := range n.of {
		// One side suffices: both add up to the same.
		apart += max(0, int64(times-n.of[cell+delta*n.one]))
	}
	return float64(apart) / n.total
}

// pair is the smallest grouping: one combiner, two calculators, both needed.
func pair() grouping.Grouping {
	return grouping.Grouping{T: 2, L: 1, Calculators: []uint64{1, 2}, Combiners: []grouping.Group{group(1, "11,21")}}
}

// threes has t = 3, so that two calculators may fall with a combiner.
func threes() grouping.Grouping {
	return grouping.Grouping{T: 3, L: 1, Calculators: []uint64{1, 2, 3}, Combiners: []grouping.Group{group(1, "11,21,31"), group(2, "11,21,31")}}
}

// TestDistance counts all dealings of small sub-keys and measures what every
// promised coalition sees of two exponents: it meets the stated bound, for any
// distance of the exponents and any length of the sub-keys.
func TestDistance(t *testing.T) {
	for name, g := range map[string]grouping.Grouping{
		"t=2 of 2": pair(), "t=3 of 3": threes(), "t=2 of 3, l=2": twoOfThree(), "printed example": printed(),
	} {
		for _, c := range promised(&g) {
			u, err := twolayer.Shift(c.rows(&g), c.calculators)
			if err != nil {
				t.Fatalf("%s, %+v: %v", name, c, err)
			}
			measured := 0
			for bits := 1; bits <= 10; bits++ {
				most := int64(1) << (bits - 1)
				n, ok := count(&g, c, bits, 16, most)
				if !ok {
					break
				}
				for delta := int64(1); delta <= most; delta *= 2 {
					got, limit := n.distance(delta), bound(u, delta, bits)
					if measured++; got > limit {
						t.Errorf("%s, sub-keys of %d bits, %+v, exponents %d apart: distance %.4f, stated %.4f", name, bits, c, delta, got, limit)
					}
					if len(c.combiners) == 0 && got != 0 {
						t.Errorf("%s: calculators %d alone see something of d", name, c.calculators)
					}
				}
			}
			if measured == 0 {
				t.Errorf("%s, %+v: nothing measured", name, c)
			}
		}
	}
}

// TestSlack measures what coalitions see of every toy key of a size, beside what
// they see if D, which is public, is dealt in place of d: with sub-keys of half the
// length of N and some slack the distance is below |u|·2^(−slack−4) and a half of
// the last place, which is what [twolayer.Hiding] states for 128 bits of it.
func TestSlack(t *testing.T) {
	const half = 7
	keys := toyKeys(half, 17)
	if len(keys) < 20 {
		t.Fatalf("%d keys", len(keys))
	}
	for name, g := range map[string]grouping.Grouping{"t=2 of 2": pair(), "t=3 of 3": threes()} {
		for _, c := range promised(&g) {
			u, err := twolayer.Shift(c.rows(&g), c.calculators)
			if err != nil {
				t.Fatal(err)
			}
			for slack := 0; slack <= 6; slack += 2 {
				n, ok := count(&g, c, half+slack, 16, 1<<half)
				if !ok {
					continue
				}
				for _, k := range keys {
					limit := bound(u, 1, slack+4) + bound(u, 1, half+slack)
					if got := n.distance(k.d - k.public); got > limit {
						t.Errorf("%s, %+v, N = %d, %d bits of slack: distance %.4f, stated %.4f", name, c, k.n, slack, got, limit)
					}
				}
			}
		}
	}
}

// TestTooShort: sub-keys of exactly half the length of N, as in B [0063], or with
// less slack than planned, fail the measure that those with the planned slack
// meet, for two exponents with one public half.
func TestTooShort(t *testing.T) {
	g, c := pair(), coalition{[]uint64{1}, []uint64{2}}
	const half, planned = 8, 6
	delta := int64(22) // 2^(half − 3.5), rounded down
	measure := func(slack int) float64 {
		n, ok := count(&g, c, half+slack, 16, delta)
		if !ok {
			t.Fatal("too many")
		}
		return n.distance(delta)
	}
	limit := math.Exp2(-planned - 3)
	if got := measure(planned); got == 0 || got > limit {
		t.Errorf("with %d bits of slack: distance %g, more than %g", planned, got, limit)
	}
	for slack := range planned {
		if got := measure(slack); got <= limit {
			t.Errorf("with %d bits of slack the measure is met: %g", slack, got)
		}
	}
	if got, exact := measure(0), float64(delta)/256; got != exact {
		t.Errorf("with no slack: distance %g, not %g", got, exact)
	}
}

// TestDistanceCounts compares the counting with the dealer's own code, fed with
// every stream of random bytes: the same distribution of what is seen, and of both
// exponents the same for calculators alone.
func TestDistanceCounts(t *testing.T) {
	const bits, d, delta = 4, 200, 3
	g := threes()
	for _, c := range promised(&g) {
		var seen [2]map[string]int
		for i := range seen {
			seen[i] = map[string]int{}
			for all := range 1 << (3 * bits) {
				stream := []byte{byte(all & 15), byte(all >> 4 & 15), byte(all >> 8)}
				keys, parts, err := twolayer.Toy(bytes.NewReader(stream), d+int64(i*delta), bits, g)
				if err != nil {
					t.Fatal(err)
				}
				seen[i][view(&g, c, keys, parts)]++
			}
		}
		apart := 0
		for v, n := range seen[0] {
			apart += max(0, n-seen[1][v])
		}
		n, ok := count(&g, c, bits, 16, delta)
		if !ok {
			t.Fatal("too many")
		}
		if got, want := n.distance(delta), float64(apart)/(1<<(3*bits)); got != want {
			t.Errorf("%+v: counted %g, dealt %g", c, got, want)
		}
	}
}

// TestToyDealer: the dealer's sub-keys are what the stream says, masked to their
// length, and every combination adds up to d.
func TestToyDealer(t *testing.T) {
	g := twoOfThree()
	keys, parts, err := twolayer.Toy(bytes.NewReader(bytes.Repeat([]byte{0xff, 0xfe}, 6)), 5000, 10, g)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if key != 0x3fe {
			t.Errorf("sub-key %#x", key)
		}
	}
	for _, part := range parts {
		if part != 5000-2*0x3fe {
			t.Errorf("part %d", part)
		}
	}
	if _, _, err := twolayer.Toy(bytes.NewReader(make([]byte, 11)), 5000, 10, g); err == nil {
		t.Error("dealt without randomness")
	}
}

// TestShift: whatever the rows, either u is a solution, or the coalition does
// learn something, by the rank over the rationals and modulo primes.
func TestShift(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, l := rapid.Uint64Range(1, 6).Draw(t, "k"), rapid.Uint64Range(1, 3).Draw(t, "l")
		size := rapid.Uint64Range(1, k).Draw(t, "t")
		g := grouping.Grouping{T: size, L: l, Combiners: []grouping.Group{{Number: 1}}}
		for j := range k {
			g.Calculators = append(g.Calculators, j+1)
		}
		for range rapid.IntRange(1, 8).Draw(t, "rows") {
			var c grouping.Combination
			for _, j := range rapid.Permutation(g.Calculators).Draw(t, "calculators")[:size] {
				c = append(c, grouping.Term{Calculator: j, Key: rapid.Uint64Range(1, l).Draw(t, "key")})
			}
			slices.SortFunc(c, func(a, b grouping.Term) int { return int(a.Calculator) - int(b.Calculator) })
			if !slices.ContainsFunc(g.Combiners[0].Combinations, func(x grouping.Combination) bool { return slices.Equal(x, c) }) {
				g.Combiners[0].Combinations = append(g.Combiners[0].Combinations, c)
			}
		}
		known := rapid.Permutation(g.Calculators).Draw(t, "known")[:rapid.IntRange(0, int(size)-1).Draw(t, "s")]
		rows := g.Combiners[0].Combinations
		u, err := twolayer.Shift(rows, known)
		if nothing, what := learnsNothing(rows, known); nothing != (err == nil) {
			t.Fatalf("%v, known %d: %v, but by ranks they learn %q", rows, known, err, what)
		}
		if gain := g.Gain([]uint64{1}, known); gain.Nothing() != (err == nil) {
			t.Fatalf("%v, known %d: %v, but package grouping says %v", rows, known, err, gain)
		}
		if err != nil {
			if !errors.Is(err, twolayer.ErrLearns) {
				t.Fatal(err)
			}
			return
		}
		for _, row := range rows {
			var sum int64
			for _, term := range row {
				if u[term] != 0 && slices.Contains(known, term.Calculator) {
					t.Fatalf("%v moves a known sub-key", u)
				}
				sum += u[term]
			}
			if sum != 1 {
				t.Fatalf("%v: sum over %v is %d", u, row, sum)
			}
		}
	})
}

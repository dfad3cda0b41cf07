package twolayer_test

import (
	"math/big"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// robbers are machines whose shares somebody has: parts c_a of the combiners,
// sub-keys of the calculators.
type robbers struct {
	s         *system
	coalition coalition
	unknown   map[grouping.Term]int
	rows      [][]int64  // of unknown sub-keys, one for each part
	known     []*big.Int // c_a + Σ of the sub-keys they have = d − Σ of the others
}

func (s *system) rob(c coalition) *robbers {
	r := &robbers{s: s, coalition: c, unknown: map[grouping.Term]int{}}
	number := func(d threshold.Secret) *big.Int { return new(big.Int).SetBytes(d.Reveal()) }
	for i, g := range s.dealing.Public.Grouping.Combiners {
		if !slices.Contains(c.combiners, g.Number) {
			continue
		}
		for j, a := range g.Combinations {
			sum := number(s.dealing.Combiners[i].Parts[j])
			var row []int
			for _, term := range a {
				if slices.Contains(c.calculators, term.Calculator) {
					at := slices.Index(s.dealing.Public.Grouping.Calculators, term.Calculator)
					sum.Add(sum, number(s.dealing.Calculators[at].Keys[term.Key-1]))
					continue
				}
				if _, ok := r.unknown[term]; !ok {
					r.unknown[term] = len(r.unknown)
				}
				row = append(row, r.unknown[term])
			}
			full := make([]int64, 32)
			for _, x := range row {
				full[x] = 1
			}
			r.rows, r.known = append(r.rows, full), append(r.known, sum)
		}
	}
	return r
}

// exponent solves the equations for d as anybody would, by elimination over the
// rationals; nil if d stays open.
func (r *robbers) exponent() *big.Int {
	type equation struct {
		of     []*big.Int // unknown sub-keys, then d
		equals *big.Int
	}
	var all []equation
	for i, row := range r.rows {
		e := equation{equals: new(big.Int).Set(r.known[i])}
		for _, x := range row {
			e.of = append(e.of, big.NewInt(-x))
		}
		e.of = append(e.of, big.NewInt(1))
		all = append(all, e)
	}
	for column := range 32 {
		at := slices.IndexFunc(all, func(e equation) bool { return e.of[column].Sign() != 0 })
		if at < 0 {
			continue
		}
		pivot := all[at]
		all = slices.Delete(all, at, at+1)
		for _, e := range all {
			p, q := new(big.Int).Set(pivot.of[column]), new(big.Int).Set(e.of[column])
			cross := func(x, y *big.Int) { x.Sub(x.Mul(x, p), new(big.Int).Mul(y, q)) }
			for i := range e.of {
				cross(e.of[i], pivot.of[i])
			}
			cross(e.equals, pivot.equals)
		}
	}
	for _, e := range all { // without unknown sub-keys now
		if c := e.of[32]; c.Sign() != 0 {
			return new(big.Int).Quo(e.equals, c)
		}
	}
	return nil
}

// parity adds equations up modulo 2 until the unknown sub-keys cancel, and is
// the last bit of d, or −1.
func (r *robbers) parity() int {
	type equation struct {
		of    uint32
		count uint // of d
		bit   uint
	}
	var all []equation
	for i, row := range r.rows {
		e := equation{count: 1, bit: r.known[i].Bit(0)}
		for j, x := range row {
			e.of |= uint32(x) << j
		}
		all = append(all, e)
	}
	for column := range 32 {
		at := slices.IndexFunc(all, func(e equation) bool { return e.of>>column&1 == 1 })
		if at < 0 {
			continue
		}
		pivot := all[at]
		all = slices.Delete(all, at, at+1)
		for i := range all {
			if all[i].of>>column&1 == 1 {
				all[i].of ^= pivot.of
				all[i].count ^= pivot.count
				all[i].bit ^= pivot.bit
			}
		}
	}
	for _, e := range all {
		if e.count == 1 {
			return int(e.bit)
		}
	}
	return -1
}

// TestCoalitionsTry has all 255 coalitions of the printed example take each
// other's shares, of a key of 2048 bits, and solve for d. Whom the collusion
// table promises nothing gets nothing; whom it says to learn d gets d, and signs
// with it; and who learns d mod 2 gets that.
func TestCoalitionsTry(t *testing.T) {
	s := deal(t, printed())
	g := &s.dealing.Public.Grouping
	digest, em := message(t, threshold.RS256, "not approved by anybody", s.pub.Bits())
	n := new(big.Int).SetBytes(s.pub.N)
	signs := func(d *big.Int) bool {
		y := new(big.Int).Exp(new(big.Int).SetBytes(em), d, n)
		return threshold.VerifySignature(s.pub, threshold.RS256, digest, y.FillBytes(make([]byte, s.pub.Len()))) == nil
	}
	var d *big.Int
	whole, residue, nothing := 0, 0, 0
	for set := 1; set < 1<<8; set++ {
		var c coalition
		for i := range 8 {
			switch {
			case set>>i&1 == 0:
			case i < 5:
				c.calculators = append(c.calculators, uint64(i+1))
			default:
				c.combiners = append(c.combiners, uint64(i-4))
			}
		}
		gain := g.Gain(c.combiners, c.calculators)
		r := s.rob(c)
		got, bit := r.exponent(), r.parity()
		switch {
		case gain.Whole():
			whole++
			if d == nil && got != nil {
				if d = got; !signs(d) {
					t.Fatalf("%+v: what they found does not sign", c)
				}
			}
			if got == nil || got.Cmp(d) != 0 {
				t.Errorf("%+v learn d by the table, and did not find it", c)
			}
		case gain.Nothing():
			nothing++
			if got != nil || bit >= 0 {
				t.Errorf("%+v learn nothing by the table, and found %v, last bit %d", c, got, bit)
			}
		default:
			residue++
			if got != nil || bit != 1 {
				t.Errorf("%+v learn %v by the table, and found %v, last bit %d", c, gain, got, bit)
			}
		}
		if len(c.combiners) == 1 && len(c.calculators) < 3 || len(c.combiners) == 0 || len(c.calculators) == 0 {
			if !gain.Nothing() {
				t.Errorf("%+v learn %v", c, gain)
			}
		}
	}
	t.Logf("d: %d coalitions, a residue: %d, nothing: %d", whole, residue, nothing)
	if whole == 0 || residue == 0 || nothing == 0 {
		t.Error("the example has coalitions of every kind")
	}
}

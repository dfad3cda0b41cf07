package twolayer_test

import (
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// combination reads "11,22,31" as B prints it.
func combination(text string) grouping.Combination {
	var c grouping.Combination
	for _, b := range []byte(text) {
		if b == ',' {
			continue
		}
		if n := len(c); n > 0 && c[n-1].Key == 0 {
			c[n-1].Key = uint64(b - '0')
		} else {
			c = append(c, grouping.Term{Calculator: uint64(b - '0')})
		}
	}
	return c
}

func group(number uint64, combinations ...string) grouping.Group {
	g := grouping.Group{Number: number}
	for _, text := range combinations {
		g.Combinations = append(g.Combinations, combination(text))
	}
	return g
}

// twoOfThree is a safe grouping of k = 3, t = 2, l = 2, m = 2, each combiner with
// every machine set.
func twoOfThree() grouping.Grouping {
	return grouping.Grouping{T: 2, L: 2, Calculators: []uint64{1, 2, 3}, Combiners: []grouping.Group{
		group(1, "11,21", "12,31", "22,32"),
		group(2, "12,22", "11,32", "21,31"),
	}}
}

// system is a dealing with the key that was dealt.
type system struct {
	t       testing.TB
	whole   *threshold.WholeKey
	pub     *threshold.PublicKey
	dealing *twolayer.Dealing
}

var key = sync.OnceValue(func() *threshold.WholeKey { return thresholdtest.Key(2048, true) })

func deal(t testing.TB, g grouping.Grouping) *system {
	t.Helper()
	d, err := twolayer.Deal(rand.Reader, key(), g)
	if err != nil {
		t.Fatal(err)
	}
	return &system{t, key(), key().Public(), d}
}

func message(t testing.TB, alg threshold.Algorithm, text string, bits int) (digest, em []byte) {
	t.Helper()
	h := alg.Hash().New()
	h.Write([]byte(text))
	digest = h.Sum(nil)
	var salt []byte
	if alg.PSS() {
		salt = make([]byte, alg.Hash().Size())
	}
	em, err := threshold.Encode(alg, digest, salt, bits)
	if err != nil {
		t.Fatal(err)
	}
	return digest, em
}

func (s *system) power(x []byte, d threshold.Secret) []byte {
	s.t.Helper()
	e, err := twolayer.NewExponentiator(s.pub, d)
	if err != nil {
		s.t.Fatal(err)
	}
	y, err := twolayer.Power(s.pub, x, e)
	if err != nil {
		s.t.Fatal(err)
	}
	return y
}

// powers are what the calculators of the given numbers send.
func (s *system) powers(x []byte, calculators ...uint64) []twolayer.Powers {
	s.t.Helper()
	var all []twolayer.Powers
	for _, share := range s.dealing.Calculators {
		if !slices.Contains(calculators, share.Number) {
			continue
		}
		p := twolayer.Powers{Calculator: share.Number}
		for _, d := range share.Keys {
			p.Y = append(p.Y, s.power(x, d))
		}
		all = append(all, p)
	}
	return all
}

// solve lets the combiner in the given place work.
func (s *system) solve(alg threshold.Algorithm, digest, x []byte, combiner int, powers []twolayer.Powers) (*twolayer.Solution, error) {
	s.t.Helper()
	share := s.dealing.Combiners[combiner]
	return twolayer.Solve(s.pub, alg, digest, &s.dealing.Public, share.Number, powers, func(part int) ([]byte, error) {
		return s.power(x, share.Parts[part]), nil
	})
}

func TestEveryMachineSetSigns(t *testing.T) {
	s := deal(t, twoOfThree())
	for _, alg := range threshold.Algorithms() {
		digest, em := message(t, alg, "document", s.pub.Bits())
		for _, set := range [][]uint64{{1, 2}, {1, 3}, {2, 3}} {
			for combiner := range 2 {
				sol, err := s.solve(alg, digest, em, combiner, s.powers(em, set...))
				if err != nil {
					t.Fatalf("%s, %d, combiner %d: %v", alg, set, combiner+1, err)
				}
				if err := threshold.VerifySignature(s.pub, alg, digest, sol.Signature); err != nil {
					t.Error(err)
				}
				if got := sol.Combination.Calculators(); fmt.Sprint(got) != fmt.Sprint(set) || len(sol.Wrong)+len(sol.Suspects) > 0 {
					t.Errorf("%s, %d, combiner %d: %+v", alg, set, combiner+1, sol)
				}
			}
		}
	}
}

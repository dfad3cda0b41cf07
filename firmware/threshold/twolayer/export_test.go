package twolayer

import (
	"io"
	"math/big"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// Shift is shift, with u by term.
func Shift(rows []grouping.Combination, known []uint64) (map[grouping.Term]int64, error) {
	u, err := shift(rows, known)
	if err != nil {
		return nil, err
	}
	m := map[grouping.Term]int64{}
	for i, term := range u.terms {
		m[term] = u.values[i]
	}
	return m, nil
}

// Toy deals d with sub-keys of so many bits and returns the sub-keys, in order,
// and the parts of all combinations.
func Toy(rand io.Reader, d int64, bits int, g grouping.Grouping) (keys, parts []int64, err error) {
	s := &secrets{big.NewInt(d), map[grouping.Term]*big.Int{}}
	if err := s.draw(rand, g.Calculators, g.L, bits); err != nil {
		return nil, nil, err
	}
	for _, j := range g.Calculators {
		for i := range g.L {
			keys = append(keys, s.keys[grouping.Term{Calculator: j, Key: i + 1}].Int64())
		}
	}
	for _, group := range g.Combiners {
		for _, c := range group.Combinations {
			parts = append(parts, s.part(c).Int64())
		}
	}
	return keys, parts, nil
}

// CheckHiding is checkHiding of a grouping.
func CheckHiding(g *grouping.Grouping) error { return checkHiding(g.T, g.Combiners, g.Calculators) }

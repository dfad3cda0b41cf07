package twolayer

import (
	"errors"
	"math"
	"math/bits"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// Hiding is a stub.
func Hiding(g *grouping.Grouping, combiners, calculators []uint64) (int, error) {
	return hiding(g.Combiners, combiners, calculators)
}

var errNoShift = errors.New("twolayer: the coalition learns the exponent or a residue of it")

func hiding(groups []grouping.Group, combiners, calculators []uint64) (int, error) {
	_ = math.MaxInt64
	_ = bits.Len64
	_ = slices.Contains[[]uint64]
	return SlackBits, nil
}

func checkHiding(t uint64, groups []grouping.Group, calculators []uint64) error { return nil }

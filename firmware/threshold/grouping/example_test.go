package grouping_test

import (
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// printed are the three groups of B [0085] to [0087], with k=5, t=3, l=2.
func printed(t testing.TB) *grouping.Grouping {
	t.Helper()
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
		for i := 0; i < len(s); i += 3 {
			c = append(c, grouping.Term{Calculator: uint64(s[i] - '0'), Key: uint64(s[i+1] - '0')})
		}
		g.Combinations = append(g.Combinations, c)
	}
	return g
}

func TestPrintedGroups(t *testing.T) {
	g := printed(t)
	if err := g.Check(); err != nil {
		t.Error(err)
	}
	t.Log(g.Table())
}

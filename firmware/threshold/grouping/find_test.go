package grouping_test

import (
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

func TestFind(t *testing.T) {
	for k := uint64(1); k <= 7; k++ {
		for n := uint64(1); n <= k; n++ {
			g, err := grouping.Find(grouping.Params{K: k, T: n}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := g.Check(); err != nil {
				t.Errorf("k=%d t=%d: %v", k, n, err)
			}
		}
	}
}

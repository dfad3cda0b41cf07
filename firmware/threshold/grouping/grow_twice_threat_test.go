package grouping_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// TestTwoExtensionsTellMoreThanOne: two extensions of one grouping, each of them
// safe, need not be so together: whoever got shares of one that never came into
// force, and of the one that did, counts for both. It is a limit, and people are
// told of it (dealing.Prepared.Warnings, docs/threat-model.md).
func TestTwoExtensionsTellMoreThanOne(t *testing.T) {
	base := found(t, grouping.Params{K: 5, T: 3, M: 3})
	grow := func(calculators, combiners []uint64, redundant uint64) *grouping.Grouping {
		t.Helper()
		g, err := base.Grow(calculators, combiners, grouping.Params{Redundant: redundant, Budget: 1 << 15, Dealt: []*grouping.Grouping{base}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	one, two := grow(nil, []uint64{4}, 0), grow(nil, []uint64{4}, 1)
	var unsafe *grouping.UnsafeError
	if err := two.CheckBeside([]*grouping.Grouping{base, one}); !errors.As(err, &unsafe) || !slices.Equal(unsafe.Combiners, []uint64{4}) || len(unsafe.Calculators) >= 3 {
		t.Errorf("combiner 4 with the combinations of both: %v", err)
	}

	// The same plan again finds the same combinations, and draws other sub-keys for
	// a new calculator: as if it were two. That tells nobody more than once.
	once, again := grow([]uint64{6}, []uint64{4}, 1), grow([]uint64{6}, []uint64{4}, 1)
	if len(once.Combiners) != len(again.Combiners) {
		t.Fatal("a search is not repeatable")
	}
	for i := range again.Combiners {
		for j, c := range again.Combiners[i].Combinations {
			if c.String() != once.Combiners[i].Combinations[j].String() {
				t.Fatalf("%v was %v", c, once.Combiners[i].Combinations[j])
			}
			if at := slices.IndexFunc(c, func(x grouping.Term) bool { return x.Calculator == 6 }); at >= 0 {
				c[at].Calculator = 7
			}
		}
	}
	again.Calculators[slices.Index(again.Calculators, 6)] = 7
	if err := once.CheckBeside([]*grouping.Grouping{base, again}); err != nil {
		t.Error(err)
	}
	if _, err := base.Grow(nil, []uint64{4}, grouping.Params{Redundant: 1, Budget: 1 << 15, Dealt: []*grouping.Grouping{base, one}}, nil); err != nil {
		t.Errorf("a search that knows of the one finds another that is safe beside it: %v", err)
	}
}

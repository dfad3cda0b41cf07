package grouping_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

func TestSmallest(t *testing.T) {
	for _, test := range []struct {
		k, t, c, s uint64
		l, m       uint64
		proven     bool
		reason     string
	}{
		{4, 4, 0, 0, 1, 1, true, "less than one"},
		{4, 1, 0, 0, 1, 1, true, "less than one"},
		{3, 2, 0, 0, 2, 1, true, "with one sub-key each"},
		{4, 3, 0, 0, 2, 1, true, "with one sub-key each"},
		{5, 2, 0, 0, 2, 2, true, "a complete search"},
		{5, 3, 0, 0, 2, 2, true, "a complete search"}, // "at least two", B [0088]
		{5, 4, 0, 0, 2, 2, true, "a complete search"},
		{6, 3, 0, 0, 2, 2, true, "k=5 already"},
		{6, 5, 0, 0, 2, 2, true, "by counting"},
		{7, 3, 0, 0, 2, 3, false, "2 searched and not found"},
		{5, 3, 2, 1, 2, 2, true, "a complete search"},
		{5, 3, 2, 2, 2, 3, true, "l=2 m=2: all combiners together would be like one"},
	} {
		r, err := grouping.Smallest(test.k, test.t, test.c, test.s, 1<<18, nil)
		if err != nil {
			t.Errorf("%+v: %v", test, err)
			continue
		}
		if err := r.Grouping.Check(); err != nil {
			t.Errorf("%+v: %v", test, err)
		}
		if test.c > 0 {
			if err := r.Grouping.CheckAgainst(test.c, test.s); err != nil {
				t.Errorf("%+v: %v", test, err)
			}
		}
		if r.L != test.l || r.M != test.m || r.Grouping.L != r.L || len(r.Grouping.Combiners) != int(r.M) || r.Proven != test.proven || !strings.Contains(r.Reason, test.reason) {
			t.Errorf("%+v: l=%d m=%d %v: %s", test, r.L, r.M, r.Proven, r.Reason)
		}
	}
	if r, err := grouping.Smallest(5, 3, 1, 3, 1<<10, nil); err == nil {
		t.Error(r)
	}
}

// TestSearchAll: whatever is asked has an answer within the budget, and it is
// true: a grouping that does what was asked, or what was tried in vain.
func TestSearchAll(t *testing.T) {
	const budget = 1 << 11
	found := 0
	for k := uint64(1); k <= grouping.MaxCalculators; k++ {
		for n := uint64(1); n <= k; n++ {
			for _, c := range []uint64{1, 2} {
				p := grouping.Params{K: k, T: n, Budget: budget}
				if c == 2 {
					if p.Combiners, p.Calculators = 2, 1; n < 2 || k%4 != 3 {
						continue
					}
				}
				r, err := grouping.Search(p, nil, nil)
				var missed *grouping.NotFoundError
				switch {
				case errors.As(err, &missed):
					if len(missed.Open) == 0 || missed.Open[len(missed.Open)-1].L != grouping.MaxKeys || !strings.Contains(err.Error(), "looked") && !strings.Contains(err.Error(), "searched") {
						t.Errorf("%v: %v", p, err)
					}
					if k < 12 && c == 1 {
						t.Errorf("%v: none found", p)
					}
				case err != nil:
					t.Errorf("%v: %v", p, err)
				default:
					found++
					// What is under way when the budget is used up is finished: a change, or
					// a combination beside all coalitions.
					if r.Used > budget+1<<14 {
						t.Errorf("%v: %d steps, and %d were allowed", p, r.Used, budget)
					}
					if r.Proven == (len(r.Open) > 0) && r.L < 3 || r.Proven && len(r.Open) > 0 || r.Reason == "" {
						t.Errorf("%v: proven: %v, open: %v: %s", p, r.Proven, r.Open, r.Reason)
					}
					if k > 9 {
						continue // Find has checked it: once more takes long
					}
					if err := r.Grouping.Check(); err != nil {
						t.Errorf("%v: %v", p, err)
					}
					if err := r.Grouping.CheckAgainst(c, min(p.Calculators, n-1)); err != nil {
						t.Errorf("%v: %v", p, err)
					}
				}
			}
		}
	}
	if found < 120 {
		t.Errorf("only %d found", found)
	}
}

// TestSearchAgain: the same question has the same answer.
func TestSearchAgain(t *testing.T) {
	for _, p := range []grouping.Params{{K: 12, T: 6}, {K: 9, T: 4, Combiners: 2, Calculators: 1}, {K: 9, T: 5, M: 7}, {K: 8, T: 4, L: 3, Redundant: 2}, {K: 7, T: 3, Spare: 1}} {
		p.Budget = 1 << 14
		var last grouping.Progress
		r, err := grouping.Search(p, nil, func(x grouping.Progress) {
			if x.Step < last.Step || x.Budget != p.Budget || last.FoundL > 0 && (x.FoundL > last.FoundL || x.FoundL == last.FoundL && x.FoundM > last.FoundM) {
				t.Errorf("%v: %+v after %+v", p, x, last)
			}
			last = x
		})
		if err != nil {
			t.Errorf("%v: %v", p, err)
			continue
		}
		if last.FoundL != r.L || last.FoundM != r.M || p.L > 0 && r.L != p.L || p.M > 0 && r.M != p.M || r.Grouping.Spare() < p.Spare {
			t.Errorf("%v: l=%d m=%d after %+v", p, r.L, r.M, last)
		}
		again, err := grouping.Search(p, nil, nil)
		if err != nil || fmt.Sprint(again.Grouping) != fmt.Sprint(r.Grouping) || again.Reason != r.Reason || again.Used != r.Used {
			t.Errorf("%v: another answer: %v", p, err)
		}
	}
}

// TestSearchStops: who wants no more has what was found until then.
func TestSearchStops(t *testing.T) {
	p := grouping.Params{K: 12, T: 6, Budget: 1 << 24}
	var got bool
	r, err := grouping.Search(p, func() bool { return got }, func(x grouping.Progress) { got = got || x.FoundL > 0 && x.FoundL < 8 })
	if err != nil || !r.Stopped || r.Proven || len(r.Open) == 0 || r.Grouping.Check() != nil {
		t.Errorf("%+v, %v", r, err)
	}
	var missed *grouping.NotFoundError
	if r, err := grouping.Search(p, func() bool { return true }, nil); !errors.As(err, &missed) || !slices.ContainsFunc(missed.Open, func(o grouping.Open) bool { return o.Searched == 0 }) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestSearchNothing(t *testing.T) {
	for _, test := range []struct {
		grouping.Params
		reason string
	}{
		{grouping.Params{K: 5, T: 3, L: 1, M: 10}, "cannot be had: with one sub-key each"},
		{grouping.Params{K: 5, T: 3, L: 1}, "for no number up to 1 sub-keys and 15 combiners; the last reason: l=1 m=15: with one"},
		{grouping.Params{K: 5, T: 3, L: 2, M: 1}, "a complete search finds none"},
		{grouping.Params{K: 3, T: 4}, "4 calculators are needed"},
	} {
		test.Budget = 1 << 16
		r, err := grouping.Search(test.Params, nil, nil)
		var impossible *grouping.ImpossibleError
		if !errors.As(err, &impossible) || !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%v: %+v, %v", test.Params, r, err)
		}
	}
	// No method goes so far, however many steps are left.
	_, err := grouping.Search(grouping.Params{K: 15, T: 8, L: 8, M: 3, Budget: 1 << 20}, nil, nil)
	var missed *grouping.NotFoundError
	if !errors.As(err, &missed) || missed.Reason == "" {
		t.Error(err)
	}
}

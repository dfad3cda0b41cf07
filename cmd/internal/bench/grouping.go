package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

const (
	// maxGroupingT is the largest t that is looked for at every k: more calculators
	// for each signature than that are of no use to anybody.
	maxGroupingT = 7

	// maxResistK and maxResistT bound those for which resistance against two
	// combiners is looked for: larger ones take minutes each.
	maxResistK = 8
	maxResistT = 4
)

// groupingTime is what the search for the smallest grouping took and gave.
type groupingTime struct {
	K            uint64  `json:"k"`
	T            uint64  `json:"t"`
	Combiners    uint64  `json:"combiners"`   // that learn nothing,
	Calculators  uint64  `json:"calculators"` // together with so many calculators
	L            uint64  `json:"l,omitempty"` // 0: none was found
	M            uint64  `json:"m,omitempty"`
	Combinations uint64  `json:"combinations,omitempty"`
	Largest      uint64  `json:"largest,omitempty"` // combinations of the combiner with most: so many |N| it holds
	Proven       bool    `json:"proven"`
	Reason       string  `json:"reason"`
	Find         float64 `json:"find_ms"`
	Check        float64 `json:"check_ms"`
}

// measureGroupings looks for the smallest grouping of each k and t, and for one
// against two combiners together.
func measureGroupings(ctx context.Context, f *flags, r *report) error {
	for _, g := range groupings() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		g.measure(f.steps, f.progress())
		f.tell("grouping: %s", g.line())
		r.Groupings = append(r.Groupings, g)
	}
	return nil
}

// groupings are those that are looked for.
func groupings() []groupingTime {
	var all []groupingTime
	for c, most := range map[uint64]struct{ k, t uint64 }{1: {grouping.MaxCalculators, maxGroupingT}, 2: {maxResistK, maxResistT}} {
		for k := uint64(2); k <= most.k; k++ {
			for t := uint64(2); t <= min(k, most.t); t++ {
				all = append(all, groupingTime{K: k, T: t, Combiners: c, Calculators: t - 1})
			}
		}
	}
	slices.SortFunc(all, func(a, b groupingTime) int {
		return cmp.Or(cmp.Compare(a.Combiners, b.Combiners), cmp.Compare(a.K, b.K), cmp.Compare(a.T, b.T))
	})
	return all
}

// progress says now and then what is being tried.
func (f *flags) progress() func(grouping.Progress) {
	const pause = 5 * time.Second
	next := time.Now().Add(pause)
	return func(p grouping.Progress) {
		if now := time.Now(); now.After(next) {
			next = now.Add(pause)
			f.tell("grouping: k=%d t=%d l=%d m=%d by %s: step %d of %d, %d of %d machine sets", p.K, p.T, p.L, p.M, p.Method, p.Step, p.Budget, p.Served, p.Needed)
		}
	}
}

func (g *groupingTime) measure(steps uint64, progress func(grouping.Progress)) {
	began := time.Now()
	found, err := grouping.Smallest(g.K, g.T, g.Combiners, g.Calculators, steps, progress)
	g.Find = ms(time.Since(began))
	var impossible *grouping.ImpossibleError
	switch {
	case errors.As(err, &impossible):
		g.Proven, g.Reason = true, err.Error()
		return
	case err != nil:
		g.Reason = err.Error()
		return
	}
	began = time.Now()
	err = found.Grouping.CheckAgainst(g.Combiners, g.Calculators)
	if err == nil {
		err = found.Grouping.Check()
	}
	g.Check = ms(time.Since(began))
	if err != nil {
		g.Reason = err.Error()
		return
	}
	g.L, g.M, g.Proven, g.Reason = found.L, found.M, found.Proven, found.Reason
	for _, c := range found.Grouping.Combiners {
		n := uint64(len(c.Combinations))
		g.Combinations += n
		g.Largest = max(g.Largest, n)
	}
}

// line is for whoever waits.
func (g *groupingTime) line() string {
	what := fmt.Sprintf("k=%d t=%d", g.K, g.T)
	if g.Combiners > 1 {
		what += fmt.Sprintf(" against %d combiners", g.Combiners)
	}
	if g.L == 0 {
		return fmt.Sprintf("%s: none, in %.0f ms: %s", what, g.Find, g.Reason)
	}
	return fmt.Sprintf("%s: l=%d m=%d in %.0f ms", what, g.L, g.M, g.Find)
}

func (r *report) printGroupings(b *strings.Builder) {
	if len(r.Groupings) == 0 {
		return
	}
	b.WriteString(`
Groupings of two layers: the fewest sub-keys of a calculator, l, and with these the
fewest combiners, m, that were found for each k and t. One combiner, or two together,
with any t−1 calculators learn nothing. proven: whatever is smaller was excluded;
where not, it was not found within the steps of the search.
`)
	rows := [][]string{{"k, t, combiners that learn nothing", "l", "m", "combinations", "largest", "proven", "found in ms", "checked in ms"}}
	for _, g := range r.Groupings {
		name := fmt.Sprintf("%d, %d, %d", g.K, g.T, g.Combiners)
		proven := map[bool]string{true: "yes", false: "no"}[g.Proven]
		if g.L == 0 {
			what := "not found"
			if g.Proven {
				what = "impossible"
			}
			rows = append(rows, []string{name, "–", "–", what, "", proven, fmt.Sprintf("%.1f", g.Find), ""})
			continue
		}
		rows = append(rows, []string{
			name, fmt.Sprint(g.L), fmt.Sprint(g.M), fmt.Sprint(g.Combinations), fmt.Sprint(g.Largest), proven, fmt.Sprintf("%.1f", g.Find), fmt.Sprintf("%.1f", g.Check),
		})
	}
	table(b, rows)
}

// sizeList is a flag with lengths of keys.
type sizeList []int

func (l *sizeList) String() string {
	var s []string
	for _, n := range *l {
		s = append(s, strconv.Itoa(n))
	}
	return strings.Join(s, ",")
}

func (l *sizeList) Set(s string) error {
	*l = nil
	for x := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(x)
		if err != nil || n != 2048 && n != 3072 && n != 4096 {
			return fmt.Errorf("%q is none of 2048, 3072 and 4096", x)
		}
		*l = append(*l, n)
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

func newSchemeGroup(a *app) *cobra.Command {
	var p grouping.Params
	c := &cobra.Command{
		Use:   "group --k CALCULATORS --t CALCULATORS",
		Short: "Divide the combinations of two layers among combiners, and print who learns what",
		Long: `Divide the combinations of the two-layer scheme among combiners, and print who learns
what.

Any t of k calculators sign together with a combiner that has a combination of
theirs. The table says exactly what so many combiners with so many calculators
would learn of the private exponent if they put together what they hold.

Without --l or --m the fewest sub-keys are looked for, and with these the fewest
combiners. The search takes seconds: it counts its steps, so that the same question has
the same answer, and ends with the smallest that it found when --budget is used up.
What it neither found nor excluded is said. More steps may find smaller ones: give
--budget 10 times the default, say, or --l and --m to use all steps for one pair.
Interrupted, the command prints what it found so far, and exits with 1.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.groupScheme(c.Context(), p) },
	}
	f := c.Flags()
	f.Uint64Var(&p.K, "k", 5, "calculators")
	f.Uint64Var(&p.T, "t", 3, "calculators that sign together")
	f.Uint64Var(&p.L, "l", 0, "sub-keys of a calculator (default: the fewest found)")
	f.Uint64Var(&p.M, "m", 0, "combiners (default: the fewest found)")
	f.Uint64Var(&p.Combiners, "combiners", 0, "so many combiners learn nothing (default 1)")
	f.Uint64Var(&p.Calculators, "calculators", 0, "even with so many calculators (default t-1)")
	f.Uint64Var(&p.Redundant, "redundant", 0, "further combinations that a combiner may take, against damage")
	f.Uint64Var(&p.Budget, "budget", 0, "steps that all of the search may take, of some microseconds (default: about three million)")
	return c
}

// grouped is what "scheme group" prints.
type grouped struct {
	K         uint64             `json:"k"`
	T         uint64             `json:"t"`
	L         uint64             `json:"l"`
	M         uint64             `json:"m"`
	Combiners []groupOfCombiner  `json:"combiners"`
	Proven    bool               `json:"proven_smallest"`
	Reason    string             `json:"reason,omitempty"`
	Open      []openPairs        `json:"open,omitempty"` // smaller, neither found nor excluded
	Steps     uint64             `json:"steps"`          // that the search took
	Stopped   bool               `json:"interrupted,omitempty"`
	Cells     []cellOfCoalitions `json:"table"`
	Weak      []weakCoalition    `json:"weak"`
}

type openPairs struct {
	L        uint64 `json:"l"`
	From     uint64 `json:"m_from"`
	To       uint64 `json:"m_to"`
	Searched uint64 `json:"searched_m"` // 0: not looked at; so many combiners were tried in vain, and who has fewer has it no easier
}

type groupOfCombiner struct {
	Number       uint64   `json:"number"`
	Combinations []string `json:"combinations"`
}

type cellOfCoalitions struct {
	Combiners   uint64 `json:"combiners"`
	Calculators uint64 `json:"calculators"`
	Coalitions  uint64 `json:"coalitions"`
	Weak        uint64 `json:"weak"`
	Worst       string `json:"learns_at_most"` // "?": not computed
}

type weakCoalition struct {
	Combiners   []uint64 `json:"combiners"`
	Calculators []uint64 `json:"calculators"`
	Learns      string   `json:"learns"`
}

func (a *app) groupScheme(ctx context.Context, p grouping.Params) error {
	type found struct {
		*grouping.Result
		table grouping.Table
	}
	// Whoever interrupts gets what was found: so working must not leave it.
	x, err := working(context.WithoutCancel(ctx), a, "looking for a grouping", func(show *term.Progress) (x found, err error) {
		x.Result, err = grouping.Search(p, func() bool { return ctx.Err() != nil }, func(x grouping.Progress) { show.Set(searchState(x)) })
		if err != nil {
			return x, err
		}
		show.Set("who learns what")
		x.table = x.Grouping.Table()
		return x, nil
	})
	if err != nil {
		return groupingError(ctx, err)
	}
	table, out := x.table, grouped{Proven: x.Proven, Reason: x.Reason, Steps: x.Used, Stopped: x.Stopped}
	out.K, out.T, out.L, out.M = table.K, table.T, table.L, table.M
	for _, o := range x.Open {
		out.Open = append(out.Open, openPairs(o))
	}
	for _, c := range x.Grouping.Combiners {
		row := groupOfCombiner{Number: c.Number}
		for _, combination := range c.Combinations {
			row.Combinations = append(row.Combinations, combination.String())
		}
		out.Combiners = append(out.Combiners, row)
	}
	for _, c := range table.Cells {
		cell := cellOfCoalitions{c.Combiners, c.Calculators, c.Coalitions, c.Weak, "?"}
		if c.Worst.Modulus != nil {
			cell.Worst = c.Worst.String()
		}
		out.Cells = append(out.Cells, cell)
	}
	for _, w := range table.Weak {
		out.Weak = append(out.Weak, weakCoalition{append([]uint64{}, w.Combiners...), append([]uint64{}, w.Calculators...), w.Gain.String()})
	}
	err = a.result(out, func() {
		for _, c := range out.Combiners {
			a.say("combiner %d: %s", c.Number, strings.Join(c.Combinations, " "))
		}
		a.say("\n%s", strings.TrimRight(table.String(), "\n"))
		switch {
		case out.Proven:
			a.say("\nno fewer sub-keys, and with these no fewer combiners, can do: %s", out.Reason)
		case out.Reason != "":
			a.say("\nwhether fewer can do is open: %s", out.Reason)
		}
	})
	if err == nil && x.Stopped {
		return term.WithHint(context.Canceled, "the search was not over: what is printed is the smallest that was found until then")
	}
	return err
}

// searchState is a line of progress.
func searchState(x grouping.Progress) string {
	state := fmt.Sprintf("step %d of %d, trying l=%d m=%d by %s: %d of %d machine sets", x.Step, x.Budget, x.L, x.M, x.Method, x.Served, x.Needed)
	if x.FoundL > 0 {
		state += fmt.Sprintf("; found l=%d m=%d", x.FoundL, x.FoundM)
	}
	return state
}

// groupingError adds what to do.
func groupingError(ctx context.Context, err error) error {
	var impossible *grouping.ImpossibleError
	var missed *grouping.NotFoundError
	switch {
	case errors.As(err, &impossible):
		return term.WithHint(err, "ask for other numbers; without --l and --m the fewest are looked for")
	case errors.As(err, &missed) && ctx.Err() != nil:
		return term.WithHint(context.Canceled, "nothing was found until then")
	case errors.As(err, &missed) && missed.Reason != "":
		return term.WithHint(err, "raise --l or --m, or leave them out")
	case errors.As(err, &missed):
		return term.WithHint(err, "raise --budget, or ask for resistance against fewer; if --l and --m are given, raise or leave them out, if not, give both to use all steps for one pair")
	}
	return command.Misused(term.WithHint(err, "see: privyseal scheme group --help"))
}

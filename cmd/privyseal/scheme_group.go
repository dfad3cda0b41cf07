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

Without --l or --m one pair of numbers after the other is tried. With many
calculators or --combiners above 1 that takes minutes: give both, to try one.`,
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
	f.Uint64Var(&p.Budget, "budget", 0, "steps that each search may take, of some microseconds (default: about a million)")
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
	Cells     []cellOfCoalitions `json:"table"`
	Weak      []weakCoalition    `json:"weak"`
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
		g      *grouping.Grouping
		proven bool
		reason string
		table  grouping.Table
	}
	x, err := working(ctx, a, "looking for a grouping", func(show *term.Progress) (x found, err error) {
		progress := func(x grouping.Progress) {
			show.Set(fmt.Sprintf("l=%d m=%d by %s: %d of %d machine sets, step %d of %d", x.L, x.M, x.Method, x.Served, x.Needed, x.Step, x.Budget))
		}
		if p.L == 0 && p.M == 0 && p.Redundant == 0 {
			r, err := grouping.Smallest(p.K, p.T, p.Combiners, p.Calculators, p.Budget, progress)
			if err != nil {
				return x, err
			}
			x.g, x.proven, x.reason = r.Grouping, r.Proven, r.Reason
		} else if x.g, err = grouping.Find(p, progress); err != nil {
			return x, err
		}
		show.Set("who learns what")
		x.table = x.g.Table()
		return x, nil
	})
	if err != nil {
		return groupingError(err)
	}
	g, table, out := x.g, x.table, grouped{Proven: x.proven, Reason: x.reason}
	out.K, out.T, out.L, out.M = table.K, table.T, table.L, table.M
	for _, c := range g.Combiners {
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
	return a.result(out, func() {
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
}

// groupingError adds what to do.
func groupingError(err error) error {
	var impossible *grouping.ImpossibleError
	var missed *grouping.NotFoundError
	switch {
	case errors.As(err, &impossible):
		return term.WithHint(err, "ask for other numbers; without --l and --m the fewest are looked for")
	case errors.As(err, &missed):
		return term.WithHint(err, "raise --l, --m or --budget, or leave --l and --m out")
	case errors.Is(err, context.Canceled):
		return err
	}
	return command.Misused(term.WithHint(err, "see: privyseal scheme group --help"))
}

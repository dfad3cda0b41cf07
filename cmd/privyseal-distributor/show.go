package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/medium"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/dealing"
	"github.com/privyseal/privyseal/firmware/ledger"
)

func newShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show MEDIUM",
		Short: "Show what is on a medium: who gets what, and who learns what together",
		Long: `Show what is on a medium: the plan and what would be dealt, or what was dealt,
who gets what, and what coalitions of machines learn together. It needs no
secrets, and may be run on any machine.

Without --system the medium's own word is taken for which system it is of:
compare the id that is printed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.show(args[0]) },
	}
}

func (a *app) show(dir string) error {
	stage, err := medium.StageOf(dir)
	var half *medium.HalfWrittenError
	if err != nil && !errors.As(err, &half) {
		return err
	}
	b, err := a.read(dir, false)
	if err != nil {
		return err
	}
	var v *medium.View
	if stage == medium.StageDealt {
		v, err = a.dealt(b)
	} else {
		var d *dealing.Prepared
		if d, err = a.prepare(b); err == nil {
			v = medium.ViewPrepared(b.state, d)
		}
	}
	if err != nil {
		return err
	}
	if a.json {
		err = term.PrintJSON(a.out, struct {
			System string       `json:"system"`
			Stage  medium.Stage `json:"stage"`
			*medium.View
		}{b.state.System().String(), stage, v})
	} else {
		a.print(a.out, b, v)
	}
	if half != nil {
		return half
	}
	return err
}

// dealt reads what was dealt, as devices and the ledger will.
func (a *app) dealt(b *brought) (*medium.View, error) {
	x, err := medium.ReadDealt(b.dir)
	if err != nil {
		return nil, err
	}
	if err := ledger.CheckDealing(b.state, &x.Dealing, a.now().Unix()); err != nil {
		return nil, fmt.Errorf("what was dealt: %w", err)
	}
	var reserve *dealing.Reserve
	if x.Reserve != nil {
		if reserve, err = dealing.ParseReserve(x.Reserve); err != nil {
			return nil, err
		}
	}
	return medium.ViewDealing(b.state, &x.Dealing, reserve), nil
}

package main

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

func newList(dir *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list --dir DIR",
		Short: "List the cards of a directory and the readers they are in",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cards, err := list(cmd, *dir)
			if err != nil {
				return err
			}
			if asJSON {
				return term.PrintJSON(cmd.OutOrStdout(), cards)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "SERIAL\tPROFILE\tREADER\tPLUGGED IN")
			for _, c := range cards {
				reader, present := c.Reader, "no"
				if reader == "" {
					reader = "-"
				}
				if c.Present {
					present = "yes"
				}
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", c.Serial, c.Profile, reader, present)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// list asks the run that holds the cards, or reads the files if none does.
func list(cmd *cobra.Command, dir string) ([]cardJSON, error) {
	r, err := request{Verb: "list"}.send(cmd.Context(), dir)
	if err == nil {
		return r.Cards, nil
	}
	if !errors.Is(err, errNotRunning) {
		return nil, err
	}
	d, err := virtual.OpenDir(dir, time.Now())
	if err != nil {
		return nil, err
	}
	serials, err := d.Serials()
	if err != nil {
		return nil, err
	}
	cards := []cardJSON{}
	for _, serial := range serials {
		s, err := d.Load(serial)
		if err != nil {
			return nil, err
		}
		cards = append(cards, cardJSON{Serial: serial, Profile: s.Profile})
	}
	return cards, nil
}

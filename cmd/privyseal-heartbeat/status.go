package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/source"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

func newStatus() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status --dir DIR",
		Short: "Show for whom the source beats",
		Long: `Show what the source knows of each device whose policy names it: the instance
that it takes for the device, the length of the device's log, whether it is
silenced, and whether it beats now. Works whether the source runs or not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := source.ReadStatus(dir)
			if err != nil {
				return hint(dir, err)
			}
			if asJSON {
				return term.PrintJSON(cmd.OutOrStdout(), s)
			}
			return printStatus(cmd.OutOrStdout(), s)
		},
	}
	dirFlag(cmd, &dir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func printStatus(w io.Writer, s *source.Status) error {
	state := "stopped"
	switch {
	case s.Running && s.Link:
		state = "running, linked to " + s.Server
	case s.Running:
		state = "running, no link to " + s.Server
	}
	fmt.Fprintf(w, "source   %s (%s), %s\nstate    %s\nbeat key epoch %d\n", s.ID, term.Clean(s.Name), s.Kind, state, s.Epoch)
	if s.Restored != 0 {
		fmt.Fprintf(w, "restored %s\n", when(s.Restored))
	}
	if s.System.IsZero() {
		_, err := fmt.Fprintln(w, "system   not known yet")
		return err
	}
	fmt.Fprintf(w, "system   %s, height %d\n", s.System, s.Height)
	if len(s.Devices) == 0 {
		_, err := fmt.Fprintln(w, "no device's policy names this source")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nDEVICE\tBEATS\tLAST ASKED\tINSTANCE\tOPENED\tLOG\tSILENCED SINCE")
	for _, d := range s.Devices {
		beats, last, opened, silenced, instance := "no", "-", "ceremony", "-", d.Instance
		if d.Beating {
			beats = "yes"
		}
		if d.Last >= 0 {
			last = (time.Duration(d.Last) * time.Millisecond).Round(100*time.Millisecond).String() + " ago"
		}
		if d.Enrolled != 0 {
			opened = when(d.Enrolled)
		}
		if d.Revoked != 0 {
			silenced = when(d.Revoked)
		}
		if instance == "" {
			instance, opened = "none", "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", d.Device, beats, last, instance, opened, d.Log, silenced)
	}
	return t.Flush()
}

func when(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }

package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/source"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

func newRestore() *cobra.Command {
	var dir, manifest, link string
	var pins []string
	var begin bool
	cmd := &cobra.Command{
		Use:   "restore [PIECE...] --dir DIR [--begin --manifest FILE --link ADDRESS]",
		Short: "Make a source again from the pieces of its backup",
		Long: `Make a source again, in a new directory, in two steps.

'restore --dir DIR --begin --manifest FILE --link ADDRESS' makes a one-time key
and prints a request, which lies in DIR/request.json as well. Give it to the
holders, with its fingerprint by voice. Each answers with
'privyseal heartbeat piece FILE --for request.json', with the card.

'restore --dir DIR PIECE...' joins what they handed over, as many pieces as the
manifest says, and checks that they are the backup's: a wrong one is named. The
one-time key is destroyed, and DIR is the source.

Its beat key is a new one of a later epoch, so that devices which hear it take
nothing from the lost one any more. It is silent for every device until the
device's officers unlock it: whom the lost source had silenced is not known.
Make sure that the lost source does not run.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case begin && len(args) > 0:
				return command.Usage("pieces come when the restoration has begun", "leave --begin out")
			case begin:
				return beginRestore(cmd, dir, manifest, link, pins)
			case len(args) == 0:
				return command.Usage("no pieces", "begin with --begin, or name what the holders handed over")
			case manifest != "" || link != "" || pins != nil:
				return command.Usage("--manifest, --link and --pin belong to --begin", "leave them out, or say --begin")
			}
			src, epoch, err := source.Restore(dir, args, time.Now().Unix())
			if err != nil {
				return hint(dir, err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "source %s is back, with a beat key of epoch %d; run it, and have the officers of each of its devices unlock\n", src.ID, epoch)
			_, err = fmt.Fprint(cmd.OutOrStdout(), source.YAML(src))
			return err
		},
	}
	dirFlag(cmd, &dir)
	f := cmd.Flags()
	f.BoolVar(&begin, "begin", false, "begin: make a one-time key and a request")
	f.StringVar(&manifest, "manifest", "", "the backup's manifest.json")
	f.StringVar(&link, "link", "", "its message server: unix:PATH or tls:HOST:PORT")
	f.StringSliceVar(&pins, "pin", nil, "SHA-256 of the server's transport key (tls only)")
	return cmd
}

func beginRestore(cmd *cobra.Command, dir, manifest, link string, pins []string) error {
	if manifest == "" || link == "" {
		return command.Usage("--begin needs --manifest and --link", "see: privyseal-heartbeat restore --help")
	}
	m, err := source.ReadManifest(manifest)
	if err != nil {
		return err
	}
	if link, err = absolute(link); err != nil {
		return err
	}
	r, err := source.BeginRestore(dir, m, link, pins, time.Now().Unix())
	if err != nil {
		return hint(dir, err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%d of these are to answer:\n", m.Threshold)
	for _, p := range m.Pieces {
		fmt.Fprintf(cmd.ErrOrStderr(), "  %s, card %d, with %s\n", term.Clean(p.Name), p.Card, p.File)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "request: %s\nfingerprint, to be compared by voice: %s\n", filepath.Join(dir, "request.json"), r.Fingerprint())
	return term.PrintJSON(cmd.OutOrStdout(), r)
}

package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/source"
)

func newRun() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "run --dir DIR",
		Short: "Run the source",
		Long: `Run the source: dial the message server, learn the system from it, answer the
challenges of devices and beat.

It beats for one instance of a device at a time: the one of the ceremony, then
each that the device's officers open, and never again for one before. It
remembers how long a device's log was, and refuses one that shows a shorter:
that is an older copy. What it knows is on the disk before an answer leaves; a
source that cannot write ends.

One process runs a source. A second one, elsewhere, with a copy of its directory
would beat for devices that this one has silenced: keep no copies, but a backup
in pieces ('privyseal-heartbeat backup').`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := source.Start(dir, source.Options{Log: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))})
			if err != nil {
				return hint(dir, err)
			}
			defer s.Close()
			return s.Run(cmd.Context())
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}

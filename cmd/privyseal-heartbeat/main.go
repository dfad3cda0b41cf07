// Command privyseal-heartbeat is a heartbeat source or satellite: a process in
// another room, by whose beats signing devices live. Who takes a device away
// has to take its sources as well.
//
// It exits with 0 when what was asked was done or a running source was told to
// end, and with 1 otherwise.
package main

import (
	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/term"
)

func main() { term.Main(newCommand()) }

func newCommand() *cobra.Command {
	c := &cobra.Command{
		Use:           "privyseal-heartbeat",
		Short:         "A heartbeat source or satellite of Privyseal",
		SilenceErrors: true,
		SilenceUsage:  true,
		// Every verb but help reads keys.
		PersistentPreRunE: func(*cobra.Command, []string) error { return harden() },
	}
	c.AddCommand(newInit(), newRun(), newStatus(), newRevoke(), newRotate(), newBackup(), newRestore())
	return c
}

// dirFlag is the one flag that all verbs have.
func dirFlag(c *cobra.Command, dir *string) {
	c.Flags().StringVar(dir, "dir", "", "the source's directory")
	_ = c.MarkFlagRequired("dir")
}

// Command privyseal-heartbeat is a heartbeat source or satellite: a process in
// another room, by whose beats signing devices live. Who takes a device away
// has to take its sources as well.
//
// It exits with 0 when what was asked was done or a running source was told to
// end, 1 when it was refused or failed, and 2 when it was asked wrongly.
package main

import (
	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/command"
)

func main() { command.Main(newCommand()) }

func newCommand() *cobra.Command {
	c := &cobra.Command{Use: "privyseal-heartbeat", Short: "A heartbeat source or satellite of Privyseal"}
	c.AddCommand(newInit(), command.Server(newRun()), newStatus(), newRevoke(), newRotate(), newBackup(), newRestore())
	for _, verb := range c.Commands() {
		do := verb.RunE
		verb.RunE = func(c *cobra.Command, args []string) error {
			// Every verb reads keys.
			if err := harden(); err != nil {
				return err
			}
			return do(c, args)
		}
	}
	return c
}

// dirFlag is the one flag that all verbs have.
func dirFlag(c *cobra.Command, dir *string) {
	c.Flags().StringVar(dir, "dir", "", "the source's directory")
	_ = c.MarkFlagRequired("dir")
}

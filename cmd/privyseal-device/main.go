// Command privyseal-device is a signing device: one process in front of one
// PKCS#11 token, with one link to its message server and no other.
//
// It exits with 0 when what was asked was done or a running device was told to
// end, 1 when it was refused or failed, and 2 when it was asked wrongly.
package main

import (
	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/command"
)

func main() { command.Main(newCommand()) }

func newCommand() *cobra.Command {
	c := &cobra.Command{Use: "privyseal-device", Short: "A signing device of Privyseal"}
	c.AddCommand(newInit(), newCertify(), command.Server(newRun()), newReset())
	return c
}

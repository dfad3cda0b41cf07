// Command privyseal-device is a signing device: one process in front of one
// PKCS#11 token, with one link to its message server and no other.
package main

import (
	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/term"
)

func main() { term.Main(newCommand()) }

func newCommand() *cobra.Command {
	c := &cobra.Command{
		Use:           "privyseal-device",
		Short:         "A signing device of Privyseal",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	c.AddCommand(newInit(), newCertify(), newRun(), newReset())
	return c
}

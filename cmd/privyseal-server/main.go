// Command privyseal-server is the message server of a site: it links the
// site's signing devices with the people who come over HTTPS and with the
// servers of other sites. It is trusted with nothing but its own transport
// keys.
//
// It exits with 0 when what was asked was done or a running server was told to
// end, 1 when it was refused or failed, and 2 when it was asked wrongly.
package main

import (
	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/command"
)

func main() { command.Main(newCommand()) }

func newCommand() *cobra.Command {
	c := &cobra.Command{Use: "privyseal-server", Short: "A message server of Privyseal"}
	c.AddCommand(newInit(), command.Server(newRun()))
	return c
}

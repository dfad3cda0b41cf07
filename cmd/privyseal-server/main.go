// Command privyseal-server is the message server of a site: it links the
// site's signing devices with the people who come over HTTPS and with the
// servers of other sites. It is trusted with nothing but its own transport
// keys.
package main

import (
	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/term"
)

func main() { term.Main(newCommand()) }

func newCommand() *cobra.Command {
	c := &cobra.Command{
		Use:           "privyseal-server",
		Short:         "A message server of Privyseal",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	c.AddCommand(newInit(), newRun())
	return c
}

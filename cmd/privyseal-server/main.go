// Command privyseal-server is the message server of a site: it links the
// site's signing devices with the people who come over HTTPS and with the
// servers of other sites. It is trusted with nothing but its own transport
// keys.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/term"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil && !errors.Is(err, context.Canceled) {
		term.PrintError(os.Stderr, err)
		os.Exit(1)
	}
}

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

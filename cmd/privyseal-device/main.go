// Command privyseal-device is a signing device: one process in front of one
// PKCS#11 token, with one link to its message server and no other.
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
	cmd := newCommand()
	if err := cmd.ExecuteContext(ctx); err != nil && !errors.Is(err, context.Canceled) {
		term.PrintError(os.Stderr, err)
		os.Exit(1)
	}
}

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

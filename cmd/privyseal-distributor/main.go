// Command privyseal-distributor is the key distributor of a certificate
// authority in two layers: it makes the key, shares it among calculators and
// combiners, and is then shut down. It runs on a machine without a network, reads
// and writes one medium, and leaves nothing on the machine. Rows B2, B9.
//
// It exits with 0 when what was asked was done, 1 when it was refused or failed,
// and 2 when it was asked wrongly.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

func main() { os.Exit(start("/")) }

// start runs the program. root is where /sys and /proc are, which tests choose.
func start(root string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv, now: time.Now, rand: rand.Reader, root: root,
		terminal: term.IsTerminal(os.Stderr),
	}
	return a.run(ctx, os.Args[1:])
}

// app is one run of the program.
type app struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	now      func() time.Time
	rand     io.Reader
	root     string
	terminal bool // err is one

	pinentry, system  string
	json, notIsolated bool
}

func (a *app) run(ctx context.Context, args []string) int {
	return command.Run(ctx, command.Streams{In: a.in, Out: a.out, Err: a.err}, args, func(s command.Streams) *cobra.Command {
		a.in, a.out = s.In, s.Out
		return a.command()
	})
}

func (a *app) command() *cobra.Command {
	c := &cobra.Command{
		Use:   "privyseal-distributor",
		Short: "The off-line key distributor of an authority in two layers",
		Long: `The off-line key distributor of a certificate authority in two layers. Run it on
a machine without a network, on a medium that privyseal authority invite wrote,
and carry the medium back: privyseal authority install. Then shut the machine
down. It writes to the medium and nowhere else.`,
	}
	f := c.PersistentFlags()
	f.StringVar(&a.pinentry, "pinentry", "", "program that asks for PINs (default: $"+term.PinentryVar+", else the terminal)")
	f.StringVar(&a.system, "system", "", "id of the system, as its ceremony printed it (default: asked for)")
	f.BoolVar(&a.json, "json", false, "print JSON")
	c.AddCommand(newDeal(a), newExtend(a), newShow(a))
	for _, sub := range c.Commands() {
		do := sub.RunE
		sub.RunE = func(c *cobra.Command, args []string) error {
			// Every verb reads what may be made into secrets a moment later.
			if err := harden(a.root); err != nil {
				return err
			}
			err := do(c, args)
			if c.Context().Err() != nil && errors.Is(err, context.Canceled) {
				// The medium is written last, and in one go.
				return term.WithHint(err, "nothing was dealt: run the same command again")
			}
			return err
		}
	}
	return c
}

// say prints a line of the result, tell one for the person. Text of others in
// them is cleaned.
func (a *app) say(format string, args ...any) {
	fmt.Fprintln(a.out, term.Clean(fmt.Sprintf(format, args...)))
}

func (a *app) tell(format string, args ...any) {
	fmt.Fprintln(a.err, term.Clean(fmt.Sprintf(format, args...)))
}

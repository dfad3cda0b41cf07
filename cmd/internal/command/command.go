// Package command is what the command lines of all programs have in common: how
// they end and with which exit code, how they name what was typed wrongly, what
// an interrupt does, and their version.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/term"
)

// Exit codes.
const (
	ExitOK     = 0 // what was asked was done, or a server was told to end
	ExitFailed = 1 // it was refused, failed or was interrupted
	ExitUsage  = 2 // it was asked wrongly: nothing was begun
)

// Streams are where a program talks: results go to Out, all else that people
// read to Err.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Main runs a program's command with its arguments, until SIGINT or SIGTERM at
// the latest, and ends the process.
func Main(root *cobra.Command) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := Run(ctx, Streams{os.Stdin, os.Stdout, os.Stderr}, os.Args[1:], func(Streams) *cobra.Command { return root })
	stop()
	os.Exit(code)
}

// Run does what the arguments say and returns the exit code. make makes the
// program's command; it is given the streams that its verbs are to use: ctx ends
// a read of In, and what Out could not take is an error in the end. The command
// has them as its own, too.
func Run(ctx context.Context, s Streams, args []string, make func(Streams) *cobra.Command) int {
	out := &written{w: s.Out}
	s.Out, s.In = out, term.Interruptible(ctx, s.In)
	root := make(s)
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.Version = version()
	root.SetFlagErrorFunc(flagError)
	// What only has others below it does nothing by itself, and its help says so.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	started := false
	watch(root, &started)
	c, err := root.ExecuteContextC(ctx)
	var usage *UsageError
	var quiet *reportedError
	var h term.Hinter
	switch {
	case out.err != nil && (err == nil || errors.Is(err, out.err)):
		// A full disk: what was asked for is not all there.
		term.PrintError(s.Err, fmt.Errorf("the result is not all written: %w", out.err))
		return ExitFailed
	case err == nil:
		return ExitOK
	case errors.As(err, &quiet):
		return ExitFailed
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		// How to go on is worth knowing all the same.
		interrupted := errors.New("interrupted")
		if errors.As(err, &h) {
			interrupted = term.WithHint(interrupted, h.Hint())
		}
		err = interrupted
	}
	if !started && !errors.As(err, &h) {
		err = term.WithHint(err, "see: "+c.CommandPath()+" --help")
	}
	term.PrintError(s.Err, err)
	if !started || errors.As(err, &usage) {
		return ExitUsage
	}
	return ExitFailed
}

// Server makes of a verb one that runs until it is told to end: that it was
// told is no failure.
func Server(verb *cobra.Command) *cobra.Command {
	do := verb.RunE
	verb.RunE = func(c *cobra.Command, args []string) error {
		err := do(c, args)
		if c.Context().Err() != nil && errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
	return verb
}

// UsageError is a command that was asked wrongly, found after it began.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// Usage says what was asked wrongly, and a remedy, which may be empty.
func Usage(text, hint string) error { return Misused(term.WithHint(errors.New(text), hint)) }

// Misused says that an error is due to how the command was asked.
func Misused(err error) error { return &UsageError{err} }

// Reported marks a failure that was printed already, one line for each item.
func Reported(err error) error { return &reportedError{err} }

type reportedError struct{ error }

// written is where results go. It remembers that they did not all get there.
type written struct {
	w   io.Writer
	err error
}

func (w *written) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err != nil && w.err == nil {
		w.err = err
	}
	return n, err
}

// version is what this program was built from.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

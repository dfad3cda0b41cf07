// Command privyseal is what people type: the ceremony, requests, officers'
// approvals, status and verification. It trusts no message server; what
// counts it verifies itself (package client).
//
// It exits with 0 when what was asked was done, 1 when it was refused or
// failed, or when a status that says so needs somebody to look at it, and 2 when
// it was asked wrongly.
package main

import (
	"context"
	"crypto/rand"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	xterm "golang.org/x/term"

	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	a := &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv, now: time.Now, rand: rand.Reader,
		interactive: term.IsTerminal(os.Stdin), terminal: term.IsTerminal(os.Stderr), screen: term.IsTerminal(os.Stdout), width: 100,
	}
	if w, _, err := xterm.GetSize(int(os.Stdout.Fd())); err == nil {
		a.width = w
	}
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// Exit codes.
const (
	exitOK     = command.ExitOK
	exitFailed = command.ExitFailed
	exitUsage  = command.ExitUsage
)

// app is one run of the program: what it was told and where it talks.
type app struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	now      func() time.Time
	rand     io.Reader
	// entry asks for PINs; nil means a pinentry program or the terminal.
	entry       term.Entry
	interactive bool // somebody sits at in
	terminal    bool // err is a terminal
	screen      bool // out is a terminal
	width       int  // columns of out

	home, server, pinentry string
	json                   bool
}

// run does what the arguments say.
func (a *app) run(ctx context.Context, args []string) int {
	return command.Run(ctx, command.Streams{In: a.in, Out: a.out, Err: a.err}, args, func(s command.Streams) *cobra.Command {
		a.in, a.out = s.In, s.Out
		return newRoot(a)
	})
}

func usage(text, hint string) error { return command.Usage(text, hint) }

// newRoot makes the tree of commands.
func newRoot(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "privyseal",
		Short: "A signing appliance whose key no single device, room or person holds",
		Long: `A signing appliance whose key no single device, room or person holds.

Requesters ask for a signature, officers approve it with their cards, and enough
signing devices make it together. This program is what people type.`,
	}
	f := c.PersistentFlags()
	f.StringVar(&a.home, "home", "", "directory of the system's tables (default: privyseal in the user's configuration directory)")
	f.StringVar(&a.server, "server", "", "id of the message server to use (default: the home's own; for officers, their devices')")
	f.StringVar(&a.pinentry, "pinentry", "", "program that asks for PINs (default: $"+term.PinentryVar+", else the terminal)")
	f.BoolVar(&a.json, "json", false, "print JSON")
	c.AddCommand(newJoin(a), newRequest(a), newRequesterKey(a), newOfficer(a), newStatus(a), newHeartbeat(a), newVerify(a), newSystem(a),
		newCeremony(a), newCard(a), newAuthority(a))
	c.AddCommand(newScheme(a))
	return c
}

// homeDir is the directory in --home or the user's
// configuration.
func (a *app) homeDir() (string, error) {
	if a.home != "" {
		return a.home, nil
	}
	base := a.getenv("XDG_CONFIG_HOME")
	if base == "" {
		home := a.getenv("HOME")
		if home == "" {
			return "", usage("no home directory is known", "name one with --home")
		}
		base = filepath.Join(home, ".config")
	}
	return filepath.Join(base, "privyseal"), nil
}

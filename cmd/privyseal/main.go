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
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	xterm "golang.org/x/term"

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
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
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

	started bool // a command began: errors from here on are not the usage's
}

// run does what the arguments say.
func (a *app) run(ctx context.Context, args []string) int {
	out := &written{w: a.out}
	a.out = out
	a.in = &interruptible{ctx: ctx, r: a.in}
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	c, err := root.ExecuteContextC(ctx)
	var usage *usageError
	var quiet *reportedError
	var h term.Hinter
	switch {
	case err == nil && out.err != nil:
		// A full disk: what was asked for is not all there.
		term.PrintError(a.err, fmt.Errorf("the result is not all written: %w", out.err))
		return exitFailed
	case err == nil:
		return exitOK
	case errors.As(err, &quiet):
		return exitFailed
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		// How to go on is worth knowing all the same.
		interrupted := errors.New("interrupted")
		if errors.As(err, &h) {
			interrupted = term.WithHint(interrupted, h.Hint())
		}
		err = interrupted
	}
	if !a.started && !errors.As(err, &h) {
		err = term.WithHint(err, "see: "+c.CommandPath()+" --help")
	}
	term.PrintError(a.err, err)
	if !a.started || errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// usageError is a command that was asked wrongly.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func usage(text, hint string) error { return &usageError{term.WithHint(errors.New(text), hint)} }

// reportedError is a failure that was printed already, one line for each item.
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

// interruptible is where people answer. Ctrl-C ends the wait for an answer too,
// and with it the program: what is read after that is lost.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if i.ctx.Err() != nil {
		return 0, context.Cause(i.ctx)
	}
	type got struct {
		b   []byte
		err error
	}
	done := make(chan got, 1)
	go func() {
		b := make([]byte, len(p))
		n, err := i.r.Read(b)
		done <- got{b[:n], err}
	}()
	select {
	case g := <-done:
		return copy(p, g.b), g.err
	case <-i.ctx.Done():
		return 0, context.Cause(i.ctx)
	}
}

// version is what this program was built from.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// newRoot makes the tree of commands.
func newRoot(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "privyseal",
		Short: "A signing appliance whose key no single device, room or person holds",
		Long: `A signing appliance whose key no single device, room or person holds.

Requesters ask for a signature, officers approve it with their cards, and enough
signing devices make it together. This program is what people type.`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	c.SetFlagErrorFunc(flagError)
	f := c.PersistentFlags()
	f.StringVar(&a.home, "home", "", "directory of the system's tables (default: privyseal in the user's configuration directory)")
	f.StringVar(&a.server, "server", "", "id of the message server to use (default: the home's own; for officers, their devices')")
	f.StringVar(&a.pinentry, "pinentry", "", "program that asks for PINs (default: $"+term.PinentryVar+", else the terminal)")
	f.BoolVar(&a.json, "json", false, "print JSON")
	c.AddCommand(newJoin(a), newRequest(a), newRequesterKey(a), newOfficer(a), newStatus(a), newHeartbeat(a), newVerify(a), newSystem(a),
		newCeremony(a), newCard(a), newAuthority(a))
	c.AddCommand(newScheme(a))
	a.watch(c)
	return c
}

// watch marks when a command begins, and names arguments as the command's help
// does.
func (a *app) watch(c *cobra.Command) {
	if check := c.Args; check != nil && len(c.Commands()) == 0 {
		c.Args = func(c *cobra.Command, args []string) error {
			if check(c, args) == nil {
				return nil
			}
			return argsError(c, args)
		}
	}
	if do := c.RunE; do != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			a.started = true
			return do(c, args)
		}
	}
	for _, sub := range c.Commands() {
		a.watch(sub)
	}
}

// argsError says which argument is missing or too many, by the command's Use.
func argsError(c *cobra.Command, args []string) error {
	hint := "usage: " + c.UseLine()
	var names []string
	for _, word := range strings.Fields(c.Use)[1:] {
		if strings.HasPrefix(word, "-") || strings.HasPrefix(word, "[-") {
			break
		}
		names = append(names, word)
	}
	if len(args) < len(names) && !strings.HasPrefix(names[len(args)], "[") {
		return usage(strings.TrimSuffix(names[len(args)], "...")+" is missing", hint)
	}
	return usage(fmt.Sprintf("%q is one argument too many", args[min(len(names), len(args)-1)]), hint)
}

// flagError says in plain words what a flag's value should be.
func flagError(c *cobra.Command, err error) error {
	m := invalidValue.FindStringSubmatch(err.Error())
	if m == nil {
		return err
	}
	value, name := m[1], m[2]
	f := c.Flags().Lookup(name)
	if f == nil {
		return err
	}
	want := map[string]string{
		"uint": "a whole number", "uint32": "a whole number", "uint64": "a whole number", "int": "a whole number",
		"duration": "a time such as 30s, 10m or 12h", "bool": "true or false",
	}[f.Value.Type()]
	if want == "" {
		return err
	}
	return usage(fmt.Sprintf("--%s %q is not %s", name, value, want), "see: "+c.CommandPath()+" --help")
}

// invalidValue is how the flag package says that a value will not do.
var invalidValue = regexp.MustCompile(`^invalid argument "(.*)" for "(?:-., )?--([a-z-]+)" flag: `)

// group is a command that only has others below it.
func group(use, short string, sub ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short,
		Args: func(c *cobra.Command, args []string) error {
			hint := "see: " + c.CommandPath() + " --help"
			if len(args) > 0 {
				return usage("there is no command \""+c.CommandPath()+" "+args[0]+"\"", hint)
			}
			return usage("say what to do with \""+c.CommandPath()+"\"", hint)
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	c.AddCommand(sub...)
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

package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/command/commandtest"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

// program has a verb of each kind.
func program(Streams) *cobra.Command {
	c := &cobra.Command{Use: "tool", Short: "A tool"}
	verb := func(use string, args cobra.PositionalArgs, do func(*cobra.Command) error) *cobra.Command {
		v := &cobra.Command{Use: use, Short: "x", Args: args, RunE: func(c *cobra.Command, _ []string) error { return do(c) }}
		c.AddCommand(v)
		return v
	}
	v := verb("print FILE [PLACE] --dir DIR", cobra.RangeArgs(1, 2), func(c *cobra.Command) error {
		_, err := fmt.Fprintln(c.OutOrStdout(), "done")
		return err
	})
	f := v.Flags()
	f.String("dir", "", "")
	f.Int("years", 10, "")
	f.UintSlice("output", nil, "")
	f.Duration("wait", 0, "")
	_ = v.MarkFlagRequired("dir")
	verb("ask", cobra.NoArgs, func(c *cobra.Command) error { return term.Confirm(c.InOrStdin(), c.ErrOrStderr(), "yes") })
	verb("careful", cobra.NoArgs, func(c *cobra.Command) error {
		if err := term.Confirm(c.InOrStdin(), c.ErrOrStderr(), "yes"); err != nil {
			return term.WithHint(err, "nothing is lost")
		}
		return nil
	})
	Server(verb("serve", cobra.NoArgs, func(c *cobra.Command) error {
		fmt.Fprintln(c.ErrOrStderr(), "type nothing to go on: ")
		<-c.Context().Done()
		return context.Cause(c.Context())
	}))
	verb("break", cobra.NoArgs, func(*cobra.Command) error { return errors.New("it broke") })
	Server(verb("broken", cobra.NoArgs, func(*cobra.Command) error { return context.Canceled }))
	verb("misused", cobra.NoArgs, func(*cobra.Command) error { return Usage("there is no key", "list them") })
	verb("reported", cobra.NoArgs, func(*cobra.Command) error { return Reported(errors.New("one of three")) })
	c.AddCommand(Group("things", "Things", &cobra.Command{Use: "list", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return nil }}))
	return c
}

func run(ctx context.Context, out io.Writer, args ...string) (code int, errs string) {
	var b bytes.Buffer
	code = Run(ctx, Streams{strings.NewReader(""), out, &b}, args, program)
	return code, b.String()
}

// What is typed wrongly is named as the command's own help names it.
func TestMisuse(t *testing.T) {
	for _, x := range []struct{ want, args string }{
		{"error: FILE is missing\nhint: usage: tool print FILE [PLACE] --dir DIR", "print --dir d"},
		{`error: "c" is one argument too many` + "\nhint: usage: ", "print a b c --dir d"},
		{`error: "x" is one argument too many` + "\nhint: usage: tool ask", "ask x"},
		{`error: required flag(s) "dir" not set` + "\nhint: see: tool print --help", "print a"},
		{"error: unknown flag: --dri\nhint: see: tool print --help", "print --dri d a"},
		{`error: --years "x" is not a whole number`, "print a --dir d --years x"},
		{`error: --output "-1" is not whole numbers`, "print a --dir d --output -1"},
		{`error: --wait "x" is not a time such as`, "print a --dir d --wait x"},
		{`error: unknown command "prnt" for "tool"`, "prnt"},
		{"\nhint: see: tool --help\n", "prnt"},
		{`error: there is no command "tool things lst"` + "\nhint: see: tool things --help", "things lst"},
		{`error: say what to do with "tool things"`, "things"},
		{"error: there is no key\nhint: list them\n", "misused"},
	} {
		var out bytes.Buffer
		if code, errs := run(t.Context(), &out, strings.Fields(x.args)...); code != ExitUsage || !strings.Contains(errs, x.want) || out.Len() > 0 {
			t.Errorf("%s: exit %d\n%s%s", x.args, code, errs, &out)
		}
	}
}

func TestEnds(t *testing.T) {
	for _, x := range []struct {
		args, out, errs string
		code            int
	}{
		{"print a --dir d", "done\n", "", ExitOK},
		{"--version", "tool version " + version() + "\n", "", ExitOK},
		{"break", "", "error: it broke\n", ExitFailed},
		{"broken", "", "error: context canceled\n", ExitFailed}, // though nobody interrupted it
		{"reported", "", "", ExitFailed},
		{"ask", "", "type \"yes\" to go on: \nerror: cancelled\n", ExitFailed},
	} {
		var out bytes.Buffer
		if code, errs := run(t.Context(), &out, strings.Fields(x.args)...); code != x.code || out.String() != x.out || errs != x.errs {
			t.Errorf("%s: exit %d\n%s%s", x.args, code, &out, errs)
		}
	}
}

// The help of a group does not offer to run it.
func TestHelp(t *testing.T) {
	for args, want := range map[string]string{
		"--help":            "Usage:\n  tool [command]\n",
		"things --help":     "Usage:\n  tool things [command]\n",
		"print --help":      "Usage:\n  tool print FILE [PLACE] --dir DIR [flags]\n\nFlags:",
		"help things":       "Usage:\n  tool things [command]\n",
		"things list -h":    "Usage:\n  tool things list [flags]\n",
		"completion --help": "Usage:\n  tool completion [command]\n",
	} {
		var out bytes.Buffer
		if code, errs := run(t.Context(), &out, strings.Fields(args)...); code != ExitOK || !strings.Contains(out.String(), want) {
			t.Errorf("%s: exit %d\n%s%s", args, code, &out, errs)
		}
	}
}

// A result that is not all there is no success.
func TestFullDisk(t *testing.T) {
	for args, room := range map[string]int{"print a --dir d": 0, "print b --dir d": 3, "print --help": 10, "--version": 4} {
		if code, errs := run(t.Context(), &commandtest.FullDisk{Room: room}, strings.Fields(args)...); code != ExitFailed || !strings.Contains(errs, "no space left on device") {
			t.Errorf("%s: exit %d\n%s", args, code, errs)
		}
	}
}

// asked calls then when a question was asked.
type asked struct {
	bytes.Buffer
	then func()
}

func (a *asked) Write(p []byte) (int, error) {
	n, err := a.Buffer.Write(p)
	if strings.Contains(a.String(), "to go on: ") {
		a.then()
	}
	return n, err
}

// An interrupt ends a question at once, which is a failure, and a server, which
// is none.
func TestInterrupt(t *testing.T) {
	for verb, want := range map[string]struct {
		code int
		errs string
	}{
		"ask":     {ExitFailed, "type \"yes\" to go on: \nerror: interrupted\n"},
		"careful": {ExitFailed, "type \"yes\" to go on: \nerror: interrupted\nhint: nothing is lost\n"},
		"serve":   {ExitOK, "type nothing to go on: \n"},
	} {
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		nobody, typed := io.Pipe()
		defer typed.Close()
		errs := &asked{then: interrupt}
		code := make(chan int, 1)
		go func() { code <- Run(ctx, Streams{nobody, io.Discard, errs}, []string{verb}, program) }()
		select {
		case got := <-code:
			if got != want.code || errs.String() != want.errs {
				t.Errorf("%s: exit %d\n%s", verb, got, errs)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: it still waits", verb)
		}
	}
}

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/cmd/internal/command/commandtest"
)

// What is typed wrongly is named as the command's own help names it.
func TestWrongArguments(t *testing.T) {
	r := newRig(t)
	csr := r.csr()
	ask := []string{"request", "certificate", "--csr", csr, "--profile", "server"}
	for _, x := range []struct {
		words string
		args  []string
	}{
		{"KEY is missing\nhint: usage: privyseal system export KEY", []string{"system", "export"}},
		{`"b" is one argument too many`, []string{"system", "export", "a", "b"}},
		{`"x" is one argument too many`, []string{"status", "x"}},
		{"DIGEST is missing", []string{"officer", "show"}},
		{`"b" is one argument too many`, []string{"authority", "show", "a", "b"}},
		{`"` + csr + `" is one argument too many` + "\nhint: usage: privyseal request certificate --csr FILE", append(ask, csr)},
		{`--days "-1" is not a whole number`, append(ask, "--days", "-1")},
		{`--expires "x" is not a time such as`, append(ask, "--expires", "x")},
		{"valid for one day at least", append(ask, "--days", "0")},
		{`unknown flag: --dayz`, append(ask, "--dayz", "1")},
		{"leave out one of them", []string{"officer", "approve", "123456", "--all"}},
	} {
		r.fails(exitUsage, r.nobody(), x.words, x.args...)
	}
	if x := r.ok("", "--version"); !strings.HasPrefix(x.out, "privyseal version ") {
		t.Errorf("%q", x.out)
	}
}

// Help fits the terminals that there are, and says of a command what it has.
func TestHelp(t *testing.T) {
	root := newRoot(&app{})
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		for _, line := range strings.Split(c.Long, "\n") {
			if n := len([]rune(line)); n > 90 {
				t.Errorf("%s: a line of %d columns: %q", c.CommandPath(), n, line)
			}
		}
		for _, sub := range c.Commands() {
			look(sub)
		}
	}
	look(root)
	r := newRig(t)
	for verb, batch := range map[string]bool{"certificate": true, "status": true, "file": false, "entry notice": false} {
		x := r.ok("", append(append([]string{"request"}, strings.Fields(verb)...), "--help")...)
		if out := x.out[strings.Index(x.out, "--out string"):]; strings.Contains(strings.SplitN(out, "\n", 2)[0], "batch") != batch {
			t.Errorf("%s: %s", verb, x.out)
		}
	}
}

// A result that is not all there is no success.
func TestFullDisk(t *testing.T) {
	r := newRig(t)
	for _, args := range [][]string{{"system", "show"}, {"--json", "system", "show"}, {"system", "export", "certs"}, {"system", "--help"}} {
		for _, room := range []int{0, 100} {
			var errs bytes.Buffer
			a := &app{in: strings.NewReader(""), out: &commandtest.FullDisk{Room: room}, err: &errs, getenv: func(string) string { return "" }, now: r.Clock, width: 100}
			if code := a.run(t.Context(), append([]string{"--home", r.home}, args...)); code != exitFailed || !strings.Contains(errs.String(), "no space left on device") {
				t.Errorf("%v: exit %d\n%s", args, code, &errs)
			}
		}
	}
}

func TestUnwritable(t *testing.T) {
	dir := t.TempDir()
	taken := file(t, "taken", nil)
	for path, words := range map[string]string{
		dir + "/new":        "",
		taken:               "exists already",
		dir + "/no/such":    "there is no directory " + dir + "/no",
		taken + "/new":      "not a directory",
		"/proc/self/nobody": "cannot write /proc/self/nobody",
	} {
		err := checkNew(path)
		if words == "" {
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
			continue
		}
		var hint interface{ Hint() string }
		if err == nil {
			err = writeNew(path, nil, 0o600) // root may write everywhere, until he does
		}
		if err == nil || !errors.As(err, &hint) && !strings.Contains(path, "/proc") {
			t.Errorf("%s: %v", path, err)
			continue
		}
		text := err.Error()
		if hint != nil {
			text += "\n" + hint.Hint()
		}
		if !strings.Contains(text, words) || strings.Contains(text, "atomicfile") {
			t.Errorf("%s: %s", path, text)
		}
	}
}

// asked calls then when a question was asked.
type asked struct {
	bytes.Buffer
	question string
	then     func()
}

func (a *asked) Write(p []byte) (int, error) {
	n, err := a.Buffer.Write(p)
	if strings.Contains(a.Buffer.String(), a.question) {
		a.then()
	}
	return n, err
}

// Ctrl-C at a question ends the program, also if nothing more is typed.
func TestInterruptAtQuestion(t *testing.T) {
	r := newRig(t, "officer-1a")
	digest := r.request("file", file(t, "a.txt", []byte("a")))
	for question, args := range map[string][]string{
		"[y/N]":    {"officer", "approve", digest, "--card", r.serial("officer-1a")},
		"to go on": {"card", "enrol", "--overwrite", "--card", r.serial("officer-1a")},
	} {
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		nobody, typed := io.Pipe()
		defer typed.Close()
		errs := &asked{question: question, then: interrupt}
		a := &app{
			in: nobody, interactive: true, out: io.Discard, err: errs, getenv: func(string) string { return "" }, now: r.Clock, rand: rand.Reader,
			entry: &pins{give: []string{virtual.DefaultPIN}}, width: 100,
		}
		code := make(chan int, 1)
		go func() { code <- a.run(ctx, append([]string{"--home", r.home}, args...)) }()
		select {
		case got := <-code:
			if got != exitFailed || !strings.Contains(errs.String(), question) || !strings.HasSuffix(errs.String(), " \nerror: interrupted\n") {
				t.Errorf("%v: exit %d\n%s", args, got, errs)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%v: it still waits for an answer", args)
		}
	}
	x := r.ok("", "request", "status", digest)
	if !strings.Contains(x.out, "device-1       missing: Officer 1a, Officer 1b") {
		t.Errorf("it was approved:\n%s", x.out)
	}
}

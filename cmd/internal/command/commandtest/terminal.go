// Package commandtest sits before programs as a person does, for tests of their
// command lines.
package commandtest

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// CtrlC starts a program at a terminal of its own, presses Ctrl-C when it has
// asked the question, and types nothing else. It returns the exit code and what
// was on the screen; a program that goes on waiting fails the test.
func CtrlC(t testing.TB, c *exec.Cmd, question string) (code int, screen string) {
	t.Helper()
	c.Stdin, c.Stdout, c.Stderr = nil, nil, nil // the terminal, all three
	p, err := pty.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(time.Minute, func() { c.Process.Kill() })
	defer late.Stop()
	defer p.Close()
	var seen strings.Builder
	pressed := false
	b := make([]byte, 512)
	for {
		n, err := p.Read(b)
		seen.Write(b[:n])
		if !pressed && strings.Contains(seen.String(), question) {
			pressed = true
			if _, err := p.Write([]byte{3}); err != nil {
				t.Fatal(err)
			}
		}
		if err != nil { // EIO: nobody is left at the other end
			break
		}
	}
	screen = strings.ReplaceAll(seen.String(), "\r\n", "\n")
	if err := c.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	if !pressed {
		t.Fatalf("it did not ask %q\n%s", question, screen)
	}
	if !late.Stop() {
		t.Fatalf("it waited for an answer after Ctrl-C\n%s", screen)
	}
	return c.ProcessState.ExitCode(), screen
}

package term

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Terminal asks at a terminal, without echo.
type Terminal struct{ tty *os.File }

var _ Entry = (*Terminal)(nil)

// NewTerminal returns an Entry at tty, which is read and written: /dev/tty, so
// that standard input stays free for data. With nil every question is
// ErrNoTerminal.
func NewTerminal(tty *os.File) *Terminal { return &Terminal{tty} }

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool { return f != nil && term.IsTerminal(int(f.Fd())) }

// Keys with a meaning at the prompt.
const (
	keyInterrupt = 0x03 // ^C
	keyEOF       = 0x04 // ^D
	keyBackspace = 0x08 // ^H
	keyKill      = 0x15 // ^U
	keyDelete    = 0x7f
)

// Secret reads one line. ^C, and ^D on an empty line, are ErrCancelled. The
// terminal is as before when Secret returns, also when ctx ends it.
func (t *Terminal) Secret(ctx context.Context, a Ask) ([]byte, error) {
	if !IsTerminal(t.tty) {
		return nil, ErrNoTerminal
	}
	fd := int(t.tty.Fd())
	if a.Error != "" {
		fmt.Fprintf(t.tty, "%s\n", Clean(a.Error))
	}
	if a.Text != "" {
		fmt.Fprintf(t.tty, "%s\n", Clean(a.Text))
	}
	// Raw, not only without echo: ^C must come here, or the process dies and
	// leaves the terminal silent.
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("switching off the echo: %w", err)
	}
	defer term.Restore(fd, old)
	fmt.Fprintf(t.tty, "%s: ", strings.TrimRight(Clean(a.Prompt), ": "))
	defer io.WriteString(t.tty, "\r\n")
	return readKeys(ctx, fd)
}

// readKeys edits a line of at most maxSecret bytes.
func readKeys(ctx context.Context, fd int) ([]byte, error) {
	line := make([]byte, 0, maxSecret) // never grows, so no copy is left behind
	fail := func(err error) ([]byte, error) {
		clear(line[:cap(line)])
		return nil, err
	}
	key := make([]byte, 1)
	defer clear(key)
	for {
		if err := ctx.Err(); err != nil {
			return fail(context.Cause(ctx))
		}
		// Poll, because a read of a terminal cannot be cancelled.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, keyPoll)
		if errors.Is(err, unix.EINTR) || err == nil && n == 0 {
			continue
		}
		if err == nil {
			n, err = unix.Read(fd, key)
		}
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return fail(fmt.Errorf("reading the terminal: %w", err))
		case n == 0: // hung up
			return fail(ErrCancelled)
		}
		switch k := key[0]; {
		case k == '\r' || k == '\n':
			return line, nil
		case k == keyInterrupt, k == keyEOF && len(line) == 0:
			return fail(ErrCancelled)
		case k == keyBackspace || k == keyDelete:
			if len(line) > 0 {
				line[len(line)-1] = 0
				line = line[:len(line)-1]
			}
		case k == keyKill:
			clear(line)
			line = line[:0]
		case k < 0x20: // arrows and other keys begin with ESC: no secret holds one
		case len(line) == maxSecret:
			return fail(fmt.Errorf("more than %d bytes typed", maxSecret))
		default:
			line = append(line, k)
		}
	}
}

package term

import (
	"bufio"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"
)

// person is the other side of a terminal.
type person struct {
	t    *testing.T
	kbd  *os.File
	seen *bufio.Reader
}

func sit(t *testing.T) (*person, *os.File) {
	t.Helper()
	ptmx, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ptmx.Close(); tty.Close() })
	return &person{t, ptmx, bufio.NewReader(ptmx)}, tty
}

// until reads up to and including a string.
func (p *person) until(s string) string {
	p.t.Helper()
	var all strings.Builder
	for !strings.HasSuffix(all.String(), s) {
		b, err := p.seen.ReadByte()
		if err != nil {
			p.t.Fatalf("saw %q: %v", all.String(), err)
		}
		all.WriteByte(b)
	}
	return all.String()
}

func (p *person) types(s string) {
	p.t.Helper()
	if _, err := p.kbd.WriteString(s); err != nil {
		p.t.Fatal(err)
	}
}

type answer struct {
	pin []byte
	err error
}

func ask(ctx context.Context, tty *os.File, a Ask) chan answer {
	c := make(chan answer, 1)
	go func() {
		pin, err := NewTerminal(tty).Secret(ctx, a)
		c <- answer{pin, err}
	}()
	return c
}

func TestTerminal(t *testing.T) {
	for name, c := range map[string]struct {
		keys, pin string
		err       error
	}{
		"typed":           {"123456\r", "123456", nil},
		"newline":         {"123456\n", "123456", nil},
		"empty":           {"\r", "", nil},
		"corrected":       {"12x\x7fy\b\x7f23\r", "123", nil},
		"over the start":  {"\x7f\x7f1\r", "1", nil},
		"begun anew":      {"999\x15123\r", "123", nil},
		"^C":              {"123\x03", "", ErrCancelled},
		"^D":              {"\x04", "", ErrCancelled},
		"^D in the line":  {"1\x042\r", "12", nil},
		"arrow":           {"1\x1b2\r", "12", nil},
		"not ASCII":       {"pä\r", "pä", nil},
		"as long as may":  {strings.Repeat("1", maxSecret) + "\r", strings.Repeat("1", maxSecret), nil},
		"longer than may": {strings.Repeat("1", maxSecret+1), "", errors.New("more than 255 bytes typed")},
	} {
		t.Run(name, func(t *testing.T) {
			p, tty := sit(t)
			before, err := term.GetState(int(tty.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			got := ask(t.Context(), tty, Ask{Text: "For request 7.\x1b[2J", Prompt: "PIN of card 5:", Error: "Two tries left."})
			if s := p.until("PIN of card 5: "); s != "Two tries left.\r\nFor request 7.\ufffd[2J\r\nPIN of card 5: " {
				t.Errorf("saw %q", s)
			}
			p.types(c.keys)
			a := <-got
			if string(a.pin) != c.pin || !errors.Is(a.err, c.err) && (a.err == nil || c.err == nil || a.err.Error() != c.err.Error()) {
				t.Errorf("%q, %v", a.pin, a.err)
			}
			if s := p.until("\n"); s != "\r\n" {
				t.Errorf("echoed %q", s)
			}
			after, err := term.GetState(int(tty.Fd()))
			if err != nil || *after != *before {
				t.Errorf("the terminal is not as before: %v", err)
			}
		})
	}
}

func TestTerminalContext(t *testing.T) {
	p, tty := sit(t)
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	got := ask(ctx, tty, Ask{Prompt: "PIN"})
	p.until("PIN: ")
	p.types("123")
	why := errors.New("the card was removed")
	cancel(why)
	select {
	case a := <-got:
		if a.pin != nil || !errors.Is(a.err, why) {
			t.Errorf("%q, %v", a.pin, a.err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("still asking")
	}
	if after, err := term.GetState(int(tty.Fd())); err != nil || *after != *before {
		t.Errorf("the terminal is not as before: %v", err)
	}
}

func TestTerminalHungUp(t *testing.T) {
	p, tty := sit(t)
	got := ask(t.Context(), tty, Ask{Prompt: "PIN"})
	p.until("PIN: ")
	p.kbd.Close()
	if a := <-got; a.pin != nil || a.err == nil {
		t.Errorf("%q, %v", a.pin, a.err)
	}
}

func TestNoTerminal(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, tty := range []*os.File{nil, f} {
		if _, err := NewTerminal(tty).Secret(t.Context(), Ask{}); !errors.Is(err, ErrNoTerminal) {
			t.Errorf("%v", err)
		}
	}
}

func TestNewEntry(t *testing.T) {
	_, tty := sit(t)
	env := func(m map[string]string) func(string) string { return func(k string) string { return m[k] } }
	set := env(map[string]string{PinentryVar: "/bin/a", "TERM": "vt100", "LANG": "de_DE", "LC_CTYPE": "C.UTF-8"})
	if e, ok := NewEntry("", env(nil), tty).(*Terminal); !ok || e.tty != tty {
		t.Errorf("neither flag nor variable: %#v", e)
	}
	if e, ok := NewEntry("", set, tty).(*Pinentry); !ok || *e != (Pinentry{"/bin/a", tty.Name(), "vt100", "C.UTF-8"}) {
		t.Errorf("variable: %#v", e)
	}
	if e, ok := NewEntry("/bin/b", set, nil).(*Pinentry); !ok || *e != (Pinentry{"/bin/b", "", "vt100", "C.UTF-8"}) {
		t.Errorf("flag: %#v", e)
	}
}

package term

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// script writes a pinentry program of which the body runs after the greeting
// for each line it reads, as $line. It logs what it reads.
func script(t *testing.T, body string) (program, log string) {
	t.Helper()
	dir := t.TempDir()
	log = filepath.Join(dir, "log")
	program = filepath.Join(dir, "pinentry")
	text := fmt.Sprintf("#!/bin/sh\necho 'OK Pleased to meet you'\nwhile IFS= read -r line; do\nprintf '%%s\\n' \"$line\" >>'%s'\n%s\ndone\n", log, body)
	if err := os.WriteFile(program, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return program, log
}

// answering is a body that answers GETPIN with the given lines.
func answering(lines ...string) string {
	var b strings.Builder
	b.WriteString("case $line in GETPIN)\n")
	for _, l := range lines {
		fmt.Fprintf(&b, "printf '%%s\\n' '%s'\n", l)
	}
	b.WriteString(";;\nBYE) echo OK; exit 0;;\n*) echo OK;; esac")
	return b.String()
}

func TestPinentryDialog(t *testing.T) {
	program, log := script(t, answering("# a comment", "S PASSWORD_FROM_CACHE", "D 12%2534", "D %e2%82%AC", "OK done"))
	p := NewPinentry(program)
	p.TTY, p.TermType, p.Locale = "/dev/pts/7", "vt100", "C.UTF-8"
	pin, err := p.Secret(t.Context(), Ask{
		Title: "Privyseal", Text: "100% sure?\nSecond line\x1b[2J", Prompt: "PIN of card 7", Error: "Two tries left.",
	})
	if err != nil {
		t.Fatal(err)
	}
	if string(pin) != "12%34€" {
		t.Errorf("PIN %q", pin)
	}
	said, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"OPTION ttyname=/dev/pts/7", "OPTION ttytype=vt100", "OPTION lc-ctype=C.UTF-8",
		"SETTITLE Privyseal", "SETDESC 100%25 sure?%0ASecond line\ufffd[2J", "SETPROMPT PIN of card 7", "SETERROR Two tries left.",
		"GETPIN", "BYE", "",
	}, "\n")
	if string(said) != want {
		t.Errorf("said:\n%s\nwant:\n%s", said, want)
	}
}

func TestPinentryRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		body      string
		cancelled bool
		want      string
	}{
		"cancelled":       {answering("ERR 83886179 Operation cancelled <Pinentry>"), true, "cancelled"},
		"fully cancelled": {answering("ERR 83886278 Operation fully cancelled"), true, "cancelled"},
		"another error":   {answering("ERR 83886340 Invalid \x1b[31mdata"), false, "Invalid \ufffd[31mdata"},
		"malformed error": {answering("ERR x"), false, "malformed"},
		"broken escape":   {answering("D secret%2", "OK"), false, "broken escape"},
		"no hex":          {answering("D secret%zz", "OK"), false, "broken escape"},
		"unknown line":    {answering("secret HELLO"), false, "unknown line"},
		"too long":        {answering("D "+strings.Repeat("1", maxSecret+1), "OK"), false, "more than 255"},
		"long line":       {answering("S " + strings.Repeat("x", 2000)), false, "too long"},
		"exits":           {"case $line in GETPIN) exit 1;; *) echo OK;; esac", false, "unexpected EOF"},
		"endless":         {"case $line in GETPIN) yes S;; *) echo OK;; esac", false, "without answering"},
		"no SETDESC":      {"case $line in SETDESC*) echo ERR 536871187 Unknown IPC command;; *) echo OK;; esac", false, "Unknown IPC command"},
	} {
		t.Run(name, func(t *testing.T) {
			program, _ := script(t, c.body)
			pin, err := NewPinentry(program).Secret(t.Context(), Ask{Text: "text", Prompt: "PIN"})
			if pin != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q, %v", pin, err)
			}
			if errors.Is(err, ErrCancelled) != c.cancelled {
				t.Errorf("cancelled: %v, %v", !c.cancelled, err)
			}
			if c.cancelled && err.Error() != "cancelled" {
				t.Errorf("it is said in the program's words: %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error repeats what was typed: %v", err)
			}
		})
	}
}

func TestPinentryUnknownOption(t *testing.T) {
	program, _ := script(t, "case $line in OPTION*) echo ERR 83886254 Unknown option;; GETPIN) echo D 123456; echo OK;; *) echo OK;; esac")
	p := NewPinentry(program)
	p.TTY = "/dev/tty"
	if pin, err := p.Secret(t.Context(), Ask{Prompt: "PIN"}); err != nil || string(pin) != "123456" {
		t.Errorf("%q, %v", pin, err)
	}
}

func TestPinentryInquiry(t *testing.T) {
	program, log := script(t, "case $line in GETPIN) echo INQUIRE QUALITY 1234;; CAN) echo D 123456; echo OK;; *) echo OK;; esac")
	if pin, err := NewPinentry(program).Secret(t.Context(), Ask{Prompt: "PIN"}); err != nil || string(pin) != "123456" {
		t.Errorf("%q, %v", pin, err)
	}
	if said, _ := os.ReadFile(log); !bytes.Contains(said, []byte("\nCAN\n")) {
		t.Errorf("said %q", said)
	}
}

func TestPinentryMissing(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none")
	for program, why := range map[string]string{missing: "no such file or directory", "no-such-pinentry": "executable file not found in $PATH"} {
		_, err := NewPinentry(program).Secret(t.Context(), Ask{})
		var h Hinter
		if !errors.Is(err, ErrNoPinentry) || !errors.As(err, &h) || err.Error() != "the pinentry program cannot be started: "+program+": "+why {
			t.Errorf("%v", err)
		}
	}
}

func TestPinentryContext(t *testing.T) {
	program, _ := script(t, "case $line in GETPIN) exec sleep 100;; *) echo OK;; esac")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if pin, err := NewPinentry(program).Secret(ctx, Ask{}); pin != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q, %v", pin, err)
	}
}

// TestAssuanWipes: nothing of the secret stays in the buffer it came through.
func TestAssuanWipes(t *testing.T) {
	c := &assuan{program: "p", w: io.Discard, r: strings.NewReader("OK\nD 123456\nOK\nD 99")}
	pin, err := c.ask(&Pinentry{}, Ask{})
	if err != nil || string(pin) != "123456" || cap(pin) != maxSecret {
		t.Fatalf("%q, %v", pin, err)
	}
	c.wipe()
	if bytes.ContainsFunc(c.buf[:], func(r rune) bool { return r != 0 }) {
		t.Errorf("left in the buffer: %q", bytes.Trim(c.buf[:], "\x00"))
	}
}

func TestLongTextIsCut(t *testing.T) {
	var out strings.Builder
	c := &assuan{w: &out}
	for n := 990; n < 1010; n++ {
		out.Reset()
		if err := c.send("SETDESC " + escape(strings.Repeat("x", n-9)+"%%%%%%%")); err != nil {
			t.Fatal(err)
		}
		line := out.String()
		if len(line) > maxLine || line[len(line)-1] != '\n' {
			t.Errorf("a line of %d bytes", len(line))
		}
		if tail := strings.TrimRight(line, "\n"); strings.HasSuffix(tail, "%") || strings.HasSuffix(tail, "%2") {
			t.Errorf("an escape was cut: %q", tail[len(tail)-5:])
		}
	}
}

func FuzzAssuan(f *testing.F) {
	f.Add([]byte("OK\nD 12%2534\nOK\n"))
	f.Add([]byte("OK\n#\nS x\nERR 99 x\n"))
	f.Add([]byte("OK\nINQUIRE x\r\nD \nOK"))
	f.Fuzz(func(t *testing.T, in []byte) {
		c := &assuan{program: "p", w: io.Discard, r: bytes.NewReader(in)}
		pin, err := c.ask(&Pinentry{TTY: "t"}, Ask{Text: string(in)})
		if err == nil && len(pin) > maxSecret || err != nil && pin != nil {
			t.Errorf("%d bytes, %v", len(pin), err)
		}
	})
}

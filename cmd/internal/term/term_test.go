package term

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

func TestPrintError(t *testing.T) {
	plain := errors.New("share 3 is missing")
	for _, c := range []struct {
		err  error
		want string
	}{
		{plain, "error: share 3 is missing\n"},
		{WithHint(plain, "ask its holder"), "error: share 3 is missing\nhint: ask its holder\n"},
		{fmt.Errorf("signing: %w", WithHint(plain, "ask its holder")), "error: signing: share 3 is missing\nhint: ask its holder\n"},
		{errors.Join(io.EOF, WithHint(plain, "ask")), "error: EOF\n  share 3 is missing\nhint: ask\n"},
		{WithHint(plain, ""), "error: share 3 is missing\n"},
		{errors.New("\x1b[31mred\r\a\u202egpj"), "error: \ufffd[31mred\ufffd\ufffd\ufffdgpj\n"},
		{errors.New("\xff\n"), "error: \ufffd\n"},
	} {
		var b strings.Builder
		PrintError(&b, c.err)
		if b.String() != c.want {
			t.Errorf("%q\nwant %q", b.String(), c.want)
		}
	}
	if err := WithHint(plain, "x"); !errors.Is(err, plain) {
		t.Error("the hint hides the error")
	}
}

func TestPrintJSON(t *testing.T) {
	var b strings.Builder
	if err := PrintJSON(&b, map[string]any{"b": 1, "a": "<&\x1b>"}); err != nil {
		t.Fatal(err)
	}
	if want := "{\n  \"a\": \"<&\\u001b>\",\n  \"b\": 1\n}\n"; b.String() != want {
		t.Errorf("%q", b.String())
	}
	if err := PrintJSON(&b, func() {}); err == nil {
		t.Error("a function is no JSON")
	}
}

func TestConfirm(t *testing.T) {
	for _, c := range []struct {
		typed, rest string
		err         error
	}{
		{"erase\nmore", "more", nil},
		{"  erase \r\n", "", nil},
		{"ERASE\n", "", ErrNotConfirmed},
		{"y\n", "", ErrNotConfirmed},
		{"\n", "", ErrNotConfirmed},
		{"erase it\n", "", ErrNotConfirmed},
		{"erase", "", ErrCancelled},
		{"", "", ErrCancelled},
	} {
		in, out := strings.NewReader(c.typed), new(strings.Builder)
		if err := Confirm(in, out, "erase"); !errors.Is(err, c.err) {
			t.Errorf("%q: %v", c.typed, err)
		}
		if rest, _ := io.ReadAll(in); string(rest) != c.rest {
			t.Errorf("%q: left %q", c.typed, rest)
		}
		if strings.TrimSuffix(out.String(), "\n") != `type "erase" to go on: ` || strings.HasSuffix(out.String(), "\n") != errors.Is(c.err, ErrCancelled) {
			t.Errorf("%q", out)
		}
	}
	if err := Confirm(strings.NewReader(strings.Repeat("x", maxAnswer+1)), io.Discard, "erase"); !errors.Is(err, ErrNotConfirmed) {
		t.Errorf("endless line: %v", err)
	}
	broken := errors.New("broken")
	if err := Confirm(iotest.ErrReader(broken), io.Discard, "erase"); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	for _, word := range []string{"", " ", " x"} {
		if err := Confirm(strings.NewReader("\n"), io.Discard, word); !errors.Is(err, ErrNotConfirmed) {
			t.Errorf("word %q: %v", word, err)
		}
	}
}

func TestConfirmHeard(t *testing.T) {
	for _, c := range []struct {
		typed, rest string
		err         error
	}{
		{"12ab 34cd\nmore", "more", nil},
		{" 12AB34cd\r\n", "", nil},
		{"12ab 34ce\n", "", ErrNotConfirmed},
		{"12ab\n", "", ErrNotConfirmed},
		{"\n", "", ErrNotConfirmed},
		{"12ab 34cd", "", ErrCancelled},
	} {
		in, out := strings.NewReader(c.typed), new(strings.Builder)
		if err := ConfirmHeard(in, out, "fingerprint", "12ab 34cd"); !errors.Is(err, c.err) {
			t.Errorf("%q: %v", c.typed, err)
		}
		if rest, _ := io.ReadAll(in); string(rest) != c.rest || strings.TrimSuffix(out.String(), "\n") != "fingerprint: " {
			t.Errorf("%q: left %q, wrote %q", c.typed, rest, out)
		}
	}
	if err := ConfirmHeard(strings.NewReader("\n"), io.Discard, "fingerprint", " "); !errors.Is(err, ErrNotConfirmed) {
		t.Errorf("nothing to type: %v", err)
	}
}

func TestConfirmAtTerminal(t *testing.T) {
	p, tty := sit(t)
	done := make(chan error, 1)
	go func() { done <- Confirm(tty, tty, "erase") }()
	p.until(`type "erase" to go on: `)
	p.types("erase\n")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestProgress(t *testing.T) {
	run := func(terminal bool, f func(p *Progress)) string {
		var b bytes.Buffer
		p := StartProgress(&b, terminal, "making safe\x1b primes")
		f(p)
		p.Done()
		p.Done()
		return b.String()
	}
	synctest.Test(t, func(t *testing.T) {
		for _, terminal := range []bool{false, true} {
			if s := run(terminal, func(*Progress) { time.Sleep(1900 * time.Millisecond) }); s != "" {
				t.Errorf("shown at once: %q", s)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := run(false, func(p *Progress) {
			p.Set("1 of 9")
			time.Sleep(10 * time.Second)
			p.Set("7 of 9")
			time.Sleep(10 * time.Second)
		})
		if want := "making safe\ufffd primes: 1 of 9 (2s)\nmaking safe\ufffd primes: 7 of 9 (17s)\nmaking safe\ufffd primes: done after 20s\n"; s != want {
			t.Errorf("%q", s)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := run(true, func(p *Progress) {
			time.Sleep(2100 * time.Millisecond)
			p.Set("3 of 9")
			time.Sleep(200 * time.Millisecond)
		})
		if want := "\r\x1b[Kmaking safe\ufffd primes (2s)\r\x1b[Kmaking safe\ufffd primes: 3 of 9 (2s)\r\x1b[K"; s != want {
			t.Errorf("%q", s)
		}
	})
}

func TestIsTerminal(t *testing.T) {
	_, tty := sit(t)
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !IsTerminal(tty) || IsTerminal(f) || IsTerminal(nil) {
		t.Error(IsTerminal(tty), IsTerminal(f), IsTerminal(nil))
	}
}

package term

import (
	"context"
	"os"
)

// Ask is one question for a secret. The texts must be clean already or come
// from this program; they are cleaned again.
type Ask struct {
	Title  string // of a window; a terminal does not show it
	Text   string // what the secret is for, one or more lines; may be empty
	Prompt string // the last words before the cursor, such as "PIN of card 12345678"
	Error  string // what was wrong with the last answer; may be empty
}

// Entry asks the person for a secret. The caller wipes what it gets. A person
// who declines gives ErrCancelled.
type Entry interface {
	Secret(ctx context.Context, a Ask) ([]byte, error)
}

// PinentryVar is the environment variable that names the pinentry program when
// no flag does.
const PinentryVar = "PRIVYSEAL_PINENTRY"

// NewEntry chooses how secrets are asked for: by the program of the --pinentry
// flag, else by that of PRIVYSEAL_PINENTRY, else at the terminal. tty is the
// person's terminal, or nil if there is none.
func NewEntry(flag string, getenv func(string) string, tty *os.File) Entry {
	program := flag
	if program == "" {
		program = getenv(PinentryVar)
	}
	if program == "" {
		return NewTerminal(tty)
	}
	p := NewPinentry(program)
	p.TermType = getenv("TERM")
	for _, v := range []string{"LC_ALL", "LC_CTYPE", "LANG"} { // in the order of setlocale(3)
		if p.Locale == "" {
			p.Locale = getenv(v)
		}
	}
	if tty != nil {
		p.TTY = tty.Name()
	}
	return p
}

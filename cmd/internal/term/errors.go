package term

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
)

var (
	// ErrCancelled: the person declined.
	ErrCancelled = errors.New("cancelled")
	// ErrNotConfirmed: the word typed was another one.
	ErrNotConfirmed = errors.New("not confirmed")
	// ErrNoPinentry: the pinentry program cannot be started.
	ErrNoPinentry = WithHint(errors.New("the pinentry program cannot be started"),
		"install it or name another with --pinentry or PRIVYSEAL_PINENTRY; without one the terminal is asked")
	// ErrNoTerminal: there is nobody to ask.
	ErrNoTerminal = WithHint(errors.New("no terminal to ask at"),
		"run it at a terminal, or name a pinentry program with --pinentry or PRIVYSEAL_PINENTRY")
)

// Hinter is an error that knows a remedy: one sentence without a full stop.
type Hinter interface {
	error
	Hint() string
}

// WithHint adds a remedy to an error.
func WithHint(err error, hint string) error { return &hinted{err, hint} }

type hinted struct {
	error
	hint string
}

func (h *hinted) Hint() string  { return h.hint }
func (h *hinted) Unwrap() error { return h.error }

// PrintError writes "error: " and the error, and "hint: " and its remedy if
// something it wraps has one. Lines after the first are indented.
func PrintError(w io.Writer, err error) {
	fmt.Fprintf(w, "error: %s\n", indent(err.Error()))
	var h Hinter
	if errors.As(err, &h) && h.Hint() != "" {
		fmt.Fprintf(w, "hint: %s\n", indent(h.Hint()))
	}
}

func indent(s string) string {
	return strings.ReplaceAll(strings.TrimSpace(Clean(s)), "\n", "\n  ")
}

// Clean replaces what could steer a terminal or reorder text: control
// characters but newline and tab, and Unicode's formatting characters. Bytes
// that are not UTF-8 become U+FFFD.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return r
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == '\u2028', r == '\u2029':
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(s, string(unicode.ReplacementChar)))
}

// PrintJSON writes v as indented JSON and a newline. Characters of HTML are
// left as they are. JSON escapes control characters itself.
func PrintJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

package term

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Confirm asks for a word to be typed, before something that cannot be undone,
// and returns nil only if exactly that word was typed; else ErrNotConfirmed, or
// ErrCancelled at the end of input. It reads no further than the line.
func Confirm(in io.Reader, out io.Writer, word string) error {
	if word == "" || strings.TrimSpace(word) != word {
		return fmt.Errorf("%w: no word to type", ErrNotConfirmed)
	}
	line, err := Question(in, out, fmt.Sprintf("type %q to go on:", Clean(word)))
	if err != nil {
		return err
	}
	if strings.TrimSpace(line) != word {
		return fmt.Errorf("%w: %q was not typed", ErrNotConfirmed, Clean(word))
	}
	return nil
}

// ConfirmHeard asks for what is not shown: who can type it has heard it from
// somebody. Blanks and case do not count. It returns nil only if it was typed;
// else as Confirm.
func ConfirmHeard(in io.Reader, out io.Writer, what, want string) error {
	plain := func(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), "")) }
	if plain(want) == "" {
		return fmt.Errorf("%w: no %s to type", ErrNotConfirmed, Clean(what))
	}
	line, err := Question(in, out, Clean(what)+":")
	if err != nil {
		return err
	}
	if plain(line) != plain(want) {
		return fmt.Errorf("%w: that is another %s", ErrNotConfirmed, Clean(what))
	}
	return nil
}

// Question asks for a line, which is at most 1024 octets long. ErrCancelled is
// the end of input. It reads no further than the line.
func Question(in io.Reader, out io.Writer, question string) (string, error) {
	fmt.Fprintf(out, "%s ", Clean(question))
	line, err := readLine(in)
	if err != nil {
		fmt.Fprintln(out) // nobody did: what is said next has a line of its own
	}
	return line, err
}

// readLine reads byte by byte, so that what follows the line stays unread.
func readLine(in io.Reader) (string, error) {
	var line []byte
	b := make([]byte, 1)
	for {
		n, err := in.Read(b)
		if n == 1 {
			if b[0] == '\n' {
				return string(line), nil
			}
			if line = append(line, b[0]); len(line) > maxAnswer {
				return "", fmt.Errorf("%w: the line is too long", ErrNotConfirmed)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return "", ErrCancelled // a line without its end was not sent off
		case err != nil:
			return "", err
		}
	}
}

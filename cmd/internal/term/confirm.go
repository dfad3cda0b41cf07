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
	fmt.Fprintf(out, "type %q to go on: ", Clean(word))
	line, err := readLine(in)
	if err != nil {
		return err
	}
	if strings.TrimSpace(line) != word {
		return fmt.Errorf("%w: %q was not typed", ErrNotConfirmed, Clean(word))
	}
	return nil
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

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/document"
)

// say prints a line of the result. Text of others in it is cleaned.
func (a *app) say(format string, args ...any) {
	fmt.Fprintln(a.out, term.Clean(fmt.Sprintf(format, args...)))
}

// tell prints a line for the person that is no part of the result.
func (a *app) tell(format string, args ...any) {
	fmt.Fprintln(a.err, term.Clean(fmt.Sprintf(format, args...)))
}

// warn prints an error that does not end the command.
func (a *app) warn(err error) {
	var h term.Hinter
	text := err.Error()
	if errors.As(err, &h) && h.Hint() != "" {
		text += " (" + h.Hint() + ")"
	}
	fmt.Fprintf(a.err, "warning: %s\n", strings.ReplaceAll(term.Clean(text), "\n", "\n  "))
}

// result prints v as JSON if that was asked for, else what text prints.
func (a *app) result(v any, text func()) error {
	if a.json {
		return term.PrintJSON(a.out, v)
	}
	text()
	return nil
}

// agree asks a person to say yes. Nobody there is an error, not a yes.
func (a *app) agree(question string) error {
	if !a.interactive || a.json {
		return usage("nobody is there to say yes", "look at it with \"privyseal officer show\", then repeat the command with --yes")
	}
	line, err := term.Question(a.in, a.err, question+" [y/N]")
	if err != nil && !errors.Is(err, term.ErrCancelled) {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return term.ErrNotConfirmed
}

// checkNew refuses a file that exists, before work is done for it.
func checkNew(path string) error {
	if path == "" {
		return nil
	}
	if _, err := os.Lstat(path); err == nil {
		return existsError(path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return unwritable(path, err)
	}
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = unix.ENOTDIR
	}
	if err == nil {
		err = unix.Access(dir, unix.W_OK|unix.X_OK)
	}
	if err != nil {
		return unwritable(path, err)
	}
	return nil
}

// writeNew writes a file that does not exist yet.
func writeNew(path string, data []byte, perm fs.FileMode) error {
	err := atomicfile.Create(path, data, perm)
	if errors.Is(err, fs.ErrExist) {
		return existsError(path)
	}
	if err != nil {
		return unwritable(path, err)
	}
	return nil
}

func existsError(path string) error {
	return term.WithHint(fmt.Errorf("%s exists already", path), "nothing is overwritten: name another place")
}

// unwritable says why a file cannot be made, without the names of others that
// were made on the way to it.
func unwritable(path string, err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	} else if l := (*os.LinkError)(nil); errors.As(err, &l) {
		err = l.Err
	}
	bad := fmt.Errorf("cannot write %s: %w", path, err)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return term.WithHint(bad, fmt.Sprintf("there is no directory %s: make it, or name another place", filepath.Dir(path)))
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return term.WithHint(bad, "name another place")
	}
	return bad
}

// readSmall reads a file that people made, up to a limit.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, &tooLongError{path, limit}
	}
	return data, nil
}

type tooLongError struct {
	path  string
	limit int64
}

func (e *tooLongError) Error() string {
	return fmt.Sprintf("%s has more than %d octets", e.path, e.limit)
}

// wrapList joins words with commas, in lines of so many columns where the words
// allow it.
func wrapList(words []string, width int) []string {
	var out []string
	line := ""
	for n, word := range words {
		if n < len(words)-1 {
			word += ","
		}
		switch {
		case line == "":
			line = word
		case document.Columns(line+" "+word) <= width:
			line += " " + word
		default:
			out, line = append(out, line), word
		}
	}
	return append(out, line)
}

func timeText(unix int64) string { return time.Unix(unix, 0).UTC().Format("2006-01-02 15:04:05 UTC") }

// short is the beginning of a digest, enough to name it.
func short(digest fmt.Stringer) string { return digest.String()[:12] }

// shellQuote makes a word safe to paste into a shell.
func shellQuote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./=:,+@", r))
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

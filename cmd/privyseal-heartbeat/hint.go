package main

import (
	"errors"

	"github.com/privyseal/privyseal/cmd/internal/source"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

// hint adds the remedy to errors of a source's directory.
func hint(dir string, err error) error {
	switch {
	case errors.Is(err, source.ErrNoSource):
		return term.WithHint(err, "make one with 'privyseal-heartbeat init --dir "+dir+"', before the ceremony; one that was lost comes back with 'privyseal-heartbeat restore'")
	case errors.Is(err, source.ErrRestoring):
		return term.WithHint(err, "go on with 'privyseal-heartbeat restore --dir "+dir+" PIECE...', or take another directory")
	case errors.Is(err, source.ErrExists):
		return term.WithHint(err, "choose another directory, or start that source with 'privyseal-heartbeat run --dir "+dir+"'")
	case errors.Is(err, source.ErrRunning):
		return term.WithHint(err, "end that process first; two of one source would not know of each other")
	case errors.Is(err, source.ErrNoSystem):
		return term.WithHint(err, "run it until its message server has shown it the system, after the ceremony")
	}
	return err
}

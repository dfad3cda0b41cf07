package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/transport/bus"
)

// blame is an error with a name: who could not be asked, or did not answer well.
type blame struct {
	who string // such as "device d1"
	err error
}

func (e *blame) Error() string { return named(e.who, e.err.Error()) }
func (e *blame) Unwrap() error { return e.err }

// named says a name once, whatever comes after it.
func named(who, text string) string {
	if _, ok := cutName(who, text); ok {
		return text
	}
	if rest, ok := strings.CutPrefix(text, "it "); ok {
		return who + " " + rest
	}
	return who + ": " + text
}

// bare is a text for a place where the name stands before it already.
func bare(who, text string) string {
	if rest, ok := cutName(who, text); ok {
		return rest
	}
	return text
}

func cutName(who, text string) (string, bool) {
	if rest, ok := strings.CutPrefix(text, who+": "); ok {
		return rest, true
	}
	if rest, ok := strings.CutPrefix(text, who+" "); ok {
		return "it " + rest, true
	}
	return "", false
}

func theDevice(id string) string { return "device " + id }
func theSite(id string) string   { return "site " + id }

// askSite puts a message to another site.
func (s *Server) askSite(ctx context.Context, site string, msg []byte, subject ...string) ([]byte, error) {
	b := s.theBus()
	if b == nil {
		return nil, errors.New("there is no way to other sites")
	}
	out, err := b.Request(ctx, bus.Subject(site, subject...), msg)
	if err != nil {
		return nil, &blame{theSite(site), &busError{err}}
	}
	return out, nil
}

// busError is why a site could not be asked, or what it answered instead, in words
// for whoever knows of sites and not of a bus.
type busError struct{ err error }

func (e *busError) Error() string {
	var remote *bus.RemoteError
	switch {
	case errors.As(e.err, &remote):
		return "it says: " + remote.Text
	case errors.Is(e.err, bus.ErrNoSite):
		return "it does not answer"
	case errors.Is(e.err, context.DeadlineExceeded):
		return "it does not answer in time"
	}
	return strings.TrimPrefix(e.err.Error(), "bus: ")
}

func (e *busError) Unwrap() error { return e.err }

// silence is why somebody who was asked did not answer.
func silence(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("it did not answer in time")
	}
	return fmt.Errorf("it did not answer: %w", err)
}

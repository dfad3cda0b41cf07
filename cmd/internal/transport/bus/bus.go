// Package bus carries messages between the message servers of the sites.
//
// It is transport and never the record: a message may be lost, doubled or
// late, and any site of the mesh can send on any subject. What counts is
// signed, sealed, expires and can be asked for again; truth is in signed logs.
// The bus keeps strangers out (mutual TLS 1.3 with pinned keys), notices dead
// routes in seconds, refuses what is stale or too large, and says plainly
// whether a site is absent, busy or wrong.
package bus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Handler answers one message. The context ends when the sender stops
// waiting. The answer to a published message is dropped.
type Handler func(ctx context.Context, msg []byte) ([]byte, error)

// A Bus joins sites. Its methods may be called from any goroutine.
type Bus interface {
	// Publish sends msg to all who serve subject, and does not wait for them.
	Publish(ctx context.Context, subject string, msg []byte) error

	// Request sends msg and returns the first answer. Errors: ErrNoSite,
	// ErrBusy, ErrExpired, *RemoteError, the context's own.
	Request(ctx context.Context, subject string, msg []byte) ([]byte, error)

	// Serve answers subject until close is called; close waits for handlers
	// that run. Subjects below "site." can be served by their own site only.
	Serve(subject string, h Handler) (close func(), err error)

	// Close ends all. Handlers that run see their context end.
	Close()
}

var (
	// ErrNoSite means that nobody serves the subject now: the site is down,
	// unreachable or does not know the subject. It is known at once.
	ErrNoSite = errors.New("bus: no site serves this subject now")
	// ErrBusy means that the site has as much work as it takes.
	ErrBusy = errors.New("bus: the site is busy, try again later")
	// ErrExpired means that the message reached the site after its end.
	ErrExpired = errors.New("bus: the message arrived after its end: check the route and both clocks")
	// ErrTooLarge refuses a message before anything is sent.
	ErrTooLarge = fmt.Errorf("bus: a message has at most %d octets", MaxMessage)
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("bus: closed")
	// ErrBadAnswer means that the answer is not of this protocol.
	ErrBadAnswer = errors.New("bus: the answer is malformed")
)

// A RemoteError is what the other site's handler answered instead of a result.
// The text is the other site's and proves nothing.
type RemoteError struct{ Subject, Text string }

func (e *RemoteError) Error() string {
	return fmt.Sprintf("bus: %s answered with an error: %q", e.Subject, e.Text)
}

// Subject returns "site.<id>.<name>…".
func Subject(site string, name ...string) string {
	return strings.Join(append([]string{"site", site}, name...), ".")
}

// checkSubject admits words of letters, digits, '-' and '_' with dots between
// them. That leaves out wildcards, system subjects and private inboxes.
func checkSubject(s string) error {
	if len(s) > maxSubject {
		return fmt.Errorf("bus: a subject has at most %d characters, not %d", maxSubject, len(s))
	}
	for _, word := range strings.Split(s, ".") {
		if err := checkWord(word); err != nil {
			return fmt.Errorf("bus: subject %q: %w", s, err)
		}
	}
	return nil
}

func checkWord(w string) error {
	if w == "" || w[0] == '_' {
		return fmt.Errorf("the word %q is empty or begins with '_'", w)
	}
	for _, c := range []byte(w) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return fmt.Errorf("a word is made of letters, digits, '-' and '_', not %q", c)
		}
	}
	return nil
}

// The wire form. A message is a version octet, the end of its life in
// milliseconds since 1970 as 8 octets big-endian, and the payload; an answer
// is a status octet and the payload or an error's text.
const (
	wireVersion = 1
	wireHeader  = 1 + 8

	statusOK        = 0
	statusError     = 1
	statusBusy      = 2
	statusExpired   = 3
	statusMalformed = 4
	statusGone      = 5
)

func encodeMessage(end time.Time, msg []byte) ([]byte, error) {
	if len(msg) > MaxMessage {
		return nil, fmt.Errorf("%w, not %d", ErrTooLarge, len(msg))
	}
	b := make([]byte, 0, wireHeader+len(msg))
	b = append(b, wireVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(end.UnixMilli()))
	return append(b, msg...), nil
}

// decodeMessage returns the payload and how long its handler may take.
func decodeMessage(b []byte, now time.Time) (msg []byte, left time.Duration, status byte) {
	if len(b) < wireHeader || len(b) > wireHeader+MaxMessage || b[0] != wireVersion {
		return nil, 0, statusMalformed
	}
	end := binary.BigEndian.Uint64(b[1:wireHeader])
	// In milliseconds and unsigned first: a hostile end must not overflow.
	if latest := uint64(now.Add(MaxTimeout + MaxSkew).UnixMilli()); end > latest {
		return nil, 0, statusMalformed
	}
	left = time.UnixMilli(int64(end)).Sub(now)
	if left < -MaxSkew {
		return nil, 0, statusExpired
	}
	// Within the skew nobody can say whether the sender still waits.
	return b[wireHeader:], min(max(left, time.Second), MaxTimeout), statusOK
}

func encodeAnswer(out []byte, err error) []byte {
	if err == nil && len(out) > MaxMessage {
		err = ErrTooLarge
	}
	if err != nil {
		text := err.Error()
		return append([]byte{statusError}, text[:min(len(text), maxErrorText)]...)
	}
	b := make([]byte, 0, 1+len(out))
	return append(append(b, statusOK), out...)
}

func decodeAnswer(subject string, b []byte) ([]byte, error) {
	if len(b) == 0 || len(b) > 1+MaxMessage {
		return nil, ErrBadAnswer
	}
	switch b[0] {
	case statusOK:
		return b[1:], nil
	case statusError:
		return nil, &RemoteError{Subject: subject, Text: string(b[1:min(len(b), 1+maxErrorText)])}
	case statusBusy:
		return nil, ErrBusy
	case statusExpired:
		return nil, ErrExpired
	case statusGone:
		return nil, ErrNoSite
	}
	return nil, fmt.Errorf("%w: status %d", ErrBadAnswer, b[0])
}

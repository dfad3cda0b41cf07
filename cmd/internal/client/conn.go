package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// Conn speaks with one message server. It may be used from any goroutine.
type Conn struct {
	name string // for errors: id, or URL before the id is known
	http *web.Client

	pageSilence, pageTimeout time.Duration // as the limits say; tests have less time
}

// Dial makes a connection to a server of the tables or of a ceremony's plan.
// Nothing is sent yet.
func Dial(s ledger.Server) (*Conn, error) { return dial(s.ID, s.URL, s.TLS) }

// DialURL makes a connection to a server of which only the address and the
// SHA-256 of its TLS key are known.
func DialURL(url string, pin envelope.Hash) (*Conn, error) { return dial(url, url, pin) }

func dial(name, url string, pin envelope.Hash) (*Conn, error) {
	c, err := web.NewClient(url, pinned.Pin(pin))
	if err != nil {
		return nil, err
	}
	return &Conn{name: name, http: c, pageSilence: pageSilence, pageTimeout: pageTimeout}, nil
}

// Close closes idle connections.
func (c *Conn) Close() { c.http.Close() }

// A RefusedError is a server's no. Its text proves nothing.
type RefusedError struct {
	Server string
	Code   int // HTTP status
	Text   string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("message server %s refuses: %s", e.Server, e.Text)
}

// NotFound reports whether a server does not know what it was asked for.
func NotFound(err error) bool {
	var e *RefusedError
	return errors.As(err, &e) && e.Code == 404
}

// An UnreachableError is a server that gave no answer.
type UnreachableError struct {
	Server string
	Err    error
}

func (e *UnreachableError) Error() string {
	err := e.Err
	// What was asked for, and under which path, says nothing to people.
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Sprintf("message server %s cannot be reached: %v", e.Server, err)
}
func (e *UnreachableError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *UnreachableError) Hint() string {
	var pin *pinned.WrongPinError
	if errors.As(e.Err, &pin) {
		return "somebody else answers at its address, or its key was exchanged: compare the pin with the ledger"
	}
	return "start it, or name another one with --server"
}

// explain gives an error of the transport its name.
func (c *Conn) explain(ctx context.Context, err error) error {
	var status *web.StatusError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &status) && status.Denied:
		return term.WithHint(&RefusedError{c.name, status.Code, status.Message}, fmt.Sprintf("wait %s", status.RetryAfter))
	case errors.As(err, &status) && status.Temporary():
		return term.WithHint(&RefusedError{c.name, status.Code, status.Message}, "it is busy: ask again in a while")
	case errors.As(err, &status):
		return &RefusedError{c.name, status.Code, status.Message}
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return &UnreachableError{c.name, fmt.Errorf("no answer in time: %w", context.Cause(ctx))}
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return &UnreachableError{c.name, err}
}

// patiently repeats a call while the server is saturated.
func patiently[T any](ctx context.Context, c *Conn, tries int, f func() (T, error)) (T, error) {
	for try := 1; ; try++ {
		v, err := f()
		var status *web.StatusError
		if err == nil || try == tries || !errors.As(err, &status) || !status.Temporary() {
			return v, c.explain(ctx, err)
		}
		pause := min(max(status.RetryAfter, time.Second), busyWait)
		select {
		case <-ctx.Done():
			return v, c.explain(ctx, err)
		case <-time.After(pause + rand.N(pause)): // those who were turned away together come back apart
		}
	}
}

// post sends a body as it is.
func (c *Conn) post(ctx context.Context, path string, body []byte) ([]byte, error) {
	tries := busyTries
	if path == api.PathRequest {
		tries = requestTries
	}
	return patiently(ctx, c, tries, func() ([]byte, error) { return c.http.Post(ctx, path, body) })
}

// ask posts in, encoded, and decodes the answer into out; either may be nil.
func (c *Conn) ask(ctx context.Context, path string, in, out any) error {
	var body []byte
	if raw, ok := in.([]byte); ok {
		body = raw
	} else if in != nil {
		var err error
		if body, err = envelope.Marshal(in); err != nil {
			return err
		}
	}
	answer, err := c.post(ctx, path, body)
	if err != nil || out == nil {
		return err
	}
	if err := envelope.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("answer of message server %s to %s: %w", c.name, path, err)
	}
	return nil
}

// Relay hands a frame of a ceremony to a device of the server's site and
// returns its answer. Making a key takes minutes; ctx bounds it.
func (c *Conn) Relay(ctx context.Context, device string, frame []byte) ([]byte, error) {
	for {
		var out api.Relayed
		if err := c.ask(ctx, api.PathRelay, &api.Relay{Device: device, Frame: frame}, &out); err != nil {
			return nil, err
		}
		if len(out.Frame) > 0 {
			return out.Frame, nil
		}
	}
}

// Status asks how all sites and devices are, as the servers tell it.
func (c *Conn) Status(ctx context.Context) (*api.SystemStatus, error) {
	out := new(api.SystemStatus)
	return out, c.ask(ctx, api.PathStatus, nil, out)
}

// Register hands SWA certificates to all devices.
func (c *Conn) Register(ctx context.Context, certificates [][]byte) (*api.Registered, error) {
	out := new(api.Registered)
	return out, c.ask(ctx, api.PathRegister, &api.Register{Certificates: certificates}, out)
}

// Recertify asks a device for requests for its own and its officers' SWA
// certificates, raw messages.
func (c *Conn) Recertify(ctx context.Context, device string, expires int64) ([][]byte, error) {
	var out firmware.Requests
	err := c.ask(ctx, api.PathRecertify, &api.Recertify{Device: device, Expires: expires}, &out)
	return out.Requests, err
}

// tracking polls once for where a request stands; nil if nothing changed since
// that revision.
func (c *Conn) tracking(ctx context.Context, request envelope.Hash, since uint64, wait time.Duration) (*api.Tracking, error) {
	batch, err := patiently(ctx, c, busyTries, func() (web.Batch, error) {
		return c.http.Poll(ctx, api.PathTracking, web.Poll{Inbox: request.String(), Since: since, Wait: wait})
	})
	if err != nil || len(batch) == 0 {
		return nil, err
	}
	t := new(api.Tracking)
	if err := envelope.Unmarshal(batch[len(batch)-1].Body, t); err != nil {
		return nil, fmt.Errorf("answer of message server %s: %w", c.name, err)
	}
	if t.Request != request {
		return nil, fmt.Errorf("message server %s answers for request %s, asked for %s", c.name, t.Request, request)
	}
	return t, nil
}

// Tracking says where a request stands.
func (c *Conn) Tracking(ctx context.Context, request envelope.Hash) (*api.Tracking, error) {
	t, err := c.tracking(ctx, request, 0, 0)
	if err == nil && t == nil {
		err = &RefusedError{c.name, 404, fmt.Sprintf("it does not know request %s", request)}
	}
	return t, err
}

// Follow waits until a request is finished, and tells see of every change. A
// server that is away for a while is waited for. When ctx ends it returns what
// was known last with ctx's error.
func (c *Conn) Follow(ctx context.Context, request envelope.Hash, see func(*api.Tracking)) (*api.Tracking, error) {
	var last *api.Tracking
	var since uint64
	for {
		began := time.Now()
		t, err := c.tracking(ctx, request, since, pollWait)
		var away *UnreachableError
		switch {
		case ctx.Err() != nil:
			return last, context.Cause(ctx)
		case errors.As(err, &away), err == nil && t == nil && time.Since(began) < retryWait:
			// It is stopping, or away, and may count anew when it is back.
			since = 0
			select {
			case <-ctx.Done():
			case <-time.After(retryWait):
			}
			continue
		case err != nil:
			return last, err
		case t == nil:
			continue
		}
		last, since = t, t.Revision
		if see != nil {
			see(t)
		}
		if t.State != api.StateOpen {
			return t, nil
		}
	}
}

// inbox takes all sealed items of an officer's card after a cursor, waiting
// for the first.
func (c *Conn) inbox(ctx context.Context, agree envelope.KeyID, since uint64, wait time.Duration) ([][]byte, uint64, error) {
	var items [][]byte
	for {
		batch, err := patiently(ctx, c, busyTries, func() (web.Batch, error) {
			return c.http.Poll(ctx, api.PathInbox, web.Poll{Inbox: agree.String(), Since: since, Wait: wait})
		})
		if err != nil {
			return nil, since, err
		}
		for _, m := range batch {
			items, since = append(items, m.Body), m.Cursor
		}
		if len(batch) == 0 || len(items) >= maxItems {
			return items, since, nil
		}
		wait = 0
	}
}

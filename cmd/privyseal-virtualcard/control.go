package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

const (
	// controlTimeout bounds an exchange over the control socket, which both
	// ends do at once.
	controlTimeout = 10 * time.Second
	// maxControl bounds a message over the control socket.
	maxControl = 64 << 10
)

// request is what the verbs fault and list ask of a running run: one JSON
// value over DIR/control.sock, answered by one reply.
type request struct {
	Verb   string `json:"verb"` // list, unplug, insert, swap, clear, arm
	Serial uint32 `json:"serial,omitempty"`
	Fault  *fault `json:"fault,omitempty"` // of arm and swap
}

// fault is a virtual.Fault whose other card is named by its number.
type fault struct {
	Action      virtual.Action `json:"action"`
	Instruction byte           `json:"instruction,omitempty"`
	P2          byte           `json:"p2,omitempty"`
	After       int            `json:"after,omitempty"`
	Times       int            `json:"times,omitempty"`
	Delay       time.Duration  `json:"delay,omitempty"`
	Status      uint16         `json:"status,omitempty"`
	Other       uint32         `json:"other,omitempty"`
	Late        bool           `json:"late,omitempty"`
}

type reply struct {
	Error string     `json:"error,omitempty"`
	Hint  string     `json:"hint,omitempty"`
	Cards []cardJSON `json:"cards,omitempty"`
}

func controlPath(dir string) string { return filepath.Join(dir, "control.sock") }

// errNotRunning: no run serves the directory.
var errNotRunning = errors.New("the cards are not plugged in")

// send sends a request to the run of a directory.
func (r request) send(ctx context.Context, dir string) (reply, error) {
	d := net.Dialer{Timeout: controlTimeout}
	conn, err := d.DialContext(ctx, "unix", controlPath(dir))
	if err != nil {
		return reply{}, term.WithHint(errNotRunning, "start privyseal-virtualcard run with this --dir first")
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(controlTimeout)); err != nil {
		return reply{}, err
	}
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return reply{}, fmt.Errorf("control socket: %w", err)
	}
	var a reply
	if err := json.NewDecoder(io.LimitReader(conn, maxControl)).Decode(&a); err != nil {
		return reply{}, fmt.Errorf("control socket: %w", err)
	}
	if a.Error != "" {
		return reply{}, term.WithHint(errors.New(a.Error), a.Hint)
	}
	return a, nil
}

// control answers requests until ctx ends. Only the owner of the directory can
// connect.
func (h *host) control(ctx context.Context, dir string) (func(), error) {
	path := controlPath(dir)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // of a run that was killed; the lock is ours
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, term.WithHint(fmt.Errorf("control socket: %w", err), "the path of a socket has at most 107 bytes; choose a shorter --dir")
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			h.answer(conn)
		}
	}()
	return func() { l.Close(); <-done }, nil
}

func (h *host) answer(conn net.Conn) {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(controlTimeout)); err != nil {
		return
	}
	var r request
	d := json.NewDecoder(io.LimitReader(conn, maxControl))
	d.DisallowUnknownFields()
	var a reply
	err := d.Decode(&r)
	if err == nil {
		a, err = h.do(r)
	}
	if err != nil {
		a.Error = err.Error()
		if hint, ok := errors.AsType[term.Hinter](err); ok {
			a.Hint = hint.Hint()
		}
	}
	_ = json.NewEncoder(conn).Encode(a) // the other end reports its own failure
}

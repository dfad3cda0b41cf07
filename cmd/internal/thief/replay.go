package main

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

func newReplay() *cobra.Command {
	var t things
	return t.flags(&cobra.Command{
		Use:   "replay",
		Short: "Be the message server of a device, and say to it again all that was ever said",
		Long: `Be the message server of a device, with the real one's keys: wait until it dials,
say to it again, word for word, all that was ever said to it, and then ask it
how it is.`,
		RunE: func(c *cobra.Command, _ []string) error { return t.replay(c.Context(), c.OutOrStdout()) },
	}, "home", "server", "recording", "link", "id")
}

// host is the thief as a message server.
type host struct {
	state ledger.State
	row   ledger.Device
	sign  *ecdsa.PrivateKey
	agree ecdh.KeyExchanger
	conn  *link.Conn
}

func (t *things) replay(ctx context.Context, w io.Writer) error {
	h := &host{}
	var err error
	if h.state, h.row, err = t.row(); err != nil {
		return err
	}
	to, _, err := readRecording(t.recording)
	if err != nil {
		return err
	}
	if h.sign, err = readKey(filepath.Join(t.server, "sign.key")); err != nil {
		return err
	}
	agree, err := readKey(filepath.Join(t.server, "agree.key"))
	if err != nil {
		return err
	}
	if h.agree, err = agree.ECDH(); err != nil {
		return err
	}
	l, err := link.Listen(t.link, link.ListenOptions{ID: h.row.Server, Allow: func(string, pinned.Pin) error { return nil }})
	if err != nil {
		return err
	}
	defer l.Close()
	if h.conn, err = l.Accept(ctx); err != nil {
		return err
	}
	said, answers := map[string]int{}, map[string]int{}
	for _, frame := range to {
		said[typeOf(frame)]++
		if err := h.conn.Send(ctx, frame); err != nil {
			return err
		}
		if err := h.drain(ctx, answers); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "said again: %s\n", counts(said))
	status, err := h.status(ctx, answers)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "its answers: %s\n", counts(answers))
	fmt.Fprintf(w, "it says of itself: %s, %s\n", status.Phase, leaseText(status.Lease))
	switch {
	case answers[firmware.TypePartial] > 0 || answers[firmware.TypeOffered] > 0:
		return errors.New("it works for the thief")
	case status.Phase != firmware.PhaseLocked || status.Lease == nil || status.Lease.Left > 0:
		return errors.New("it is not locked")
	case said["beat"] == 0 || said[firmware.TypeTask] == 0:
		return errors.New("the recording has no beats, or no tasks: the attempt proves nothing")
	}
	return nil
}

func leaseText(l *firmware.LeaseStatus) string {
	if l == nil {
		return "needs no beats"
	}
	return fmt.Sprintf("lease %.1f s", float64(l.Left)/1000)
}

// drain takes what the device says, for a moment.
func (h *host) drain(ctx context.Context, answers map[string]int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Millisecond)
	defer cancel()
	for {
		frame, err := h.conn.Recv(ctx)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return nil
		case err != nil:
			return err
		}
		answers[h.typeOf(frame)]++
	}
}

// status asks the device how it is.
func (h *host) status(ctx context.Context, answers map[string]int) (*firmware.Status, error) {
	body, err := envelope.Marshal(firmware.StatusAsk{})
	if err != nil {
		return nil, err
	}
	now := time.Now().Unix()
	raw, err := envelope.Sign(rand.Reader, h.sign, envelope.Header{
		Type: firmware.TypeStatusAsk, Version: firmware.MessageVersion, System: h.state.System(), LedgerHead: h.state.Head(),
		Created: now, Expires: now + 300,
	}, body)
	if err != nil {
		return nil, err
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, err
	}
	if err := h.conn.Send(ctx, raw); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errors.New("the device does not say how it is"))
	defer cancel()
	for {
		frame, err := h.conn.Recv(ctx)
		if err != nil {
			return nil, errors.Join(err, context.Cause(ctx))
		}
		a, err := h.read(frame)
		if err != nil || a.Header().Re != u.Header().ID {
			answers[h.typeOf(frame)]++
			continue
		}
		var s firmware.Status
		return &s, envelope.Unmarshal(a.UnverifiedPayload(), &s)
	}
}

// read opens what the device sealed to its server.
func (h *host) read(frame []byte) (*envelope.Unverified, error) {
	if raw, err := envelope.Open(frame, h.agree); err == nil {
		frame = raw
	}
	return envelope.Parse(frame)
}

func (h *host) typeOf(frame []byte) string {
	u, err := h.read(frame)
	if err != nil {
		return typeOf(frame)
	}
	var r firmware.Refusal
	if u.Header().Type == firmware.TypeRefusal && envelope.Unmarshal(u.UnverifiedPayload(), &r) == nil {
		return firmware.TypeRefusal + " (" + r.Code + ")"
	}
	return u.Header().Type
}

// typeOf is what a sealed or open message says it is.
func typeOf(frame []byte) string {
	if h, err := envelope.Peek(frame); err == nil {
		return h.Type
	}
	if u, err := envelope.Parse(frame); err == nil {
		return u.Header().Type
	}
	return "?"
}

func counts(m map[string]int) string {
	if len(m) == 0 {
		return "none"
	}
	var out []string
	for _, typ := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%d %s", m[typ], typ))
	}
	return strings.Join(out, ", ")
}

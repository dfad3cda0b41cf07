package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/card"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/command"
	ceremonydesk "github.com/privyseal/privyseal/cmd/internal/desk"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/ledger"
)

func newHeartbeatRevoke(a *app) *cobra.Command {
	var q revoking
	c := &cobra.Command{
		Use:   "revoke DEVICE [--source ID]... --reason TEXT",
		Short: "Silence a device: tell its sources to beat for it no more",
		Long: `Tell a device's sources to beat for it no more, all of them or those named. When
fewer than it needs are left it falls silent within one lease and locks its
token. The word is signed with your card, once for each source; an operator of
the source or an officer of the device may give it, alone. Each source signs that
it has it on its disk, and that is verified here.

Silence takes one person. Coming back takes the device's officers, who open it
anew with 'privyseal officer unlock'.

It exits with 0 if the sources that confirmed are enough to silence the device
or, with --source, if all that were named have confirmed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			q.device = args[0]
			if strings.TrimSpace(q.reason) == "" {
				return usage("a revocation needs a reason", "say it with --reason")
			}
			return a.revoke(c.Context(), &q)
		},
	}
	f := c.Flags()
	f.StringSliceVar(&q.sources, "source", nil, "ids of the sources to silence (default: all of the device's that you may)")
	f.StringVar(&q.reason, "reason", "", "why, for the sources' operators")
	f.StringVar(&q.card, "card", "", "serial number of your card (default: the only one there)")
	_ = c.MarkFlagRequired("reason")
	return c
}

// revoking is who wants to silence what.
type revoking struct {
	device, reason, card string
	sources              []string

	row    ledger.Device
	person ledger.Person
	of     ledger.Card
	named  bool // sources were named
}

// revoked is what became of it.
type revoked struct {
	Device    string          `json:"device"`
	Sources   []revokedSource `json:"sources"`
	Confirmed uint64          `json:"confirmed"`
	Policy    uint64          `json:"sources_of_policy"`
	Needed    uint64          `json:"needed"`
	Silenced  bool            `json:"silenced"`        // those that confirmed are enough
	Until     int64           `json:"until,omitempty"` // no longer than this it goes on, if silenced
}

type revokedSource struct {
	Source    string `json:"source"`
	Confirmed bool   `json:"confirmed"`
	At        int64  `json:"at,omitempty"` // by the source's clock
	Error     string `json:"error,omitempty"`
}

func (a *app) revoke(ctx context.Context, q *revoking) error {
	s, err := a.system()
	if err != nil {
		return err
	}
	via, err := a.dialAnyWithin(ctx, s, urgentPatience)
	if err != nil {
		return err
	}
	if via != nil {
		defer via.Close()
	}
	if err := q.resolve(ctx, a, s.State()); err != nil {
		return err
	}
	q.explain(a)
	if err := term.Confirm(a.in, a.err, q.row.ID); err != nil {
		return err
	}
	var got []client.Revocation
	why := fmt.Sprintf("%s, %s: silence device %s", s.State().Name(), q.person.Name, deviceName(q.row))
	err = a.useCard(ctx, q.of.Serial, registered(s.State(), q.of), why, func(c *card.Card) error {
		sign, err := c.Signer(ctx)
		if err != nil {
			return err
		}
		var busy *term.Progress
		careful := &carefulSigner{Signer: sign, left: len(q.sources), last: func() {
			busy = term.StartProgress(a.err, a.terminal, "waiting for the sources' word")
		}}
		got, err = client.Revoke(ctx, a.rand, s.State(), via, careful, q.row.ID, q.sources, q.reason, a.now().Unix())
		if busy != nil {
			busy.Done()
		}
		if err != nil {
			return err
		}
		return careful.failed
	})
	switch {
	case err != nil && !slices.ContainsFunc(got, func(r client.Revocation) bool { return r.Confirmed }):
		return err
	case err != nil: // what was confirmed before the card failed stands
		a.warn(err)
	}
	return a.reportRevoked(q, got)
}

// dialAny connects to the home's server or, if that one is away, to any other:
// a server that is down keeps nobody from silencing a device. It returns nil if
// none answers; sources' own servers are tried all the same.
func (a *app) dialAny(ctx context.Context, s *client.System) (*client.Conn, error) {
	return a.dialAnyWithin(ctx, s, 0)
}

// dialAnyWithin is dialAny for somebody in a hurry: a server that has not told all
// its tables within patience is passed over. Zero is no hurry.
func (a *app) dialAnyWithin(ctx context.Context, s *client.System, patience time.Duration) (*client.Conn, error) {
	ids := []string{a.server}
	for _, srv := range s.State().Servers() {
		ids = append(ids, srv.ID)
	}
	for _, id := range ids {
		conn, err := a.dialWithin(ctx, s, id, patience)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil || !errors.As(err, new(*client.UnreachableError)) && !errors.As(err, new(*client.RefusedError)) {
			return nil, err
		}
		if id == ids[0] {
			a.warn(err)
		}
	}
	return nil, nil
}

func (a *app) dialWithin(ctx context.Context, s *client.System, id string, patience time.Duration) (*client.Conn, error) {
	if patience > 0 {
		within, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		ctx = within
	}
	conn, _, err := a.dial(ctx, s, id)
	return conn, err
}

// resolve finds out who wants it, and what he may silence.
func (q *revoking) resolve(ctx context.Context, a *app, s ledger.State) error {
	var ok bool
	if q.row, ok = s.Device(q.device); !ok {
		return usage(fmt.Sprintf("there is no device %q", q.device), "privyseal system show lists them")
	}
	h := q.row.Heartbeat
	if h == nil {
		return term.WithHint(fmt.Errorf("device %s needs no beats: there is nothing to take from it", q.row.ID), "end its process at its machine, or switch it off: that locks it")
	}
	if q.named = len(q.sources) > 0; !q.named {
		q.sources = slices.Clone(h.Sources)
	}
	for i, id := range q.sources {
		if !slices.Contains(h.Sources, id) {
			return usage(fmt.Sprintf("%q is no source of device %s", id, q.row.ID), "its sources are "+strings.Join(h.Sources, ", "))
		}
		if slices.Contains(q.sources[:i], id) {
			return usage(fmt.Sprintf("source %s is named twice", id), "")
		}
	}
	serial, err := a.chooseCard(ctx, s, q.card)
	if err != nil {
		return err
	}
	if q.person, q.of, ok = cardOf(s, serial); !ok {
		return fmt.Errorf("system %q does not know card %d", s.Name(), serial)
	}
	var may, others []string
	for _, id := range q.sources {
		if s.MaySilence(id, q.row.ID, q.person.ID, a.now().Unix()) {
			may = append(may, id)
		} else {
			others = append(others, id)
		}
	}
	switch {
	case len(may) == 0 || q.named && len(others) > 0:
		return term.WithHint(fmt.Errorf("%s may not silence %s for device %s", personName(s, q.person.ID), strings.Join(others, ", "), q.row.ID),
			"the source's operators may, and the device's officers")
	case len(others) > 0:
		a.tell("left out, for you may not silence them: %s", strings.Join(others, ", "))
	}
	q.sources = may
	return nil
}

// silences reports whether a device falls silent without n of its sources.
func silences(h *ledger.Heartbeat, n int) bool { return uint64(len(h.Sources)-n) < h.Needed }

// explain says what happens before anything does.
func (q *revoking) explain(a *app) {
	h := q.row.Heartbeat
	a.tell("%s.", ceremonydesk.LeaseLine(deviceName(q.row), h))
	a.tell("As %s you tell %s to beat for it no more.", q.person.Name, strings.Join(q.sources, ", "))
	if silences(h, len(q.sources)) {
		a.tell("It falls silent within %s of their word, locks its token and signs nothing.", term.Span(time.Duration(h.Lease)*time.Millisecond))
	} else {
		a.tell("That does not silence it: it goes on with the others.")
	}
	a.tell("Its officers bring it back, %d of them, with 'privyseal officer unlock %s'.", q.row.UnlockQuorum, q.row.ID)
}

// carefulSigner is a card that is not used again after it failed: a wrong PIN
// must not be sent once for each source.
type carefulSigner struct {
	crypto.Signer
	failed error
	left   int    // signatures to come
	last   func() // called after the last one
}

func (c *carefulSigner) Sign(rand io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if c.failed != nil {
		return nil, c.failed
	}
	out, err := c.Signer.Sign(rand, digest, o)
	c.failed = err
	if c.left--; c.left == 0 && err == nil {
		c.last()
	}
	return out, err
}

func (a *app) reportRevoked(q *revoking, got []client.Revocation) error {
	h := q.row.Heartbeat
	out := revoked{Device: q.row.ID, Sources: []revokedSource{}, Policy: uint64(len(h.Sources)), Needed: h.Needed}
	left := slices.Clone(h.Sources)
	for _, r := range got {
		j := revokedSource{Source: r.Source, Confirmed: r.Confirmed, At: r.At}
		if r.Err != nil {
			j.Error = r.Err.Error()
		}
		if r.Confirmed {
			out.Confirmed++
			left = slices.DeleteFunc(left, func(id string) bool { return id == r.Source })
		}
		out.Sources = append(out.Sources, j)
	}
	lease := time.Duration(h.Lease) * time.Millisecond
	if out.Silenced = silences(h, int(out.Confirmed)); out.Silenced {
		out.Until = a.now().Add(lease + time.Second - 1).Unix() // rounded up
	}
	if err := a.result(out, func() {
		for _, x := range out.Sources {
			if x.Confirmed {
				a.say("%-14s confirmed, %s by its clock", x.Source, timeText(x.At))
				continue
			}
			a.say("%-14s NOT CONFIRMED: %s", x.Source, x.Error)
		}
		if out.Silenced {
			a.say("device %s falls silent: %d of its %d sources beat no more and %d are needed; it goes on until %s at most, one lease of %s",
				out.Device, out.Confirmed, out.Policy, out.Needed, timeText(out.Until), term.Span(lease))
			return
		}
		a.say("device %s GOES ON: %s can still keep it alive, and %d of them are needed", out.Device, strings.Join(left, ", "), out.Needed)
	}); err != nil {
		return err
	}
	switch all := int(out.Confirmed) == len(got); {
	case out.Silenced && !q.named, q.named && all:
		return nil
	case q.named:
		return command.Reported(errors.New("not all sources have confirmed"))
	}
	a.tell("hint: repeat the command for those that have not confirmed, or silence them at their machines: privyseal-heartbeat revoke --dir DIR %s", out.Device)
	return command.Reported(errors.New("the device is not silenced"))
}

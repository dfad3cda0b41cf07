package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/card"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

func newOfficer(a *app) *cobra.Command {
	var serial string
	c := command.Group("officer", "Look at what is asked, approve or reject it, unlock devices",
		newInbox(a, &serial), newShow(a, &serial), newApprove(a, &serial), newReject(a, &serial), newUnlock(a, &serial))
	c.PersistentFlags().StringVar(&serial, "card", "", "serial number of the officer's card (default: the only one there)")
	return c
}

// desk is an officer at his workstation: his card's owner, and the servers of
// his devices.
type desk struct {
	*app
	sys     *client.System
	officer *client.Officer
	conns   map[string]*client.Conn // by server id
	order   []string                // of conns
	since   map[string]uint64       // cursors of their inboxes
	away    []error                 // servers that cannot be reached
}

// sit finds out whose card it is and reaches the servers of his devices. The
// card itself is not used.
func (a *app) sit(ctx context.Context, serial string) (*desk, error) {
	s, err := a.system()
	if err != nil {
		return nil, err
	}
	n, err := a.chooseCard(ctx, s.State(), serial)
	if err != nil {
		return nil, err
	}
	d := &desk{app: a, sys: s, conns: map[string]*client.Conn{}, since: map[string]uint64{}}
	if d.officer, err = client.FindOfficer(s.State(), n, a.now().Unix()); err != nil {
		return nil, err
	}
	var ids []string
	for _, srv := range d.officer.Servers(s.State()) {
		ids = append(ids, srv.ID)
	}
	if a.server != "" {
		ids = []string{a.server}
	}
	for _, id := range ids {
		conn, _, err := a.dial(ctx, s, id)
		var away *client.UnreachableError
		switch {
		case errors.As(err, &away) && ctx.Err() == nil:
			d.away = append(d.away, err)
			continue
		case err != nil:
			d.close()
			return nil, err
		}
		d.conns[id] = conn
		d.order = append(d.order, id)
	}
	if len(d.conns) == 0 {
		return nil, errors.Join(d.away...)
	}
	for _, err := range d.away {
		a.warn(err)
	}
	// The ledger may have moved on meanwhile.
	if d.officer, err = client.FindOfficer(s.State(), n, a.now().Unix()); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *desk) close() {
	for _, c := range d.conns {
		c.Close()
	}
}

// envelopeOf is a sealed item and where it came from.
type envelopeOf struct {
	server string
	sealed []byte
}

// collect takes what came into the inbox since the last time, sealed.
func (d *desk) collect(ctx context.Context) ([]envelopeOf, error) {
	var out []envelopeOf
	for _, id := range d.order {
		items, next, err := d.conns[id].InboxSince(ctx, d.officer, d.since[id], 0)
		if err != nil {
			return nil, err
		}
		d.since[id] = next
		for _, raw := range items {
			out = append(out, envelopeOf{id, raw})
		}
	}
	return out, nil
}

// await collects until something is there, or the time is over.
func (d *desk) await(ctx context.Context, until time.Time) ([]envelopeOf, error) {
	for {
		out, err := d.collect(ctx)
		if err != nil || len(out) > 0 || time.Until(until) <= 0 {
			return out, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(inboxPoll):
		}
	}
}

// refused is an item that this workstation does not show as one to approve.
type refused struct {
	Server string `json:"server"`
	Error  string `json:"error"`
}

// open unseals and verifies items with the card. Of several that ask for the
// same thing the last counts: the device made a new key, or the chain grew.
func (d *desk) open(k client.Keys, sealed []envelopeOf, items []*client.Item) ([]*client.Item, []refused, error) {
	var bad []refused
	for _, e := range sealed {
		i, err := client.OpenItem(d.sys.State(), d.officer, k.Agree, e.sealed, d.now().Unix())
		switch {
		case cardTrouble(err):
			return nil, nil, &cardError{err}
		case overdue(err), d.overtaken(err):
			continue
		case err != nil:
			bad = append(bad, refused{e.server, err.Error()})
			continue
		case i.Server != e.server:
			bad = append(bad, refused{e.server, fmt.Sprintf("the item is signed by message server %s", i.Server)})
			continue
		}
		items = slices.DeleteFunc(items, func(x *client.Item) bool { return x.Digest == i.Digest && x.Device.ID == i.Device.ID })
		items = append(items, i)
	}
	return items, bad, nil
}

// overdue: what has expired is not worth a word.
func overdue(err error) bool {
	return errors.Is(err, document.ErrExpired) || errors.As(err, new(*envelope.ExpiredError))
}

// overtaken: the draft of a command whose place in the ledger was taken. It is
// not signed, so it is no proof of a fork.
func (d *desk) overtaken(err error) bool {
	var other *ledger.ForkError
	return errors.As(err, new(*ledger.ReplayError)) || errors.As(err, &other) && other.Position <= d.sys.State().Height()
}

// cardTrouble tells whether it is the card that failed: then nothing more is
// tried with it, least of all a PIN.
func cardTrouble(err error) bool {
	if errors.As(err, new(*client.UnreachableError)) || errors.As(err, new(*client.RefusedError)) {
		return false
	}
	if errors.As(err, new(*card.PINError)) || errors.As(err, new(*card.WrongKeyError)) || errors.As(err, new(*askError)) {
		return true
	}
	for _, e := range []error{
		term.ErrNoPinentry, card.ErrPINBlocked, card.ErrPINLength, card.ErrRemoved, card.ErrSwapped, card.ErrTimeout, card.ErrTouch, card.ErrClosed,
		card.ErrInUse, card.ErrNoService, card.ErrNoReader, term.ErrCancelled, term.ErrNoTerminal, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// cardError is trouble with a card, without the name of what it should open.
type cardError struct{ error }

func (e *cardError) Error() string { return strings.TrimPrefix(e.error.Error(), "envelope: open: ") }
func (e *cardError) Unwrap() error { return e.error }

// inbox fetches and opens all items, and calls f while the card is open. It
// waits for what is wanted: nil is anything at all. While the inbox is empty
// the card is not touched.
func (d *desk) inbox(ctx context.Context, wait time.Duration, why string, wanted func([]*client.Item) bool, f func(client.Keys, []*client.Item, []refused) error) error {
	until := time.Now().Add(wait)
	sealed, err := d.await(ctx, until)
	if err != nil {
		return err
	}
	if len(sealed) == 0 {
		return f(client.Keys{}, nil, nil)
	}
	why = fmt.Sprintf("%s, %s: %s", d.sys.State().Name(), d.officer.Person.Name, why)
	return d.withCard(ctx, d.officer.Card.Serial, registered(d.sys.State(), d.officer.Card), why, func(k client.Keys) error {
		items, bad, err := d.open(k, sealed, nil)
		for err == nil && wanted != nil && !wanted(items) && time.Until(until) > 0 {
			if sealed, err = d.await(ctx, until); err != nil {
				return err
			}
			var more []refused
			items, more, err = d.open(k, sealed, items)
			bad = append(bad, more...)
		}
		if err != nil {
			return err
		}
		return f(k, items, bad)
	})
}

// arrivalPatience is how long an item that was named may take to arrive: its
// device has to offer a key first, and in a chain others to sign.
const arrivalPatience = 15 * time.Second

// inboxPoll is the pause between two looks into an inbox.
const inboxPoll = 200 * time.Millisecond

// waitFlag says how long to wait for items that are named.
func waitFlag(c *cobra.Command, wait *time.Duration) {
	c.Flags().DurationVar(wait, "wait", arrivalPatience, "how long to wait for the requests named to arrive")
}

// named reports whether all that was named is there.
func named(digests []string, device string) func([]*client.Item) bool {
	return func(items []*client.Item) bool {
		_, err := pick(items, digests, false, device)
		return err == nil || errors.As(err, new(*command.UsageError))
	}
}

func newInbox(a *app, serial *string) *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use:   "inbox",
		Short: "List what you are asked to approve",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := a.sit(c.Context(), *serial)
			if err != nil {
				return err
			}
			defer d.close()
			return d.inbox(c.Context(), wait, "read the inbox", nil, func(_ client.Keys, items []*client.Item, bad []refused) error {
				return d.list(items, bad)
			})
		},
	}
	c.Flags().DurationVar(&wait, "wait", 0, "how long to wait for something to come")
	return c
}

// itemJSON is an item in short.
type itemJSON struct {
	Request   envelope.Hash `json:"request"`
	Device    string        `json:"device"`
	Title     string        `json:"title"`
	Key       string        `json:"key"`
	Kind      string        `json:"kind"`
	Requester string        `json:"requester"`
	Own       bool          `json:"own,omitempty"` // yours: you cannot approve it
	Approvals string        `json:"approvals"`
	Expires   int64         `json:"expires"`
	Count     int           `json:"count,omitempty"` // certificates of a batch
}

func (d *desk) itemOf(i *client.Item) itemJSON {
	return itemJSON{
		i.Digest, i.Device.ID, i.View().Title, i.Request.Key, i.Request.Kind, i.Requester.Owner, i.Own() != nil,
		i.Request.Route.Approvals, i.Request.Expires, len(i.Request.Batch),
	}
}

func (d *desk) list(items []*client.Item, bad []refused) error {
	out := struct {
		Items   []itemJSON `json:"items"`
		Refused []refused  `json:"refused"`
	}{[]itemJSON{}, bad}
	for _, i := range items {
		out.Items = append(out.Items, d.itemOf(i))
	}
	if bad == nil {
		out.Refused = []refused{}
	}
	return d.result(out, func() {
		switch {
		case len(items) == 0 && len(bad) > 0:
			d.say("nothing that can be approved by %s (card %d)", d.officer.Person.Name, d.officer.Card.Serial)
		case len(items) == 0:
			d.say("nothing to approve for %s (card %d)", d.officer.Person.Name, d.officer.Card.Serial)
		}
		for n, i := range items {
			j := out.Items[n]
			own := ""
			if j.Own {
				own = " (your own: others must approve it)"
			}
			d.say("%s  %s", short(i.Digest), shortTitle(i, min(d.width, 120)-14))
			d.say("              for %s, key %s, asked by %s%s, until %s", deviceName(i.Device), j.Key, d.personName(j.Requester), own, timeText(j.Expires))
		}
		d.printRefused(bad)
	})
}

func (d *desk) printRefused(bad []refused) {
	for _, b := range bad {
		d.warn(fmt.Errorf("an item from message server %s is refused: %s", b.Server, b.Error))
	}
}

// pick selects the items that digests name, or all.
func pick(items []*client.Item, digests []string, all bool, device string) ([]*client.Item, error) {
	if device != "" {
		items = slices.DeleteFunc(slices.Clone(items), func(i *client.Item) bool { return i.Device.ID != device })
	}
	if all {
		return items, nil
	}
	var out []*client.Item
	for _, name := range digests {
		name = strings.ToLower(name)
		if len(name) < 6 {
			return nil, usage(fmt.Sprintf("%q is too short", name), "give at least 6 digits of the request's digest")
		}
		var found []*client.Item
		for _, i := range items {
			if strings.HasPrefix(i.Digest.String(), name) {
				found = append(found, i)
			}
		}
		switch {
		case len(found) == 0:
			return nil, &absentError{name}
		case found[0].Digest != found[len(found)-1].Digest:
			return nil, usage(fmt.Sprintf("several requests begin with %s", name), "give more digits")
		}
		for _, i := range found {
			if !slices.Contains(out, i) {
				out = append(out, i)
			}
		}
	}
	return out, nil
}

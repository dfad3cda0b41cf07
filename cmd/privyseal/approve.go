package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/envelope"
)

const (
	// ownPatience is how long servers have to say whose request it is, before
	// the card is used.
	ownPatience = 3 * time.Second
	// renewPatience is how long the item that replaces a stale one may take, and
	// renewals how often that may happen: once for each colleague, or nearly.
	renewPatience = 3 * time.Second
	renewals      = 3
)

func newApprove(a *app, serial *string) *cobra.Command {
	var all, yes, public bool
	var device string
	var wait time.Duration
	c := &cobra.Command{
		Use:   "approve DIGEST... | --all",
		Short: "Approve requests with your card",
		Long: `Show requests, ask once, and approve them with the card. The PIN is asked for
once. Every request is verified here first: by its requester's signature, by all
checks that devices make of its document, and by the device's own signature
under the one-time key that your piece is sealed to.`,
		RunE: func(c *cobra.Command, args []string) error {
			if all && len(args) > 0 {
				return usage("requests are named and --all is there", "leave out one of them")
			}
			if !all && len(args) == 0 {
				return usage("name requests by their digests, or all of them with --all", "see: privyseal officer inbox")
			}
			if all && !c.Flags().Changed("wait") {
				wait = 0 // what is there
			}
			return a.decide(c.Context(), *serial, verdict{digests: args, all: all, device: device, yes: yes, public: public, wait: wait})
		},
	}
	f := c.Flags()
	f.BoolVar(&all, "all", false, "approve everything in the inbox")
	f.BoolVar(&yes, "yes", false, "do not ask before approving")
	f.StringVar(&device, "device", "", "for this device only")
	publicFlag(c, &public)
	waitFlag(c, &wait)
	return c
}

func newReject(a *app, serial *string) *cobra.Command {
	var yes bool
	var reason, device string
	var wait time.Duration
	c := &cobra.Command{
		Use:   "reject DIGEST... --reason TEXT",
		Short: "Reject requests, for a reason that the requester sees",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if strings.TrimSpace(reason) == "" {
				return usage("a rejection needs a reason", "say it with --reason")
			}
			return a.decide(c.Context(), *serial, verdict{digests: args, reject: true, reason: reason, device: device, yes: yes, wait: wait})
		},
	}
	f := c.Flags()
	f.BoolVar(&yes, "yes", false, "do not ask before rejecting")
	f.StringVar(&reason, "reason", "", "why")
	f.StringVar(&device, "device", "", "for this device only")
	waitFlag(c, &wait)
	return c
}

// verdict is what an officer says of which requests.
type verdict struct {
	digests          []string
	all, yes, public bool
	reject           bool
	reason, device   string
	wait             time.Duration
}

func (a *app) decide(ctx context.Context, serial string, v verdict) error {
	d, err := a.sit(ctx, serial)
	if err != nil {
		return err
	}
	defer d.close()
	if !v.reject {
		// Whoever asks for his own request is told so before he types a PIN.
		if err := d.refuseOwn(ctx, v.digests); err != nil {
			return err
		}
	}
	why := "approve requests"
	if v.reject {
		why = "reject requests"
	}
	var out []outcome
	var wanted func([]*client.Item) bool
	if !v.all {
		wanted = named(v.digests, v.device)
		if d.hopeless(ctx, v.digests) {
			v.wait = 0
		}
	}
	err = d.inbox(ctx, v.wait, why, wanted, func(k client.Keys, items []*client.Item, bad []refused) error {
		d.printRefused(bad)
		chosen, err := pick(items, v.digests, v.all, v.device)
		if err != nil {
			return err
		}
		if out, err = d.decideOn(ctx, k, chosen, v); err != nil {
			return err
		}
		if v.all && len(bad) > 0 {
			return command.Reported(errors.New("some items were refused"))
		}
		return nil
	})
	if err != nil && len(out) == 0 {
		return d.explained(ctx, err)
	}
	// What was said before the card failed is reported all the same.
	if late := d.report(ctx, out, v.reject); err == nil {
		err = late
	}
	return err
}

// decideOn shows the items, asks once, and says the word on each.
func (d *desk) decideOn(ctx context.Context, k client.Keys, chosen []*client.Item, v verdict) ([]outcome, error) {
	var own []error
	var able []*client.Item
	for _, i := range chosen {
		if err := i.Own(); err != nil && !v.reject {
			own = append(own, term.WithHint(err, "leave it to the other officers"))
			continue
		}
		able = append(able, i)
	}
	if len(own) > 0 && !v.all {
		return nil, own[0]
	}
	for _, err := range own {
		d.warn(err)
	}
	if len(able) == 0 {
		return nil, nil
	}
	if !d.json {
		var all []shown
		for _, i := range able {
			all = append(all, d.describe(i, v.public))
		}
		d.print(able, all)
	}
	if !v.yes {
		verb := "approve"
		if v.reject {
			verb = "reject"
		}
		if err := d.agree(fmt.Sprintf("%s %s?", verb, these(able))); err != nil {
			return nil, err
		}
	}
	var out []outcome
	for _, i := range able {
		o := outcome{Request: i.Digest, Device: i.Device.ID, Decision: "approve", Title: i.View().Title, Missing: []string{}}
		if v.reject {
			o.Decision = "reject"
		}
		got, err := d.word(ctx, k, i, v)
		for range renewals {
			var refused *client.RefusedError
			if !errors.As(err, &refused) || refused.Code != http.StatusConflict {
				break
			}
			// Somebody else approved at the same moment and the chain grew, or the
			// device made a new key. It is the same document for the same device,
			// and what is new in the item was verified.
			next, e := d.renewed(ctx, k, i)
			if e != nil {
				err = e
			}
			if next == nil {
				break
			}
			i = next
			got, err = d.word(ctx, k, i, v)
		}
		if cardTrouble(err) {
			return out, err
		}
		var refused *client.RefusedError
		if !v.reject && errors.As(err, &refused) && d.signedMeanwhile(ctx, i.Digest) {
			o.OK, o.Late, o.State = true, true, api.StateDone
		} else if err != nil {
			o.Error = err.Error()
		} else {
			o.OK, o.Have, o.Need, o.Queued = true, got.Have, got.Need, got.Queued
			o.Missing = append(o.Missing, got.Missing...)
		}
		out = append(out, o)
	}
	return out, nil
}

// these is what an officer is asked about, in a few words.
func these(items []*client.Item) string {
	requests, certificates := map[envelope.Hash]bool{}, 0
	for _, i := range items {
		if !requests[i.Digest] {
			certificates += len(i.Request.Batch)
		}
		requests[i.Digest] = true
	}
	switch {
	case len(items) == 1 && certificates == 0:
		return "this request"
	case len(requests) == 1 && certificates > 0:
		what := "this batch of " + certificatesOf(certificates)
		if len(items) > 1 {
			what += fmt.Sprintf(", for %d devices", len(items))
		}
		return what
	}
	what := fmt.Sprintf("these %d requests", len(items))
	if certificates > 0 {
		what += fmt.Sprintf(", with %s in batches", certificatesOf(certificates))
	}
	return what
}

// renewed waits a moment for a newer item in the place of one that a server
// refused to take; nil if none comes.
func (d *desk) renewed(ctx context.Context, k client.Keys, old *client.Item) (*client.Item, error) {
	for until := time.Now().Add(renewPatience); time.Until(until) > 0; {
		sealed, err := d.await(ctx, until)
		if err != nil {
			return nil, err
		}
		items, _, err := d.open(k, sealed, nil)
		if err != nil {
			return nil, err
		}
		for _, i := range items {
			if i.Digest == old.Digest && i.Device.ID == old.Device.ID {
				return i, nil
			}
		}
	}
	return nil, nil
}

func (d *desk) word(ctx context.Context, k client.Keys, i *client.Item, v verdict) (*api.Approved, error) {
	var sealed []byte
	var err error
	if v.reject {
		sealed, err = i.Reject(d.rand, d.sys.State(), k, v.reason, d.now().Unix())
	} else {
		sealed, err = i.Approve(d.rand, d.sys.State(), k, d.now().Unix())
	}
	if err != nil {
		return nil, err
	}
	return d.conns[i.Server].Say(ctx, sealed)
}

// refuseOwn refuses the officer's own requests as far as servers or this home
// know them. Items are looked at again before they are approved: this only
// spares a PIN.
func (d *desk) refuseOwn(ctx context.Context, digests []string) error {
	for _, name := range digests {
		name = strings.ToLower(name)
		if r, err := d.sys.Kept(name); err == nil {
			if err := client.OwnRequest(d.officer, r.Request.Requester); err != nil {
				return term.WithHint(err, "leave it to the other officers")
			}
			continue
		}
		digest, err := envelope.ParseHash(name)
		if err != nil {
			continue
		}
		within, cancel := context.WithTimeout(ctx, ownPatience)
		t := d.whereabouts(within, digest)
		cancel()
		if t == nil {
			continue
		}
		if err := client.OwnRequest(d.officer, t.Requester); err != nil {
			return term.WithHint(err, "leave it to the other officers")
		}
	}
	return nil
}

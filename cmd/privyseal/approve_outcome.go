package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/firmware/envelope"
)

const (
	// outcomePatience is how long a device has to sign after the last approval,
	// before the officer is told without it.
	outcomePatience = 5 * time.Second
	outcomePoll     = 250 * time.Millisecond
)

// outcome is what became of one word.
type outcome struct {
	Request  envelope.Hash `json:"request"`
	Device   string        `json:"device"`
	Decision string        `json:"decision"`
	Title    string        `json:"title"`
	OK       bool          `json:"ok"`
	Have     uint64        `json:"have"`
	Need     uint64        `json:"need"`
	Missing  []string      `json:"missing"`
	Queued   bool          `json:"queued,omitempty"`
	State    string        `json:"state,omitempty"`
	Made     uint64        `json:"made,omitempty"`   // partial signatures
	Wanted   uint64        `json:"wanted,omitempty"` // of them
	Error    string        `json:"error,omitempty"`
	// Late is an approval that nobody needs any more: others were quicker.
	Late bool `json:"late,omitempty"`
}

// report says what happened to each, and waits a moment for the signatures
// that the last approvals set off.
func (d *desk) report(ctx context.Context, out []outcome, reject bool) error {
	if !reject {
		for n := range out {
			if o := &out[n]; o.OK && !o.Queued && !o.Late && o.Have >= o.Need {
				d.outcomeOf(ctx, o)
			}
		}
	}
	failed := 0
	for _, o := range out {
		if !o.OK {
			failed++
		}
	}
	if out == nil {
		out = []outcome{}
	}
	if err := d.result(out, func() {
		if len(out) == 0 {
			d.say("nothing was approved or rejected")
		}
		for _, o := range out {
			d.say("%s  %s: %s", short(o.Request), o.Device, o.text())
		}
	}); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d were not taken", failed, len(out))
	}
	return nil
}

func (o *outcome) text() string {
	switch {
	case o.Error != "":
		return "not taken: " + o.Error
	case o.Late:
		return "not needed any more: the request was signed meanwhile"
	case o.Queued:
		return "your word is kept by your message server: the site that collects cannot be reached now"
	case o.Decision == "reject":
		return "rejected"
	case o.Have < o.Need:
		return fmt.Sprintf("approved, %d of %d; missing: %s", o.Have, o.Need, listOr(o.Missing, "somebody who may, and nobody is left"))
	}
	text := "approved, quorum reached"
	switch {
	case o.State == api.StateDone:
		text += ", final signature made"
	case o.State != "" && o.State != api.StateOpen:
		text += ", but the request is " + o.State
	case o.Wanted > 0:
		text += fmt.Sprintf("; %d of %d devices have signed", o.Made, o.Wanted)
	}
	return text
}

// outcomeOf waits for what a complete quorum sets off.
func (d *desk) outcomeOf(ctx context.Context, o *outcome) {
	ctx, cancel := context.WithTimeout(ctx, outcomePatience)
	defer cancel()
	for {
		t := d.whereabouts(ctx, o.Request)
		if t == nil {
			return
		}
		o.State, o.Made, o.Wanted = t.State, t.Made, t.Need
		if t.State != api.StateOpen {
			return
		}
		for _, dev := range t.Devices {
			// In parallel signing devices wait until enough of them can.
			if dev.Device == o.Device && (dev.Signed || dev.Text != "") && t.Made < t.Need {
				return
			}
		}
		complete := uint64(0)
		for _, dev := range t.Devices {
			if dev.Need > 0 && uint64(len(dev.Approved)) >= dev.Need {
				complete++
			}
		}
		if complete < t.Need && t.Mode == "parallel" {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(outcomePoll):
		}
	}
}

// signedMeanwhile tells whether a request has its signature, as the servers tell
// it.
func (d *desk) signedMeanwhile(ctx context.Context, request envelope.Hash) bool {
	within, cancel := context.WithTimeout(ctx, ownPatience)
	defer cancel()
	t := d.whereabouts(within, request)
	return t != nil && t.State == api.StateDone
}

// servers connects to all sites, for questions that only the coordinator of a
// request can answer. Those that cannot be reached are left out when asked.
func (d *desk) servers() []*client.Conn {
	var out []*client.Conn
	for _, srv := range d.sys.State().Servers() {
		if _, ok := d.conns[srv.ID]; !ok {
			conn, err := client.Dial(srv)
			if err != nil {
				continue
			}
			d.conns[srv.ID] = conn
		}
		out = append(out, d.conns[srv.ID])
	}
	return out
}

// whereabouts asks all sites for a request at once; nil if none knows it.
func (d *desk) whereabouts(ctx context.Context, request envelope.Hash) *tracking {
	var mu sync.Mutex
	var found *tracking
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	for _, conn := range d.servers() {
		all.Go(func() {
			if t, err := conn.Tracking(ctx, request); err == nil {
				mu.Lock()
				found = t
				mu.Unlock()
				cancel() // the others know nothing better
			}
		})
	}
	all.Wait()
	return found
}

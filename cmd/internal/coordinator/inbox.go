package coordinator

import (
	"slices"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// presentWait is how long an inbox is given to take what it is presented
// before it is presented again, in seconds.
const presentWait = 30

// present compares what officers are to have in their inboxes with what they
// have.
func (r *Request) present() {
	for _, d := range r.devices {
		items := r.items(d)
		shown := digestOf(items)
		if shown != d.shown {
			d.shown, d.presentAt = shown, 0
			r.dirty = true // the revision has to rise
		}
		if d.shown == d.presented || r.now < d.presentAt {
			continue
		}
		d.presentAt = r.now + presentWait
		r.actions = append(r.actions, Present{Device: d.id, Items: items})
	}
}

// Presented says that a device's officers have what was presented, or that
// their site could not be reached; then it is presented again.
func (r *Request) Presented(now int64, p Present, ok bool) Effects {
	return r.step(now, func() {
		i := slices.IndexFunc(r.devices, func(d *device) bool { return d.id == p.Device })
		switch d := r.devices[i]; {
		case digestOf(p.Items) != d.shown:
		case ok:
			d.presented = d.shown
		default:
			d.presentAt = r.now + silenceWait
		}
	})
}

// items are what the officers of a device are asked for now.
func (r *Request) items(d *device) []Item {
	if r.state != api.StateOpen || d.out() || d.offer == nil || d.complete() {
		return nil
	}
	tip, ok := r.tip(d)
	if !ok {
		return nil
	}
	var items []Item
	for _, o := range r.officers(d) {
		key, ok := r.agreeKey(o)
		i := slices.IndexFunc(d.pieces, func(p ceremony.SealedPiece) bool { return p.Person == o.Person && p.Card == key })
		if !ok || i < 0 || d.has(o.Person) {
			continue
		}
		items = append(items, Item{Officer: key, Person: o.Person, Content: api.InboxItem{
			Request: r.raw, Offers: [][]byte{d.offerRaw}, Device: d.id, Share: d.holder.Share, Piece: d.pieces[i],
			Prior: tip, Mode: r.request.Route.Approvals, Approved: d.approved(), Need: d.holder.Quorum,
		}})
	}
	return items
}

// agreeKey is the id of the 9D key of the card that an officer is registered
// with.
func (r *Request) agreeKey(o ledger.Officer) (envelope.KeyID, bool) {
	p, _ := r.State.Person(o.Person)
	for _, c := range p.Cards {
		if c.Serial == o.Card {
			return envelope.KeyIDOfSPKI(c.Agree), true
		}
	}
	return envelope.KeyID{}, false
}

// digestOf tells sets of items apart. No items have the zero digest, which is
// what an inbox holds that never was presented anything.
func digestOf(items []Item) envelope.Hash {
	if len(items) == 0 {
		return envelope.Hash{}
	}
	var parts [][]byte
	for _, it := range items {
		parts = append(parts, it.Officer[:], it.Content.Offers[0], it.Content.Prior)
		for _, name := range it.Content.Approved {
			parts = append(parts, []byte(name))
		}
	}
	return envelope.HashOf("privyseal inbox items", parts...)
}

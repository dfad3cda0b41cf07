package coordinator

import (
	"slices"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ceremony"
)

// findOfficers drops the words of those who are no officers of a machine any
// more, and an offer that is of no use to those who are: the machine makes another.
func (r *Request) findOfficers(d *device) {
	if d.out() || d.offer == nil || d.machine.result != nil {
		return
	}
	n := len(d.approvals)
	d.approvals = slices.DeleteFunc(d.approvals, func(g granted) bool {
		_, err := approval.Verify(r.State, r.about, d.id, g.raw, r.now)
		return err != nil
	})
	r.dirty = r.dirty || len(d.approvals) != n
	if r.outdated(d, d.pieces) {
		r.dropOffer(d, textOutdated)
		d.machine.tries, d.wait, d.retry = 0, 0, 0
	}
}

// outdated reports whether a machine's officers could approve, and do not have
// the pieces for it.
func (r *Request) outdated(d *device, pieces []ceremony.SealedPiece) bool {
	could := uint64(len(d.approvals))
	can := could
	for _, o := range r.officers(d) {
		if d.has(o.Person) {
			continue
		}
		could++
		if key, ok := r.agreeKey(o); ok && slices.ContainsFunc(pieces, func(p ceremony.SealedPiece) bool { return p.Person == o.Person && p.Card == key }) {
			can++
		}
	}
	return could >= d.holder.Quorum && can < d.holder.Quorum
}

// findMachine looks a device of the route up in the authority as it is now.
func (r *Request) findMachine(d *device) {
	h, ok := r.State.HolderOf(r.key.ID, d.id)
	gone := !ok || d.holder.Layer != 0 && (h.Layer != d.holder.Layer || h.Index != d.holder.Index)
	if gone != d.gone {
		d.gone, r.dirty = gone, true
		if gone {
			d.text = "it was taken away from the authority"
		}
	}
	if !gone {
		d.holder = h
	}
}

// feasibleTask gives up when no machines are left that could complete it,
// whatever comes.
func (r *Request) feasibleTask() {
	out := 0
	for _, d := range r.devices {
		if d.out() {
			out++
		}
	}
	if out == r.task.out {
		return // it was possible, and nobody fell out since
	}
	r.task.out = out
	if r.possible(func(d *device) bool { return !d.out() }) {
		return
	}
	if r.possible(func(d *device) bool { return !d.wrong && !d.gone }) {
		r.finish(api.StateRejected, r.waiting())
		return
	}
	r.finish(api.StateFailed, "no calculators and combiner are left that could sign together: "+r.waiting())
}

// possible reports whether a combiner and calculators among some machines have
// a combination.
func (r *Request) possible(among func(*device) bool) bool {
	var have []uint64
	for _, d := range r.devices {
		if d.calculates() && among(d) {
			have = append(have, d.holder.Index)
		}
	}
	return slices.ContainsFunc(r.devices, func(d *device) bool {
		return !d.calculates() && among(d) && r.serves(d, have)
	})
}

// serves reports whether a combiner has a combination of some calculators.
func (r *Request) serves(combiner *device, have []uint64) bool {
	return r.key.Layers != nil && len(r.key.Layers.Grouping.Match(combiner.holder.Index, have)) > 0
}

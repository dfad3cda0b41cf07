package coordinator

import (
	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// acknowledged takes what a device answered when its desk asked it for an offer.
func (r *Request) acknowledged(d *device, raw []byte) {
	if r.state != api.StateOpen || d.out() {
		return
	}
	v, err := r.verifyAnswer(d, raw)
	if err != nil {
		return
	}
	if v.Header().Type == firmware.TypeRefusal {
		r.refusedTask(d, v)
		return
	}
	var in firmware.Offered
	if envelope.Decode(v, firmware.TypeOffered, firmware.MessageVersion, &in) != nil {
		return
	}
	offer, err := approval.VerifyOffer(r.State, in.Offer, r.now)
	if err != nil {
		return
	}
	// A device makes a new offer when the old one is gone, and never the other way
	// round: an older one is a packet that was late, or that somebody kept.
	made := offer.Offer().Created
	if made < d.since || d.offer != nil && made <= d.offer.Offer().Created {
		return
	}
	if d.offer != nil {
		r.dropOffer(d, "the device made a new one-time key")
	}
	if r.outdated(d, in.Pieces) { // its desk, or somebody, repeats what it said before
		d.text, r.dirty = textOutdated, true
		return
	}
	if err := r.takeOffer(d, in); err != nil {
		d.text, r.dirty = clip(err.Error()), true
		return
	}
	d.machine.tries = 0
	r.moved()
}

// machineFailed takes a desk's word that a device did not do its part.
func (r *Request) machineFailed(d *device, p tolerant.Packet) {
	if d.out() {
		return
	}
	if len(p.Message) == 0 { // anybody can say that one is silent
		if text := clip(p.Text); d.text != text && r.state == api.StateOpen && d.machine.result == nil {
			d.text, r.dirty = text, true
		}
		return
	}
	if v, err := r.verifyAnswer(d, p.Message); err == nil && v.Header().Type == firmware.TypeRefusal {
		r.refusedTask(d, v)
	}
}

// refusedTask takes a device's refusal, once, and only one that it made lately
// and after the offer that is in force: who keeps old ones must not be able to
// undo what operators did.
func (r *Request) refusedTask(d *device, v *envelope.Verified) {
	var f firmware.Refusal
	if envelope.Decode(v, firmware.TypeRefusal, firmware.MessageVersion, &f) != nil || !r.ofTask(d, v, &f) {
		return
	}
	if v.Digest() == d.machine.failed || v.CheckFresh(r.now, answerSkew) != nil || d.offer != nil && v.Header().Created < d.offer.Offer().Created {
		return
	}
	d.machine.failed = v.Digest()
	if f.Code == firmware.CodePartial && !d.calculates() {
		d.text, r.dirty = clip(f.Text), true
		r.suspectAll(d, v.Raw())
		return
	}
	if r.state == api.StateOpen && d.machine.result == nil {
		r.failed(d, f.Code, clip(f.Text))
		d.machine.tries = 0 // it answers: it rests for its reason
	}
}

// ofTask reports whether a refusal is one that a task's desk gets. Any site may
// ask a device what it has to refuse, such as to be unlocked while it is open, or
// a partial signature, and then show the answer for one to this task.
func (r *Request) ofTask(d *device, v *envelope.Verified, f *firmware.Refusal) bool {
	switch f.Type {
	case firmware.TypeOfferAsk, firmware.TypePowersTask, firmware.TypeCombineTask:
		return f.Request == r.digest
	case "":
		// A locked device cannot read what it refuses, nor use its token to say so.
		if d.boot == nil {
			return false
		}
		boot, err := envelope.KeyIDOf(d.boot)
		return err == nil && f.Request.IsZero() && v.Signer() == boot
	}
	return false
}

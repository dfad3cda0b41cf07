package coordinator

import (
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// attempt is one choice of t devices and what they made so far.
type attempt struct {
	order    []uint64 // share indices
	devices  []*device
	partials []*firmware.Partial // by position; nil until it is there
	raws     [][]byte            // their messages
	asked    []bool
	inquiry  *inquiry // not nil: somebody was wrong
}

func (t *attempt) place(d *device) int { return slices.Index(t.devices, d) }

// made counts the partial signatures that are there. In a sequence they are
// those of the first places.
func (t *attempt) made() int {
	n := 0
	for _, p := range t.partials {
		if p != nil {
			n++
		}
	}
	return n
}

func (t *attempt) ids() []string {
	ids := []string{}
	for _, d := range t.devices {
		ids = append(ids, d.id)
	}
	return ids
}

// begin chooses the devices of the next attempt, if there are enough.
func (r *Request) begin() {
	if chosen := r.candidates(); chosen != nil {
		r.start(chosen)
	}
}

// candidates are the first t devices of the route that can sign now: with their
// officers' quorum complete, or for a chain along a sequence, where the later
// quorums can only form when the earlier devices have signed, with an offer.
// Nil if there are fewer.
func (r *Request) candidates() []*device {
	var chosen []*device
	for _, d := range r.devices {
		if d.out() || d.offer == nil || r.now < d.retry {
			continue
		}
		if d.complete() || r.chain() && r.sequential() {
			chosen = append(chosen, d)
		}
		if uint64(len(chosen)) == r.key.T {
			return chosen
		}
	}
	return nil
}

// relieve gives up an attempt that waits for the turn of a device that cannot
// sign now, if others can take its place. If not, the attempt stands: it may
// hold what officers signed over.
func (r *Request) relieve() {
	t := r.attempt
	if t == nil || t.inquiry != nil {
		return
	}
	for i, d := range t.devices {
		if t.partials[i] == nil && !t.asked[i] && r.now < d.retry && r.candidates() != nil {
			r.end(fmt.Sprintf("device %s cannot sign now: %s", d.id, d.text))
			return
		}
	}
}

func (r *Request) start(devices []*device) {
	n := len(devices)
	t := &attempt{devices: devices, partials: make([]*firmware.Partial, n), raws: make([][]byte, n), asked: make([]bool, n)}
	h := api.Attempt{Devices: t.ids(), Shares: []string{}, Wrong: []string{}}
	for i, d := range devices {
		t.order = append(t.order, d.holder.Index)
		h.Shares = append(h.Shares, d.holder.Share)
		// A chain covers the partial signature before it, which is made anew; only
		// one that begins with nothing stands.
		if r.chain() && r.sequential() && (i > 0 || len(d.base) > 0) {
			d.approvals, d.base = nil, nil
		}
	}
	if len(r.history) == maxHistory {
		r.history = r.history[1:]
	}
	r.attempt, r.history, r.dirty = t, append(r.history, h), true
}

// end gives the attempt up. Answers that are still to come are passed over.
func (r *Request) end(outcome string, wrong ...*device) {
	h := &r.history[len(r.history)-1]
	h.Outcome = outcome
	for _, d := range wrong {
		h.Wrong = append(h.Wrong, d.id)
		d.wrong, d.text = true, outcome
	}
	for id, a := range r.asks {
		if a.want != firmware.TypeOffered {
			delete(r.asks, id)
		}
	}
	r.attempt, r.dirty = nil, true
}

// progress asks for the partial signatures that can be asked for now: in
// parallel all, in a sequence the next.
func (r *Request) progress() {
	t := r.attempt
	if t.inquiry != nil {
		return
	}
	for i, d := range t.devices {
		if r.sequential() && i != t.made() {
			continue
		}
		if !t.asked[i] && d.complete() && r.now >= d.retry {
			t.asked[i] = true
			r.sendTask(t, i)
		}
	}
}

// taskOf is what a device is asked at a place.
func (r *Request) taskOf(t *attempt, i int, prove bool) firmware.Task {
	d := t.devices[i]
	out := firmware.Task{
		Request: r.raw, Offer: d.offerRaw, Order: t.order, Position: uint64(i), Prior: [][]byte{}, Prove: prove,
	}
	if r.sequential() {
		out.Prior = t.raws[:i]
	}
	if r.chain() {
		out.Approvals = [][]byte{d.approvals[len(d.approvals)-1].raw}
		return out
	}
	for _, g := range d.approvals {
		out.Approvals = append(out.Approvals, g.raw)
	}
	return out
}

// proves reports whether a place of a sequence gives a proof right away: all
// but the last, wherever shares can. A device in the middle demands it of most
// (P3); of all of them, so that no officer signs over a wrong partial and no
// right device is suspected.
func (r *Request) proves(t *attempt, i int) bool {
	return r.sequential() && i+1 < len(t.devices) && !t.devices[i].inToken
}

func (r *Request) sendTask(t *attempt, i int) {
	d := t.devices[i]
	r.send(d, firmware.TypeTask, firmware.TypePartial, r.taskOf(t, i, r.proves(t, i)),
		func(v *envelope.Verified) error { return r.partial(t, i, v) },
		func(code, text string) { r.taskFailed(t, i, code, text) })
}

// partial takes a device's partial signature.
func (r *Request) partial(t *attempt, i int, v *envelope.Verified) error {
	d := t.devices[i]
	p, err := firmware.VerifyPartial(r.State, &r.key, r.digest, t.order, uint64(i), v.Raw())
	if err != nil {
		return err
	}
	d.wait, d.text = 0, ""
	if r.proves(t, i) {
		if err := r.verifyProof(t, i, p); err != nil {
			r.end(fmt.Sprintf("device %s made a wrong partial signature", d.id), d)
			return nil
		}
	} else if r.sequential() && r.outOfRange(p.Y) {
		// What is no partial signature at all is not handed on: the next device
		// could only refuse it, and would look like the one that failed.
		r.end(fmt.Sprintf("device %s made a partial signature that is out of range", d.id), d)
		return nil
	}
	t.partials[i], t.raws[i] = p, v.Raw()
	r.dirty = r.dirty || r.sequential()
	if t.made() == len(t.devices) {
		r.combine(t)
		return nil
	}
	if r.sequential() && r.chain() {
		t.devices[i+1].base = v.Raw()
	}
	return nil
}

// input is what the device at a place raised.
func (r *Request) input(t *attempt, i int) []byte {
	if r.sequential() && i > 0 {
		return t.partials[i-1].Y
	}
	return r.x[0] // only keys in two layers sign batches
}

func (r *Request) verifyProof(t *attempt, i int, p *firmware.Partial) error {
	if p.Proof == nil {
		return fmt.Errorf("%w: there is none", threshold.ErrProof)
	}
	b := firmware.PartialBinding(r.State, &r.key, r.digest, t.order, uint64(i))
	return threshold.VerifyProof(&r.key.Public, &r.key.Commitment, b, p.Index, r.input(t, i), p.Y, p.Proof)
}

// taskFailed replaces a device that refused or was silent.
func (r *Request) taskFailed(t *attempt, i int, code, text string) {
	d := t.devices[i]
	if code == firmware.CodePartial && r.sequential() && i > 0 {
		// It says that one before it was wrong; whom it names proves nothing.
		d.text = text
		r.inquire(t, i)
		return
	}
	r.failed(d, code, text)
	r.end(fmt.Sprintf("device %s did not sign: %s", d.id, text))
}

func (r *Request) failed(d *device, code, text string) {
	if code == firmware.CodeOffer && d.offer != nil {
		d.spent = d.offer.Digest()
		r.dropOffer(d, text)
		return
	}
	if code == firmware.CodePhase && d.offer != nil {
		r.dropOffer(d, text) // one-time keys do not outlive a locked token
	}
	r.rest(d, waitFor(code), text)
}

// combine makes the signature and releases it if it verifies.
func (r *Request) combine(t *attempt) {
	signature, err := r.join(t)
	if err == nil {
		if err = r.done(signature); err == nil {
			r.history[len(r.history)-1].Outcome = "signed"
			return
		}
		// The bare signature verifies, so nobody was wrong; the document does
		// not: it is no use to try again.
		r.end("the finished document is not acceptable: " + err.Error())
		r.finish(api.StateFailed, "the finished document is not acceptable: "+clip(err.Error()))
		return
	}
	var wrong *threshold.WrongPartialError
	if errors.As(err, &wrong) {
		r.blame(t, wrong.Indices)
		return
	}
	r.inquire(t, len(t.devices))
}

func (r *Request) join(t *attempt) ([]byte, error) {
	alg, digest := r.checked.Algorithm(), r.checked.Digest()
	if r.sequential() {
		return threshold.FinishSequentialVarTime(&r.key.Public, alg, digest, t.partials[len(t.partials)-1].Y)
	}
	var parts []threshold.PartialSignature
	for i, p := range t.partials {
		parts = append(parts, threshold.PartialSignature{
			Index: p.Index, Share: t.devices[i].holder.Share, Subset: subsetOf(t.order), Value: p.Y,
		})
	}
	return threshold.CombineAdditiveVarTime(&r.key.Public, alg, digest, parts)
}

// blame excludes the devices at the given share indices.
func (r *Request) blame(t *attempt, indices []uint64) {
	var guilty []*device
	names := []string{}
	for i, index := range t.order {
		if slices.Contains(indices, index) {
			guilty = append(guilty, t.devices[i])
			names = append(names, t.devices[i].id)
		}
	}
	r.end(fmt.Sprintf("wrong partial signature by %v", names), guilty...)
}

package coordinator

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// ErrOver refuses an approval of a request that is not open any more.
var ErrOver = errors.New("the request is not open any more")

// ErrStale refuses an approval that answers an older item of the inbox.
var ErrStale = errors.New("look at the inbox again and approve what is there now")

// Approve takes an officer's approval or rejection, raw COSE_Sign1. When it
// returns nil and the effects' record is durable, it counts.
//
// Errors: those of approval.Verify, ErrOver, ErrStale.
func (r *Request) Approve(now int64, raw []byte) (out api.Approved, e Effects, err error) {
	e = r.step(now, func() { out, err = r.approve(raw) })
	return out, e, err
}

func (r *Request) approve(raw []byte) (api.Approved, error) {
	d, a, err := r.subject(raw)
	if err != nil {
		return api.Approved{}, err
	}
	v, err := approval.Verify(r.State, r.about, d.id, raw, r.now)
	var no *approval.RejectedError
	if err != nil && !errors.As(err, &no) {
		return api.Approved{}, err
	}
	if r.state != api.StateOpen {
		return api.Approved{}, fmt.Errorf("%w: %s", ErrOver, r.summary())
	}
	if no != nil {
		r.reject(d, no, raw)
		return r.standing(d), nil
	}
	if d.has(v.Person()) {
		return r.standing(d), r.again(d, v)
	}
	if err := r.fits(d, a); err != nil {
		return api.Approved{}, err
	}
	d.approvals = append(d.approvals, granted{v.Person(), v.Name(), bytes.Clone(raw), v.Digest(), a.Expires})
	r.dirty = true
	return r.standing(d), nil
}

// subject reads which device an approval is for, before it is verified.
func (r *Request) subject(raw []byte) (*device, approval.Approval, error) {
	var a approval.Approval
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, a, err
	}
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &a); err != nil {
		return nil, a, err
	}
	i := slices.IndexFunc(r.devices, func(d *device) bool { return d.id == a.Device })
	if i < 0 {
		return nil, a, fmt.Errorf("device %s is not on the route of request %s", document.Escape(a.Device), r.digest)
	}
	return r.devices[i], a, nil
}

// reject records an officer's no: his device takes no part any more.
func (r *Request) reject(d *device, no *approval.RejectedError, raw []byte) {
	x := api.Rejection{Name: no.Name, Reason: clip(no.Reason)}
	if !slices.Contains(d.rejected, x) {
		d.rejected, r.dirty = append(d.rejected, x), true
	}
	if r.layered() && d.no == nil {
		d.no = bytes.Clone(raw)
	}
	if r.attempt != nil && r.attempt.place(d) >= 0 {
		r.end(fmt.Sprintf("%s rejected the request at %s", no.Name, d.id))
	}
}

// again is a second approval by one person: the same one is no harm.
func (r *Request) again(d *device, v *approval.Verified) error {
	for _, g := range d.approvals {
		if g.person == v.Person() && g.digest == v.Digest() {
			return nil
		}
	}
	return &approval.DuplicateError{Person: v.Person(), Name: v.Name()}
}

// fits checks that an approval answers what is in the inbox now.
func (r *Request) fits(d *device, a approval.Approval) error {
	if d.out() {
		return fmt.Errorf("%w: device %s takes no part in it any more", ErrOver, d.id)
	}
	if d.offer == nil {
		return fmt.Errorf("device %s has no one-time key for it now (%s): %w", d.id, d.text, ErrStale)
	}
	sealed := slices.ContainsFunc(a.Pieces, func(p approval.SealedPiece) bool {
		return p.Device == d.id && p.Offer == d.offer.Digest()
	})
	if !sealed {
		return fmt.Errorf("the piece is sealed for another one-time key of device %s: %w", d.id, ErrStale)
	}
	tip, ok := r.tip(d)
	if !ok {
		return fmt.Errorf("it is not the turn of device %s: %w", d.id, ErrStale)
	}
	if !bytes.Equal(a.Prior, tip) {
		return fmt.Errorf("the approval does not cover what was signed before it: %w", ErrStale)
	}
	return nil
}

// tip is what the next approval at a device has to cover: nothing in a set; in
// a chain the approval before, or what the chain begins with. It is false
// while that is not there.
func (r *Request) tip(d *device) ([]byte, bool) {
	if !r.chain() {
		return nil, true
	}
	base, ok := r.baseOf(d)
	if !ok {
		return nil, false
	}
	if n := len(d.approvals); n > 0 {
		return d.approvals[n-1].raw, true
	}
	return base, true
}

// baseOf is what a device's chain begins with: at the first place nothing, at
// a later one of a sequence the partial signature before it, which is there
// only while the attempt lasts.
func (r *Request) baseOf(d *device) ([]byte, bool) {
	if !r.sequential() {
		return nil, true
	}
	if r.attempt == nil {
		return nil, false
	}
	switch i := r.attempt.place(d); {
	case i == 0:
		return nil, true
	case i > 0 && i <= r.attempt.made():
		return r.attempt.raws[i-1], true
	}
	return nil, false
}

func (r *Request) standing(d *device) api.Approved {
	return api.Approved{Device: d.id, Have: uint64(len(d.approvals)), Need: d.holder.Quorum, Missing: r.missing(d)}
}

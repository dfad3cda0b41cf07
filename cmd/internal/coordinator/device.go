package coordinator

import (
	"bytes"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// device is one device of the route and what its officers said.
type device struct {
	id, name   string
	holder     ledger.Holder
	sign, boot *ecdsa.PublicKey // boot may be nil
	inToken    bool             // uses its share of this key in the token

	offer    *approval.VerifiedOffer // nil: none in force
	offerRaw []byte
	pieces   []ceremony.SealedPiece
	spent    envelope.Hash // offer that the device said it cannot use; the same again is no help

	// approvals that count, in the order they came. In a chain each covers the
	// one before, and the first covers base.
	approvals []granted
	base      []byte
	rejected  []api.Rejection
	no        []byte // the first of these, raw, for the site of a machine in two layers

	machine machine // in a task of two layers
	gone    bool    // from the authority
	since   int64   // when the last offer that is gone was made

	wrong  bool // proved to have made a wrong partial signature
	known  bool // gave an offer once: it may hold a one-time key
	closed bool // knows that the request has its signature
	text   string

	asking bool  // an offer or a close is under way
	retry  int64 // not before
	wait   int64 // last time it had to wait this long

	shown     envelope.Hash // digest of what its officers are to be presented
	presented envelope.Hash // what they certainly have
	presentAt int64         // next try
}

// granted is an approval that counts.
type granted struct {
	person, name string
	raw          []byte
	digest       envelope.Hash
	expires      int64
}

func (r *Request) newDevice(id string) (*device, error) {
	row, ok := r.State.Device(id)
	if !ok {
		return nil, fmt.Errorf("device %s is not in the ledger", document.Escape(id))
	}
	d := &device{id: id, name: row.Name, inToken: r.key.UsedInToken(row)}
	if d.holder, ok = r.State.HolderOf(r.key.ID, id); !ok && r.layered() {
		r.findMachine(d)
	} else if !ok {
		return nil, fmt.Errorf("device %s holds no share of key %s", id, r.key.ID)
	}
	var err error
	if d.sign, err = envelope.ParseSigningKey(row.Sign); err != nil {
		return nil, err
	}
	if len(row.Boot) > 0 {
		d.boot, err = envelope.ParseSigningKey(row.Boot)
	}
	return d, err
}

// out reports whether a device cannot take part any more.
func (d *device) out() bool { return d.wrong || d.gone || len(d.rejected) > 0 }

// complete reports whether its officers' quorum is there.
func (d *device) complete() bool {
	return d.offer != nil && uint64(len(d.approvals)) >= d.holder.Quorum
}

// defer leaves a device alone for a while, longer each time.
func (r *Request) rest(d *device, base int64, why string) {
	d.text, r.dirty = why, true
	d.wait = min(max(base, 2*d.wait), waitMax)
	d.retry = r.now + d.wait
}

// sleep fails what a device was asked, and leaves it alone. It was asked for
// nothing in vain, so the time does not double.
func (r *Request) sleep(d *device, locked bool, why string) {
	why = clip(why)
	for id, a := range r.asks {
		if a.device == d {
			delete(r.asks, id)
			a.fail("", why) // which may give up the attempt, with its other asks
		}
	}
	if locked && d.offer != nil {
		r.dropOffer(d, why)
	}
	d.machine.tries, d.wait, d.retry = 0, 0, r.now+sleepWait
	if d.text != why {
		d.text, r.dirty = why, true
	}
}

// answered verifies an answer of a device and hands it to who waits for it.
func (r *Request) answered(a *ask, raw []byte) {
	v, err := r.verifyAnswer(a.device, raw)
	if err != nil {
		a.fail("", clip("its answer is not acceptable: "+err.Error()))
		return
	}
	switch typ := v.Header().Type; typ {
	case a.want:
		if err := a.on(v); err != nil {
			a.fail("", clip("its answer is not acceptable: "+err.Error()))
		}
	case firmware.TypeRefusal:
		var f firmware.Refusal
		if err := envelope.Decode(v, typ, firmware.MessageVersion, &f); err != nil {
			a.fail("", clip("its refusal is malformed: "+err.Error()))
			return
		}
		if !f.Request.IsZero() && f.Request != r.digest {
			a.fail("", "it answered for another request")
			return
		}
		a.fail(f.Code, clip(f.Text))
	default:
		a.fail("", fmt.Sprintf("it answered with a %q", document.Escape(typ)))
	}
}

// verifyAnswer checks that a device said this. A locked one speaks with its
// boot key, and then only to refuse.
func (r *Request) verifyAnswer(d *device, raw []byte) (*envelope.Verified, error) {
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, err
	}
	key := d.sign
	if d.boot != nil && u.Header().Type == firmware.TypeRefusal {
		if id, err := envelope.KeyIDOf(d.boot); err == nil && id == u.Header().Signer {
			key = d.boot
		}
	}
	v, err := u.Verify(key)
	if err != nil {
		return nil, err
	}
	if v.Header().System != r.State.System() {
		return nil, errors.New("it is of another system")
	}
	return v, nil
}

// refresh drops what has expired and asks for offers that are missing.
func (r *Request) refresh() {
	for _, d := range r.devices {
		if d.out() {
			continue
		}
		if d.offer != nil && d.offer.Offer().Expires <= r.now {
			r.dropOffer(d, "its one-time key expired")
		}
		r.dropExpired(d)
		if d.offer == nil && !d.asking && r.now >= d.retry {
			r.askOffer(d)
		}
	}
}

// dropOffer forgets an offer with the approvals, whose pieces are sealed to it.
func (r *Request) dropOffer(d *device, why string) {
	d.since = max(d.since, d.offer.Offer().Created)
	d.offer, d.offerRaw, d.pieces, d.approvals, d.base = nil, nil, nil, nil, nil
	d.text, r.dirty = why, true
}

// dropExpired: a device refuses a set with one expired approval in it, and a
// chain that holds one.
func (r *Request) dropExpired(d *device) {
	expired := func(g granted) bool { return g.expires <= r.now }
	if !slices.ContainsFunc(d.approvals, expired) {
		return
	}
	r.dirty = true
	if r.chain() {
		d.approvals = nil
		return
	}
	d.approvals = slices.DeleteFunc(d.approvals, expired)
}

func (r *Request) askOffer(d *device) {
	d.asking = true
	r.send(d, firmware.TypeOfferAsk, firmware.TypeOffered, firmware.OfferAsk{Request: r.raw},
		func(v *envelope.Verified) error {
			var in firmware.Offered
			if err := envelope.Decode(v, firmware.TypeOffered, firmware.MessageVersion, &in); err != nil {
				return err
			}
			return r.takeOffer(d, in)
		},
		func(code, text string) {
			d.asking = false
			r.rest(d, waitFor(code), text)
		})
}

func waitFor(code string) int64 {
	switch code {
	case "", firmware.CodeLease: // the next beat may mend it
		return silenceWait
	}
	return refusalWait
}

func (r *Request) takeOffer(d *device, in firmware.Offered) error {
	size := len(in.Offer)
	for _, p := range in.Pieces {
		size += len(p.ID) + len(p.Purpose) + len(p.Device) + len(p.Share) + len(p.Person) + len(p.Sealed)
	}
	if size > maxOffered || len(in.Pieces) > ledger.MaxOfficersOfDevice {
		return fmt.Errorf("an offer of %d octets with %d pieces is more than a device can have to say", size, len(in.Pieces))
	}
	offer, err := approval.VerifyOffer(r.State, in.Offer, r.now)
	if err != nil {
		return err
	}
	if err := offer.For(r.digest); err != nil {
		return err
	}
	switch o := offer.Offer(); {
	case o.Device != d.id || o.Share != d.holder.Share:
		return fmt.Errorf("the offer is of device %s for share %s", document.Escape(o.Device), document.Escape(o.Share))
	case offer.Digest() == d.spent:
		return errors.New("the device answered this request as often as it may: make a new request")
	}
	d.asking, d.wait, d.retry = false, 0, 0
	d.offer, d.offerRaw, d.pieces = offer, bytes.Clone(in.Offer), in.Pieces
	d.text, d.known, r.dirty = "", true, true
	return nil
}

// officers who may approve at a device now: never the requester himself.
func (r *Request) officers(d *device) []ledger.Officer {
	return slices.DeleteFunc(r.State.OfficersFor(r.key.ID, d.id, r.now), func(o ledger.Officer) bool {
		return o.Person == r.request.Requester
	})
}

// missing are the names of officers who may still approve, none if the quorum
// is complete.
func (r *Request) missing(d *device) []string {
	names := []string{}
	if d.complete() || d.out() {
		return names
	}
	for _, o := range r.officers(d) {
		if !d.has(o.Person) {
			names = append(names, r.nameOf(o.Person))
		}
	}
	return names
}

func (d *device) has(person string) bool {
	return slices.ContainsFunc(d.approvals, func(g granted) bool { return g.person == person })
}

func (d *device) approved() []string {
	names := []string{}
	for _, g := range d.approvals {
		names = append(names, g.name)
	}
	return names
}

func (r *Request) nameOf(person string) string {
	if p, ok := r.State.Person(person); ok {
		return p.Name
	}
	return person
}

// toClose reports whether a device is still to be told that the request is
// over. One that never gave an offer has nothing to close, and what has expired
// closes itself.
func (r *Request) toClose(d *device) bool {
	return r.state == api.StateDone && d.known && !d.closed && r.now < min(r.request.Expires, r.finished+closeFor)
}

func (r *Request) closeDevices() {
	for _, d := range r.devices {
		if !r.toClose(d) || d.asking || r.now < d.retry {
			continue
		}
		d.asking = true
		r.send(d, firmware.TypeClose, firmware.TypeClosed, firmware.Close{Request: r.raw, Signatures: r.signatures},
			func(v *envelope.Verified) error {
				var in firmware.Closed
				if err := envelope.Decode(v, firmware.TypeClosed, firmware.MessageVersion, &in); err != nil {
					return err
				}
				if in.Request != r.digest {
					return errors.New("it closed another request")
				}
				d.closed, d.asking, r.news = true, false, true
				return nil
			},
			func(code, text string) {
				d.asking = false
				r.rest(d, waitFor(code), text)
				if code == firmware.CodeExpired || code == firmware.CodeClosed {
					d.closed = true
				}
			})
	}
}

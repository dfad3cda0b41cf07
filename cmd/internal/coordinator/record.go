package coordinator

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// recordVersion is the version of record that this code understands.
const recordVersion = 1

// record is what has to survive a crash, besides the request message itself,
// which never changes and is kept apart.
type record struct {
	Version    uint64         `cbor:"1,keyasint"`
	Request    envelope.Hash  `cbor:"2,keyasint"`
	Accepted   int64          `cbor:"3,keyasint"`
	State      string         `cbor:"4,keyasint"`
	Text       string         `cbor:"5,keyasint"`
	Revision   uint64         `cbor:"6,keyasint"`
	Signatures [][]byte       `cbor:"7,keyasint"` // the documents are made of them again
	History    []api.Attempt  `cbor:"8,keyasint"`
	Devices    []deviceRecord `cbor:"9,keyasint"`
	// Order and Partials are of a sequential attempt: officers may have signed
	// over these very partial messages.
	Order    []uint64 `cbor:"10,keyasint"`
	Partials [][]byte `cbor:"11,keyasint"`
	Settled  bool     `cbor:"12,keyasint"` // nothing was left to do
	// Task is of a key in two layers.
	Task *taskRecord `cbor:"13,keyasint,omitempty"`
}

type deviceRecord struct {
	Device    string                 `cbor:"1,keyasint"`
	Offer     []byte                 `cbor:"2,keyasint"`
	Pieces    []ceremony.SealedPiece `cbor:"3,keyasint"`
	Spent     envelope.Hash          `cbor:"4,keyasint"`
	Approvals [][]byte               `cbor:"5,keyasint"`
	Base      []byte                 `cbor:"6,keyasint"`
	Rejected  []api.Rejection        `cbor:"7,keyasint"`
	Wrong     bool                   `cbor:"8,keyasint"`
	Closed    bool                   `cbor:"9,keyasint"`
	Text      string                 `cbor:"10,keyasint"`
	Known     bool                   `cbor:"11,keyasint"`
	No        []byte                 `cbor:"12,keyasint,omitempty"`
}

func (r *Request) record() []byte {
	out := record{
		Version: recordVersion, Request: r.digest, Accepted: r.accepted, State: r.state, Text: r.text, Revision: r.revision,
		Signatures: r.signatures, History: r.history, Settled: r.Idle(),
	}
	for _, d := range r.devices {
		x := deviceRecord{
			Device: d.id, Offer: d.offerRaw, Pieces: d.pieces, Spent: d.spent, Base: d.base,
			Rejected: d.rejected, Wrong: d.wrong, Closed: d.closed, Text: d.text, Known: d.known,
			No: d.no,
		}
		for _, g := range d.approvals {
			x.Approvals = append(x.Approvals, g.raw)
		}
		out.Devices = append(out.Devices, x)
	}
	if t := r.attempt; t != nil && r.sequential() {
		out.Order, out.Partials = t.order, t.raws[:t.made()]
	}
	if r.layered() {
		out.Task = r.recordTask()
	}
	b, err := envelope.Marshal(out)
	if err != nil {
		// Everything in it was decoded or made here, within limits.
		panic(fmt.Sprintf("coordinator: record: %v", err))
	}
	return b
}

// unknownInbox stands for what inboxes hold after a restart.
var unknownInbox = envelope.HashOf("privyseal inbox unknown")

// Resume makes the machine again from the request message and its last record.
// Everything is verified anew. Call Start next.
func Resume(c Config, raw, data []byte, now int64) (*Request, error) {
	var in record
	if err := envelope.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	if in.Version != recordVersion {
		return nil, fmt.Errorf("record of version %d, this server knows %d", in.Version, recordVersion)
	}
	r, err := New(c, raw, in.Accepted)
	if err != nil {
		return nil, err
	}
	if in.Request != r.digest || len(in.Devices) != len(r.devices) {
		return nil, errors.New("the record is of another request")
	}
	if r.layered() != (in.Task != nil) {
		return nil, errors.New("the record is of another kind of key")
	}
	r.now, r.finished, r.accepted = now, now, in.Accepted
	r.state, r.text, r.revision, r.history = in.State, in.Text, in.Revision, in.History
	if in.State == api.StateDone {
		if r.documents, err = r.assemble(in.Signatures); err != nil {
			return nil, err
		}
		r.signatures = in.Signatures
	}
	for i, d := range r.devices {
		if err := r.resumeDevice(d, in.Devices[i]); err != nil {
			return nil, err
		}
		if !in.Settled {
			d.presented = unknownInbox
		}
	}
	if r.layered() {
		r.resumeTask(in.Task)
		return r, nil
	}
	r.resumeAttempt(in)
	return r, nil
}

// resumeDevice takes what still verifies: what has expired meanwhile is
// dropped and asked for again.
func (r *Request) resumeDevice(d *device, in deviceRecord) error {
	if in.Device != d.id {
		return errors.New("the record is of another route")
	}
	d.spent, d.rejected, d.no, d.wrong, d.known, d.closed, d.text = in.Spent, in.Rejected, in.No, in.Wrong, in.Known, in.Closed, in.Text
	offer, err := approval.VerifyOffer(r.State, in.Offer, r.now)
	if err != nil || r.state != api.StateOpen && !r.layered() {
		return nil
	}
	d.offer, d.offerRaw, d.pieces, d.base = offer, in.Offer, in.Pieces, in.Base
	for _, raw := range in.Approvals {
		v, err := approval.Verify(r.State, r.about, d.id, raw, r.now)
		if err != nil {
			if r.chain() {
				d.approvals = nil
				return nil
			}
			continue
		}
		d.approvals = append(d.approvals, granted{v.Person(), v.Name(), raw, v.Digest(), v.Approval().Expires})
	}
	return nil
}

// resumeAttempt goes on with a sequence where it stood. Whatever is not as it
// was begins anew: the attempt is only worth something for the approvals that
// cover its partial signatures.
func (r *Request) resumeAttempt(in record) {
	if r.state != api.StateOpen {
		return
	}
	if n := len(r.history); n > 0 && r.history[n-1].Outcome == "" && len(in.Order) == 0 {
		r.history[n-1].Outcome = "interrupted by a restart"
	}
	if len(in.Order) == 0 {
		return
	}
	t, err := r.rebuild(in)
	if err != nil {
		r.history[len(r.history)-1].Outcome = "interrupted by a restart: " + err.Error()
		return
	}
	r.attempt = t
}

func (r *Request) rebuild(in record) (*attempt, error) {
	n := len(in.Order)
	if uint64(n) != r.key.T || len(in.Partials) >= n || len(r.history) == 0 {
		return nil, errors.New("the record is of another threshold")
	}
	t := &attempt{order: in.Order, partials: make([]*firmware.Partial, n), raws: make([][]byte, n), asked: make([]bool, n)}
	for _, index := range in.Order {
		i := slices.IndexFunc(r.devices, func(d *device) bool { return d.holder.Index == index })
		if i < 0 || r.devices[i].out() || r.devices[i].offer == nil {
			return nil, fmt.Errorf("share %d is not available", index)
		}
		t.devices = append(t.devices, r.devices[i])
	}
	for i, raw := range in.Partials {
		p, err := firmware.VerifyPartial(r.State, &r.key, r.digest, t.order, uint64(i), raw)
		if err != nil {
			return nil, err
		}
		t.partials[i], t.raws[i], t.asked[i] = p, bytes.Clone(raw), true
		if r.proves(t, i) && r.verifyProof(t, i, p) != nil {
			return nil, fmt.Errorf("the proof of device %s does not hold", document.Escape(p.Device))
		}
	}
	return t, nil
}

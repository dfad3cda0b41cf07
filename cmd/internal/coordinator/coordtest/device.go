// Package coordtest emulates signing devices and officers over the keys and
// shares of package ledgertest, for tests of what is in front of them. The
// emulated devices check what real ones check and fail the test when they are
// asked for what no server may ask.
package coordtest

import (
	"crypto/ecdh"
	"crypto/rand"
	"slices"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// A Fault makes a device misbehave.
type Fault string

// Faults. Those of partial signatures are committed in every task.
const (
	Good       Fault = ""
	Silent     Fault = "silent"
	Locked     Fault = "locked"      // speaks with its boot key, and waits for its officers
	Random     Fault = "random"      // partial
	Zero       Fault = "zero"        // partial
	Negated    Fault = "negated"     // N − y
	OtherInput Fault = "other input" // of another document
	WrongShare Fault = "wrong share" // of another subset
	BadProof   Fault = "bad proof"   // right partial, proof altered
	NoProof    Fault = "no proof"    // random partial, and refuses to show it right
	Accuser    Fault = "accuser"     // says that who came before was wrong
	Stranger   Fault = "stranger"    // signs its answers with another key
	Refuser    Fault = "refuser"     // offers, then refuses to sign
)

// Device is an emulated device. Its methods may be called from any goroutine.
type Device struct {
	*ledgertest.Device
	Fault Fault
	// Document is the only one of a batch in which the fault of a calculator's
	// powers, or of a combiner's signatures, is committed, from 1; 0: in all.
	Document int
	// Instance is the ceremony's, where the device lives on beats.
	Instance *heartbeat.Instance

	t      testing.TB
	sys    *ledgertest.System
	now    func() int64
	mu     sync.Mutex
	offers map[envelope.Hash]*offer
	checks map[envelope.Hash]*check
	closed map[envelope.Hash]bool
	ledger ledger.State // what it was told of; the system's own may be ahead
	tasks  int

	unlocks *unlocking // nil: no one-time key
	layers  layered
}

type offer struct {
	raw     []byte
	digest  envelope.Hash
	expires int64
	// officers have pieces of it.
	officers []string
}

type check struct {
	held *threshold.HeldAnswer
	key  ledger.Key
	x    []byte
}

// NewDevice emulates a device of the test system.
func NewDevice(t testing.TB, sys *ledgertest.System, id string, now func() int64) *Device {
	d := &Device{Device: sys.Devices[id], t: t, sys: sys, now: now, ledger: sys.State}
	d.Restart()
	return d
}

// Restart forgets all that a device keeps in memory.
func (d *Device) Restart() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.offers, d.checks = map[envelope.Hash]*offer{}, map[envelope.Hash]*check{}
	if d.closed == nil {
		d.closed = map[envelope.Hash]bool{}
	}
}

// Tasks is how many partial signatures it was asked for.
func (d *Device) Tasks() int { d.mu.Lock(); defer d.mu.Unlock(); return d.tasks }

// Closed reports whether it knows that a request is closed.
func (d *Device) Closed(request envelope.Hash) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed[request]
}

// SetFault changes its behaviour.
func (d *Device) SetFault(f Fault) { d.SetFaultIn(f, 0) }

// SetFaultIn makes it misbehave in one document of a batch only, from 1.
func (d *Device) SetFaultIn(f Fault, document int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Fault, d.Document = f, document
}

// lies reports whether the fault is committed in a document, from 0.
func (d *Device) lies(n int) bool { return d.Document == 0 || d.Document == n+1 }

// Handle answers one message body of a type. It returns false when the device
// says nothing.
func (d *Device) Handle(typ string, body []byte) (answerType string, payload any, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer func() {
		if f, is := payload.(firmware.Refusal); is && d.Fault != Locked { // a locked one cannot read
			f.Type = typ
			payload = f
		}
	}()
	switch {
	case d.Fault == Silent:
		return "", nil, false
	case typ == firmware.TypeCatchup:
		return d.catchup(body)
	case d.Fault == Locked:
		return d.locked(typ, body)
	}
	switch typ {
	case firmware.TypeOfferAsk:
		return d.offerAsk(body)
	case firmware.TypeTask:
		var in firmware.Task
		d.decode(body, &in)
		return d.task(in)
	case firmware.TypePowersTask:
		var in firmware.PowersTask
		d.decode(body, &in)
		return d.powersTask(in)
	case firmware.TypeCombineTask:
		var in firmware.CombineTask
		d.decode(body, &in)
		return d.combineTask(in)
	case firmware.TypeCheckAsk:
		var in firmware.CheckAsk
		d.decode(body, &in)
		return d.checkAsk(in)
	case firmware.TypeCheckOpen:
		var in firmware.CheckOpen
		d.decode(body, &in)
		return d.checkOpen(in)
	case firmware.TypeClose:
		var in firmware.Close
		d.decode(body, &in)
		a := d.accept(in.Request)
		if _, err := a.checked.AssembleAll(in.Signatures); err != nil {
			d.t.Errorf("device %s was told to close with a signature that does not verify: %v", d.ID, err)
		}
		d.closed[a.digest] = true
		delete(d.offers, a.digest)
		return firmware.TypeClosed, firmware.Closed{Request: a.digest}, true
	case firmware.TypeStatusAsk:
		return firmware.TypeStatus, d.status(firmware.PhaseReady), true
	}
	d.t.Errorf("device %s was asked a %q", d.ID, typ)
	return "", nil, false
}

// catchup takes entries of the ledger, locked or not.
func (d *Device) catchup(body []byte) (string, any, bool) {
	var in firmware.Catchup
	d.decode(body, &in)
	for _, raw := range in.Entries {
		var e ledger.SignedEntry
		d.decode(raw, &e)
		next, err := ledger.Catchup(d.ledger, []ledger.SignedEntry{e})
		if err != nil {
			return d.refuse(envelope.Hash{}, firmware.CodeLedger, err.Error())
		}
		d.ledger = next
	}
	phase := firmware.PhaseReady
	if d.Fault == Locked {
		phase = firmware.PhaseLocked
	}
	return firmware.TypeStatus, d.status(phase), true
}

// Ledger is what the device was told of.
func (d *Device) Ledger() ledger.State { d.mu.Lock(); defer d.mu.Unlock(); return d.ledger }

// Sign makes the message that carries an answer.
func (d *Device) Sign(typ string, payload any, re [16]byte, to ...envelope.KeyID) []byte {
	body, err := envelope.Marshal(payload)
	if err != nil {
		d.t.Error(err)
	}
	d.mu.Lock()
	fault := d.Fault
	d.mu.Unlock()
	key := d.Device.Sign
	if fault == Locked {
		key = d.Boot
	}
	if fault == Stranger {
		key = ledgertest.NewSigner(d.t, "stranger")
	}
	raw, err := envelope.Sign(rand.Reader, key, envelope.Header{
		Type: typ, Version: firmware.MessageVersion, Re: re, To: to, System: d.sys.State.System(), Created: d.now(), Expires: d.now() + 300,
	}, body)
	if err != nil {
		d.t.Error(err)
	}
	return raw
}

func (d *Device) decode(body []byte, into any) {
	if err := envelope.Unmarshal(body, into); err != nil {
		d.t.Errorf("device %s was sent a malformed %T: %v", d.ID, into, err)
	}
}

func (d *Device) refuse(request envelope.Hash, code, text string) (string, any, bool) {
	return firmware.TypeRefusal, firmware.Refusal{Request: request, Device: d.ID, Code: code, Text: text}, true
}

// accepted is a request that a real device would work on.
type accepted struct {
	digest  envelope.Hash
	signer  envelope.KeyID
	req     document.Request
	key     ledger.Key
	holder  ledger.Holder
	checked *document.Checked
	x       []byte   // of the first document
	xs      [][]byte // of each document
}

func (d *Device) accept(raw []byte) *accepted {
	must := func(err error) {
		if err != nil {
			d.t.Errorf("device %s was sent a request that it cannot accept: %v", d.ID, err)
		}
	}
	u, err := envelope.Parse(raw)
	must(err)
	id, _ := d.sys.State.Identity(u.Header().Signer)
	v, err := u.Verify(id.SignKey)
	must(err)
	a := &accepted{digest: v.Digest(), signer: v.Signer()}
	must(envelope.Decode(v, document.TypeRequest, document.VersionRequest, &a.req))
	a.key, _ = d.sys.State.Key(a.req.Key)
	a.holder, _ = d.sys.State.HolderOf(a.key.ID, d.ID)
	a.checked, err = document.CheckIn(d.sys.State, &a.req, a.req.Created)
	must(err)
	a.xs, err = a.checked.EncodedMessages(a.digest)
	must(err)
	a.x = a.xs[0]
	return a
}

func (d *Device) offerAsk(body []byte) (string, any, bool) {
	var in firmware.OfferAsk
	d.decode(body, &in)
	a := d.accept(in.Request)
	if a.holder.Share == "" { // its machine was taken away meanwhile
		return d.refuse(a.digest, firmware.CodeShare, "this device holds no share of the key")
	}
	officers := d.officers(a)
	if o := d.offers[a.digest]; o == nil || o.expires <= d.now() || !slices.Equal(o.officers, officers) {
		key, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			d.t.Error(err)
		}
		o := approval.Offer{
			Request: a.digest, Key: a.key.ID, Epoch: a.key.Epoch, Device: d.ID, Share: a.holder.Share, Instance: [16]byte{1},
			Public: key.PublicKey().Bytes(), Created: d.now(), Expires: min(a.req.Expires, d.now()+approval.MaxOfferLife),
		}
		if d.Instance != nil {
			o.Instance = d.Instance.ID()
			if err := d.Instance.Prove(rand.Reader, &o, nil); err != nil {
				d.t.Error(err)
			}
		}
		raw, err := approval.NewOffer(rand.Reader, d.Device.Sign, d.sys.State, o, [16]byte{})
		if err != nil {
			d.t.Error(err)
		}
		u, _ := envelope.Parse(raw)
		d.offers[a.digest] = &offer{raw, u.UnverifiedDigest(), o.Expires, officers}
	}
	out := firmware.Offered{Offer: d.offers[a.digest].raw}
	for _, id := range officers {
		p := d.sys.Persons[id]
		card, err := envelope.KeyIDOf(p.Card().Agree.PublicKey())
		if err != nil {
			d.t.Error(err)
		}
		out.Pieces = append(out.Pieces, ceremony.SealedPiece{
			ID: "piece-" + p.ID, Purpose: "share", Device: d.ID, Share: a.holder.Share, Person: p.ID, Card: card, Sealed: []byte("sealed"),
		})
	}
	return firmware.TypeOffered, out, true
}

// officers are those who have pieces of a share.
func (d *Device) officers(a *accepted) []string {
	var ids []string
	if a.key.Scheme == threshold.TwoLayer {
		for _, o := range d.sys.State.OfficersFor(a.key.ID, d.ID, d.now()) {
			ids = append(ids, o.Person)
		}
		return ids
	}
	for _, p := range d.sys.Officers(d.ID) {
		ids = append(ids, p.ID)
	}
	return ids
}

package tolerant

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// task is one that machines of this site work on.
type task struct {
	number       number
	distribution firmware.Distribution
	packet       []byte // the same, raw
	raw          []byte // the request message
	request      document.Request
	about        approval.Request
	checked      *document.Checked
	expires      int64
	machines     []*machine // of this site, on the route

	// powers are those of B2 by calculator, the first that each sent; only where
	// a combiner wants them.
	powers map[uint64][]byte
	// signed: signatures of all documents that verify were seen on B3, of this
	// digest. There are no others (see verified).
	signed     bool
	signatures envelope.Hash
	over       bool
	room       int // octets that are set aside for it
}

// machine is a calculator or combiner of this site at work on a task.
type machine struct {
	device string
	holder ledger.Holder

	called   bool   // the distributor wants its acknowledgement
	asking   bool   // for an offer
	answer   []byte // its offer, as it answered; nil: none
	answered int64
	refusal  string // why there is none

	// What its operators confirmed: nil, or verified.
	offer     []byte
	offered   int64 // when the device made the offer
	approvals [][]byte
	confirmed envelope.Hash // of both
	no        bool          // an operator rejected it

	working bool
	prove   bool
	paused  bool          // it failed: wait for the distributor's word
	tried   envelope.Hash // the powers that a combiner could do nothing with
	result  []byte        // its firmware.Powers or firmware.Combined, raw
	proved  bool          // the powers have proofs
	gone    bool
}

func (m *machine) combines() bool { return m.holder.Layer == ledger.LayerCombiner }

// idle notes that an ask is over.
func (m *machine) idle(typ string) {
	if typ == firmware.TypeOfferAsk {
		m.asking = false
	} else {
		m.working = false
	}
}

func (t *task) machine(device string) *machine {
	for _, m := range t.machines {
		if m.device == device {
			return m
		}
	}
	return nil
}

// find returns the task that a packet is about.
func (d *Desk) find(p *Packet) *task {
	t := d.tasks[numberOf(p)]
	if t == nil || t.about.Digest != p.Request {
		return nil
	}
	return t
}

// takeTask takes the distributor's broadcast, the first or a repetition.
func (d *Desk) takeTask(a *authority, p *Packet) {
	t := d.find(p)
	if t == nil {
		if t = d.begin(a, p); t == nil {
			return
		}
	}
	for _, m := range t.machines {
		if slices.Contains(p.Acked, m.device) {
			continue
		}
		m.called = true
		if m.answer != nil && d.now-m.answered < repeatFor {
			d.send(t.number, t.about.Digest, Packet{Kind: KindAck, Device: m.device, Message: m.answer})
			continue
		}
		d.askOffer(t, m)
	}
}

func (d *Desk) askOffer(t *task, m *machine) {
	if m.asking || m.no || t.signed {
		return
	}
	m.asking = true
	d.enqueue(t, m, firmware.TypeOfferAsk)
}

// begin verifies a new task. What a distributor signed and is not right is
// illegal; what anybody could have sent is passed over.
func (d *Desk) begin(a *authority, p *Packet) *task {
	n := numberOf(p)
	if u := d.used[n]; u != nil && u.request == p.Request && u.over {
		return nil
	}
	dist, err := firmware.VerifyDistribution(d.cfg.State, p.Distribution, d.now)
	if err != nil || numberOf(p) != (number{dist.Enterprise, dist.Distributor, dist.Task}) || dist.Request != p.Request {
		return nil
	}
	if u := d.used[n]; u != nil && u.request != p.Request {
		d.outlaw(n, p.Request, "", "number", fmt.Sprintf("its number is that of request %s", u.request))
		return nil
	}
	t := &task{number: n, distribution: *dist, packet: bytes.Clone(p.Distribution), raw: bytes.Clone(p.Message), powers: map[uint64][]byte{}}
	// Only what its requester signed and its distributor means may make others give way.
	v, err := t.authentic(&d.cfg)
	if err != nil {
		return nil
	}
	t.about.Signer = v.Signer()
	if d.wasRefused(t) {
		return nil
	}
	if !d.admit(a, t) {
		d.turnAway(a, p)
		return nil
	}
	if err := t.verify(&d.cfg, a, v, d.now); err != nil {
		d.release(t)
		again := d.now + lookAgain
		var illegal *illegalError
		if errors.As(err, &illegal) {
			d.outlaw(n, p.Request, "", illegal.kind, illegal.Error())
			if illegal.forGood {
				again = never
			}
		}
		d.noteRefused(t, again)
		return nil
	}
	for _, id := range t.request.Route.Devices {
		if h, ok := a.own[id]; ok {
			t.machines = append(t.machines, &machine{device: id, holder: h})
		}
	}
	if len(t.machines) == 0 {
		// It never concerns this site: whoever repeats it does not have all of it
		// checked again.
		d.release(t)
		d.use(n, dist)
		d.used[n].over = true
		return nil
	}
	d.use(n, dist)
	d.tasks[n] = t
	d.open = append(d.open, t)
	return t
}

// illegalError is what a distributor must not give out.
type illegalError struct {
	err     error
	kind    string // as of Desk.outlaw
	forGood bool   // whatever the time, and the ledger
}

func (e *illegalError) Error() string { return e.err.Error() }

// authentic checks that the message is the request that the distributor means.
func (t *task) authentic(c *Config) (*envelope.Verified, error) {
	u, err := envelope.Parse(t.raw)
	if err != nil {
		return nil, err
	}
	if u.UnverifiedDigest() != t.distribution.Request {
		return nil, errors.New("another request")
	}
	id, ok := c.State.Identity(u.Header().Signer)
	if !ok || id.SignKey == nil {
		return nil, errors.New("signed by nobody of this system")
	}
	return u.Verify(id.SignKey)
}

// verify checks the request, and computes the hash anew (B [0092]). The devices do
// all of this for themselves; here it keeps nonsense from them.
func (t *task) verify(c *Config, a *authority, v *envelope.Verified, now int64) (err error) {
	s := c.State
	// From here on the distributor has signed for it.
	bad := func(format string, args ...any) error {
		return &illegalError{fmt.Errorf(format, args...), format, true}
	}
	if err := envelope.Decode(v, document.TypeRequest, document.VersionRequest, &t.request); err != nil {
		return bad("its request is malformed: %w", err)
	}
	if v.Header().System != s.System() || t.request.Key != a.key.ID {
		return bad("its request is not for this authority")
	}
	if c.Checked != nil {
		t.checked = c.Checked(v.Digest(), s.Head(), now)
	}
	if t.checked == nil {
		if t.checked, err = document.CheckIn(s, &t.request, now); err != nil {
			if _, then := document.CheckIn(s, &t.request, t.distribution.Created); then == nil {
				return err // it was when the distributor gave it out
			}
			return &illegalError{err: fmt.Errorf("its document is not acceptable: %w", err), kind: "document"}
		}
	}
	if !bytes.Equal(t.checked.Digest(), t.distribution.Hash) {
		return bad("its hash is not that of the document")
	}
	if n := uint64(len(t.checked.Parts())); n != t.distribution.Documents {
		return bad("it is about %d documents, its request has %d", t.distribution.Documents, n)
	}
	t.about = approval.Request{
		Digest: v.Digest(), Key: a.key.ID, Epoch: a.key.Epoch, Requester: t.request.Requester, Signer: v.Signer(),
		Created: t.request.Created, Expires: t.request.Expires,
	}
	t.expires = min(t.distribution.Expires, t.request.Expires)
	// The documents themselves are in the message; decoded they take a multiple of it.
	t.checked = t.checked.Bare()
	t.request.Document, t.request.CSR, t.request.Batch = nil, nil, nil
	return nil
}

// use notes what a number stands for.
func (d *Desk) use(n number, dist *firmware.Distribution) {
	if u := d.used[n]; u != nil {
		return
	}
	who := n.owner()
	if order := d.order[who]; len(order) >= maxNumbers {
		delete(d.used, order[0])
		d.order[who] = order[1:]
	}
	d.used[n] = &use{request: dist.Request, until: dist.Created + firmware.TaskPeriod}
	d.order[who] = append(d.order[who], n)
}

// drop ends a task at this site for good.
func (d *Desk) drop(t *task) {
	d.forgo(t)
	if u := d.used[t.number]; u != nil {
		u.over = true
	}
}

// forgo ends a task as if it had not come yet.
func (d *Desk) forgo(t *task) {
	t.over = true
	d.keepLast(t)
	delete(d.tasks, t.number)
	d.open = slices.DeleteFunc(d.open, func(x *task) bool { return x == t })
	d.release(t)
}

// expired ends one whose time is over. A combiner's operators who did not agree
// to it in that time make it illegal (B [0113]).
func (d *Desk) expired(t *task) {
	for _, m := range t.machines {
		if m.combines() && m.answer != nil && m.offer == nil && !t.signed && !m.no {
			d.outlaw(t.number, t.about.Digest, m.device, "unconfirmed", fmt.Sprintf("the operators of combiner %d did not confirm it in time", m.holder.Index))
		}
	}
	d.drop(t)
}

// done ends a task that has its signature.
func (d *Desk) done(p *Packet) {
	t := d.find(p)
	if t == nil {
		return
	}
	if d.verified(t, p.Signatures) {
		d.drop(t)
	}
}

// verified reports whether signatures are those of the task's documents. A
// document has one signature only: its encoded message is fixed, with the salt,
// and RSA is a permutation. Whether the certificates are sound is for the output
// interface and the requester.
func (d *Desk) verified(t *task, signatures [][]byte) bool {
	digest := signaturesHash(signatures)
	if t.signed {
		return digest == t.signatures
	}
	v := d.authorities[t.number.enterprise].verifier
	x, err := t.checked.EncodedMessages(t.about.Digest)
	if v == nil || err != nil || v.VerifyAll(x, signatures) != nil {
		return false
	}
	t.signed, t.signatures = true, digest
	return true
}

// Tasks are those that the desk works on, oldest first.
func (d *Desk) Tasks() []api.Task {
	tasks := []api.Task{}
	for _, t := range d.open {
		x := api.Task{
			Enterprise: t.number.enterprise, Distributor: t.number.distributor, Task: t.number.task, Request: t.about.Digest,
			Key: t.about.Key, Created: t.distribution.Created, Expires: t.expires, Devices: []string{},
		}
		var states []string
		for _, m := range t.machines {
			if m.answer != nil {
				x.Devices = append(x.Devices, m.device)
			}
			states = append(states, fmt.Sprintf("%s %d (%s) %s", layerName(m.holder.Layer), m.holder.Index, m.device, m.state()))
		}
		x.State = strings.Join(states, "; ")
		tasks = append(tasks, x)
	}
	return tasks
}

// state is for people.
func (m *machine) state() string {
	switch {
	case m.no:
		return "was rejected by its operators"
	case m.result != nil && m.combines():
		return "combined"
	case m.result != nil:
		return "made its powers"
	case m.working:
		return "works"
	case m.paused:
		return "failed: " + m.refusal
	case m.offer != nil && m.combines():
		return "is confirmed and waits for powers"
	case m.offer != nil:
		return "is confirmed"
	case m.answer != nil:
		return "waits for its operators"
	case m.refusal != "":
		return "does not take it: " + m.refusal
	}
	return "has not answered"
}

func layerName(layer uint64) string {
	if layer == ledger.LayerCombiner {
		return "combiner"
	}
	return "calculator"
}

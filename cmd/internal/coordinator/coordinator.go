package coordinator

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// ErrSigner means that a request is not signed by anybody whom the ledger
// knows, or that the signature does not verify.
var ErrSigner = errors.New("not signed by anybody of this system")

// Config is what a machine works with.
type Config struct {
	State ledger.State
	Site  string    // id of the server that coordinates
	Rand  io.Reader // for challenges
	// Asleep says of devices why they cannot sign now, as far as the server
	// knows when a request starts: see [Request.Asleep].
	Asleep map[string]string
	// Doubts lets one of the server's requests at a time use what all of them share;
	// nil: they share nothing, and follow all suspicions.
	Doubts func(use func(*Doubts))
	// Distribution makes the packet by which this server gives out a task of an
	// authority in two layers ([firmware.Distribution]): with a number that it
	// never used before, whatever it forgot, and signed. Nil: this server gives
	// out no tasks.
	Distribution func(key *ledger.Key, request envelope.Hash, checked *document.Checked, expires int64) (raw []byte, err error)
}

// Request is one request on its way. It is not safe for concurrent use.
type Request struct {
	Config
	raw      []byte // the request message
	digest   envelope.Hash
	request  document.Request
	about    approval.Request
	checked  *document.Checked // bare
	head     envelope.Hash     // of the ledger with which the document was checked
	key      ledger.Key
	x        [][]byte // the encoded message of each document, |N| octets
	accepted int64

	state      string // api.State…
	finished   int64  // when it ceased to be open, or was resumed after that
	text       string // why it is not open any more
	devices    []*device
	task       *task // nil but for a key in two layers
	attempt    *attempt
	history    []api.Attempt
	signatures [][]byte // one for each document, as are documents
	documents  [][]byte
	revision   uint64

	asks    map[uint64]*ask
	lastAsk uint64

	// Of the step under way.
	now     int64
	actions []Action
	dirty   bool // something that has to survive a crash
	news    bool // something that need not: it is asked for again
}

// ask is a message that a device has not answered.
type ask struct {
	device *device
	want   string // type of the answer
	on     func(*envelope.Verified) error
	fail   func(code, text string) // code "" is silence
}

// New verifies a request message as every device will, and makes its machine.
// Call Start next.
func New(c Config, raw []byte, now int64) (*Request, error) {
	r := &Request{Config: c, raw: slices.Clone(raw), accepted: now, state: api.StateOpen, asks: map[uint64]*ask{}}
	if err := r.verify(now); err != nil {
		return nil, err
	}
	if r.key.Scheme == threshold.TwoLayer {
		if err := r.newTask(); err != nil {
			return nil, err
		}
	}
	for _, id := range r.request.Route.Devices {
		d, err := r.newDevice(id)
		if err != nil {
			return nil, err
		}
		r.devices = append(r.devices, d)
	}
	return r, nil
}

// verify checks the request's signer and its document.
func (r *Request) verify(now int64) error {
	u, err := envelope.Parse(r.raw)
	if err != nil {
		return err
	}
	h := u.Header()
	id, ok := r.State.Identity(h.Signer)
	if !ok || id.SignKey == nil {
		return fmt.Errorf("%w: key %s is in no table, or signs nothing", ErrSigner, h.Signer)
	}
	v, err := u.Verify(id.SignKey)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSigner, err)
	}
	if h.System != r.State.System() {
		return fmt.Errorf("the request is for another system (%s)", h.System)
	}
	if err := envelope.Decode(v, document.TypeRequest, document.VersionRequest, &r.request); err != nil {
		return err
	}
	if err := mayAsk(id, r.request.Requester); err != nil {
		return err
	}
	if r.checked, err = document.CheckIn(r.State, &r.request, now); err != nil {
		return err
	}
	r.key, _ = r.State.Key(r.request.Key) // CheckIn found it
	r.digest, r.head = v.Digest(), r.State.Head()
	r.about = approval.Request{
		Digest: r.digest, Key: r.key.ID, Epoch: r.key.Epoch, Requester: r.request.Requester, Signer: h.Signer,
		Created: r.request.Created, Expires: r.request.Expires,
	}
	if r.x, err = r.checked.EncodedMessages(r.digest); err != nil {
		return err
	}
	// The documents are kept in the message alone. What was parsed of a batch is many
	// times as long, a file would be there three times, and there may be hundreds.
	r.checked = r.checked.Bare()
	r.request.Document, r.request.CSR, r.request.Batch = nil, nil, nil
	return nil
}

// assemble makes the documents of signatures, if all verify.
func (r *Request) assemble(signatures [][]byte) ([][]byte, error) {
	in, err := r.whole()
	if err != nil {
		return nil, err
	}
	c, err := r.checked.Whole(in, &r.key)
	if err != nil {
		return nil, err
	}
	return c.AssembleAll(signatures)
}

// whole is the request with its documents.
func (r *Request) whole() (*document.Request, error) {
	u, err := envelope.Parse(r.raw)
	if err != nil {
		return nil, err
	}
	var in document.Request
	return &in, envelope.Unmarshal(u.UnverifiedPayload(), &in) // verified when it was taken
}

// mayAsk: any key of a person or a device asks, but not in another's name.
func mayAsk(id ledger.Identity, requester string) error {
	asks := id.Use == ledger.UseSoftware || id.Use == ledger.UseSign && id.Kind != ledger.OwnerServer
	switch {
	case !asks:
		return fmt.Errorf("%w: the %s key of %s %s makes no requests", ErrSigner, id.Use, id.Kind, id.Owner)
	case id.Owner != requester:
		return fmt.Errorf("the request names %s as requester, but %s %s signed it", document.Escape(requester), id.Kind, id.Owner)
	}
	return nil
}

// Digest is the request's name.
func (r *Request) Digest() envelope.Hash { return r.digest }

// Raw is the request message.
func (r *Request) Raw() []byte { return r.raw }

// Checked is what the check of the request's document found, if it would find the
// same under a ledger at a time; else nil. It may be called at any time, by
// anybody.
func (r *Request) Checked(head envelope.Hash, now int64) *document.Checked {
	if r.head != head || now < r.accepted || now >= r.checked.HoldsUntil() {
		return nil
	}
	return r.checked
}

// Expires is when the request does.
func (r *Request) Expires() int64 { return r.request.Expires }

// Open reports whether the request waits for officers or devices.
func (r *Request) Open() bool { return r.state == api.StateOpen }

// Idle reports whether nothing is left to do: the request is finished, and
// devices and inboxes know it, or its time is over and they need not.
func (r *Request) Idle() bool {
	if r.state == api.StateOpen || r.busyTask() {
		return false
	}
	for _, d := range r.devices {
		if r.toClose(d) || d.presented != d.shown && r.now < r.request.Expires {
			return false
		}
	}
	return true
}

// Start begins, or goes on after a restart.
func (r *Request) Start(now int64) Effects {
	return r.step(now, func() {
		r.dirty = true
		for _, d := range r.devices {
			if why, ok := r.Config.Asleep[d.id]; ok {
				r.sleep(d, false, why)
			}
		}
	})
}

// Tick lets time pass. It is called every second or so.
func (r *Request) Tick(now int64) Effects { return r.step(now, func() {}) }

// Answer takes a device's answer to an ask: a COSE_Sign1, which is verified
// here. Answers to what is not asked any more are passed over.
func (r *Request) Answer(now int64, id uint64, raw []byte) Effects {
	return r.step(now, func() {
		a, ok := r.asks[id]
		if !ok {
			return
		}
		delete(r.asks, id)
		r.answered(a, raw)
	})
}

// Silent says that an ask brought no answer.
func (r *Request) Silent(now int64, id uint64, why string) Effects {
	return r.step(now, func() {
		a, ok := r.asks[id]
		if !ok {
			return
		}
		delete(r.asks, id)
		a.fail("", clip(why))
	})
}

// Awake says that a device is worth asking again at once: its link came up, or
// its officers unlocked it. Anybody may say so; it is asked once more, and that
// is all.
func (r *Request) Awake(now int64, device string) Effects {
	return r.step(now, func() {
		for _, d := range r.devices {
			if d.id == device {
				d.machine.tries, d.wait, d.retry = 0, 0, 0
			}
		}
	})
}

// Asleep says that a device cannot sign now: its beats stopped, its token is
// locked, its link is gone. What it was asked counts as refused, and others
// take its place at once where they can. locked says that its one-time keys are
// gone, too. It is a hint, good for sleepWait or until Awake: a device that was
// slandered is asked again, and one that nobody can replace is waited for.
func (r *Request) Asleep(now int64, device string, locked bool, why string) Effects {
	return r.step(now, func() {
		for _, d := range r.devices {
			if d.id == device {
				r.sleep(d, locked, why)
			}
		}
	})
}

// step runs one event to its end.
func (r *Request) step(now int64, event func()) Effects {
	r.now, r.actions, r.dirty, r.news = max(now, r.now), nil, false, false
	event()
	r.advance()
	r.present()
	var e Effects
	if r.dirty || r.news {
		r.revision++
		e.Changed = true
	}
	if r.dirty {
		e.Record = r.record()
	}
	for i, a := range r.actions {
		if p, ok := a.(Present); ok { // with the revision that the record has
			p.Revision = r.revision
			r.actions[i] = p
		}
	}
	e.Actions, r.actions = r.actions, nil
	return e
}

// advance does what the state allows now.
func (r *Request) advance() {
	if r.state == api.StateOpen && r.now >= r.request.Expires {
		r.finish(api.StateExpired, r.waiting())
	}
	if r.layered() {
		r.advanceTask()
		return
	}
	if r.state != api.StateOpen {
		r.closeDevices()
		return
	}
	r.refresh()
	r.relieve()
	if r.attempt == nil {
		r.begin()
	}
	if r.attempt != nil {
		r.progress()
	}
	if r.state == api.StateOpen && r.attempt == nil {
		r.feasible()
	}
}

// feasible gives up when too few devices are left, whatever comes.
func (r *Request) feasible() {
	left, rejected := 0, 0
	for _, d := range r.devices {
		switch {
		case len(d.rejected) > 0:
			rejected++
		case !d.wrong:
			left++
		}
	}
	need := int(r.key.T)
	switch {
	case left >= need:
	case left+rejected >= need:
		r.finish(api.StateRejected, r.waiting())
	default:
		r.finish(api.StateFailed, "too few devices are left: "+r.waiting())
	}
}

func (r *Request) finish(state, text string) {
	r.state, r.text, r.attempt, r.dirty, r.finished = state, text, nil, true, r.now
	r.asks = map[uint64]*ask{}
	for _, d := range r.devices {
		d.asking, d.retry, d.wait = false, 0, 0
	}
}

// done releases signatures, one for each document, if all verify.
func (r *Request) done(signatures ...[]byte) error {
	whole, err := r.assemble(signatures)
	if err != nil {
		return err
	}
	r.signatures, r.documents = signatures, whole
	r.finish(api.StateDone, "")
	return nil
}

// send asks a device for something.
func (r *Request) send(d *device, typ, want string, payload any, on func(*envelope.Verified) error, fail func(code, text string)) {
	r.lastAsk++
	r.asks[r.lastAsk] = &ask{device: d, want: want, on: on, fail: fail}
	r.actions = append(r.actions, Ask{ID: r.lastAsk, Device: d.id, Type: typ, Payload: payload})
}

// subset of an order that was checked when it was made.
func subsetOf(order []uint64) threshold.Subset {
	s, _ := threshold.SubsetOf(order...)
	return s
}

func (r *Request) sequential() bool { return r.key.Scheme == threshold.Multiplicative }

func (r *Request) chain() bool { return r.request.Route.Approvals == document.ApprovalsChain }

func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return document.Escape(s)
}

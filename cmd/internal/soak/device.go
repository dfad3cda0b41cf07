package soak

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/bootclock"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// Device is a device that runs, as its message server sees it.
type Device struct {
	process
	f        *Fleet
	index    uint64 // of its share
	identity identity
	policy   *ledger.Heartbeat // nil: it needs no beats
	sign     *ecdsa.PublicKey
	boot     *ecdsa.PublicKey
	agree    *ecdh.PublicKey
	pin      []byte
	ready    atomic.Bool // challenges may be answered
	bySource map[string]*octets

	mu       sync.Mutex
	direct   chan []byte // of the ceremony: an answer to whatever was asked
	waiting  map[[16]byte]*wait
	cut      map[string]bool  // sources that are silent for it
	bounds   map[string]int64 // by source: the latest end that what it said can grant
	silent   bool             // it said that it is locked
	stamps   []stamp          // of partial signatures since it was opened
	partials int              // since it was opened
	after    int              // partial signatures that came after it said that it is locked
	total    int
	dialled  int64          // links when it was opened
	refused  map[string]int // refusals, by code

	locks   chan locked   // its own word: what the watchdog wrote down
	reports chan struct{} // its own word to its message server
	signed  chan struct{} // it made a partial signature
}

// wait is somebody who waits for an answer. What needs an open token may stay
// away: the release gate holds a partial signature back, and a token that was
// locked in the middle of a step signs no answer.
type wait struct {
	answer chan []byte
	held   bool // ends when the device says that it is locked
	lost   bool // the link has ended
}

// locked is a lock-down as the device itself wrote it down.
type locked struct {
	took time.Duration // from the end of the lease until the session was closed
	end  int64         // of the lease, at the latest, boot-time clock
}

func newDevice(f *Fleet, id string, index uint64) *Device {
	d := &Device{
		f: f, index: index, waiting: map[[16]byte]*wait{}, cut: map[string]bool{}, bounds: map[string]int64{}, refused: map[string]int{},
		locks: make(chan locked, 16), reports: make(chan struct{}, 16), signed: make(chan struct{}, 1), bySource: map[string]*octets{},
	}
	for _, s := range f.Policy.Sources {
		d.bySource[s] = new(octets)
	}
	d.process = process{id: id, program: f.Device, dir: filepath.Join(f.dir, id), take: d.arrived, down: d.unlinked}
	return d
}

// commissioned learns the keys that the ledger lists for it.
func (d *Device) commissioned() error {
	row, ok := d.f.state.Device(d.id)
	if !ok {
		return fmt.Errorf("%s is not in the ledger", d.id)
	}
	var err error
	if d.sign, err = envelope.ParseSigningKey(row.Sign); err != nil {
		return err
	}
	if d.boot, err = envelope.ParseSigningKey(row.Boot); err != nil {
		return err
	}
	d.agree, err = envelope.ParseAgreementKey(row.Agree)
	return err
}

var lockLine = regexp.MustCompile(`^time=(\S+) level=WARN msg="the lease is over: the token is locked" took=(\S+)`)

// unexpected is what a device in order never writes down.
var unexpected = regexp.MustCompile(`level=ERROR|panic:|fatal error:|DATA RACE|msg=locking|SIG[A-Z]+:|journal:`)

// heard takes a line of the device's log.
func (d *Device) heard(line string) {
	now, wall := bootclock.Now(), time.Now()
	if unexpected.MatchString(line) {
		d.f.failed(fmt.Errorf("device %s says: %s", d.id, line))
		return
	}
	m := lockLine.FindStringSubmatch(line)
	if m == nil {
		return
	}
	at, err1 := time.Parse(time.RFC3339Nano, m[1])
	took, err2 := time.ParseDuration(m[2])
	if err := errors.Join(err1, err2); err != nil {
		d.f.failed(fmt.Errorf("device %s says: %s: %w", d.id, line, err))
		return
	}
	// The log's time is cut to milliseconds, and read after the session was
	// closed: the lease ended no later than this.
	at = at.Add(time.Millisecond)
	d.locks <- locked{took: took, end: now - int64(wall.Sub(at)) - int64(took)}
}

// arrived takes a frame of the device.
func (d *Device) arrived(frame []byte, at stamp) {
	h, err := envelope.Peek(frame)
	if err != nil {
		d.f.failed(fmt.Errorf("device %s: %w", d.id, err))
		return
	}
	switch {
	case h.Type == heartbeat.TypeChallenge:
		d.challenges(&h, frame, at)
	case h.Type == firmware.TypeStatus && h.Re == [16]byte{}:
		d.reported(frame)
	default:
		if h.Type == firmware.TypePartial {
			d.partial(at)
		}
		d.mu.Lock()
		w := d.waiting[h.Re]
		delete(d.waiting, h.Re)
		direct := d.direct
		d.mu.Unlock()
		switch {
		case w != nil:
			w.answer <- frame
		case direct != nil:
			direct <- frame
		}
	}
}

// challenges hands a challenge to those sources that are not silent for it.
func (d *Device) challenges(h *envelope.Header, frame []byte, at stamp) {
	if !d.ready.Load() {
		return
	}
	for _, to := range h.To {
		id, ok := d.f.state.Identity(to)
		if !ok || id.Kind != ledger.OwnerSource {
			continue
		}
		if x := d.f.sources[id.Owner]; x != nil {
			d.bySource[id.Owner].from.Add(int64(len(frame)))
			x.challenged(d, frame, at)
		}
	}
}

// partial notes a partial signature.
func (d *Device) partial(at stamp) {
	d.mu.Lock()
	d.total++
	d.partials++
	d.stamps = append(d.stamps, at)
	if d.silent {
		d.after++
	}
	d.mu.Unlock()
	select {
	case d.signed <- struct{}{}:
	default:
	}
}

// unlinked ends the waiting for answers: none comes on another link.
func (d *Device) unlinked() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, w := range d.waiting {
		delete(d.waiting, id)
		w.lost = true
		close(w.answer)
	}
}

// reported takes what the device says of itself unasked.
func (d *Device) reported(frame []byte) {
	if !d.ready.Load() {
		return
	}
	v, err := d.open(frame)
	var s firmware.Status
	if err == nil {
		err = envelope.Decode(v, firmware.TypeStatus, firmware.MessageVersion, &s)
	}
	if err != nil {
		d.f.failed(fmt.Errorf("report of %s: %w", d.id, err))
		return
	}
	if s.Phase != firmware.PhaseLocked {
		return
	}
	d.mu.Lock()
	d.silent = true
	for id, w := range d.waiting {
		if w.held {
			delete(d.waiting, id)
			close(w.answer)
		}
	}
	d.mu.Unlock()
	select {
	case d.reports <- struct{}{}:
	default:
	}
}

// relay is the ceremony's way of asking: one question at a time.
func (d *Device) relay(ctx context.Context, frame []byte) ([]byte, error) {
	answer := make(chan []byte, 16)
	d.mu.Lock()
	d.direct = answer
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.direct = nil
		d.mu.Unlock()
	}()
	if err := d.process.send(frame); err != nil {
		return nil, err
	}
	select {
	case a := <-answer:
		return a, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-d.f.ctx.Done():
		return nil, context.Cause(d.f.ctx)
	}
}

// refusedError is a device's refusal.
type refusedError struct{ firmware.Refusal }

func (e *refusedError) Error() string {
	return fmt.Sprintf("device %s refuses (%s): %s", e.Device, e.Code, e.Text)
}

var errHeld = errors.New("the answer was held back")

// answerPatience bounds the wait for an answer: a device that does not answer
// is broken, however busy the machine is.
const answerPatience = time.Minute

// ask sends the device a message of its message server and returns the
// answer, opened and verified. to is the key it is sealed to; nil: not sealed.
func (d *Device) ask(typ string, payload any, to *ecdh.PublicKey) (*envelope.Verified, error) {
	f := d.f
	body, err := envelope.Marshal(payload)
	if err != nil {
		return nil, err
	}
	now := time.Now().Unix()
	h := envelope.Header{
		Type: typ, Version: firmware.MessageVersion, System: f.state.System(), LedgerHead: f.state.Head(), Created: now, Expires: now + 300,
	}
	if _, err := rand.Read(h.ID[:]); err != nil {
		return nil, err
	}
	if to != nil {
		id, err := envelope.KeyIDOf(to)
		if err != nil {
			return nil, err
		}
		h.To = []envelope.KeyID{id}
	}
	frame, err := envelope.Sign(rand.Reader, f.server.Sign, h, body)
	if err != nil {
		return nil, err
	}
	if to != nil {
		if frame, err = envelope.Seal(rand.Reader, frame, []*ecdh.PublicKey{to}); err != nil {
			return nil, err
		}
	}
	w := &wait{answer: make(chan []byte, 1), held: typ == firmware.TypeTask || typ == firmware.TypeOfferAsk}
	d.mu.Lock()
	d.waiting[h.ID] = w
	d.mu.Unlock()
	if err := d.process.send(frame); err != nil {
		return nil, err
	}
	select {
	case a, ok := <-w.answer:
		switch {
		case !ok && w.lost:
			return nil, errLink
		case !ok:
			return nil, errHeld
		}
		return d.answer(a)
	case <-f.ctx.Done():
		return nil, context.Cause(f.ctx)
	case <-time.After(answerPatience):
		return nil, fmt.Errorf("device %s does not answer a %s\n%s", d.id, typ, d.said)
	}
}

// open takes the seal off and verifies that the device said it.
func (d *Device) open(frame []byte) (*envelope.Verified, error) {
	raw, err := envelope.Open(frame, d.f.server.Agree)
	if err != nil {
		return nil, err
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, err
	}
	key := d.sign
	if id, err := envelope.KeyIDOf(d.boot); err == nil && u.Header().Signer == id { // locked
		key = d.boot
	}
	return u.Verify(key)
}

func (d *Device) answer(frame []byte) (*envelope.Verified, error) {
	v, err := d.open(frame)
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", d.id, err)
	}
	if v.Header().Type != firmware.TypeRefusal {
		return v, nil
	}
	e := &refusedError{}
	if err := envelope.Decode(v, firmware.TypeRefusal, firmware.MessageVersion, &e.Refusal); err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.refused[e.Code]++
	d.mu.Unlock()
	return nil, e
}

// askFor is ask with the answer decoded.
func askFor[T any](d *Device, typ string, payload any, to *ecdh.PublicKey, want string) (*T, *envelope.Verified, error) {
	v, err := d.ask(typ, payload, to)
	if err != nil {
		return nil, nil, err
	}
	var out T
	if err := envelope.Decode(v, want, firmware.MessageVersion, &out); err != nil {
		return nil, nil, err
	}
	return &out, v, nil
}

func (d *Device) status() (s *firmware.Status, err error) {
	err = d.linked(func() error {
		s, _, err = askFor[firmware.Status](d, firmware.TypeStatusAsk, firmware.StatusAsk{}, nil, firmware.TypeStatus)
		return err
	})
	return s, err
}

// linked does what needs a link, and does it again if the link ends meanwhile.
func (d *Device) linked(do func() error) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(restLoad) {
		if err := do(); !errors.Is(err, errLink) || time.Now().After(deadline) || d.f.ctx.Err() != nil {
			return err
		}
	}
}

// grant notes, before it is sent, that a source says something to the device
// that may extend its lease up to one lease after from. It returns false if the
// source is silent for it.
func (d *Device) grant(source string, from int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut[source] {
		return false
	}
	d.bounds[source] = max(d.bounds[source], from+int64(d.policy.Lease)*int64(time.Millisecond))
	return true
}

// silence has sources say nothing to the device from now on.
func (d *Device) silence(sources ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range sources {
		d.cut[s] = true
	}
	d.tap.near.Store(len(sources) > 0)
	if len(sources) == 0 {
		clear(d.cut)
	}
}

// until is an upper bound of the end of the device's lease by all that was
// ever said to it, whatever its state is. Sources that go on count as if they
// had granted everything.
func (d *Device) until() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ends []int64
	for _, s := range d.policy.Sources {
		end := d.bounds[s]
		if !d.cut[s] && len(d.cut) > 0 {
			end = math.MaxInt64
		}
		ends = append(ends, end)
	}
	slices.Sort(ends)
	return ends[len(ends)-int(d.policy.Needed)]
}

// octets count what a source and a device sent each other, as the device's
// link carries it.
type octets struct{ from, to atomic.Int64 }

// Package firmware is the interpreter of a signing device: what it believes,
// what it does at whose word, and in which order.
//
// It does no input or output. Time, entropy, the token and stored records are
// arguments; what has to become durable and what leaves the device are values
// in [Effects]. The process around it (cmd/privyseal-device) makes records
// durable first, then calls Durable, then hands over the answer: a crash
// between any two of these steps leaves a device that did less than it wrote
// down, never more.
package firmware

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
)

// Token is the device's token, as the interpreter uses it. Keys answer with an
// error while the token is locked.
//
// DeleteObject and GetObject return an error that is ErrNotFound where there
// is no such object.
type Token interface {
	// Shares is the token with the KEK for shares that are used inside it, or
	// with the one for shares that are used in the host.
	Shares(inToken bool) share.Token
	PutObject(name string, version uint64, data []byte) error
	GetObject(name string) (version uint64, data []byte, err error)
	DeleteObject(name string) error
	Unlock(pin []byte) error
	Lock() error
	Locked() bool
	// KeepPIN has the PIN kept in m after the next Unlock, for Destroy alone.
	KeepPIN(keep bool, m share.Memory) error
	// Destroy destroys objects and the KEKs, whether the token is locked or
	// not. It may be repeated.
	Destroy(objects []string) error
	Health() string // HealthOK, or what is wrong, for people
}

// HealthOK is what a Token in order says of itself.
const HealthOK = "ok"

// ErrNotFound is what a Token answers for an object that it does not hold.
var ErrNotFound = ceremony.ErrNoObject

// Config is what a device is, whatever happens to it.
type Config struct {
	Local ceremony.Local    // identity; Sign and Agree are in the token
	Agree ecdh.KeyExchanger // in the token
	Boot  crypto.Signer     // on the disk
	Token Token
	// Memory holds shares in use in the host.
	Memory share.Memory
	// Seen is what [Effects.Seen] stored last, or nil.
	Seen []byte
}

// Inputs are what a step is given besides its message.
type Inputs struct {
	Now int64 // unix seconds, by the machine's clock
	// Boot is the boot-time clock in nanoseconds, by which leases are measured:
	// it never jumps, and goes on while the machine is suspended.
	Boot int64
	// Up is the same clock without the time in which the machine was suspended.
	Up   int64
	Rand io.Reader
}

// Effects are what a step wants done, in this order.
type Effects struct {
	// Records have to be durable, in order, before anything below happens.
	// Then the caller calls Durable.
	Records [][]byte

	// Seen is what this device knows of the devices that it beats for. If it is
	// not nil it replaces, durably and as a whole, what was stored before, before
	// anything below happens.
	Seen []byte

	// Destroy says that the second limit has passed. When the records are
	// durable the caller calls [Machine.Destroy].
	Destroy bool

	// SetPIN is the token's new PIN: the device was commissioned. When it is
	// set the caller removes the transport PIN. A crash before that repeats it
	// at the next start.
	SetPIN []byte

	// Send are frames for the message server that answer nothing: challenges,
	// beats for other devices, reports.
	Send [][]byte

	// Reply is the sealed answer, or nil.
	Reply []byte
	// Release says that the answer holds what the share made: it is handed
	// over under the release lock, with a live lease, or not at all.
	Release bool

	// More says that work is under way. The caller does what may not wait, and
	// nothing else, and then calls [Machine.Continue].
	More bool

	// Sweep says that decoding made copies of secrets that nobody can wipe. The
	// caller has the collector give their pages back.
	Sweep bool

	// Note is one line for the operator.
	Note string

	next *state
}

// Machine is one device. It is not safe for concurrent use.
type Machine struct {
	cfg   Config
	state *state

	session  *ceremony.Session
	offers   map[offerKey]*offer
	unlocks  *unlocking
	checks   map[offerKey]*check
	masters  masterKeys
	verified verified // requests that have offers
	pending  *pending // nil: nothing is under way
	made     uint64   // partial signatures, powers and combined signatures since the start

	invitations map[uint64][]*invitation // by enterprise code, oldest first: those that stand

	// instance is this device until its token is locked; nil: the next one is
	// made when officers ask for it. enrolment is what they said to open it.
	instance  *heartbeat.Instance
	enrolment *approval.Enrolment
	monitor   *heartbeat.Monitor                // nil: no beats are needed, or the token is locked
	keys      map[string]*heartbeat.VerifiedKey // beat keys, by source
	welcome   map[string]bool                   // sources that know the instance
	told      envelope.Hash                     // the head of the log that all sources were shown last
	refused   map[string]string                 // sources that refused it, with the code
	rotations map[string]rotation               // by source
	reported  map[string]string                 // what the message server was told last
	station   *heartbeat.Station                // this device as a satellite of others
	silence   silence

	seen     int64 // the latest time that any step was given
	refusals struct {
		since int64 // begin of the hour in which they are counted
		n     int
	}
}

// offerKey names what a one-time key is for.
type offerKey struct {
	request envelope.Hash
	share   string
}

// offer is a one-time key in memory.
type offer struct {
	key      *ecdh.PrivateKey
	digest   envelope.Hash // of the offer message
	raw      []byte
	expires  int64
	attempts int
	owner    string        // who made the request
	dealing  envelope.Hash // of the dealt share that it is for; zero for a share of the ceremony
}

// New folds the device's records into a machine. A device that is commissioned
// starts locked; one that was prepared goes on with its ceremony.
func New(cfg Config, records [][]byte, in Inputs) (*Machine, error) {
	m := &Machine{cfg: cfg, state: newState(), offers: map[offerKey]*offer{}, checks: map[offerKey]*check{}, refused: map[string]string{},
		rotations: map[string]rotation{}, invitations: map[uint64][]*invitation{}, seen: in.Now}
	if err := m.renew(in.Rand); err != nil {
		return nil, err
	}
	for _, r := range records {
		next, err := m.state.foldVerified(r)
		if err != nil {
			return nil, err
		}
		m.state = next
	}
	if m.state.genesis != nil {
		if err := m.isListed(); err != nil {
			return nil, err
		}
	}
	m.keys = knownEpochs(m.state)
	m.silence = silence{boot: in.Boot, up: in.Up, total: m.state.silence}
	return m, nil
}

// renew makes the instance that this device is from now on.
func (m *Machine) renew(rand io.Reader) (err error) {
	if m.instance, err = heartbeat.NewInstance(rand); err != nil {
		return err
	}
	m.cfg.Local.Instance = m.instance.ID()
	return nil
}

// isListed checks that this device, by its keys, is in the genesis it holds. A
// genesis carries a signature by each of its devices' tokens: whoever writes
// to the disk cannot put another one in its place.
func (m *Machine) isListed() error {
	d, ok := m.state.ledger.Device(m.cfg.Local.ID)
	if !ok {
		return fmt.Errorf("firmware: device %s is not in the genesis it holds", m.cfg.Local.ID)
	}
	sign, err := x509.MarshalPKIXPublicKey(m.cfg.Local.Sign.Public())
	if err != nil {
		return err
	}
	agree, err := x509.MarshalPKIXPublicKey(m.cfg.Local.Agree)
	if err != nil {
		return err
	}
	if !bytes.Equal(d.Sign, sign) || !bytes.Equal(d.Agree, agree) || !bytes.Equal(d.Boot, m.cfg.Local.Boot) {
		return fmt.Errorf("firmware: the genesis that device %s holds lists other keys for it: the records or the token are another device's", d.ID)
	}
	return nil
}

// Phases of a device.
const (
	PhaseFresh     = "fresh"     // before any ceremony
	PhaseCeremony  = "ceremony"  // in an attempt, in memory only
	PhasePrepared  = "prepared"  // signed a genesis that is not committed
	PhaseLocked    = "locked"    // commissioned, token locked
	PhaseReady     = "ready"     // commissioned, token unlocked
	PhaseDestroyed = "destroyed" // the second limit has passed: no shares
)

// Phase says in which phase the device is.
func (m *Machine) Phase() string { return m.phase(m.state) }

func (m *Machine) phase(s *state) string {
	switch {
	case s.destroyed:
		return PhaseDestroyed
	case s.genesis != nil && m.cfg.Token.Locked():
		return PhaseLocked
	case s.genesis != nil:
		return PhaseReady
	case s.pending != nil:
		return PhasePrepared
	case m.session != nil:
		return PhaseCeremony
	}
	return PhaseFresh
}

// Unattended reports whether the ledger lets the machine keep its own PIN.
func (m *Machine) Unattended() bool {
	d, ok := m.self()
	return ok && d.Unattended
}

// Commissioned reports whether the device is in a system.
func (m *Machine) Commissioned() bool { return m.state.genesis != nil }

func (m *Machine) self() (ledger.Device, bool) {
	if m.state.genesis == nil {
		return ledger.Device{}, false
	}
	return m.state.ledger.Device(m.cfg.Local.ID)
}

// Durable tells the machine that the records of an effect are on the disk.
func (m *Machine) Durable(e *Effects) {
	if e.next != nil {
		m.state, e.next = e.next, nil
	}
}

// now is the device's time, which never falls: the clock, or the latest time
// that the device, its records or its ledger know to have been.
func (m *Machine) now(in Inputs) int64 {
	m.seen = max(m.seen, in.Now, m.state.mark)
	if m.state.genesis != nil {
		m.seen = max(m.seen, m.state.ledger.Time())
	}
	return m.seen
}

// expire erases the one-time keys for shares, in use or to come, whose time is over. The one for
// the PIN stays until the next takes its place: without it the device could not
// read, and so not answer, what officers send too late.
func (m *Machine) expire(now int64) {
	m.dropOffers(func(_ offerKey, o *offer) bool { return o.expires <= now })
	maps.DeleteFunc(m.invitations, func(code uint64, open []*invitation) bool {
		open = slices.DeleteFunc(open, func(i *invitation) bool { return i.expires <= now })
		m.invitations[code] = open
		return len(open) == 0
	})
}

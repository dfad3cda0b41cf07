package hsm

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/miekg/pkcs11"
)

// Config names a token. One of TokenLabel and TokenSerial suffices; with both,
// both must match.
type Config struct {
	Module      string // path of the PKCS#11 library; "" means DefaultModule()
	TokenLabel  string // at most 32 bytes
	TokenSerial string

	// Trace is for tests: it sees PINs and, for use in the host, exponents.
	Trace TraceFunc
}

// DefaultModule is $PRIVYSEAL_PKCS11_MODULE, or Debian's SoftHSM2.
func DefaultModule() string {
	if m := os.Getenv("PRIVYSEAL_PKCS11_MODULE"); m != "" {
		return m
	}
	return "/usr/lib/softhsm/libsofthsm2.so"
}

func (c Config) module() string {
	if c.Module == "" {
		return DefaultModule()
	}
	return c.Module
}

func (c Config) check() error {
	if c.TokenLabel == "" && c.TokenSerial == "" {
		return fmt.Errorf("%w: neither label nor serial number names a token", ErrArgument)
	}
	if len(c.TokenLabel) > maxLabel {
		return fmt.Errorf("%w: token label %q has more than %d bytes", ErrArgument, c.TokenLabel, maxLabel)
	}
	return nil
}

func (c Config) matches(info pkcs11.TokenInfo) bool {
	return (c.TokenLabel == "" || info.Label == c.TokenLabel) &&
		(c.TokenSerial == "" || info.SerialNumber == c.TokenSerial)
}

// Token is one PKCS#11 token. It is safe for concurrent use.
type Token struct {
	c      *cryptoki
	module *module
	slot   uint
	label  string
	serial string
	vendor vendor

	// gate is held shared by every operation and exclusively by Unlock, Lock,
	// SetPIN and Close. closing counts the calls of Lock that want the gate:
	// late comers turn back and operations in flight drop their answers.
	gate    sync.RWMutex
	closing atomic.Int32
	locks   atomic.Uint64 // counts the calls of Lock, for an Unlock they overtake
	state   atomic.Uint64 // generation while unlocked, else 0, for Login

	// Under the gate:
	closed     bool
	unlocked   bool
	generation uint64        // counts unlocks: session handles are reused
	login      sessionHandle // holds the login; nothing else runs in it

	// tickets bounds the pooled sessions in use; idle holds the unused ones.
	// power bounds the exponentiations under way, each some milliseconds long,
	// to one for each processor: with more of them Lock would wait for them all.
	tickets   chan struct{}
	power     chan struct{}
	exponents atomic.Int64
	idleMu    sync.Mutex
	idle      []sessionHandle
	live      map[*Exponent]bool // what Lock would end

	// store keeps creating, finding and destroying token objects away from each
	// other and from everything else: SoftHSM2 fails now and then when an
	// object goes while another session enumerates.
	store sync.RWMutex

	// lockedDestroy is what probeOnce found out.
	lockedDestroy atomic.Int32

	keyMu sync.Mutex
	keys  map[keyName]object
}

// Open initialises the module, if this is its first token in this process, and
// finds the token. It stays locked. A token that another process is just
// initialising may be missed by SoftHSM2, so a second look is taken.
//
// Errors: ErrTokenNotFound, ErrTokenAmbiguous, ErrTokenInUse, ErrArgument.
func Open(cfg Config) (*Token, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	m, err := acquire(cfg.module())
	if err != nil {
		return nil, err
	}
	c := &cryptoki{m.ctx, cfg.Trace}
	s, err := m.find(c, cfg)
	if err == nil {
		err = m.claim(s.info.SerialNumber)
	}
	if err != nil {
		m.release()
		return nil, err
	}
	return &Token{
		c:       c,
		module:  m,
		slot:    s.id,
		label:   s.info.Label,
		serial:  s.info.SerialNumber,
		vendor:  vendorOf(s.info),
		tickets: make(chan struct{}, maxSessions),
		power:   make(chan struct{}, runtime.GOMAXPROCS(0)),
		live:    map[*Exponent]bool{},
		keys:    map[keyName]object{},
	}, nil
}

// Label is the token's label.
func (t *Token) Label() string { return t.label }

// Serial is the token's serial number.
func (t *Token) Serial() string { return t.serial }

// Close locks the token and gives the module back. The first error is
// returned, but the token is closed in any case.
func (t *Token) Close() error {
	t.closing.Add(1)
	defer t.closing.Add(-1)
	t.gate.Lock()
	defer t.gate.Unlock()
	if t.closed {
		return ErrClosed
	}
	err := t.lockHeld()
	t.closed = true
	t.module.disclaim(t.serial)
	return errors.Join(err, t.module.release())
}

// Health is what C_GetTokenInfo says. Tokens other than SoftHSM2 may count
// sessions; -1 stands for "not said".
type Health struct {
	Label, Serial, Manufacturer, Model string

	Unlocked       bool // this process has unlocked it
	PINInitialized bool
	PINCountLow    bool // at least one wrong PIN since the last right one
	PINFinalTry    bool
	PINLocked      bool
	WriteProtected bool
	Sessions       int
}

// Health asks the token for its state, locked or not. It is the one call that
// does not lie after a token's directory or device has gone: other operations
// may go on answering for a while. The error is ErrTokenGone if the token does
// not answer or another one answers in its place.
func (t *Token) Health() (Health, error) {
	t.gate.RLock()
	defer t.gate.RUnlock()
	if t.closed {
		return Health{}, ErrClosed
	}
	return t.health()
}

func (t *Token) health() (Health, error) {
	info, err := t.c.tokenInfo(t.slot)
	if err != nil {
		return Health{}, fmt.Errorf("%w: %q does not answer: %w", ErrTokenGone, t.label, err)
	}
	if info.SerialNumber != t.serial || info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
		return Health{}, fmt.Errorf("%w: slot of %q serial %q now holds serial %q", ErrTokenGone, t.label, t.serial, info.SerialNumber)
	}
	h := Health{
		Label:          info.Label,
		Serial:         info.SerialNumber,
		Manufacturer:   info.ManufacturerID,
		Model:          info.Model,
		Unlocked:       t.unlocked && t.closing.Load() == 0,
		PINInitialized: info.Flags&pkcs11.CKF_USER_PIN_INITIALIZED != 0,
		PINCountLow:    info.Flags&pkcs11.CKF_USER_PIN_COUNT_LOW != 0,
		PINFinalTry:    info.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0,
		PINLocked:      info.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0,
		WriteProtected: info.Flags&pkcs11.CKF_WRITE_PROTECTED != 0,
		Sessions:       -1,
	}
	if info.SessionCount != unavailable {
		h.Sessions = int(info.SessionCount)
	}
	return h, nil
}

// unavailable is CK_UNAVAILABLE_INFORMATION, ~0UL.
const unavailable = ^uint(0)

// explain looks behind return values that may hide a token that is gone.
func (t *Token) explain(err error) error {
	if err == nil || !vague[code(err)] && !errors.Is(err, ErrNotFound) {
		return err
	}
	if _, gone := t.health(); gone != nil {
		return gone
	}
	return err
}

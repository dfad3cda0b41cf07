package hsm

import (
	"errors"
	"math/big"

	"github.com/miekg/pkcs11"
)

// Raw hands out the binding, the slot and a logged-in session: the powers of
// somebody who has the host and the PIN.
func (t *Token) Raw(f func(ctx *pkcs11.Ctx, slot uint, s pkcs11.SessionHandle) error) error {
	return t.do(func(s *session) error { return f(t.c.ctx, t.slot, s.h) })
}

// Parse parses the value of a data object.
func Parse(name string, b []byte) (uint64, []byte, error) { return parseFrame(name, b) }

// Frame makes one.
func Frame(name string, version uint64, data []byte) []byte { return frame(name, version, data) }

// ParsePoint parses CKA_EC_POINT.
var ParsePoint = parsePoint

// FromCall and PINErrorOf map return values as the package does.
func FromCall(call string, rv uint) error { return fromCall(call, pkcs11.Error(rv)) }

func (t *Token) PINErrorOf(rv uint) error { return t.pinError(FromCall("C_Login", rv)) }

// IdleSessions is the number of pooled sessions nobody uses.
func (t *Token) IdleSessions() int { return len(t.idle) }

const (
	MaxSessions  = maxSessions
	MaxExponents = maxExponents
	MaxData      = maxData
	MaxAEAD      = maxAEAD
)

// Pause replaces the pause before Open's second look and returns the old one.
func Pause(f func()) (old func()) { old, pause = pause, f; return old }

// Import opens the slot of another, initialised module without login and puts
// an exponent into it as a session object.
func Import(ctx *pkcs11.Ctx, slot uint, n, d []byte) (*Exponent, error) {
	c := &cryptoki{ctx: ctx}
	info, err := c.tokenInfo(slot)
	if err != nil {
		return nil, err
	}
	t := &Token{c: c, slot: slot, label: info.Label, serial: info.SerialNumber, vendor: vendorOf(info), unlocked: true,
		power: make(chan struct{}, 1), live: map[*Exponent]bool{}}
	h, err := c.openSession(slot)
	if err != nil {
		return nil, err
	}
	key, err := c.create(h, []*attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_DH),
		attr(pkcs11.CKA_TOKEN, false),
		attr(pkcs11.CKA_PRIVATE, false),
		attr(pkcs11.CKA_SENSITIVE, true),
		attr(pkcs11.CKA_DERIVE, true),
		attr(pkcs11.CKA_PRIME, n),
		attr(pkcs11.CKA_BASE, generator),
		attr(pkcs11.CKA_VALUE, d),
	})
	if err != nil {
		return nil, err
	}
	return &Exponent{t: t, n: new(big.Int).SetBytes(n), size: len(n), s: session{t, h}, key: key}, nil
}

// LockedDestroyOf is what the probe finds in another, initialised module
// without login, whatever the vendor table says.
func LockedDestroyOf(ctx *pkcs11.Ctx, slot uint) (bool, error) {
	c := &cryptoki{ctx: ctx}
	info, err := c.tokenInfo(slot)
	if err != nil {
		return false, err
	}
	t := &Token{c: c, slot: slot, label: info.Label, serial: info.SerialNumber}
	t.probeOnce()
	if t.lockedDestroy.Load() == 0 {
		return false, errors.New("the probe did not decide")
	}
	return t.lockedDestroy.Load() == probedYes, nil
}

// Closing says whether a Lock is waiting for operations in flight.
func (t *Token) Closing() bool { return t.closing.Load() > 0 }

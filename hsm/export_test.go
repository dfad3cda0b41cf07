package hsm

import "github.com/miekg/pkcs11"

// Raw hands out the binding, the slot and a logged-in session: the powers of
// somebody who has the host and the PIN.
func (t *Token) Raw(f func(ctx *pkcs11.Ctx, slot uint, s pkcs11.SessionHandle) error) error {
	return t.do(func(s *session) error { return f(t.c.ctx, t.slot, s.h) })
}

// Parse parses the value of a data object.
func Parse(name string, b []byte) (uint64, []byte, error) { return parseFrame(name, b) }

// Frame makes one.
func Frame(name string, version uint64, data []byte) []byte { return frame(name, version, data) }

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

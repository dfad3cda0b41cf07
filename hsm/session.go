package hsm

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// session is a session in the hands of one operation.
type session struct {
	t *Token
	h sessionHandle
}

// Unlock logs in with the user PIN and holds the login in a session of its own.
// It logs in once and never again by itself: a token counts wrong PINs, and
// SoftHSM2 rewrites the token's file at every login.
//
// A Lock that is called before Unlock has returned wins over it: the token is
// locked then, whatever the order in which they come to it.
//
// Errors: *PINError (ErrPINIncorrect, ErrPINLocked), ErrPINInvalid, ErrNoPIN,
// ErrUnlocked, ErrLocked (by a Lock meanwhile), ErrTokenGone, ErrClosed.
func (t *Token) Unlock(pin PIN) error {
	if err := pin.check(); err != nil {
		return err
	}
	locks := t.locks.Load()
	if t.closing.Load() > 0 {
		return ErrLocked
	}
	t.gate.Lock()
	defer t.gate.Unlock()
	switch {
	case t.closed:
		return ErrClosed
	case t.locks.Load() != locks:
		return ErrLocked
	case t.unlocked:
		return ErrUnlocked
	}
	if _, err := t.health(); err != nil {
		return err
	}
	h, err := t.logIn(pin)
	if err != nil {
		return err
	}
	t.login, t.unlocked = h, true
	t.generation++
	t.state.Store(t.generation)
	// A Lock that came meanwhile waits for the gate, and closing keeps
	// everybody else out until it has it.
	return nil
}

// logIn needs the gate held exclusively and the token locked. It returns the
// only session there is.
func (t *Token) logIn(pin PIN) (sessionHandle, error) {
	// If a Lock's logout failed, the process is still logged in. Without
	// sessions it is not.
	if err := t.c.closeAllSessions(t.slot); err != nil {
		return 0, t.explain(err)
	}
	h, err := t.c.openSession(t.slot)
	if err != nil {
		return 0, t.explain(err)
	}
	if err := t.c.login(h, pkcs11.CKU_USER, pin); err != nil {
		err = t.pinError(err)
		return 0, errors.Join(err, t.c.closeAllSessions(t.slot))
	}
	return h, nil
}

// Login tells whether the token is unlocked, and by which of its unlocks, which
// are counted from 1. It never waits: from the moment Lock is called the answer
// is no.
func (t *Token) Login() (n uint64, unlocked bool) {
	n = t.state.Load()
	return n, n > 0 && t.closing.Load() == 0
}

// pinError adds the token's flags to a refused PIN.
func (t *Token) pinError(err error) error {
	switch code(err) {
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_LOCKED:
		h, _ := t.health()
		return &PINError{
			Locked:   code(err) == pkcs11.CKR_PIN_LOCKED || h.PINLocked,
			FinalTry: h.PINFinalTry,
			CountLow: h.PINCountLow,
		}
	}
	return t.explain(err)
}

// Lock ends all use of the token: no operation answers once it has returned,
// and those in flight return ErrLocked. Exponents held open are gone. The token
// counts as locked even if an error is returned, which then says what the token
// answered. Locking a locked token does nothing. Lock waits for the operations
// in flight: a token that hangs makes it wait, but not even then does an answer
// leave.
func (t *Token) Lock() error {
	t.closing.Add(1) // from here on nobody enters and no answer leaves
	t.locks.Add(1)   // after closing: an Unlock that does not see the one sees the other
	defer t.closing.Add(-1)
	t.gate.Lock() // from here on nobody is inside
	defer t.gate.Unlock()
	if t.closed {
		return ErrClosed
	}
	return t.lockHeld()
}

// lockHeld needs the gate held exclusively.
func (t *Token) lockHeld() error {
	if !t.unlocked {
		return nil
	}
	t.unlocked = false
	t.state.Store(0)
	t.idleMu.Lock()
	t.idle = nil
	clear(t.live)
	t.idleMu.Unlock()
	t.forget()
	// Logout first: it destroys the private session objects (exponents) and
	// ends the login even if closing fails. Die between the two calls, and the
	// sessions die with the process.
	return t.explain(errors.Join(t.c.logout(t.login), t.c.closeAllSessions(t.slot)))
}

// SetPIN changes the user PIN, locked or unlocked. Nothing else runs meanwhile.
// A crash inside leaves the old PIN, the new one or, with SoftHSM2, a damaged
// token: change PINs only while the shares have copies elsewhere.
//
// Errors: as Unlock.
func (t *Token) SetPIN(old, new PIN) error {
	if err := errors.Join(old.check(), new.check()); err != nil {
		return err
	}
	t.gate.Lock()
	defer t.gate.Unlock()
	if t.closed {
		return ErrClosed
	}
	h, err := t.c.openSession(t.slot)
	if err != nil {
		return t.explain(err)
	}
	defer t.c.closeSession(h)
	if err := t.c.setPIN(h, old, new); err != nil {
		return t.pinError(err)
	}
	return nil
}

// enter takes the gate for one operation; leave must follow if it succeeds.
func (t *Token) enter() error {
	// Without this look, an operation would queue behind Lock for the gate.
	if t.closing.Load() > 0 {
		return ErrLocked
	}
	t.gate.RLock()
	switch {
	case t.closed:
		t.gate.RUnlock()
		return ErrClosed
	case !t.unlocked || t.closing.Load() > 0:
		t.gate.RUnlock()
		return ErrLocked
	}
	return nil
}

// leave gives the gate back and decides what the operation may answer: nothing,
// if the token was being locked meanwhile.
func (t *Token) leave(err error) error {
	defer t.gate.RUnlock()
	if t.closing.Load() > 0 {
		return ErrLocked
	}
	if errors.Is(err, ErrNotFound) {
		t.forget() // perhaps another process destroyed a key: look for it anew
	}
	return t.explain(err)
}

// do runs one operation in a session that nobody else uses. Results must be
// dropped unless it returns nil.
func (t *Token) do(f func(*session) error) (err error) {
	if err := t.enter(); err != nil {
		return err
	}
	// Deferred, so that not even a panic keeps the gate from Lock.
	defer func() { err = t.leave(err) }()
	t.tickets <- struct{}{}
	defer func() { <-t.tickets }()
	return t.pooled(f)
}

func (t *Token) pooled(f func(*session) error) (err error) {
	if t.closing.Load() > 0 {
		return ErrLocked // waited for a ticket while Lock came
	}
	h, err := t.take()
	if err != nil {
		return err
	}
	healthy := false
	defer func() {
		if healthy {
			t.idleMu.Lock()
			t.idle = append(t.idle, h)
			t.idleMu.Unlock()
			return
		}
		t.end(h)
	}()
	err = f(&session{t, h})
	// A refusal of ours says nothing against the session; a token's may have
	// left an operation active in it.
	var e *Error
	healthy = !errors.As(err, &e)
	return err
}

// end closes a session and whatever objects are left in it, while nobody
// enumerates objects.
func (t *Token) end(h sessionHandle) error {
	t.store.RLock()
	defer t.store.RUnlock()
	return t.c.closeSession(h)
}

func (t *Token) take() (sessionHandle, error) {
	t.idleMu.Lock()
	if n := len(t.idle); n > 0 {
		h := t.idle[n-1]
		t.idle = t.idle[:n-1]
		t.idleMu.Unlock()
		return h, nil
	}
	t.idleMu.Unlock()
	return t.c.openSession(t.slot)
}

// open returns ErrLocked when Lock is waiting: work that makes several token
// calls asks between them, wherever it may stop.
func (s *session) open() error {
	if s.t.closing.Load() > 0 {
		return ErrLocked
	}
	return nil
}

// find returns every object that matches the template, unless Lock comes.
func (s *session) find(template []*attribute) ([]object, error) {
	return s.t.c.find(s.h, template, s.open)
}

// use runs f beside other operations; alone runs it without any other, for
// creating, finding and destroying token objects.
func (s *session) use(f func() error) error {
	s.t.store.RLock()
	defer s.t.store.RUnlock()
	if err := s.open(); err != nil {
		return err
	}
	return f()
}

func (s *session) alone(f func() error) error {
	s.t.store.Lock()
	defer s.t.store.Unlock()
	if err := s.open(); err != nil {
		return err
	}
	return f()
}

func checkName(what, name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("%w: %s %q must have 1 to %d bytes", ErrArgument, what, name, maxName)
	}
	return nil
}

package hsm

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// Destruction comes when a device is given up for lost. So it does not depend
// on a login where it can do without one, takes what is gone already for
// success, goes on after a failure, is not stopped by Lock, and believes the
// token only after a second look. What it cannot do is reach copies: SoftHSM2
// unlinks files, it does not overwrite them, and knows nothing of a copy of its
// directory made before.

// DestroyPublicObjects destroys the public copies of data objects, locked or
// not. What does not exist is no error. Lock may come between two objects.
//
// Errors name the objects that are left. ErrUnsupported: the token has no data
// objects. A token may also insist on a login; see Capabilities.LockedDestroy.
func (t *Token) DestroyPublicObjects(names ...string) error {
	var failed []error
	for _, name := range names {
		err := t.checkObject(name)
		if err == nil {
			public := append(objectNamed(name), attr(pkcs11.CKA_PRIVATE, false))
			err = t.exclusively(func(s *session) error { return s.erase(public) })
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("public data object %q is left: %w", name, err))
		}
	}
	return errors.Join(failed...)
}

// DestroyWithPIN destroys keys, and all copies of data objects, by their labels
// and names, in this order. What does not exist is no error. If the token is
// locked it is logged in with the PIN for that moment, in which nobody else can
// use it: Unlock would let others in. With a token that is unlocked the PIN is
// not needed; it stays unlocked, but every Exponent in it ends, for it holds
// what was unwrapped with a key that must not exist any more.
//
// Errors name what is left. ErrLocked: the token is locked and pin is nil.
// Otherwise as Unlock.
func (t *Token) DestroyWithPIN(pin PIN, keys, objects []string) error {
	if pin != nil {
		if err := pin.check(); err != nil {
			return err
		}
	}
	t.gate.Lock()
	defer t.gate.Unlock()
	t.forget()
	switch {
	case t.closed:
		return ErrClosed
	case t.unlocked:
		err := t.endExponents()
		h, err2 := t.c.openSession(t.slot)
		if err2 != nil {
			return t.explain(errors.Join(err, err2))
		}
		return errors.Join(err, t.eraseAll(&session{t, h}, keys, objects), t.c.closeSession(h))
	case pin == nil:
		return ErrLocked
	}
	if _, err := t.health(); err != nil {
		return err
	}
	h, err := t.logIn(pin)
	if err != nil {
		return err
	}
	// A crash before this logs out too: the login is the process's.
	return errors.Join(t.eraseAll(&session{t, h}, keys, objects), t.c.logout(h), t.c.closeAllSessions(t.slot))
}

// endExponents needs the gate held exclusively.
func (t *Token) endExponents() error {
	t.idleMu.Lock()
	defer t.idleMu.Unlock()
	var failed []error
	for e := range t.live {
		e.generation = 0 // no unlock has this number: it answers ErrLocked
		if err := t.c.closeSession(e.s.h); err != nil {
			failed = append(failed, fmt.Errorf("an exponent is left in the token: %w", err))
		}
	}
	clear(t.live)
	return errors.Join(failed...)
}

func (t *Token) eraseAll(s *session, keys, objects []string) error {
	var failed []error
	left := func(what, name string, err error) {
		if err != nil {
			failed = append(failed, fmt.Errorf("%s %q is left: %w", what, name, err))
		}
	}
	for _, label := range keys {
		err := checkName("key label", label)
		for _, class := range keyClasses {
			if err != nil {
				break
			}
			err = s.erase([]*attribute{
				attr(pkcs11.CKA_CLASS, class), attr(pkcs11.CKA_LABEL, label), attr(pkcs11.CKA_TOKEN, true)})
		}
		left("key", label, t.explain(err))
	}
	for _, name := range objects {
		err := t.checkObject(name)
		if err == nil {
			err = s.erase(objectNamed(name))
		}
		left("data object", name, t.explain(err))
	}
	return errors.Join(failed...)
}

// erase destroys all objects that match the template, and looks whether they
// are gone. Lock does not stop it. It needs the gate held exclusively.
func (s *session) erase(template []*attribute) error {
	c := s.t.c
	found, err := c.find(s.h, template, nil)
	if err != nil {
		return err
	}
	var failed []error
	for _, h := range found {
		if err := c.destroy(s.h, h); err != nil {
			failed = append(failed, err)
		}
	}
	again, err := c.find(s.h, template, nil)
	if err == nil && len(again) > 0 {
		err = fmt.Errorf("hsm: %d of %d are still in the token", len(again), len(found))
	}
	failed = append(failed, err)
	for _, h := range found {
		if _, err := c.attributes(s.h, h, pkcs11.CKA_CLASS); err == nil {
			failed = append(failed, errors.New("hsm: the token still answers for what it destroyed"))
		}
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	_, err = s.t.health() // a token whose files are gone seems empty
	return err
}

// exclusively runs f in a session of its own while nothing else runs, locked or
// not.
func (t *Token) exclusively(f func(*session) error) error {
	t.gate.Lock()
	defer t.gate.Unlock()
	if t.closed {
		return ErrClosed
	}
	h, err := t.c.openSession(t.slot)
	if err != nil {
		return t.explain(err)
	}
	return t.explain(errors.Join(f(&session{t, h}), t.c.closeSession(h)))
}

const (
	probedYes = 1 + iota
	probedNo
)

// probeLabel names the probe's object. It has another application than data
// objects have, so that no list shows one that a crash left.
const probeLabel = "privyseal probe"

// probeOnce tries whether a locked token destroys public data objects. It needs
// the gate, shared.
func (t *Token) probeOnce() {
	if t.vendor.noDataObjects || t.unlocked || t.lockedDestroy.Load() != 0 {
		return
	}
	t.store.Lock()
	defer t.store.Unlock()
	if t.lockedDestroy.Load() != 0 {
		return // another was quicker
	}
	h, err := t.c.openSession(t.slot)
	if err != nil {
		return // says nothing of the ability
	}
	defer t.c.closeSession(h)
	switch err := t.explain((&session{t, h}).probe()); {
	case err == nil:
		t.lockedDestroy.Store(probedYes)
	case !errors.Is(err, ErrTokenGone):
		t.lockedDestroy.Store(probedNo)
	}
}

// probe stores a public data object and destroys it.
func (s *session) probe() error {
	template := []*attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_DATA),
		attr(pkcs11.CKA_TOKEN, true),
		attr(pkcs11.CKA_PRIVATE, false),
		attr(pkcs11.CKA_APPLICATION, probeLabel),
		attr(pkcs11.CKA_LABEL, probeLabel),
	}
	value := bytes.Repeat([]byte{0x55}, 16)
	if _, err := s.t.c.create(s.h, append(template[:len(template):len(template)], attr(pkcs11.CKA_VALUE, value))); err != nil {
		return err
	}
	// A crash here leaves the object; the next probe destroys it too.
	return s.erase(template)
}

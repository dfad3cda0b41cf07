package heartbeat

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// SealSystem signs with a message server's key a page of what a source has to
// know, and seals it to the source. s is the ledger as the server has it.
func SealSystem(rand io.Reader, server crypto.Signer, s ledger.State, source string, page *System, now int64) ([]byte, error) {
	_, agree, err := keysOf(s, source)
	if err != nil {
		return nil, err
	}
	return seal(rand, server, header(s, TypeSystem, now), page, []*ecdh.PublicKey{agree})
}

// Self is a source as it knows itself.
type Self struct {
	ID          string
	Sign, Agree []byte // SPKI
}

// ErrNoBundle: a page without a bundle came to a source that knows no system.
// It asks for one.
var ErrNoBundle = errors.New("heartbeat: the page has no bundle, and this source knows no system yet")

// A BehindError is a message server whose ledger is shorter than the source's.
type BehindError struct{ Height, Known uint64 }

func (e *BehindError) Error() string {
	return fmt.Sprintf("the message server's ledger ends at %d, this source has seen %d: it is an older copy", e.Height, e.Known)
}

// A DiffersError is a message server whose ledger is another than the source's.
type DiffersError struct{ Position uint64 }

func (e *DiffersError) Error() string {
	return fmt.Sprintf("the message server's ledger differs at position %d from what this source has seen: tell the administrators", e.Position)
}

// OpenSystem opens and verifies a page that a message server told a source.
// known is the ledger as the source has it: the zero State before it knows any,
// and then the page has the bundle, which proves itself, since each device in it
// signed it with its token. id is the system that the source is in already, or
// zero. The State is known with the entries of the page; if one of them is
// refused, it is known as it was.
func OpenSystem(frame []byte, kx ecdh.KeyExchanger, known ledger.State, id envelope.Hash, self Self) (ledger.State, *System, error) {
	fail := func(err error) (ledger.State, *System, error) { return known, nil, err }
	raw, err := envelope.Open(frame, kx)
	if err != nil {
		return fail(err)
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return fail(err)
	}
	s := known
	if s.System().IsZero() {
		var claim System
		if err := envelope.Unmarshal(u.UnverifiedPayload(), &claim); err != nil {
			return fail(err)
		}
		if len(claim.Bundle) == 0 {
			return fail(ErrNoBundle)
		}
		if s, err = VerifyBundle(claim.Bundle, id, self); err != nil {
			return fail(err)
		}
	}
	h := u.Header()
	if h.System != s.System() {
		return fail(fmt.Errorf("heartbeat: system %s, where this source is in %s", h.System, s.System()))
	}
	src, _ := s.Source(self.ID)
	server, ok := s.Server(src.Server)
	if !ok {
		return fail(fmt.Errorf("heartbeat: the system does not list message server %.64q", src.Server))
	}
	key, err := envelope.ParseSigningKey(server.Sign)
	if err != nil {
		return fail(err)
	}
	v, err := u.Verify(key)
	if err != nil {
		return fail(fmt.Errorf("not from message server %s: %w", server.ID, err))
	}
	page := new(System)
	if err := envelope.Decode(v, TypeSystem, MessageVersion, page); err != nil {
		return fail(err)
	}
	switch at := s.Height(); {
	case page.Height < at:
		return fail(&BehindError{page.Height, at})
	case page.Height == at && h.LedgerHead != s.Head():
		return fail(&DiffersError{at})
	}
	if s, err = page.Fold(s); err != nil {
		return fail(err)
	}
	return s, page, nil
}

// Fold applies the page's entries to s. Those that s has may come again.
func (p *System) Fold(s ledger.State) (ledger.State, error) {
	if len(p.Entries) > 0 && p.After > s.Height() {
		return s, fmt.Errorf("heartbeat: a page of the ledger follows position %d, and this source has %d", p.After, s.Height())
	}
	if n := uint64(len(p.Entries)); p.Height < p.After || n > p.Height-p.After {
		return s, fmt.Errorf("heartbeat: a page of %d entries after %d of %d", n, p.After, p.Height)
	}
	next := s
	for i, raw := range p.Entries {
		var e ledger.SignedEntry
		err := envelope.Unmarshal(raw, &e)
		if err == nil {
			next, err = ledger.Catchup(next, []ledger.SignedEntry{e})
		}
		var fork *ledger.ForkError
		switch {
		case errors.As(err, &fork):
			return s, fmt.Errorf("%w (%w)", &DiffersError{p.After + uint64(i) + 1}, err)
		case err != nil:
			return s, fmt.Errorf("heartbeat: entry %d: %w", p.After+uint64(i)+1, err)
		}
	}
	return next, nil
}

// VerifyBundle is the ledger after a genesis that lists the source with its
// keys. id is the system that the source is in already, or zero.
func VerifyBundle(bundle []byte, id envelope.Hash, self Self) (ledger.State, error) {
	var b ledger.Bundle
	if err := envelope.Unmarshal(bundle, &b); err != nil {
		return ledger.State{}, err
	}
	g, err := ledger.VerifyGenesis(b)
	if err != nil {
		return ledger.State{}, err
	}
	s := ledger.New(g)
	if !id.IsZero() && s.System() != id {
		return ledger.State{}, fmt.Errorf("heartbeat: system %s, where this source is in %s", s.System(), id)
	}
	src, ok := s.Source(self.ID)
	if !ok || !bytes.Equal(src.Sign, self.Sign) || !bytes.Equal(src.Agree, self.Agree) {
		return ledger.State{}, errors.New("heartbeat: the system does not list this source with its keys")
	}
	return s, nil
}

// SignAsk signs with a source's identity key what it lacks. It is not sealed: a
// source that knows no system does not know its server's key, and how long a
// ledger is, is no secret.
func SignAsk(rand io.Reader, identity crypto.Signer, system envelope.Hash, ask SystemAsk, now int64) ([]byte, error) {
	body, err := envelope.Marshal(ask)
	if err != nil {
		return nil, err
	}
	return envelope.Sign(rand, identity, envelope.Header{
		Type: TypeSystemAsk, Version: MessageVersion, System: system, Created: now, Expires: now + beatLife,
	}, body)
}

// OpenAsk verifies what a source asks for.
func OpenAsk(s ledger.State, source string, frame []byte) (*SystemAsk, error) {
	src, ok := s.Source(source)
	if !ok {
		return nil, fmt.Errorf("heartbeat: %.64q is no source of the system", source)
	}
	u, err := envelope.Parse(frame)
	if err != nil {
		return nil, err
	}
	// Zero: it knows no system yet.
	if h := u.Header(); !h.System.IsZero() && h.System != s.System() {
		return nil, fmt.Errorf("heartbeat: source %s is in system %s", source, h.System)
	}
	key, err := envelope.ParseSigningKey(src.Sign)
	if err != nil {
		return nil, err
	}
	v, err := u.Verify(key)
	if err != nil {
		return nil, err
	}
	ask := new(SystemAsk)
	return ask, envelope.Decode(v, TypeSystemAsk, MessageVersion, ask)
}

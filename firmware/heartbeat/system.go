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

// SealSystem signs with a message server's key what a source has to know, and
// seals it to the source.
func SealSystem(rand io.Reader, server crypto.Signer, s ledger.State, source string, sys *System, now int64) ([]byte, error) {
	_, agree, err := keysOf(s, source)
	if err != nil {
		return nil, err
	}
	return seal(rand, server, header(s, TypeSystem, now), sys, []*ecdh.PublicKey{agree})
}

// OpenSystem opens and verifies what a message server told a source of the
// system. The bundle proves itself: each device in it signed it with its token.
// known is the system that the source is in already, or zero; id, sign and
// agree are the source's own, which the system must list.
func OpenSystem(frame []byte, kx ecdh.KeyExchanger, known envelope.Hash, id string, sign, agree []byte) (ledger.State, *System, error) {
	fail := func(err error) (ledger.State, *System, error) { return ledger.State{}, nil, err }
	raw, err := envelope.Open(frame, kx)
	if err != nil {
		return fail(err)
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return fail(err)
	}
	var claim System
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &claim); err != nil {
		return fail(err)
	}
	s, err := VerifySystem(&claim, known, id, sign, agree)
	if err != nil {
		return fail(err)
	}
	src, _ := s.Source(id)
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
	var sys System
	if err := envelope.Decode(v, TypeSystem, MessageVersion, &sys); err != nil {
		return fail(err)
	}
	return s, &sys, nil
}

// VerifySystem folds a bundle and its entries.
func VerifySystem(sys *System, known envelope.Hash, id string, sign, agree []byte) (ledger.State, error) {
	var b ledger.Bundle
	if err := envelope.Unmarshal(sys.Bundle, &b); err != nil {
		return ledger.State{}, err
	}
	g, err := ledger.VerifyGenesis(b)
	if err != nil {
		return ledger.State{}, err
	}
	s := ledger.New(g)
	if !known.IsZero() && s.System() != known {
		return ledger.State{}, fmt.Errorf("heartbeat: system %s, where this source is in %s", s.System(), known)
	}
	src, ok := s.Source(id)
	if !ok || !bytes.Equal(src.Sign, sign) || !bytes.Equal(src.Agree, agree) {
		return ledger.State{}, errors.New("heartbeat: the system does not list this source with its keys")
	}
	entries := make([]ledger.SignedEntry, len(sys.Entries))
	for i, raw := range sys.Entries {
		if err := envelope.Unmarshal(raw, &entries[i]); err != nil {
			return ledger.State{}, err
		}
	}
	return ledger.Catchup(s, entries)
}

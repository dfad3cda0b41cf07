package client

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
)

// Locked is a locked device's offer of a one-time key, verified, with the
// officer's piece of its PIN. Only VerifyUnlockOffer makes one.
type Locked struct {
	Device  ledger.Device
	Expires int64
	// Instance is what the officer opens; the device says at its console which
	// it is.
	Instance [16]byte
	// Log and LogHead are the length and head of the device's log, for the
	// officer to compare with what he knows: beat sources refuse a device whose
	// log is shorter than they saw it.
	Log     uint64
	LogHead envelope.Hash
	// Restored, set before Approve, is the officer's word that he knows of that
	// and takes the device back. It counts if all of the quorum say so.
	Restored bool

	officer *Officer
	public  *ecdh.PublicKey
	digest  envelope.Hash
	piece   ceremony.SealedPiece
}

// UnlockAsk asks a device, through any server, for a one-time key.
func (c *Conn) UnlockAsk(ctx context.Context, device string) (*firmware.UnlockOffered, error) {
	out := new(firmware.UnlockOffered)
	return out, c.ask(ctx, api.PathUnlockAsk, &api.UnlockAsk{Device: device}, out)
}

// VerifyUnlockOffer checks that the device itself offers the key, with its
// boot key, and finds the officer's piece.
func VerifyUnlockOffer(s ledger.State, o *Officer, device string, in *firmware.UnlockOffered, now int64) (*Locked, error) {
	if !slices.Contains(o.Devices, device) {
		return nil, fmt.Errorf("%s (%s) is not an officer of device %s", o.Person.Name, o.Person.ID, device)
	}
	u, err := envelope.Parse(in.Offer)
	if err != nil {
		return nil, fmt.Errorf("offer of device %s: %w", device, err)
	}
	id, ok := s.Identity(u.Header().Signer)
	if !ok || id.Kind != ledger.OwnerDevice || id.Owner != device || id.Use != ledger.UseBoot {
		return nil, fmt.Errorf("the offer is not signed with the boot key of device %s", device)
	}
	v, err := u.Verify(id.SignKey)
	if err != nil {
		return nil, fmt.Errorf("offer of device %s: %w", device, err)
	}
	if err := v.CheckFresh(now, skew); err != nil {
		return nil, fmt.Errorf("offer of device %s: %w", device, err)
	}
	var offer approval.UnlockOffer
	if err := envelope.Decode(v, approval.TypeUnlockOffer, approval.Version, &offer); err != nil {
		return nil, fmt.Errorf("offer of device %s: %w", device, err)
	}
	h := v.Header()
	if h.System != s.System() || offer.Device != device || offer.Created != h.Created || offer.Expires != h.Expires {
		return nil, fmt.Errorf("offer of device %s: it contradicts itself, or is of another system", device)
	}
	l := &Locked{officer: o, digest: v.Digest(), Expires: offer.Expires, Instance: offer.Instance, Log: offer.Log, LogHead: offer.LogHead}
	if l.public, err = ecdh.P256().NewPublicKey(offer.Public); err != nil {
		return nil, fmt.Errorf("offer of device %s: one-time key: %w", device, err)
	}
	l.Device, _ = s.Device(device)
	for _, p := range in.Pieces {
		if p.Purpose == share.PurposePIN && p.Device == device && p.Card == o.agree {
			l.piece = p
		}
	}
	if l.piece.ID == "" {
		return nil, fmt.Errorf("device %s has no piece of its PIN for card %d", device, o.Card.Serial)
	}
	return l, nil
}

// Approve makes the officer's word to unlock, sealed to the server named: his
// piece of the PIN, sealed to the device's one-time key, under his signature.
func (l *Locked) Approve(rand io.Reader, s ledger.State, k Keys, server string, now int64) ([]byte, error) {
	if l.Expires <= now {
		return nil, errors.New("the device's one-time key has expired: begin again")
	}
	p, err := share.OpenPieceFromCard(k.Agree, share.PieceContext{
		ID: l.piece.ID, Purpose: share.PurposePIN, Device: l.Device.ID, Version: 0, Card: l.officer.agree,
	}, l.piece.Sealed)
	if err != nil {
		return nil, err
	}
	defer p.Wipe()
	a := approval.UnlockApproval{Device: l.Device.ID, Offer: l.digest, Piece: l.piece.ID, Created: now, Expires: l.Expires, Restored: l.Restored}
	if a.Sealed, err = share.SealPieceForOffer(l.public, firmware.UnlockContext(a.Device, a.Offer, a.Piece, l.officer.sign), p); err != nil {
		return nil, err
	}
	payload, err := envelope.Marshal(&a)
	if err != nil {
		return nil, err
	}
	raw, err := envelope.Sign(rand, k.Sign, envelope.Header{
		Type: approval.TypeUnlockApproval, Version: approval.Version, System: s.System(), LedgerHead: s.Head(),
		Created: a.Created, Expires: a.Expires,
	}, payload)
	if err != nil {
		return nil, err
	}
	if _, err := approval.VerifyUnlock(s, a.Device, a.Offer, raw, now); err != nil {
		return nil, err
	}
	to, err := agreementKey(s, server)
	if err != nil {
		return nil, err
	}
	return envelope.Seal(rand, raw, []*ecdh.PublicKey{to})
}

// Unlock sends it. Its Status is set when the quorum is complete.
func (c *Conn) Unlock(ctx context.Context, sealed []byte) (*api.Unlocked, error) {
	out := new(api.Unlocked)
	return out, c.ask(ctx, api.PathUnlock, sealed, out)
}

package client

import (
	"context"
	"crypto/ecdh"
	"io"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
)

// Approve makes the officer's approval: his piece of the share's key, opened
// with 9D and sealed to the one-time key of each device that offered one, and
// his signature in 9C. It is returned sealed to the server that asked.
//
// Errors: *approval.RequesterApprovedError before the card is used, the card's
// own, and those of approval.Verify: the approval is checked as a device will.
func (i *Item) Approve(rand io.Reader, s ledger.State, k Keys, now int64) ([]byte, error) {
	if err := i.Own(); err != nil {
		return nil, err
	}
	a := i.word(approval.Approve, "", now)
	p, err := share.OpenPieceFromCard(k.Agree, share.PieceContext{
		ID: i.piece.ID, Purpose: share.PurposeShare, Device: i.piece.Device, Share: i.piece.Share,
		Version: 0, // as the ceremony sealed it
		Card:    i.officer.agree,
	}, i.piece.Sealed)
	if err != nil {
		return nil, err
	}
	defer p.Wipe()
	for _, o := range i.offers {
		offer := o.Offer()
		sealed, err := share.SealPieceForOffer(o.Public(),
			firmware.PieceContext(i.Digest, o.Digest(), offer.Device, offer.Share, i.piece.ID, i.officer.sign), p)
		if err != nil {
			return nil, err
		}
		a.Pieces = append(a.Pieces, approval.SealedPiece{Offer: o.Digest(), Device: offer.Device, Piece: i.piece.ID, Sealed: sealed})
		a.Expires = min(a.Expires, offer.Expires) // it is worth nothing longer
	}
	raw, err := approval.NewApproval(rand, k.Sign, s, a, i.re)
	if err != nil {
		return nil, err
	}
	if _, err := approval.Verify(s, i.about, i.Device.ID, raw, now); err != nil {
		return nil, err
	}
	return i.seal(rand, s, raw)
}

// Reject makes the officer's refusal. An officer may well reject his own
// request: nothing is gained by it.
func (i *Item) Reject(rand io.Reader, s ledger.State, k Keys, reason string, now int64) ([]byte, error) {
	raw, err := approval.NewApproval(rand, k.Sign, s, i.word(approval.Reject, reason, now), i.re)
	if err != nil {
		return nil, err
	}
	return i.seal(rand, s, raw)
}

func (i *Item) word(decision, reason string, now int64) approval.Approval {
	a := approval.Approval{
		Request: i.Digest, Key: i.Request.Key, Epoch: i.Request.Epoch, Device: i.Device.ID, Share: i.Holder.Share,
		Decision: decision, Reason: reason, Created: now, Expires: i.Request.Expires,
	}
	if i.Request.Route.Approvals == document.ApprovalsChain {
		a.Prior = i.prior
	}
	return a
}

func (i *Item) seal(rand io.Reader, s ledger.State, raw []byte) ([]byte, error) {
	to, err := agreementKey(s, i.Server)
	if err != nil {
		return nil, err
	}
	return envelope.Seal(rand, raw, []*ecdh.PublicKey{to})
}

// Say sends a sealed approval or rejection to the server that asked.
func (c *Conn) Say(ctx context.Context, sealed []byte) (*api.Approved, error) {
	out := new(api.Approved)
	return out, c.ask(ctx, api.PathApproval, sealed, out)
}

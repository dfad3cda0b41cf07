package approval

import (
	"crypto"
	"crypto/ecdh"
	"io"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// NewApproval signs an approval with slot 9C of an officer's card and returns the COSE_Sign1. It refuses (*FormError) a payload that
// no device would accept, so that a card's touch is not wasted; whether the officer may approve is for [Verify] to say.
// to are the agreement keys it will be sealed to, re the id of the message it answers.
func NewApproval(rand io.Reader, signer crypto.Signer, s ledger.State, a Approval, re [16]byte, to ...envelope.KeyID) ([]byte, error) {
	if err := a.check("approval"); err != nil {
		return nil, err
	}
	payload, err := envelope.Marshal(&a)
	if err != nil {
		return nil, err
	}
	return envelope.Sign(rand, signer, envelope.Header{
		Type: TypeApproval, Version: Version, Re: re, System: s.System(), To: to, Key: a.Key, Epoch: a.Epoch,
		LedgerHead: s.Head(), Created: a.Created, Expires: a.Expires,
	}, payload)
}

// NewOffer signs an offer with a device's token and returns the COSE_Sign1. Errors as for [NewApproval].
func NewOffer(rand io.Reader, signer crypto.Signer, s ledger.State, o Offer, re [16]byte, to ...envelope.KeyID) ([]byte, error) {
	if _, err := o.check("offer"); err != nil {
		return nil, err
	}
	payload, err := envelope.Marshal(&o)
	if err != nil {
		return nil, err
	}
	return envelope.Sign(rand, signer, envelope.Header{
		Type: TypeOffer, Version: Version, Re: re, System: s.System(), To: to, Key: o.Key, Epoch: o.Epoch,
		LedgerHead: s.Head(), Created: o.Created, Expires: o.Expires,
	}, payload)
}

// check refuses what is wrong whoever signs it.
func (a *Approval) check(what string) error {
	form := func(why string) error { return &FormError{What: what, Why: why} }
	switch {
	case a.Request.IsZero():
		return form("names no request")
	case a.Key == "" || a.Epoch == 0 || a.Device == "" || a.Share == "":
		return form("key, epoch, device or share is missing")
	case a.Decision != Approve && a.Decision != Reject:
		return form("decision is neither approve nor reject")
	case a.Decision == Reject && a.Reason == "":
		return form("rejects without a reason")
	case a.Decision == Reject && len(a.Pieces) > 0:
		return form("rejects, yet carries pieces")
	case len(a.Reason) > maxReason:
		return form("reason is too long")
	case len(a.Pieces) > maxPieces:
		return form("carries too many pieces")
	case a.Created <= 0 || a.Expires <= a.Created:
		return form("expires before it was created")
	}
	own := false
	seen := make(map[string]bool)
	for _, p := range a.Pieces {
		switch {
		case p.Offer.IsZero() || p.Device == "" || p.Piece == "" || len(p.Piece) > maxPiece:
			return form("a piece lacks its offer, device or id")
		case len(p.Sealed) < minSealed || len(p.Sealed) > maxSealed:
			return form("a piece is not a sealed one")
		case seen[p.Device]:
			return form("carries two pieces for one device")
		}
		seen[p.Device] = true
		own = own || p.Device == a.Device
	}
	if a.Decision == Approve && !own {
		// Without it the share stays shut however many approve (row A22).
		return form("carries no piece for the device it approves for")
	}
	return nil
}

// check refuses what is wrong whoever signs it, and reads the one-time key.
func (o *Offer) check(what string) (*ecdh.PublicKey, error) {
	form := func(why string) error { return &FormError{What: what, Why: why} }
	switch {
	case o.Request.IsZero():
		return nil, form("names no request")
	case o.Key == "" || o.Epoch == 0 || o.Device == "" || o.Share == "":
		return nil, form("key, epoch, device or share is missing")
	case o.Instance == [16]byte{}:
		return nil, form("instance id is zero")
	case o.Created <= 0 || o.Expires <= o.Created:
		return nil, form("expires before it was created")
	case o.Expires-o.Created > MaxOfferLife:
		return nil, form("lives longer than a one-time key may")
	}
	// NewPublicKey refuses points off the curve and at infinity; 65 bytes also excludes compressed ones.
	pub, err := ecdh.P256().NewPublicKey(o.Public)
	if err != nil {
		return nil, form("one-time key is not a point on P-256")
	}
	return pub, nil
}

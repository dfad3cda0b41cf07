package share

import (
	"crypto/ecdh"
	"fmt"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// What a piece opens.
const (
	PurposeShare = "share" // the officers' key of a share
	PurposePIN   = "pin"   // the token's PIN
	// PurposeReserve is the key of a distributor's reserve. Its Device is the
	// enterprise, its Share the master key. It is opened at the distributor and
	// never handed over for an offer.
	PurposeReserve = "reserve"
)

// Domains of the HPKE info.
const (
	cardDomain  = "privyseal piece to card v1"
	offerDomain = "privyseal piece to offer v1"
)

// PieceContext says what a piece is, when it is sealed to its officer's card
// for keeping. All of it is bound by the seal.
type PieceContext struct {
	ID      string         // of the piece, unique in the system
	Purpose string         // PurposeShare or PurposePIN
	Device  string         // id of the device that the piece serves
	Share   string         // share id, empty for a PIN
	Version uint64         // of the officers' key or PIN: grows with every re-issue, 0 at the ceremony
	Card    envelope.KeyID // the card's agreement key (slot 9D)
}

func (c *PieceContext) info() []byte {
	h := envelope.HashOf(cardDomain, []byte(c.ID), []byte(c.Purpose), []byte(c.Device), []byte(c.Share), number(c.Version), c.Card[:])
	return h[:]
}

func (c *PieceContext) validate() error { return validatePiece(c.ID, c.Purpose, c.Device, c.Share) }

// SealPieceToCard seals a piece to its officer's agreement key. ctx.Card must
// be that key's id. Only the card opens it, with its PIN.
func SealPieceToCard(pub *ecdh.PublicKey, ctx PieceContext, p Piece) ([]byte, error) {
	if err := ctx.validate(); err != nil {
		return nil, err
	}
	id, err := envelope.KeyIDOf(pub)
	if err != nil {
		return nil, err
	}
	if id != ctx.Card {
		return nil, fmt.Errorf("share: piece %s is for card key %v, not %v", ctx.ID, ctx.Card, id)
	}
	return sealPiece(pub, ctx.info(), p)
}

// OpenPieceFromCard opens a piece with the officer's card. The caller wipes it.
func OpenPieceFromCard(card ecdh.KeyExchanger, ctx PieceContext, sealed []byte) (Piece, error) {
	if err := ctx.validate(); err != nil {
		return Piece{}, err
	}
	id, err := envelope.KeyIDOf(card.PublicKey())
	if err != nil {
		return Piece{}, err
	}
	if id != ctx.Card {
		return Piece{}, fmt.Errorf("share: piece %s is for card key %v, this card has %v", ctx.ID, ctx.Card, id)
	}
	return openPiece(card, ctx.ID, ctx.info(), sealed)
}

// OfferContext says for what a piece is handed over. All of it is bound by the
// seal, so that a piece given for one request, to one instance of one device,
// serves no other; and an officer cannot hand in another's.
type OfferContext struct {
	ID      string         // of the piece
	Purpose string         // PurposeShare or PurposePIN
	Request envelope.Hash  // digest of the request message; zero for a PIN
	Offer   envelope.Hash  // digest of the device's offer message, which has the one-time key
	Device  string         // that made the offer
	Share   string         // share id, empty for a PIN
	Officer envelope.KeyID // signature key of the officer who hands the piece over
}

func (c *OfferContext) info() []byte {
	h := envelope.HashOf(offerDomain, []byte(c.ID), []byte(c.Purpose), c.Request[:], c.Offer[:], []byte(c.Device), []byte(c.Share), c.Officer[:])
	return h[:]
}

func (c *OfferContext) validate() error {
	if err := validatePiece(c.ID, c.Purpose, c.Device, c.Share); err != nil {
		return err
	}
	switch {
	case c.Offer.IsZero():
		return fmt.Errorf("share: piece %s: no offer to seal to", c.ID)
	case c.Officer.IsZero():
		return fmt.Errorf("share: piece %s: no officer", c.ID)
	case c.Purpose == PurposeReserve:
		return fmt.Errorf("share: piece %s: no device asks for a reserve's piece", c.ID)
	case c.Request.IsZero() != (c.Purpose == PurposePIN):
		return fmt.Errorf("share: piece %s: a piece of a share goes with a request, one of a PIN without", c.ID)
	}
	return nil
}

// SealPieceForOffer seals a piece to a device's one-time key.
func SealPieceForOffer(oneTime *ecdh.PublicKey, ctx OfferContext, p Piece) ([]byte, error) {
	if err := ctx.validate(); err != nil {
		return nil, err
	}
	return sealPiece(oneTime, ctx.info(), p)
}

// OpenPieceFromOffer opens a piece with the one-time key. The caller wipes it.
func OpenPieceFromOffer(oneTime ecdh.KeyExchanger, ctx OfferContext, sealed []byte) (Piece, error) {
	if err := ctx.validate(); err != nil {
		return Piece{}, err
	}
	return openPiece(oneTime, ctx.ID, ctx.info(), sealed)
}

func sealPiece(pub *ecdh.PublicKey, info []byte, p Piece) ([]byte, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	plain, err := envelope.Marshal(p)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return envelope.SealTo(pub, info, nil, plain)
}

func openPiece(kx ecdh.KeyExchanger, id string, info, sealed []byte) (Piece, error) {
	plain, err := envelope.OpenWith(kx, info, nil, sealed)
	if err != nil {
		return Piece{}, fmt.Errorf("share: piece %s: %w", id, err)
	}
	defer clear(plain)
	var p Piece
	if err := envelope.Unmarshal(plain, &p); err != nil {
		return Piece{}, fmt.Errorf("share: piece %s: %w", id, err)
	}
	if err := p.validate(); err != nil {
		p.Wipe()
		return Piece{}, err
	}
	return p, nil
}

func (p *Piece) validate() error {
	if p.Index == 0 || p.Index > MaxPieces || p.Value.Len() == 0 || p.Value.Len() > MaxSecret {
		return fmt.Errorf("%w: index %d, %d bytes", ErrPiece, p.Index, p.Value.Len())
	}
	return nil
}

func validatePiece(id, purpose, device, share string) error {
	switch {
	case purpose != PurposeShare && purpose != PurposePIN && purpose != PurposeReserve:
		return fmt.Errorf("share: piece %.64q: unknown purpose %.64q", id, purpose)
	case id == "" || len(id) > 2*MaxName, device == "" || len(device) > MaxName, len(share) > MaxName:
		return fmt.Errorf("share: piece %.64q: an id is missing or too long", id)
	case (share == "") != (purpose == PurposePIN):
		return fmt.Errorf("share: piece %.64q: a piece of a share names the share, one of a PIN does not", id)
	}
	return nil
}

func number(n uint64) []byte {
	return []byte{byte(n >> 56), byte(n >> 48), byte(n >> 40), byte(n >> 32), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

package approval

import (
	"crypto/ecdh"
	"fmt"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// VerifiedOffer is an offer signed by the token of the device that holds the share. Only [VerifyOffer] makes one.
type VerifiedOffer struct {
	offer  Offer
	public *ecdh.PublicKey
	digest envelope.Hash
}

// Offer is the payload.
func (v *VerifiedOffer) Offer() Offer { return v.offer }

// Public is the one-time key that pieces are sealed to.
func (v *VerifiedOffer) Public() *ecdh.PublicKey { return v.public }

// Digest is the digest of the offer message, which SealedPiece.Offer names.
func (v *VerifiedOffer) Digest() envelope.Hash { return v.digest }

// For returns a *WrongRequestError unless the offer was made for the request with this digest. An officer's workstation asks before
// it seals a piece: an offer for another request would open the share for that one.
func (v *VerifiedOffer) For(request envelope.Hash) error {
	if v.offer.Request != request {
		return &WrongRequestError{From: fmt.Sprintf("offer by device %q", v.offer.Device), Got: v.offer.Request, Want: request}
	}
	return nil
}

// VerifyOffer checks a device's offer, raw COSE_Sign1, at now (Unix seconds). Whether it is for the right request is for
// [VerifiedOffer.For] to say.
//
// Errors: those of envelope; *UnknownSignerError, *WrongSignerError, *FormError, *MismatchError, *ExpiredError, *TimeError,
// *UnknownHeadError, *InstanceError.
func VerifyOffer(s ledger.State, raw []byte, now int64) (*VerifiedOffer, error) {
	id, v, err := authenticate(s, raw)
	if err != nil {
		return nil, err
	}
	from := "offer by " + ownerOf(id)
	var o Offer
	if err := envelope.Decode(v, TypeOffer, Version, &o); err != nil {
		return nil, err
	}
	// The boot key lies on the device's disk: an offer by it would hand pieces to whoever has the disk (design §3).
	if id.Kind != ledger.OwnerDevice || id.Use != ledger.UseSign {
		return nil, &WrongSignerError{Owner: ownerOf(id), Why: "only a device's token offers a one-time key"}
	}
	pub, err := o.check(from)
	if err != nil {
		return nil, err
	}
	if err := checkHeader(s, from, v.Header(), o.Key, o.Epoch, o.Created, o.Expires); err != nil {
		return nil, err
	}
	if o.Device != id.Owner {
		return nil, &MismatchError{From: from, Field: "device", Got: o.Device, Want: id.Owner}
	}
	key, ok := s.Key(o.Key)
	if !ok {
		return nil, &MismatchError{From: from, Field: "key", Got: o.Key, Want: "a key of this system"}
	}
	if o.Epoch != key.Epoch {
		return nil, &MismatchError{From: from, Field: "epoch", Got: fmt.Sprint(o.Epoch), Want: fmt.Sprint(key.Epoch)}
	}
	h, ok := s.HolderOf(o.Key, o.Device)
	if !ok {
		return nil, &MismatchError{From: from, Field: "device", Got: o.Device, Want: "a holder of key " + o.Key}
	}
	if o.Share != h.Share {
		return nil, &MismatchError{From: from, Field: "share", Got: o.Share, Want: h.Share}
	}
	if err := checkTimes(from, o.Created, o.Expires, now); err != nil {
		return nil, err
	}
	if err := checkHead(s, from, v.Header().LedgerHead); err != nil {
		return nil, err
	}
	d, ok := s.Device(o.Device)
	if !ok {
		return nil, &MismatchError{From: from, Field: "device", Got: o.Device, Want: "a device of this system"}
	}
	if err := o.checkInstance(s, d, now); err != nil {
		return nil, &InstanceError{From: from, Err: err}
	}
	return &VerifiedOffer{offer: o, public: pub, digest: v.Digest()}, nil
}

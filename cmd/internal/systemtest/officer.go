package systemtest

import (
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/firmwaretest"
	"github.com/privyseal/privyseal/firmware/share"
)

// Officer is an officer with the card that counts.
type Officer struct {
	Person string
	Device string
	Card   *firmwaretest.Card
}

// Officers are the officers of a device, in the order of the tables.
func (s *System) Officers(device string) []Officer {
	s.t.Helper()
	var out []Officer
	for _, o := range s.State.OfficersOf(device, s.Now().Unix()) {
		out = append(out, Officer{Person: o.Person, Device: device, Card: s.Cards[o.Card]})
	}
	return out
}

// Officer finds an officer by his person.
func (s *System) Officer(person string) Officer {
	s.t.Helper()
	for _, id := range Devices {
		for _, o := range s.Officers(id) {
			if o.Person == person {
				return o
			}
		}
	}
	s.t.Fatalf("%s is no officer", person)
	return Officer{}
}

// Name is the officer's name in the tables.
func (s *System) Name(person string) string {
	p, _ := s.State.Person(person)
	return p.Name
}

// Offer is a device's one-time key for a request, with the pieces it handed
// out.
type Offer struct {
	*approval.VerifiedOffer
	Raw    []byte
	Pieces []ceremony.SealedPiece
}

// Offer asks a device for a one-time key.
func (s *System) Offer(device string, r *Request) (*Offer, error) {
	s.t.Helper()
	o, _, err := Ask[firmware.Offered](s, device, firmware.TypeOfferAsk, firmware.OfferAsk{Request: r.Raw}, firmware.TypeOffered)
	if err != nil {
		return nil, err
	}
	v, err := approval.VerifyOffer(s.State, o.Offer, s.Now().Unix())
	if err != nil {
		return nil, err
	}
	return &Offer{VerifiedOffer: v, Raw: o.Offer, Pieces: o.Pieces}, v.For(r.Digest)
}

// MustOffer is Offer for a device that should make one.
func (s *System) MustOffer(device string, r *Request) *Offer {
	s.t.Helper()
	o, err := s.Offer(device, r)
	s.check(err)
	return o
}

// Piece opens an officer's piece with his card.
func (s *System) Piece(o Officer, pieces []ceremony.SealedPiece) (ceremony.SealedPiece, share.Piece) {
	s.t.Helper()
	id, err := envelope.KeyIDOf(o.Card.Agree())
	s.check(err)
	i := slices.IndexFunc(pieces, func(p ceremony.SealedPiece) bool { return p.Card == id })
	if i < 0 {
		s.t.Fatalf("no piece for %s", o.Person)
	}
	p := pieces[i]
	open, err := share.OpenPieceFromCard(o.Card.Exchange, share.PieceContext{
		ID: p.ID, Purpose: p.Purpose, Device: p.Device, Share: p.Share, Card: id,
	}, p.Sealed)
	s.check(err)
	return p, open
}

// Change alters an approval before it is signed.
type Change func(*approval.Approval)

// Approve has an officer approve a request at the device that made the offer,
// with his piece of the share's key. prior is what was signed before in a
// chain.
func (s *System) Approve(o Officer, r *Request, offer *Offer, prior []byte, changes ...Change) []byte {
	s.t.Helper()
	sealed, piece := s.Piece(o, offer.Pieces)
	return s.approveWith(o, r, offer, sealed.ID, piece, prior, changes...)
}

func (s *System) approveWith(o Officer, r *Request, offer *Offer, id string, piece share.Piece, prior []byte, changes ...Change) []byte {
	s.t.Helper()
	officer, err := envelope.KeyIDOf(o.Card.Public())
	s.check(err)
	of := offer.Offer()
	ct, err := share.SealPieceForOffer(offer.Public(), firmware.PieceContext(r.Digest, offer.Digest(), of.Device, of.Share, id, officer), piece)
	s.check(err)
	now := s.Now().Unix()
	a := approval.Approval{
		Request: r.Digest, Key: of.Key, Epoch: of.Epoch, Device: of.Device, Share: of.Share, Decision: approval.Approve,
		Pieces: []approval.SealedPiece{{Offer: offer.Digest(), Device: of.Device, Piece: id, Sealed: ct}},
		Prior:  prior, Created: now, Expires: min(r.Expires, now+24*3600),
	}
	for _, c := range changes {
		c(&a)
	}
	raw, err := approval.NewApproval(rand.Reader, o.Card, s.State, a, [16]byte{})
	s.check(err)
	return raw
}

// Approvals has all officers of a device approve, in a set or in a chain over
// base as the request's route says.
func (s *System) Approvals(r *Request, offer *Offer, base []byte) [][]byte {
	s.t.Helper()
	return s.ApprovalsBy(s.Officers(offer.Offer().Device), r, offer, base)
}

// ApprovalsBy is Approvals by some of them.
func (s *System) ApprovalsBy(officers []Officer, r *Request, offer *Offer, base []byte) [][]byte {
	s.t.Helper()
	if !r.chain() {
		var out [][]byte
		for _, o := range officers {
			out = append(out, s.Approve(o, r, offer, nil))
		}
		return out
	}
	for _, o := range officers {
		base = s.Approve(o, r, offer, base)
	}
	return [][]byte{base}
}

// UnlockOffer is a locked device's one-time key for pieces of its PIN.
type UnlockOffer struct {
	Raw    []byte
	Digest envelope.Hash
	Public *ecdh.PublicKey
	Pieces []ceremony.SealedPiece
}

// AskUnlock asks a locked device for its offer, and verifies it as officers do.
func (s *System) AskUnlock(device string) (*UnlockOffer, error) {
	s.t.Helper()
	out, _, err := Ask[firmware.UnlockOffered](s, device, firmware.TypeUnlockAsk, firmware.UnlockAsk{Device: device}, firmware.TypeUnlockOffered)
	if err != nil {
		return nil, err
	}
	u, err := envelope.Parse(out.Offer)
	if err != nil {
		return nil, err
	}
	d, _ := s.State.Device(device)
	v, err := u.Verify(signKey(s.t, d.Boot))
	if err != nil {
		return nil, err
	}
	var o approval.UnlockOffer
	if err := envelope.Decode(v, approval.TypeUnlockOffer, approval.Version, &o); err != nil {
		return nil, err
	}
	if o.Device != device {
		return nil, fmt.Errorf("offer of device %s", o.Device)
	}
	pub, err := ecdh.P256().NewPublicKey(o.Public)
	return &UnlockOffer{Raw: out.Offer, Digest: v.Digest(), Public: pub, Pieces: out.Pieces}, err
}

// UnlockApproval is an officer's word to unlock a device, with a piece of its
// PIN.
func (s *System) UnlockApproval(o Officer, device string, offer *UnlockOffer, id string, piece share.Piece, changes ...func(*approval.UnlockApproval)) []byte {
	s.t.Helper()
	officer, err := envelope.KeyIDOf(o.Card.Public())
	s.check(err)
	ct, err := share.SealPieceForOffer(offer.Public, firmware.UnlockContext(device, offer.Digest, id, officer), piece)
	s.check(err)
	now := s.Now().Unix()
	a := approval.UnlockApproval{Device: device, Offer: offer.Digest, Piece: id, Sealed: ct, Created: now, Expires: now + 3600}
	for _, c := range changes {
		c(&a)
	}
	body, err := envelope.Marshal(a)
	s.check(err)
	raw, err := envelope.Sign(rand.Reader, o.Card, envelope.Header{
		Type: approval.TypeUnlockApproval, Version: approval.Version, System: s.State.System(), LedgerHead: s.State.Head(),
		Created: now, Expires: now + 3600,
	}, body)
	s.check(err)
	return raw
}

// SendUnlock hands officers' words to the device.
func (s *System) SendUnlock(device string, offer *UnlockOffer, approvals [][]byte) error {
	s.t.Helper()
	l := s.Letter(device, firmware.TypeUnlock, firmware.Unlock{Offer: offer.Raw, Approvals: approvals})
	l.To = offer.Public
	_, err := s.Deliver(device, l)
	return err
}

// Unlock has a device's officers unlock it.
func (s *System) Unlock(device string, changes ...func(*approval.UnlockApproval)) {
	s.t.Helper()
	offer, err := s.AskUnlock(device)
	s.check(err)
	var approvals [][]byte
	for _, o := range s.Officers(device) {
		sealed, piece := s.Piece(o, offer.Pieces)
		approvals = append(approvals, s.UnlockApproval(o, device, offer, sealed.ID, piece, changes...))
	}
	s.check(s.SendUnlock(device, offer, approvals))
}

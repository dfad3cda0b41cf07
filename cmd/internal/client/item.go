package client

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
)

func unix(t int64) time.Time { return time.Unix(t, 0).UTC() }

// Officer is a registered officer with one card, as the tables have them.
type Officer struct {
	Person ledger.Person
	Card   ledger.Card
	// Devices are the ids of those at which this card counts now.
	Devices []string

	sign, agree envelope.KeyID
}

// A NotOfficerError says why a card speaks for nobody.
type NotOfficerError struct {
	Card uint32
	Why  string
}

func (e *NotOfficerError) Error() string {
	return fmt.Sprintf("card %d is no officer's card: %s", e.Card, e.Why)
}

// FindOfficer looks a card up in the tables.
func FindOfficer(s ledger.State, serial uint32, now int64) (*Officer, error) {
	o := &Officer{}
	for _, p := range s.Persons() {
		for _, c := range p.Cards {
			if c.Serial == serial {
				o.Person, o.Card = p, c
			}
		}
	}
	if o.Person.ID == "" {
		return nil, &NotOfficerError{serial, fmt.Sprintf("system %q does not know it", s.Name())}
	}
	why := fmt.Sprintf("%s (%s) is not registered at any device", o.Person.Name, o.Person.ID)
	for _, r := range s.Registrations(o.Person.ID) {
		switch {
		case r.Card != serial:
			why = fmt.Sprintf("%s (%s) approves with card %d", o.Person.Name, o.Person.ID, r.Card)
		case now >= r.Expires:
			why = fmt.Sprintf("the registration of %s (%s) at %s expired on %s", o.Person.Name, o.Person.ID, r.Device, unix(r.Expires).Format(time.DateOnly))
		case !slices.Contains(o.Devices, r.Device): // an enterprise may have registered him there once more
			o.Devices = append(o.Devices, r.Device)
		}
	}
	if len(o.Devices) == 0 {
		return nil, &NotOfficerError{serial, why}
	}
	o.sign, o.agree = envelope.KeyIDOfSPKI(o.Card.Sign), envelope.KeyIDOfSPKI(o.Card.Agree)
	return o, nil
}

// Servers are the sites of the officer's devices: his items come there.
func (o *Officer) Servers(s ledger.State) []ledger.Server {
	var out []ledger.Server
	for _, id := range o.Devices {
		d, _ := s.Device(id)
		srv, ok := s.Server(d.Server)
		if ok && !slices.ContainsFunc(out, func(x ledger.Server) bool { return x.ID == srv.ID }) {
			out = append(out, srv)
		}
	}
	return out
}

// Keys are an officer's card while it is open.
type Keys struct {
	Sign  crypto.Signer     // slot 9C
	Agree ecdh.KeyExchanger // slot 9D
}

// Item is something an officer is asked to approve, verified: the request is
// its requester's, its document passes every check that devices make, the
// one-time key is the device's, and what others signed before is what it
// should be. Only OpenItem makes one.
type Item struct {
	Digest    envelope.Hash // of the request
	Request   document.Request
	Requester ledger.Identity
	Checked   *document.Checked
	Device    ledger.Device
	Holder    ledger.Holder
	// Approved are the names of those who approved before in this chain, and
	// Signed the names of the device whose partial signature the chain follows.
	Approved []string
	Signed   string
	// Claimed are the names that the server says approved already (in a set).
	Claimed []string
	// Server is the id of the server that handed the item out.
	Server string

	officer *Officer
	about   approval.Request
	offers  []*approval.VerifiedOffer
	piece   ceremony.SealedPiece
	prior   []byte
	re      [16]byte
}

// Inbox takes an officer's items from his server, still sealed to his card.
func (c *Conn) Inbox(ctx context.Context, o *Officer, wait time.Duration) ([][]byte, error) {
	items, _, err := c.inbox(ctx, o.agree, 0, wait)
	return items, err
}

// InboxSince is Inbox for what came or changed after a cursor, 0 for all, and
// returns the next cursor.
func (c *Conn) InboxSince(ctx context.Context, o *Officer, since uint64, wait time.Duration) ([][]byte, uint64, error) {
	return c.inbox(ctx, o.agree, since, wait)
}

// OpenItem opens a sealed item with the officer's card and verifies all that
// is in it.
func OpenItem(s ledger.State, o *Officer, kx ecdh.KeyExchanger, sealed []byte, now int64) (*Item, error) {
	raw, err := envelope.Open(sealed, kx)
	if err != nil {
		return nil, err
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, err
	}
	srv, ok := s.ServerOfKey(u.Header().Signer)
	if !ok {
		return nil, errors.New("the item does not come from a message server of this system")
	}
	pub, err := publicKey(s, srv.Sign)
	if err != nil {
		return nil, err
	}
	v, err := u.Verify(pub)
	if err != nil {
		return nil, err
	}
	if v.Header().System != s.System() {
		return nil, errors.New("the item is of another system")
	}
	if err := v.CheckFresh(now, skew); err != nil {
		return nil, err
	}
	var in api.InboxItem
	if err := envelope.Decode(v, api.TypeInboxItem, api.InboxItemVersion, &in); err != nil {
		return nil, err
	}
	i := &Item{officer: o, Server: srv.ID, re: v.Header().ID, piece: in.Piece, prior: in.Prior, Claimed: in.Approved}
	if err := i.verify(s, &in, now); err != nil {
		return nil, fmt.Errorf("item from message server %s: %w", srv.ID, err)
	}
	return i, nil
}

// verify checks the parts of an item, each against its own signer.
func (i *Item) verify(s ledger.State, in *api.InboxItem, now int64) error {
	v, id, err := verifyRequest(s, in.Request, &i.Request)
	if err != nil {
		return err
	}
	i.Digest, i.Requester = v.Digest(), id
	if i.Checked, err = document.CheckIn(s, &i.Request, now); err != nil {
		return err
	}
	r := &i.Request
	i.about = approval.Request{
		Digest: i.Digest, Key: r.Key, Epoch: r.Epoch, Requester: r.Requester, Signer: id.ID, Created: r.Created, Expires: r.Expires,
	}
	var ok bool
	if i.Device, ok = s.Device(in.Device); !ok {
		return fmt.Errorf("there is no device %q", document.Escape(in.Device))
	}
	if i.Holder, ok = s.HolderOf(r.Key, in.Device); !ok || i.Holder.Share != in.Share {
		return fmt.Errorf("device %s does not hold share %q of key %s", in.Device, document.Escape(in.Share), r.Key)
	}
	switch {
	case !slices.Contains(r.Route.Devices, in.Device):
		return fmt.Errorf("the request's route does not include device %s", in.Device)
	case !slices.ContainsFunc(s.OfficersFor(r.Key, in.Device, now), func(o ledger.Officer) bool {
		return o.Person == i.officer.Person.ID && o.Card == i.officer.Card.Serial
	}):
		return fmt.Errorf("%s is not an officer of device %s for key %s", i.officer.Person.Name, in.Device, r.Key)
	case in.Mode != r.Route.Approvals:
		return fmt.Errorf("the request asks for approvals as a %s, the item for a %q", r.Route.Approvals, document.Escape(in.Mode))
	}
	if err := i.verifyOffers(s, in.Offers, now); err != nil {
		return err
	}
	p := &i.piece
	if p.Purpose != share.PurposeShare || p.Device != in.Device || p.Share != in.Share || p.Card != i.officer.agree {
		return fmt.Errorf("the piece in it is not this card's for share %s", in.Share)
	}
	return i.verifyPrior(s, now)
}

// verifyOffers checks the devices' one-time keys. A piece sealed to a key that
// is not the device's, or was made for another request, would open the share
// for somebody else.
func (i *Item) verifyOffers(s ledger.State, raws [][]byte, now int64) error {
	own := false
	for _, raw := range raws {
		o, err := approval.VerifyOffer(s, raw, now)
		if err != nil {
			return err
		}
		if err := o.For(i.Digest); err != nil {
			return err
		}
		offer := o.Offer()
		if offer.Share != i.Holder.Share {
			return fmt.Errorf("device %s offers a key for share %s, not %s", offer.Device, offer.Share, i.Holder.Share)
		}
		if slices.ContainsFunc(i.offers, func(x *approval.VerifiedOffer) bool { return x.Offer().Device == offer.Device }) {
			return fmt.Errorf("device %s offers two keys", offer.Device)
		}
		own = own || offer.Device == i.Device.ID
		i.offers = append(i.offers, o)
	}
	if !own {
		return fmt.Errorf("device %s offers no key", i.Device.ID)
	}
	return nil
}

// verifyPrior checks what an approval in a chain covers: approvals of the same
// device, and under them the partial signature of the device before.
func (i *Item) verifyPrior(s ledger.State, now int64) error {
	if len(i.prior) > 0 && i.Request.Route.Approvals != document.ApprovalsChain {
		return errors.New("it has something signed before in it, though approvals are independent")
	}
	rest := i.prior
	for depth := 0; len(rest) > 0; depth++ {
		if depth > approval.MaxApprovals {
			return errors.New("the chain before is too long")
		}
		u, err := envelope.Parse(rest)
		if err != nil {
			return fmt.Errorf("the chain before: %w", err)
		}
		if u.Header().Type == firmware.TypePartial {
			return i.verifyPartial(s, u)
		}
		v, err := approval.Verify(s, i.about, i.Device.ID, rest, now)
		if err != nil {
			return fmt.Errorf("the chain before: %w", err)
		}
		if v.Person() == i.officer.Person.ID {
			return fmt.Errorf("%s has approved this request at device %s already", v.Name(), i.Device.ID)
		}
		i.Approved = slices.Insert(i.Approved, 0, v.Name())
		rest = v.Approval().Prior
	}
	return nil
}

// verifyPartial checks whose partial signature a chain follows. Whether it is
// right the device finds out: it demands a proof.
func (i *Item) verifyPartial(s ledger.State, u *envelope.Unverified) error {
	if i.Request.Route.Mode != document.ModeSequential {
		return errors.New("a partial signature comes before, though devices sign in parallel")
	}
	d, ok := s.DeviceOfKey(u.Header().Signer)
	if !ok {
		return errors.New("the partial signature before is no device's")
	}
	pub, err := publicKey(s, d.Sign)
	if err != nil {
		return err
	}
	v, err := u.Verify(pub)
	if err != nil {
		return fmt.Errorf("the partial signature before: %w", err)
	}
	var p firmware.Partial
	if err := envelope.Decode(v, firmware.TypePartial, firmware.MessageVersion, &p); err != nil {
		return fmt.Errorf("the partial signature before: %w", err)
	}
	h, ok := s.HolderOf(p.Key, d.ID)
	switch {
	case v.Header().System != s.System():
		return errors.New("the partial signature before is of another system")
	case p.Request != i.Digest:
		return fmt.Errorf("the partial signature before is for request %s", p.Request)
	case p.Device != d.ID || d.ID == i.Device.ID || p.Key != i.Request.Key || p.Epoch != i.Request.Epoch ||
		!ok || p.Share != h.Share || p.Index != h.Index || !slices.Contains(i.Request.Route.Devices, d.ID):
		return fmt.Errorf("the partial signature before, by device %s, does not belong here", d.ID)
	}
	i.Signed = fmt.Sprintf("%s (%s)", d.ID, d.Name)
	return nil
}

// Own returns a *approval.RequesterApprovedError if the officer made the
// request himself, with whatever card.
func (i *Item) Own() error {
	return OwnRequest(i.officer, i.Requester.Owner)
}

// OwnRequest returns a *approval.RequesterApprovedError if the officer is the
// requester.
func OwnRequest(o *Officer, requester string) error {
	if requester != o.Person.ID {
		return nil
	}
	return &approval.RequesterApprovedError{Person: o.Person.ID, Name: o.Person.Name, Card: o.Card.Serial}
}

// View is the decoded document.
func (i *Item) View() *document.View { return i.Checked.View() }

package soak

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// request is a request as its requester signed it.
type request struct {
	document.Request
	raw    []byte
	digest envelope.Hash
}

// newRequest asks for the signature of a file by all devices.
func (f *Fleet) newRequest() (*request, error) {
	now := time.Now().Unix()
	r := document.Request{
		Key: keyLoad, Epoch: 1, Kind: document.KindFile, Algorithm: threshold.RS256, Name: "file", Requester: robot, Created: now, Expires: now + 3600,
		Route: document.Route{Mode: document.ModeParallel, Approvals: document.ApprovalsSet},
	}
	r.Document = make([]byte, 64)
	_, _ = rand.Read(r.Document) // never fails
	_, _ = rand.Read(r.Nonce[:])
	r.Size = uint64(len(r.Document))
	for i := range f.Config.Devices {
		r.Route.Devices = append(r.Route.Devices, deviceID(i))
	}
	body, err := envelope.Marshal(r)
	if err != nil {
		return nil, err
	}
	raw, err := envelope.Sign(rand.Reader, f.robot.Sign, envelope.Header{
		Type: document.TypeRequest, Version: document.VersionRequest, System: f.state.System(), LedgerHead: f.state.Head(),
		Key: r.Key, Epoch: r.Epoch, Created: r.Created, Expires: r.Expires,
	}, body)
	if err != nil {
		return nil, err
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, err
	}
	return &request{r, raw, u.UnverifiedDigest()}, nil
}

// piece opens an officer's piece with his card.
func (o *officer) piece(pieces []ceremony.SealedPiece) (string, share.Piece, error) {
	id, err := envelope.KeyIDOf(o.card.Agree())
	if err != nil {
		return "", share.Piece{}, err
	}
	i := slices.IndexFunc(pieces, func(p ceremony.SealedPiece) bool { return p.Card == id })
	if i < 0 {
		return "", share.Piece{}, fmt.Errorf("no piece for %s", o.person)
	}
	p := pieces[i]
	open, err := share.OpenPieceFromCard(o.card.Exchange, share.PieceContext{ID: p.ID, Purpose: p.Purpose, Device: p.Device, Share: p.Share, Card: id}, p.Sealed)
	return p.ID, open, err
}

// approved is a request that a device may work on: its offer, and the approvals
// of its officers.
type approved struct {
	*request
	offer     []byte
	approvals [][]byte
}

// approve has a device offer a one-time key for a request and its officers
// approve.
func (d *Device) approve(r *request) (*approved, error) {
	s, now := d.f.state, time.Now().Unix()
	offered, _, err := askFor[firmware.Offered](d, firmware.TypeOfferAsk, firmware.OfferAsk{Request: r.raw}, d.agree, firmware.TypeOffered)
	if err != nil {
		return nil, err
	}
	v, err := approval.VerifyOffer(s, offered.Offer, now)
	if err == nil {
		err = v.For(r.digest)
	}
	if err != nil {
		return nil, err
	}
	out := &approved{request: r, offer: offered.Offer}
	o := v.Offer()
	for _, x := range d.f.officer[d.id] {
		id, piece, err := x.piece(offered.Pieces)
		if err != nil {
			return nil, err
		}
		key, err := envelope.KeyIDOf(x.card.Public())
		if err != nil {
			return nil, err
		}
		sealed, err := share.SealPieceForOffer(v.Public(), firmware.PieceContext(r.digest, v.Digest(), o.Device, o.Share, id, key), piece)
		if err != nil {
			return nil, err
		}
		raw, err := approval.NewApproval(rand.Reader, x.card, s, approval.Approval{
			Request: r.digest, Key: o.Key, Epoch: o.Epoch, Device: o.Device, Share: o.Share, Decision: approval.Approve,
			Pieces:  []approval.SealedPiece{{Offer: v.Digest(), Device: o.Device, Piece: id, Sealed: sealed}},
			Created: now, Expires: r.Expires,
		}, [16]byte{})
		if err != nil {
			return nil, err
		}
		out.approvals = append(out.approvals, raw)
	}
	return out, nil
}

// do has the device make its partial signature as one of the devices of order.
func (d *Device) do(a *approved, order []uint64) (*firmware.Partial, error) {
	position := slices.Index(order, d.index)
	p, v, err := askFor[firmware.Partial](d, firmware.TypeTask, firmware.Task{
		Request: a.raw, Offer: a.offer, Approvals: a.approvals, Order: order, Position: uint64(position),
	}, d.agree, firmware.TypePartial)
	if err != nil {
		return nil, err
	}
	if _, err := firmware.VerifyPartial(d.f.state, &d.f.key, a.digest, order, uint64(position), v.Raw()); err != nil {
		return nil, err
	}
	return p, nil
}

// unlock has the device's officers open it.
func (d *Device) unlock() error {
	return d.linked(func() error {
		err := d.tryUnlock()
		if err == nil || !errors.Is(err, errLink) {
			return err
		}
		// It may be open, and its answer lost.
		if s, e := d.status(); e == nil && s.Phase == firmware.PhaseReady {
			return nil
		}
		return err
	})
}

func (d *Device) tryUnlock() error {
	offered, _, err := askFor[firmware.UnlockOffered](d, firmware.TypeUnlockAsk, firmware.UnlockAsk{Device: d.id}, nil, firmware.TypeUnlockOffered)
	if err != nil {
		return err
	}
	u, err := envelope.Parse(offered.Offer)
	if err != nil {
		return err
	}
	v, err := u.Verify(d.boot)
	if err != nil {
		return err
	}
	var o approval.UnlockOffer
	if err := envelope.Decode(v, approval.TypeUnlockOffer, approval.Version, &o); err != nil {
		return err
	}
	to, err := d.agree.Curve().NewPublicKey(o.Public)
	if err != nil {
		return err
	}
	in := firmware.Unlock{Offer: offered.Offer}
	now := time.Now().Unix()
	var pieces []share.Piece
	for _, x := range d.f.officer[d.id] {
		id, piece, err := x.piece(offered.Pieces)
		if err != nil {
			return err
		}
		pieces = append(pieces, piece)
		key, err := envelope.KeyIDOf(x.card.Public())
		if err != nil {
			return err
		}
		sealed, err := share.SealPieceForOffer(to, firmware.UnlockContext(d.id, v.Digest(), id, key), piece)
		if err != nil {
			return err
		}
		body, err := envelope.Marshal(approval.UnlockApproval{Device: d.id, Offer: v.Digest(), Piece: id, Sealed: sealed, Created: now, Expires: now + 3600})
		if err != nil {
			return err
		}
		raw, err := envelope.Sign(rand.Reader, x.card, envelope.Header{
			Type: approval.TypeUnlockApproval, Version: approval.Version, System: d.f.state.System(), LedgerHead: d.f.state.Head(),
			Created: now, Expires: now + 3600,
		}, body)
		if err != nil {
			return err
		}
		in.Approvals = append(in.Approvals, raw)
	}
	if d.pin == nil {
		pin, err := share.JoinPieces(pieces)
		if err != nil {
			return err
		}
		d.pin = slices.Clone(pin.Reveal())
	}
	s, _, err := askFor[firmware.Status](d, firmware.TypeUnlock, in, to, firmware.TypeStatus)
	if err == nil && s.Phase != firmware.PhaseReady {
		err = errors.New("its officers opened it, and it is " + s.Phase)
	}
	return err
}

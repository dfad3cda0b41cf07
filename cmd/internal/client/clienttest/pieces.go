package clienttest

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
)

func (s *Sites) newPIN() threshold.Secret {
	pin, err := share.NewPIN(rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	return pin
}

// piecesOf are a device's sealed pieces of a share's key, or of its PIN for
// the share "", as a ceremony leaves them.
func (s *Sites) piecesOf(device, shareID string) []ceremony.SealedPiece {
	name := device + "/" + shareID
	if s.pieces[name] != nil {
		return s.pieces[name]
	}
	secret, purpose := bytes.Repeat([]byte{7}, 32), share.PurposeShare
	if shareID == "" {
		secret, purpose = s.pins[device].Reveal(), share.PurposePIN
	}
	officers := s.State.OfficersOf(device, s.now.Load())
	pieces, err := share.SplitSecret(rand.Reader, secret, 2, len(officers))
	if err != nil {
		s.t.Error(err)
		return nil
	}
	for i, o := range officers {
		p, _ := s.State.Person(o.Person)
		for _, c := range p.Cards {
			if c.Serial != o.Card {
				continue
			}
			card := envelope.KeyIDOfSPKI(c.Agree)
			id, _ := s.State.Identity(card)
			out := ceremony.SealedPiece{
				ID: fmt.Sprintf("%s#%d", name, i+1), Purpose: purpose, Device: device, Share: shareID, Person: p.ID, Card: card,
			}
			if out.Sealed, err = share.SealPieceToCard(id.AgreeKey, share.PieceContext{
				ID: out.ID, Purpose: purpose, Device: device, Share: shareID, Card: card,
			}, pieces[i]); err != nil {
				s.t.Error(err)
			}
			s.pieces[name] = append(s.pieces[name], out)
		}
	}
	return s.pieces[name]
}

func (s *Sites) unlockAsk(_ string, body []byte) (any, error) {
	var in api.UnlockAsk
	if err := envelope.Unmarshal(body, &in); err != nil {
		return nil, web.Malformed(err)
	}
	d, ok := s.Devices[in.Device]
	if !ok {
		return nil, web.NotFound(fmt.Errorf("there is no device %s", in.Device))
	}
	if s.unlocks[in.Device] == nil {
		key, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		o := approval.UnlockOffer{
			Device: in.Device, Instance: [16]byte{1}, Public: key.PublicKey().Bytes(), Created: s.now.Load(), Expires: s.now.Load() + 600,
			Log: 7, LogHead: envelope.Hash{7},
		}
		payload, err := envelope.Marshal(o)
		if err != nil {
			return nil, err
		}
		raw, err := envelope.Sign(rand.Reader, d.Boot, envelope.Header{
			Type: approval.TypeUnlockOffer, Version: approval.Version, System: s.State.System(), LedgerHead: s.State.Head(),
			Created: o.Created, Expires: o.Expires,
		}, payload)
		if err != nil {
			return nil, err
		}
		u, _ := envelope.Parse(raw)
		s.unlocks[in.Device] = &unlocking{key: key, raw: raw, digest: u.UnverifiedDigest(), given: map[string]share.Piece{}}
	}
	out := firmware.UnlockOffered{Offer: s.unlocks[in.Device].raw, Pieces: s.piecesOf(in.Device, "")}
	if s.Offered != nil {
		s.Offered(&out)
	}
	return out, nil
}

// unlock does what a device does with its officers' words.
func (s *Sites) unlock(site string, body []byte) (any, error) {
	raw, err := s.open(site, body)
	if err != nil {
		return nil, err
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, web.Malformed(err)
	}
	var in approval.UnlockApproval
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &in); err != nil {
		return nil, web.Malformed(err)
	}
	l := s.unlocks[in.Device]
	if l == nil {
		return nil, web.Refused(fmt.Errorf("device %s has no one-time key", in.Device))
	}
	a, err := approval.VerifyUnlock(s.State, in.Device, l.digest, raw, s.now.Load())
	if err != nil {
		return nil, web.Refused(err)
	}
	p, err := share.OpenPieceFromOffer(l.key, firmware.UnlockContext(in.Device, l.digest, a.Piece, a.Signer), a.Sealed)
	if err != nil {
		s.t.Errorf("the piece of %s does not open: %v", a.Name, err)
		return nil, web.Refused(err)
	}
	l.given[a.Person] = p
	out := api.Unlocked{Have: uint64(len(l.given)), Need: 2, Missing: []string{}}
	for _, o := range s.State.OfficersOf(in.Device, s.now.Load()) {
		if _, ok := l.given[o.Person]; !ok {
			person, _ := s.State.Person(o.Person)
			out.Missing = append(out.Missing, person.Name)
		}
	}
	if out.Have < out.Need {
		return out, nil
	}
	var pieces []share.Piece
	for _, p := range l.given {
		pieces = append(pieces, p)
	}
	pin, _, err := share.RecoverPIN(share.PINCheck(s.pins[in.Device]), 2, pieces)
	if err != nil {
		s.t.Errorf("the PIN of %s: %v", in.Device, err)
		return nil, web.Refused(err)
	}
	pin.Wipe()
	delete(s.unlocks, in.Device)
	out.Status = &firmware.Status{Device: in.Device, Phase: firmware.PhaseReady, Shares: []string{}, Officers: []string{}}
	return out, nil
}

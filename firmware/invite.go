package firmware

import (
	"crypto/ecdh"
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// invitation is a one-time key in memory for one share that is to be dealt.
type invitation struct {
	key     *ecdh.PrivateKey
	raw     []byte
	digest  envelope.Hash // of the message
	created int64
	expires int64
}

// invite makes a one-time key to which the distributor may seal a share, or
// repeats the one that was made lately. Nobody signs that he wants one: whoever
// asks must not be able to take away the key that others are dealing to, so that
// the one before stands as long as it said.
func (m *Machine) invite(c *ctx, in InviteAsk) (*Invited, error) {
	if in.Enterprise < 1 || in.Enterprise > ledger.MaxEnterpriseCode {
		return nil, refuse(CodeMessage, "enterprise codes are 1 to %d", ledger.MaxEnterpriseCode)
	}
	open := m.invitations[in.Enterprise]
	if n := len(open); n > 0 && c.Now < open[n-1].created+invitationRepeats {
		return &Invited{Invitation: open[n-1].raw}, nil
	}
	// Those that the ledger knows are no more than fit, and always have room.
	if _, known := m.state.ledger.Enterprise(in.Enterprise); len(open) == 0 && !known && m.strangers() >= maxInvitations {
		return nil, refuse(CodeOffer, "invitations for %d new enterprises are open at device %s: use them, or lock it", maxInvitations, m.cfg.Local.ID)
	}
	key, err := ecdh.P256().GenerateKey(c.Rand)
	if err != nil {
		return nil, faulty(CodeInternal, err)
	}
	x := Invitation{
		Enterprise: in.Enterprise, Device: m.cfg.Local.ID, Instance: m.cfg.Local.Instance, Public: key.PublicKey().Bytes(),
		Created: c.Now, Expires: c.Now + InvitationLife,
	}
	body, err := envelope.Marshal(x)
	if err != nil {
		return nil, faulty(CodeInternal, err)
	}
	s := m.state.ledger
	raw, err := envelope.Sign(c.Rand, m.cfg.Local.Sign, envelope.Header{
		Type: TypeInvitation, Version: MessageVersion, Re: c.asked.ID, System: s.System(), LedgerHead: s.Head(),
		Created: x.Created, Expires: x.Expires,
	}, body)
	if err != nil {
		return nil, faulty(CodeInternal, err)
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, faulty(CodeInternal, err)
	}
	// The digest of a message that this token has just signed.
	m.invitations[in.Enterprise] = append(open, &invitation{key: key, raw: raw, digest: u.UnverifiedDigest(), created: x.Created, expires: x.Expires})
	return &Invited{Invitation: raw}, nil
}

// strangers counts the enterprises with an invitation that the ledger does not
// know.
func (m *Machine) strangers() (n int) {
	for code := range m.invitations {
		if _, known := m.state.ledger.Enterprise(code); !known {
			n++
		}
	}
	return n
}

// install takes a share of a dealing. It is not in force before the ledger has
// that dealing; what is in force until then is left as it is.
func (m *Machine) install(c *ctx, in Deal) (*Dealt, error) {
	d, err := ledger.DecodeDealing(in.Dealing)
	if err != nil {
		return nil, faulty(CodeMessage, err)
	}
	digest, err := d.Digest()
	if err != nil {
		return nil, faulty(CodeMessage, err)
	}
	if x := c.draft.state.dealtBy(digest); x != nil { // the answer was lost
		return &Dealt{Dealing: digest, Device: m.cfg.Local.ID, Share: x.Share, Version: x.Version}, nil
	}
	x, err := m.dealtTo(c, d, digest)
	if err != nil {
		return nil, err
	}
	s, err := m.openDealt(c, d, digest, in.Sealed)
	if err != nil {
		return nil, err
	}
	defer s.wipe()
	if err := m.checkDealt(d, x, s); err != nil {
		return nil, err
	}
	if x.Slot, err = m.freeSlot(c.draft.state); err != nil {
		return nil, err
	}
	if err := m.keep(c, d, x, s.Parts); err != nil {
		return nil, faulty(CodeInternal, err)
	}
	if err := c.add(recDealt, x); err != nil {
		return nil, err
	}
	delete(m.invitations, d.Enterprise.Code)
	c.note(fmt.Sprintf("stored version %d of share %s, %s %d of enterprise %d: in force when the ledger has dealing %s",
		x.Version, x.Share, layerName(x.Layer), x.Number, x.Enterprise, digest))
	return &Dealt{Dealing: digest, Device: m.cfg.Local.ID, Share: x.Share, Version: x.Version}, nil
}

// dealtTo checks a dealing, and finds what it deals to this device.
func (m *Machine) dealtTo(c *ctx, d *ledger.Dealing, digest envelope.Hash) (*dealtBody, error) {
	s := c.draft.state
	i := slices.IndexFunc(d.Key.Holders, func(h ledger.Holder) bool { return h.Device == m.cfg.Local.ID })
	if i < 0 {
		return nil, refuse(CodeShare, "device %s is no machine of enterprise %d in this dealing", m.cfg.Local.ID, d.Enterprise.Code)
	}
	h := d.Key.Holders[i]
	if s.dealings[digest] {
		// The entry was faster. It is too late if a newer version is in force.
		row, ok := s.ledger.HolderOf(d.Key.ID, m.cfg.Local.ID)
		if !ok || row.Share != h.Share || version(row) != version(h) {
			return nil, refuse(CodeShare, "version %d of share %s is not in force any more", h.Version, h.Share)
		}
	} else if err := ledger.CheckDealing(s.ledger, d, c.Now); err != nil {
		return nil, faulty(CodeLedger, err)
	}
	if s.dealtAs(d.Key.ID, h) != nil {
		return nil, refuse(CodeShare, "version %d of share %s is in force in device %s already: this dealing deals it nothing", h.Version, h.Share, m.cfg.Local.ID)
	}
	pending := 0
	for _, o := range s.dealt {
		if o.Enterprise == d.Enterprise.Code && !s.dealings[o.Dealing] {
			pending++
		}
	}
	if pending >= maxPending {
		return nil, refuse(CodeShare, "device %s keeps shares of %d dealings of enterprise %d that the ledger does not have: enter one of them, or wait until they are forgotten",
			m.cfg.Local.ID, pending, d.Enterprise.Code)
	}
	x := &dealtBody{
		Dealing: digest, Enterprise: d.Enterprise.Code, Revision: d.Revision, Key: d.Key.ID, Share: h.Share, Version: h.Version,
		Layer: h.Layer, Number: h.Index,
	}
	if h.Layer == ledger.LayerCombiner {
		group, err := d.Key.Layers.Group(h.Index)
		if err != nil {
			return nil, faulty(CodeShare, err)
		}
		x.Combinations = slices.Clone(group)
	}
	return x, nil
}

// openDealt opens what the distributor sealed.
func (m *Machine) openDealt(c *ctx, d *ledger.Dealing, digest envelope.Hash, sealed []byte) (*DealtShare, error) {
	open := m.invitations[d.Enterprise.Code]
	if len(open) == 0 {
		return nil, refuse(CodeOffer, "device %s has no one-time key for a dealing of enterprise %d any more (it was locked, restarted, or the key expired): "+
			"invite it, and deal again", m.cfg.Local.ID, d.Enterprise.Code)
	}
	if len(sealed) > maxSealedShare {
		return nil, refuse(CodeMessage, "a sealed share of %d bytes, at most %d", len(sealed), maxSealedShare)
	}
	var plain []byte
	var err error
	for _, i := range open {
		if plain, err = envelope.OpenWith(i.key, dealtInfo(i.digest, digest), nil, sealed); err == nil {
			break
		}
	}
	if err != nil {
		return nil, faulty(CodeShare, fmt.Errorf("the share is not sealed to an invitation of device %s that stands, or not for this dealing: %w", m.cfg.Local.ID, err))
	}
	defer clear(plain)
	c.effect.Sweep = true
	var s DealtShare
	if err := envelope.Unmarshal(plain, &s); err != nil {
		s.wipe()
		return nil, faulty(CodeMessage, fmt.Errorf("dealt share: %w", err))
	}
	return &s, nil
}

func (s *DealtShare) wipe() {
	for _, p := range s.Parts {
		p.Wipe()
	}
}

// checkDealt compares every fact that came with a share, and the share with the
// check values of the dealing: a wrong share is found now, not at the first
// signature.
func (m *Machine) checkDealt(d *ledger.Dealing, x *dealtBody, s *DealtShare) error {
	for _, f := range []struct {
		name string
		same bool
	}{
		{"dealing", s.Dealing == x.Dealing},
		{"device", s.Device == m.cfg.Local.ID},
		{"share id", s.Share == x.Share},
		{"version", s.Version == x.Version},
		{"layer", s.Layer == x.Layer},
		{"number", s.Number == x.Number},
	} {
		if !f.same {
			return refuse(CodeShare, "what was sealed for share %s of device %s names another %s", x.Share, m.cfg.Local.ID, f.name)
		}
	}
	var err error
	if x.Layer == ledger.LayerCombiner {
		err = d.Key.Layers.CheckCombiner(&d.Key.Public, &twolayer.CombinerShare{Number: s.Number, Parts: s.Parts})
	} else {
		err = d.Key.Layers.CheckCalculator(&d.Key.Public, &twolayer.CalculatorShare{Number: s.Number, Keys: s.Parts})
	}
	if err != nil {
		return faulty(CodeShare, fmt.Errorf("share %s of %s %d is wrong: %w", x.Share, layerName(x.Layer), x.Number, err))
	}
	return nil
}

// keep puts a dealt share at rest, under a fresh key that is cut into pieces for
// the officers whom the dealing names. The key itself is gone when it returns.
func (m *Machine) keep(c *ctx, d *ledger.Dealing, x *dealtBody, parts []threshold.Secret) error {
	h, ok := d.Key.Machine(x.Layer, x.Number)
	if !ok {
		return errors.New("no such machine")
	}
	to, err := custodians(c.draft.state.ledger, d, x)
	if err != nil {
		return err
	}
	officers, err := share.NewOfficersKey(c.Rand)
	if err != nil {
		return err
	}
	defer officers.Wipe()
	facts := (&dealtShare{dealtBody: *x}).facts(&d.Key)
	stored, err := share.SealParts(c.Rand, m.cfg.Token.Shares(false), officers, facts, parts)
	if err != nil {
		return err
	}
	data, err := stored.Marshal()
	if err != nil {
		return err
	}
	if x.Pieces, err = ceremony.Cut(c.Rand, share.PurposeShare, m.cfg.Local.ID, x.Share, officers.Reveal(), int(h.Threshold), to); err != nil {
		return err
	}
	return m.cfg.Token.PutObject(slotObject(x.Slot), 1, data)
}

// custodians are the officers of a dealing who get a piece of a share's key. The
// pieces of each dealing have ids of their own: one that was never entered may
// have dealt the same version to the same officers.
func custodians(s ledger.State, d *ledger.Dealing, x *dealtBody) ([]ceremony.Custodian, error) {
	h, _ := d.Key.Machine(x.Layer, x.Number)
	var out []ceremony.Custodian
	for _, o := range d.Officers {
		if o.Device != h.Device {
			continue
		}
		p, ok := s.Person(o.Person)
		i := slices.IndexFunc(p.Cards, func(card ledger.Card) bool { return card.Serial == o.Card })
		if !ok || i < 0 {
			return nil, fmt.Errorf("card %d of %s is not in the ledger", o.Card, o.Person)
		}
		id := ceremony.PieceID(share.PurposeShare, h.Device, fmt.Sprintf("%s/%x", x.Share, x.Dealing[:8]), o.Person)
		out = append(out, ceremony.Custodian{ID: id, Person: o.Person, Agree: p.Cards[i].Agree})
	}
	if uint64(len(out)) != h.Pieces {
		return nil, fmt.Errorf("%d officers for %d pieces", len(out), h.Pieces)
	}
	return out, nil
}

// partOf finds the part of a dealt combiner's share for a combination, from 1;
// 0 if it was dealt none.
func (d *dealtShare) partOf(c grouping.Combination) int {
	return slices.IndexFunc(d.Combinations, func(x grouping.Combination) bool { return slices.Equal(x, c) }) + 1
}

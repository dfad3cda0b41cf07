package firmware

import (
	"crypto/ecdh"
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// unlocking is the one-time key of a locked device, in memory.
type unlocking struct {
	key     *ecdh.PrivateKey
	id      envelope.KeyID
	digest  envelope.Hash
	raw     []byte
	created int64
	expires int64
}

// unlockAsk offers a one-time key for pieces of the PIN, or repeats the offer.
func (m *Machine) unlockAsk(c *ctx, in UnlockAsk) (*UnlockOffered, error) {
	if in.Device != m.cfg.Local.ID {
		return nil, refuse(CodeMessage, "this is device %s", m.cfg.Local.ID)
	}
	if m.unlocks != nil && m.unlocks.expires > c.Now {
		return m.unlockOffered(), nil
	}
	if m.instance == nil {
		if err := m.renew(c.Rand); err != nil {
			return nil, faulty(CodeInternal, err)
		}
	}
	key, err := ecdh.P256().GenerateKey(c.Rand)
	if err != nil {
		return nil, faulty(CodeInternal, err)
	}
	o := approval.UnlockOffer{
		Device: m.cfg.Local.ID, Instance: m.cfg.Local.Instance, Public: key.PublicKey().Bytes(),
		Created: c.Now, Expires: c.Now + unlockLife, Log: m.state.count, LogHead: m.state.head,
	}
	body, err := envelope.Marshal(o)
	if err != nil {
		return nil, faulty(CodeInternal, err)
	}
	s := m.state.ledger
	raw, err := envelope.Sign(c.Rand, m.cfg.Boot, envelope.Header{
		Type: approval.TypeUnlockOffer, Version: approval.Version, System: s.System(), LedgerHead: s.Head(),
		Created: o.Created, Expires: o.Expires,
	}, body)
	if err != nil {
		return nil, faulty(CodeInternal, err)
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, faulty(CodeInternal, err)
	}
	id, err := envelope.KeyIDOf(key.PublicKey())
	if err != nil {
		return nil, faulty(CodeInternal, err)
	}
	c.note("asks its officers to open it as instance " + approval.Fingerprint(o.Instance))
	m.unlocks = &unlocking{key: key, id: id, digest: u.UnverifiedDigest(), raw: raw, created: o.Created, expires: o.Expires}
	return m.unlockOffered(), nil
}

func (m *Machine) unlockOffered() *UnlockOffered {
	return &UnlockOffered{Offer: m.unlocks.raw, Pieces: m.state.piecesFor(share.PurposePIN, "")}
}

// unlock joins the officers' pieces of the PIN and opens the token. A PIN that
// is not the right one is never tried on the token.
func (m *Machine) unlock(c *ctx, in Unlock) (*Status, error) {
	if m.unlocks == nil || m.unlocks.expires <= c.Now {
		return nil, refuse(CodeOffer, "this device has no one-time key for unlocking any more: ask again")
	}
	self, _ := m.self()
	if self.UnlockQuorum < 2 {
		return nil, refuse(CodeQuorum, "the ledger names no quorum for unlocking device %s", self.ID)
	}
	s := m.state.ledger
	var pieces []share.Piece
	defer func() {
		for _, p := range pieces {
			p.Wipe()
		}
	}()
	var names []string
	restored := true
	seen, owner := map[string]bool{}, map[uint64]string{}
	for _, raw := range in.Approvals {
		a, err := approval.VerifyUnlock(s, self.ID, m.unlocks.digest, raw, c.Now)
		if err == nil {
			err = a.Answers(m.unlocks.created)
		}
		if err != nil {
			return nil, faulty(CodeQuorum, err)
		}
		if seen[a.Person] {
			continue
		}
		seen[a.Person] = true
		p, err := share.OpenPieceFromOffer(m.unlocks.key, UnlockContext(self.ID, m.unlocks.digest, a.Piece, a.Signer), a.Sealed)
		if err != nil {
			return nil, faulty(CodeShare, fmt.Errorf("piece of %s: %w", a.Name, err))
		}
		pieces, names = append(pieces, p), append(names, a.Person)
		restored = restored && a.Restored
		if other, ok := owner[p.Index]; ok {
			return nil, refuse(CodeShare, "%s and %s handed in the same piece, number %d", other, a.Person, p.Index)
		}
		owner[p.Index] = a.Person
	}
	if uint64(len(pieces)) < self.UnlockQuorum {
		return nil, refuse(CodeQuorum, "%d of %d officers have unlocked device %s", len(pieces), self.UnlockQuorum, self.ID)
	}
	pin, _, err := share.RecoverPIN(m.state.pin, int(self.UnlockQuorum), pieces)
	if err != nil {
		return nil, faulty(CodeShare, err)
	}
	defer pin.Wipe()
	if err := m.cfg.Token.KeepPIN(m.mayComeToDestroy(c.draft.state), m.cfg.Memory); err != nil {
		return nil, faulty(CodeInternal, err)
	}
	if err := m.cfg.Token.Unlock(pin.Reveal()); err != nil {
		return nil, faulty(CodeInternal, fmt.Errorf("the token does not open: %w", err))
	}
	if err := c.add(recUnlocked, unlockedBody{Officers: names}); err != nil {
		return nil, errors.Join(err, m.LockDown())
	}
	if restored {
		if err := m.forgetPeers(c); err != nil {
			return nil, errors.Join(err, m.LockDown())
		}
	}
	m.enrolled(m.unlocks.raw, in.Approvals)
	m.unlocks = nil
	m.watch(c.draft.state, c.Boot)
	c.note(fmt.Sprintf("unlocked by %v", names))
	return m.describe(c.draft.state, c.Boot), nil
}

// UnlockContext binds a piece of a PIN to the offer it is sealed for.
func UnlockContext(device string, offer envelope.Hash, piece string, officer envelope.KeyID) share.OfferContext {
	return share.OfferContext{ID: piece, Purpose: share.PurposePIN, Offer: offer, Device: device, Officer: officer}
}

// lock closes the token at the server's word.
func (m *Machine) lock(c *ctx, in Lock) (*Status, error) {
	if in.Device != m.cfg.Local.ID {
		return nil, refuse(CodeMessage, "this is device %s", m.cfg.Local.ID)
	}
	if err := c.add(recLocked, lockedBody{Reason: clip(in.Reason, 256)}); err != nil {
		return nil, err
	}
	if err := m.LockDown(); err != nil {
		return nil, faulty(CodeInternal, err)
	}
	return m.describe(c.draft.state, c.Boot), nil
}

// LockDown erases every one-time key with the share that one of them may have
// opened, and with the instance what beats are sealed to, and closes the token.
func (m *Machine) LockDown() error {
	m.dropOffers(func(offerKey, *offer) bool { return true })
	clear(m.invitations)
	m.unlocks, m.instance, m.enrolment, m.monitor = nil, nil, nil, nil
	return m.cfg.Token.Lock()
}

func (m *Machine) status(c *ctx, _ StatusAsk) (*Status, error) {
	return m.describe(c.draft.state, c.Boot), nil
}

// describe says how the device is, as of s.
func (m *Machine) describe(s *state, boot int64) *Status {
	out := &Status{
		Device: m.cfg.Local.ID, Phase: m.phase(s), Firmware: m.cfg.Local.Firmware,
		LogHead: s.head, Log: s.count, Partials: m.made, Token: m.cfg.Token.Health(),
		Shares: []string{}, Officers: []string{},
	}
	if s.genesis == nil {
		return out
	}
	d, _ := s.ledger.Device(m.cfg.Local.ID)
	out.Name, out.Unattended, out.Use = d.Name, d.Unattended, "in host"
	if d.InToken {
		out.Use = "in token"
	}
	out.System, out.LedgerHead, out.Height = s.ledger.System(), s.ledger.Head(), s.ledger.Height()
	for _, k := range s.ledger.Keys() {
		if h, ok := s.ledger.HolderOf(k.ID, d.ID); ok {
			if k.Scheme != threshold.TwoLayer || s.dealtAs(k.ID, h) != nil {
				out.Shares = append(out.Shares, h.Share)
			}
		}
	}
	out.Machines = m.machines(s)
	out.Certified, out.Officers = m.certified(s)
	out.Lease = m.leaseStatus(s, boot)
	return out
}

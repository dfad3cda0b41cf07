package ceremony

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// install ends stage 3 at a holder: it opens its share, checks it against
// what the lead published, and stores it under a fresh key that is cut into
// pieces for its officers (A22, Fig. 23). A device that holds no share of the
// key remembers the dealing, since it signs the genesis that contains it.
func (s *Session) install(in Inputs, m Install) (*Answer, error) {
	if s.stage != onRoster {
		return nil, ErrOutOfOrder
	}
	d, err := s.checkDealt(m.Dealt)
	if err != nil {
		return nil, err
	}
	out := Installed{Roster: s.roster.digest}
	i := slices.IndexFunc(d.Key.Holders, func(h ledger.Holder) bool { return h.Device == s.local.ID })
	if i < 0 {
		s.dealt[d.Key.ID] = d.Key
		return &Answer{Type: TypeInstalled, Payload: out}, nil
	}
	if s.held[d.Key.ID] != nil {
		return nil, fmt.Errorf("%w: key %q was installed", ErrOutOfOrder, d.Key.ID)
	}
	h := d.Key.Holders[i]
	if d.Shares[i].Device != s.local.ID {
		return nil, errShareFacts
	}
	var sm ShareMessage
	if err := s.openFrom(s.open.Plan().Lead, TypeShare, d.Shares[i].Sealed, &sm); err != nil {
		return nil, fmt.Errorf("ceremony: share of key %s: %w", d.Key.ID, err)
	}
	held := &heldShare{holder: h, share: sm.Share, tested: map[string]bool{}}
	if err := s.checkShare(&d.Key, h, &sm); err != nil {
		held.wipe()
		return nil, err
	}
	pieces, err := s.store(in, &d.Key, held)
	if err != nil {
		held.wipe()
		return nil, err
	}
	s.pieces = append(s.pieces, pieces...)
	out.Share = h.Share
	s.dealt[d.Key.ID], s.held[d.Key.ID] = d.Key, held
	return &Answer{Type: TypeInstalled, Payload: out}, nil
}

// checkShare compares every fact that came with a share, and the share with
// its public commitments: a wrong share is found now, not at the first
// signature.
func (s *Session) checkShare(k *ledger.Key, h ledger.Holder, m *ShareMessage) error {
	switch {
	case m.TypeCode != typeCode, m.Roster != s.roster.digest, m.Key != k.ID, m.Epoch != k.Epoch, m.ShareID != h.Share,
		m.N != k.N, m.T != k.T, !slices.Equal(m.Holders, k.Holders), string(m.Modulus) != string(k.Public.N),
		m.Share.Index != h.Index,
		!slices.EqualFunc(m.Officers, s.officerKeys(s.local.ID), func(a, b []byte) bool { return string(a) == string(b) }):
		return errShareFacts
	}
	if err := k.Commitment.CheckShare(&k.Public, k.Split(), &m.Share); err != nil {
		return fmt.Errorf("ceremony: share of key %s: %w", k.ID, err)
	}
	return nil
}

// store puts a share at rest and returns its key in pieces, each sealed to
// the 9D key of one officer. The key itself is gone when store returns.
func (s *Session) store(in Inputs, k *ledger.Key, held *heldShare) ([]SealedPiece, error) {
	facts := share.Facts{Key: k.ID, Epoch: k.Epoch, ShareID: held.holder.Share, Index: held.holder.Index, Modulus: k.Public.N, Version: 1}
	officers, err := share.NewOfficersKey(in.Rand)
	if err != nil {
		return nil, err
	}
	defer officers.Wipe()
	stored, err := share.Seal(in.Rand, in.Token.Shares(s.usesToken(k)), officers, facts, &held.share)
	if err != nil {
		return nil, err
	}
	data, err := stored.Marshal()
	if err != nil {
		return nil, err
	}
	if err := putAnew(in.Token, ShareObject(held.holder.Share), data); err != nil {
		return nil, err
	}
	return s.cut(in, share.PurposeShare, held.holder.Share, officers.Reveal(), int(held.holder.Threshold))
}

// usesToken says under which KEK a share is stored.
func (s *Session) usesToken(k *ledger.Key) bool {
	d := s.open.Plan().device(s.local.ID)
	return k.UsedInToken(ledger.Device{InToken: useInToken(*d, s.roster.Identity(s.local.ID))})
}

// ShareObject names the token's data object that holds a share.
func ShareObject(shareID string) string { return "share/" + shareID }

// cut splits a secret among the device's officers, L of M.
func (s *Session) cut(in Inputs, purpose, shareID string, secret []byte, l int) ([]SealedPiece, error) {
	var to []Custodian
	for _, o := range s.open.Plan().officersOf(s.local.ID) {
		card, ok := s.roster.CardOf(o.Card)
		if !ok {
			return nil, fmt.Errorf("ceremony: card %d of %s is not on the roster", o.Card, o.Person)
		}
		to = append(to, Custodian{
			ID: PieceID(purpose, s.local.ID, shareID, o.Person), Person: o.Person, Agree: card.Agree,
		})
	}
	return Cut(in.Rand, purpose, s.local.ID, shareID, secret, l, to)
}

// TestDigest is what a subset signs to show that its shares fit: the digest of
// 32 bytes that are themselves a hash of the roster, the key and the subset. No
// certificate and no command of the ledger has 32 bytes, and nobody chooses
// them.
func TestDigest(roster envelope.Hash, key string, subset threshold.Subset) []byte {
	h := envelope.HashOf("privyseal ceremony test signature", roster[:], []byte(key), []byte{byte(subset >> 8), byte(subset)})
	sum := sha256.Sum256(h[:])
	return sum[:]
}

// test makes this device's part of one subset's test signature. Each place of
// each subset signs once: a test is not a way around the officers.
func (s *Session) test(in Inputs, m Test) (*Answer, error) {
	if s.stage != onRoster {
		return nil, ErrOutOfOrder
	}
	held, ok := s.held[m.Key]
	if !ok {
		return nil, fmt.Errorf("%w: no share of key %q", ErrOutOfOrder, m.Key)
	}
	key := s.dealt[m.Key]
	subset, err := threshold.SubsetOf(m.Order...)
	if err != nil {
		return nil, err
	}
	if err := key.Split().Check(subset); err != nil {
		return nil, err
	}
	if m.Position >= uint64(len(m.Order)) || m.Order[m.Position] != held.holder.Index {
		return nil, errors.New("ceremony: the test's position is not this device's")
	}
	once := fmt.Sprint(subset)
	if held.tested[once] {
		return nil, fmt.Errorf("%w: subset %v was tested with this share", ErrOutOfOrder, subset)
	}
	x, err := testMessage(&key, s.roster.digest, subset)
	if err != nil {
		return nil, err
	}
	if key.Scheme == threshold.Multiplicative {
		if x, err = s.advanceTest(&key, &m, subset, x); err != nil {
			return nil, err
		}
	} else if len(m.Prior) > 0 {
		return nil, errors.New("ceremony: a parallel test has no prior partials")
	}
	d, ok := held.share.Sub(subset)
	if !ok {
		return nil, fmt.Errorf("ceremony: share %s has no part for subset %v", held.holder.Share, subset)
	}
	e, err := share.NewHostExponent(in.Memory, key.Public.N, d)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	y, err := threshold.Partial(&key.Public, x, e)
	if err != nil {
		return nil, err
	}
	if key.Scheme == threshold.Multiplicative && m.Position+1 == key.T {
		// The last place advanced a value that nobody proved: it lets go of the
		// result only if that is the test signature. Otherwise the device before
		// could have any value raised to this share, and with it a signature
		// of its choice, before the system begins.
		if _, err := threshold.FinishSequentialVarTime(&key.Public, threshold.RS256, TestDigest(s.roster.digest, key.ID, subset), y); err != nil {
			return nil, fmt.Errorf("ceremony: the test signature of %v is wrong, by device %s or the one before: %w", subset, s.local.ID, err)
		}
	}
	out := Tested{Roster: s.roster.digest, Key: m.Key, Order: m.Order, Position: m.Position, Y: y}
	if key.Split().NeedsProof(m.Position) {
		out.Proof, err = threshold.Prove(in.Rand, &key.Public, &key.Commitment, testBinding(s.roster.digest, &key, m.Order, m.Position), held.holder.Index, x, y, d)
		if err != nil {
			return nil, err
		}
	}
	held.tested[once] = true
	return &Answer{Type: TypeTested, Payload: out}, nil
}

// advanceTest checks the places before this one and returns the value to
// advance.
func (s *Session) advanceTest(key *ledger.Key, m *Test, subset threshold.Subset, x []byte) ([]byte, error) {
	if uint64(len(m.Prior)) != m.Position {
		return nil, fmt.Errorf("ceremony: %d partials before position %d", len(m.Prior), m.Position)
	}
	var steps []threshold.PartialSignature
	for i, raw := range m.Prior {
		var t Tested
		h := key.Holders[m.Order[i]-1]
		if err := s.verifyFrom(h.Device, TypeTested, raw, &t); err != nil {
			return nil, err
		}
		if t.Roster != s.roster.digest || t.Key != key.ID || t.Position != uint64(i) || !slices.Equal(t.Order, m.Order) {
			return nil, errors.New("ceremony: a prior partial belongs to another test")
		}
		steps = append(steps, threshold.PartialSignature{Index: h.Index, Share: h.Share, Subset: subset, Value: t.Y, Proof: t.Proof})
	}
	// The last place verifies the signature, so the one before owes no proof.
	proved := len(steps)
	if m.Position+1 == key.T && proved > 0 {
		proved--
	}
	x, err := threshold.VerifySequence(&key.Public, &key.Commitment, testBinding(s.roster.digest, key, m.Order, 0), x, steps[:proved])
	if err != nil {
		return nil, err
	}
	if proved < len(steps) {
		x = steps[proved].Value
	}
	return x, nil
}

func testMessage(key *ledger.Key, roster envelope.Hash, subset threshold.Subset) ([]byte, error) {
	return threshold.Encode(threshold.RS256, TestDigest(roster, key.ID, subset), nil, key.Public.Bits())
}

func testBinding(roster envelope.Hash, key *ledger.Key, order []uint64, position uint64) threshold.Binding {
	subset, _ := threshold.SubsetOf(order...)
	return threshold.Binding{
		System: roster, Key: key.ID, Epoch: key.Epoch, Share: key.Holders[order[position]-1].Share,
		Request: envelope.HashOf("privyseal ceremony test", roster[:], []byte(key.ID)), Subset: subset, Position: position + 1,
	}
}

// FinishTestVarTime combines the partials of one subset and verifies the
// result. The desk calls it for every subset of every key.
func FinishTestVarTime(r *VerifiedRoster, key *ledger.Key, order []uint64, tested []Tested) ([]byte, error) {
	subset, err := threshold.SubsetOf(order...)
	if err != nil {
		return nil, err
	}
	digest := TestDigest(r.digest, key.ID, subset)
	if key.Scheme == threshold.Multiplicative {
		return threshold.FinishSequentialVarTime(&key.Public, threshold.RS256, digest, tested[len(tested)-1].Y)
	}
	var partials []threshold.PartialSignature
	for i, t := range tested {
		partials = append(partials, threshold.PartialSignature{Index: order[i], Share: key.Holders[order[i]-1].Share, Subset: subset, Value: t.Y})
	}
	return threshold.CombineAdditiveVarTime(&key.Public, threshold.RS256, digest, partials)
}

// PINObject names the token's data object that holds the PIN to come between
// Prepare and Commit, so that a device which restarts in between can finish.
const PINObject = "pin.next"

// prepare ends the ceremony's mathematics at a device: it signs the genesis
// that it computed itself, and from here on it survives a restart.
func (s *Session) prepare(in Inputs, m Prepare) (*Answer, error) {
	if s.stage != onRoster {
		return nil, ErrOutOfOrder
	}
	p := s.open.Plan()
	var shown ledger.Genesis
	if err := envelope.Unmarshal(m.Genesis, &shown); err != nil {
		return nil, fmt.Errorf("ceremony: genesis: %w", err)
	}
	var keys []ledger.Key
	for _, k := range p.Keys {
		key, ok := s.dealt[k.ID]
		if !ok {
			return nil, fmt.Errorf("%w: key %q has not been dealt to this device", ErrOutOfOrder, k.ID)
		}
		keys = append(keys, key)
	}
	if shown.Created < s.open.open.NotBefore || shown.Created > in.Now+int64(clockSkew.Seconds()) {
		return nil, errors.New("ceremony: the genesis was not created now; check the desk's clock")
	}
	same, err := sameGenesis(BuildGenesis(s.roster, keys, shown.Created), shown)
	if err != nil {
		return nil, err
	}
	if !same {
		return nil, errors.New("ceremony: the genesis is not what was agreed on; do not go on with this desk")
	}
	if err := shown.Validate(); err != nil {
		return nil, err
	}
	for id, h := range s.held {
		if len(h.tested) != s.dealt[id].Split().SubShares() {
			return nil, fmt.Errorf("%w: %d of %d subsets of key %s have signed a test", ErrOutOfOrder, len(h.tested), s.dealt[id].Split().SubShares(), id)
		}
	}
	pending := &Pending{Genesis: m.Genesis, Open: s.open.raw, Pieces: s.pieces}
	if d := p.device(s.local.ID); !d.Unattended {
		pin, err := share.NewPIN(in.Rand)
		if err != nil {
			return nil, err
		}
		defer pin.Wipe()
		if err := putAnew(in.Token, PINObject, pin.Reveal()); err != nil {
			return nil, err
		}
		pending.PIN = share.PINCheck(pin)
		pieces, err := s.cut(in, share.PurposePIN, "", pin.Reveal(), int(d.UnlockQuorum))
		if err != nil {
			return nil, err
		}
		pending.Pieces = append(pending.Pieces, pieces...)
	}
	sig, err := ledger.SignGenesis(in.Rand, s.local.Sign, m.Genesis, in.Now)
	if err != nil {
		return nil, err
	}
	for _, id := range sortedKeys(s.held) {
		pending.Shares = append(pending.Shares, s.held[id].holder.Share)
		s.held[id].wipe()
	}
	s.held, s.oneTime, s.stage, s.signed = nil, nil, ready, m.Genesis
	return &Answer{Type: TypePrepared, Payload: Prepared{Signature: sig}, Prepared: pending}, nil
}

// commit puts the genesis into force.
func (s *Session) commit(in Inputs, m Commit) (*Answer, error) {
	if s.stage != ready {
		return nil, ErrOutOfOrder
	}
	a, err := CommitPending(m.Bundle, s.signed)
	if err != nil {
		return nil, err
	}
	s.stage = done
	return a, nil
}

// Resume lets a device that was prepared and has restarted go on: it knows
// what it signed and whose desk may commit or abort.
func Resume(local Local, pending *Pending) (*Session, error) {
	o, err := reopen(pending.Open)
	if err != nil {
		return nil, err
	}
	return &Session{local: local, open: o, stage: ready, signed: pending.Genesis, dealt: map[string]ledger.Key{}, held: map[string]*heldShare{}}, nil
}

// CommitPending verifies a bundle against what this device signed.
func CommitPending(raw []byte, signed []byte) (*Answer, error) {
	var b ledger.Bundle
	if err := envelope.Unmarshal(raw, &b); err != nil {
		return nil, fmt.Errorf("ceremony: bundle: %w", err)
	}
	if string(signed) != string(b.Genesis) {
		return nil, errors.New("ceremony: this is not the genesis that this device signed")
	}
	g, err := ledger.VerifyGenesis(b)
	if err != nil {
		return nil, err
	}
	return &Answer{
		Type: TypeCommitted, Payload: Committed{Phase: "ready", System: g.System()}, Bundle: &b, Genesis: g,
	}, nil
}

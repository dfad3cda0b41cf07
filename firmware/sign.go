package firmware

import (
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// agreed is a request that this device's officers agreed to, for a one-time key
// that is still there: all that opens the share.
type agreed struct {
	*asked
	offer  *offer
	quorum *approval.Quorum
}

// attempt is a task that passed every check that needs no share.
type attempt struct {
	agreed
	task   Task
	subset threshold.Subset
	x      []byte // what to exponentiate, |N| bytes
	prior  []Partial
}

// task makes a partial signature, in the order of design.md §5.2: ledger
// head, request, expiry, replay, signatures, rights and quorum; then the
// share is opened, used and erased; then the log; the lease and the release
// are the caller's (Effects.Release).
func (m *Machine) task(c *ctx, in Task) (*Partial, error) {
	t, err := m.attempt(c, in)
	if err != nil {
		return nil, err
	}
	out := &Partial{
		Request: t.digest, Key: t.key.ID, Epoch: t.key.Epoch, Device: m.cfg.Local.ID,
		Share: t.holder.Share, Index: t.holder.Index, Order: in.Order, Position: in.Position,
		Officers: t.quorum.Officers(), Made: c.Now,
	}
	err = m.useShare(c, t, func(e threshold.Exponentiator, d *threshold.Secret) error {
		if out.Y, err = threshold.Partial(&t.key.Public, t.x, e); err != nil {
			return faulty(CodeInternal, err)
		}
		if d == nil || !(in.Prove || t.key.Split().NeedsProof(in.Position)) {
			return nil
		}
		out.Proof, err = threshold.Prove(c.Rand, &t.key.Public, &t.key.Commitment, m.binding(t, in.Position), t.holder.Index, t.x, out.Y, *d)
		return faulty(CodeInternal, err)
	})
	if err != nil {
		return nil, err
	}
	if out.Proof == nil && t.key.Split().NeedsProof(in.Position) {
		return nil, refuse(CodeShare, "device %s uses this share in its token, which makes no proofs: "+
			"it can take the last place of a chain only", m.cfg.Local.ID)
	}
	if t.last() {
		if err := m.verifyLast(t, out.Y); err != nil {
			return nil, err
		}
	}
	if err := c.add(recPartial, m.partialBody(t, out.Y)); err != nil {
		return nil, err
	}
	out.LogHead = c.draft.state.head
	c.effect.Release = true
	m.made++
	return out, nil
}

// attempt checks a task without touching the share.
func (m *Machine) attempt(c *ctx, in Task) (*attempt, error) {
	if err := m.leased(c); err != nil {
		return nil, err
	}
	a, err := m.acceptable(c, in.Request)
	if err != nil {
		return nil, err
	}
	if a.key.Scheme == threshold.TwoLayer {
		return nil, refuse(CodeMessage, "key %s is shared in two layers: device %s is %s %d of it and makes no partial signatures",
			a.key.ID, m.cfg.Local.ID, layerName(a.holder.Layer), a.holder.Index)
	}
	t := &attempt{agreed: agreed{asked: a}, task: in}
	if t.subset, err = threshold.SubsetOf(in.Order...); err != nil {
		return nil, faulty(CodeMessage, err)
	}
	if err := a.key.Split().Check(t.subset); err != nil {
		return nil, faulty(CodeMessage, err)
	}
	if in.Position >= uint64(len(in.Order)) || in.Order[in.Position] != a.holder.Index {
		return nil, refuse(CodeMessage, "position %d of %v is not the place of share %s (index %d)", in.Position, in.Order, a.holder.Share, a.holder.Index)
	}
	for _, i := range in.Order {
		if d := a.key.Holders[i-1].Device; !slices.Contains(a.request.Route.Devices, d) {
			return nil, refuse(CodeMessage, "device %s is not on the request's route", d)
		}
	}
	if t.offer, err = m.offerFor(c, a); err != nil {
		return nil, err
	}
	if t.x, err = a.checked.EncodedMessage(a.digest); err != nil {
		return nil, faulty(CodeRequest, err)
	}
	if err := m.priors(t); err != nil {
		return nil, err
	}
	var base []byte
	if n := len(in.Prior); n > 0 {
		base = in.Prior[n-1]
	}
	if t.quorum, err = m.quorum(c, a, in.Approvals, base); err != nil {
		return nil, faulty(CodeQuorum, err)
	}
	return t, nil
}

// offerFor finds the one-time key for a request.
func (m *Machine) offerFor(c *ctx, a *asked) (*offer, error) {
	o, err := m.standing(c, a)
	if err != nil {
		return nil, err
	}
	if o.attempts >= maxAttempts {
		return nil, refuse(CodeOffer, "request %s was answered %d times: make a new request", a.digest, o.attempts)
	}
	m.verified.keep(a)
	return o, nil
}

// standing is the one-time key for a request, if there is one.
func (m *Machine) standing(c *ctx, a *asked) (*offer, error) {
	o, ok := m.offers[offerKey{a.digest, a.holder.Share}]
	if !ok || o.expires <= c.Now {
		return nil, noOffer(a)
	}
	return o, nil
}

func noOffer(a *asked) error {
	return refuse(CodeOffer, "this device has no one-time key for request %s any more (it was locked, restarted, or the key expired): "+
		"ask for a new offer and for new approvals", a.digest)
}

// quorum verifies the approvals of this device's officers. In a chain, what
// they signed covers base, the partial of the device before (source A, Fig. 10).
func (m *Machine) quorum(c *ctx, a *asked, approvals [][]byte, base []byte) (*approval.Quorum, error) {
	about := approval.Request{
		Digest: a.digest, Key: a.key.ID, Epoch: a.key.Epoch, Requester: a.request.Requester, Signer: a.signer,
		Created: a.request.Created, Expires: a.request.Expires,
	}
	if a.request.Route.Approvals == document.ApprovalsChain {
		if len(approvals) != 1 {
			return nil, fmt.Errorf("a chain is one message that holds all before it, not %d", len(approvals))
		}
		return approval.VerifyChain(m.state.ledger, about, m.cfg.Local.ID, approvals[0], base, c.Now)
	}
	return approval.VerifySet(m.state.ledger, about, m.cfg.Local.ID, approvals, c.Now)
}

// priors verifies the partials before this one and sets what is to be
// exponentiated. A device never exponentiates a value it was handed, but here;
// and in the middle of a chain only with a proof that it belongs to the
// document that its own officers approved (P3). The last place needs none: it
// verifies the final signature before it lets go of it.
func (m *Machine) priors(t *attempt) error {
	if t.key.Scheme != threshold.Multiplicative {
		if len(t.task.Prior) > 0 {
			return refuse(CodeMessage, "parallel signing has no prior partials")
		}
		return nil
	}
	if uint64(len(t.task.Prior)) != t.task.Position {
		return refuse(CodeMessage, "%d partials before position %d", len(t.task.Prior), t.task.Position)
	}
	var steps []threshold.PartialSignature
	for i, raw := range t.task.Prior {
		p, err := VerifyPartial(m.state.ledger, &t.key.Key, t.digest, t.task.Order, uint64(i), raw)
		if err != nil {
			return faulty(CodePartial, err)
		}
		t.prior = append(t.prior, *p)
		steps = append(steps, threshold.PartialSignature{Index: p.Index, Share: p.Share, Subset: t.subset, Value: p.Y, Proof: p.Proof})
	}
	proved := len(steps)
	if t.last() && proved > 0 && steps[proved-1].Proof == nil {
		proved-- // owed to nobody: this device verifies the signature itself
	}
	x, err := threshold.VerifySequence(&t.key.Public, &t.key.Commitment, m.binding(t, 0), t.x, steps[:proved])
	if err != nil {
		return faulty(CodePartial, m.blame(t, err))
	}
	if proved < len(steps) {
		x = steps[proved].Value
	}
	t.x = x
	return nil
}

// blame puts the device's name to a wrong partial signature.
func (m *Machine) blame(t *attempt, err error) error {
	var wrong *threshold.WrongPartialError
	if !errors.As(err, &wrong) {
		return err
	}
	for _, p := range t.prior {
		if !slices.Contains(wrong.Indices, p.Index) {
			continue
		}
		if p.Proof == nil {
			return fmt.Errorf("device %s gave no proof of its partial signature at position %d: %w", p.Device, p.Position, err)
		}
		return fmt.Errorf("the partial signature of device %s is wrong: %w", p.Device, err)
	}
	return err
}

func (t *attempt) last() bool {
	return t.key.Scheme == threshold.Multiplicative && t.task.Position+1 == t.key.T
}

// verifyLast holds the final signature back if it does not verify, and says
// whose partial is at fault as far as proofs can tell.
func (m *Machine) verifyLast(t *attempt, y []byte) error {
	_, err := threshold.FinishSequentialVarTime(&t.key.Public, t.checked.Algorithm(), t.checked.Digest(), y)
	if err == nil {
		return nil
	}
	// Every partial that came with a proof is right; one that came without is
	// the suspect. Only the place before this one may lack its proof.
	var suspects []string
	for _, p := range t.prior {
		if p.Proof == nil {
			suspects = append(suspects, p.Device)
		}
	}
	if len(suspects) == 0 {
		suspects = []string{m.cfg.Local.ID}
	}
	return refuse(CodePartial, "the final signature does not verify: wrong partial signature by one of %v: %w", suspects, err)
}

func (m *Machine) binding(t *attempt, position uint64) threshold.Binding {
	return PartialBinding(m.state.ledger, &t.key.Key, t.digest, t.task.Order, position)
}

// PartialBinding is what a proof of a partial signature is bound to.
func PartialBinding(s ledger.State, k *ledger.Key, request envelope.Hash, order []uint64, position uint64) threshold.Binding {
	subset, _ := threshold.SubsetOf(order...)
	b := threshold.Binding{
		System: s.System(), Key: k.ID, Epoch: k.Epoch, Share: k.Holders[order[position]-1].Share,
		Request: request, Subset: subset,
	}
	if k.Scheme == threshold.Multiplicative {
		b.Position = position + 1 // 0 stands for parallel signing
	}
	return b
}

// VerifyPartial verifies a partial message as one that the holder of a place
// made for this request, key and order. It does not verify Y.
func VerifyPartial(s ledger.State, k *ledger.Key, request envelope.Hash, order []uint64, position uint64, raw []byte) (*Partial, error) {
	if position >= uint64(len(order)) || order[position] == 0 || order[position] > uint64(len(k.Holders)) {
		return nil, fmt.Errorf("no position %d in %v", position, order)
	}
	h := k.Holders[order[position]-1]
	d, ok := s.Device(h.Device)
	if !ok {
		return nil, fmt.Errorf("device %s is not in the ledger", h.Device)
	}
	pub, err := envelope.ParseSigningKey(d.Sign)
	if err != nil {
		return nil, err
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, err
	}
	v, err := u.Verify(pub)
	if err != nil {
		return nil, fmt.Errorf("partial of device %s: %w", h.Device, err)
	}
	var p Partial
	if err := envelope.Decode(v, TypePartial, MessageVersion, &p); err != nil {
		return nil, err
	}
	switch {
	case v.Header().System != s.System():
		err = errors.New("is of another system")
	case p.Request != request:
		err = errors.New("is for another request")
	case p.Key != k.ID || p.Epoch != k.Epoch:
		err = errors.New("is of another key or epoch")
	case p.Device != h.Device || p.Share != h.Share || p.Index != h.Index:
		err = errors.New("names another share")
	case p.Position != position || !slices.Equal(p.Order, order):
		err = errors.New("is of another order of signing")
	}
	if err != nil {
		return nil, fmt.Errorf("partial of device %s: %w", h.Device, err)
	}
	return &p, nil
}

// useShare opens the share with the officers' pieces, lets use work with the
// sub-share of the subset, and erases everything again. d is nil when the
// share is used in the token.
func (m *Machine) useShare(c *ctx, t *attempt, use func(e threshold.Exponentiator, d *threshold.Secret) error) error {
	facts := shareFacts(&t.key.Key, t.holder)
	stored, officers, err := m.openStored(&t.agreed, ceremony.ShareObject(t.holder.Share), facts)
	if err != nil {
		return err
	}
	defer officers.Wipe()
	n := t.key.Public.N
	wrapped, err := stored.Open(facts, officers, t.subset)
	if err != nil {
		return faulty(CodeShare, err)
	}
	self, _ := m.self()
	if t.key.UsedInToken(self) {
		e, err := share.InToken(m.cfg.Token.Shares(true), n, wrapped)
		if err != nil {
			return faulty(CodeShare, err)
		}
		defer e.Close()
		return use(e, nil)
	}
	e, err := share.InHost(m.cfg.Token.Shares(false), m.cfg.Memory, n, wrapped)
	if err != nil {
		return faulty(CodeShare, err)
	}
	defer e.Close()
	d := e.Secret()
	return use(e, &d)
}

// openStored reads a share from the token and joins the officers' pieces to its
// key, which the caller wipes.
func (m *Machine) openStored(t *agreed, object string, facts share.Facts) (*share.Stored, threshold.Secret, error) {
	t.offer.attempts++
	none := threshold.Secret{}
	_, data, err := m.cfg.Token.GetObject(object)
	if err != nil {
		return nil, none, faulty(CodeShare, fmt.Errorf("the token does not give share %s: %w", t.holder.Share, err))
	}
	stored, err := share.ParseStored(data)
	if err != nil {
		return nil, none, faulty(CodeShare, fmt.Errorf("share %s: %w", t.holder.Share, err))
	}
	if err := stored.CheckFacts(facts); err != nil {
		return nil, none, faulty(CodeShare, err)
	}
	officers, err := m.joinPieces(t, stored)
	if err != nil {
		officers.Wipe()
		return nil, none, faulty(CodeShare, err)
	}
	return stored, officers, nil
}

func shareFacts(k *ledger.Key, h ledger.Holder) share.Facts {
	return share.Facts{Key: k.ID, Epoch: k.Epoch, ShareID: h.Share, Index: h.Index, Modulus: k.Public.N, Version: 1}
}

// joinPieces opens the officers' pieces with the one-time key and joins them.
func (m *Machine) joinPieces(t *agreed, stored *share.Stored) (threshold.Secret, error) {
	var pieces []share.Piece
	defer func() {
		for _, p := range pieces {
			p.Wipe()
		}
	}()
	owner := map[uint64]string{}
	for _, q := range t.quorum.Pieces() {
		if q.Device != m.cfg.Local.ID || q.Offer != t.offer.digest {
			continue
		}
		about := PieceContext(t.digest, t.offer.digest, m.cfg.Local.ID, t.holder.Share, q.Piece, q.Officer)
		p, err := share.OpenPieceFromOffer(t.offer.key, about, q.Sealed)
		if err != nil {
			return threshold.Secret{}, fmt.Errorf("the piece of %s: %w", q.Person, err)
		}
		pieces = append(pieces, p)
		if other, ok := owner[p.Index]; ok {
			return threshold.Secret{}, fmt.Errorf("%s and %s handed in the same piece, number %d", other, q.Person, p.Index)
		}
		owner[p.Index] = q.Person
	}
	if uint64(len(pieces)) < t.holder.Threshold {
		return threshold.Secret{}, refuse(CodeOffer, "%d pieces are sealed to this device's one-time key, %d are needed: "+
			"the device restarted since some officers approved; ask them again", len(pieces), t.holder.Threshold)
	}
	key, wrong, err := stored.RecoverOfficersKey(int(t.holder.Threshold), pieces)
	if len(wrong) > 0 {
		key.Wipe()
		return threshold.Secret{}, fmt.Errorf("the piece of %s is wrong", owner[wrong[0]])
	}
	return key, err
}

// PieceContext binds an officer's piece to the offer it is sealed for.
func PieceContext(request, offer envelope.Hash, device, shareID, piece string, officer envelope.KeyID) share.OfferContext {
	return share.OfferContext{ID: piece, Purpose: share.PurposeShare, Request: request, Offer: offer, Device: device, Share: shareID, Officer: officer}
}

func (m *Machine) partialBody(t *attempt, y []byte) partialBody {
	return partialBody{
		Request: t.digest, Key: t.key.ID, Epoch: t.key.Epoch, Share: t.holder.Share,
		Order: t.task.Order, Position: t.task.Position,
		Document: envelope.HashOf("privyseal document", t.checked.Digest()),
		Y:        envelope.HashOf("privyseal partial", y), Officers: t.quorum.Officers(),
	}
}

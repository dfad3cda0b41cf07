package firmware

import (
	"crypto/ecdh"
	"maps"
	"slices"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// asked is a request that this device may work on: signed by its requester,
// acceptable as a document, for a key of which this device holds a share.
type asked struct {
	digest  envelope.Hash
	request document.Request
	signer  envelope.KeyID // the requester's key
	checked *document.Checked
	key     ledger.Key
	holder  ledger.Holder
}

// acceptable verifies a request message and everything about its document.
func (m *Machine) acceptable(c *ctx, raw []byte) (*asked, error) {
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, faulty(CodeMessage, err)
	}
	s := m.state.ledger
	h := u.Header()
	id, ok := s.Identity(h.Signer)
	if !ok {
		return nil, refuse(CodeRequest, "the request is signed by key %s, which is nobody's here", h.Signer)
	}
	v, err := u.Verify(id.SignKey)
	if err != nil {
		return nil, faulty(CodeMessage, err)
	}
	if h.System != s.System() {
		return nil, refuse(CodeRequest, "the request is for another system (%s)", h.System)
	}
	if err := m.knows(h.LedgerHead); err != nil {
		return nil, err
	}
	a := &asked{digest: v.Digest(), signer: h.Signer}
	if err := envelope.Decode(v, document.TypeRequest, document.VersionRequest, &a.request); err != nil {
		return nil, faulty(CodeMessage, err)
	}
	if err := requesterIs(id, a.request.Requester); err != nil {
		return nil, err
	}
	// What servers route by is what devices decide by.
	if r := &a.request; h.Key != r.Key || h.Epoch != r.Epoch || h.Created != r.Created || h.Expires != r.Expires {
		return nil, refuse(CodeMessage, "the request's header and payload name different keys, epochs or times")
	}
	if m.state.closed[a.digest] != 0 {
		return nil, refuse(CodeClosed, "request %s is closed: it has its signature", a.digest)
	}
	if a.key, ok = s.Key(a.request.Key); !ok {
		return nil, refuse(CodeRequest, "key %q is not in the ledger", a.request.Key)
	}
	if a.holder, ok = s.HolderOf(a.key.ID, m.cfg.Local.ID); !ok {
		return nil, refuse(CodeShare, "device %s holds no share of key %s", m.cfg.Local.ID, a.key.ID)
	}
	if !slices.Contains(a.request.Route.Devices, m.cfg.Local.ID) {
		return nil, refuse(CodeRequest, "the request's route does not include device %s", m.cfg.Local.ID)
	}
	if a.checked, err = document.CheckIn(s, &a.request, c.Now); err != nil {
		return nil, faulty(requestCode(err), err)
	}
	return a, nil
}

// requesterIs checks that the key that signed a request belongs to the person
// or device that the request names. Any of a person's keys may ask; none of
// them then counts for approval.
func requesterIs(id ledger.Identity, requester string) error {
	switch {
	case id.Owner != requester:
		return refuse(CodeRequest, "the request names %s as requester, but %s %s signed it", document.Escape(requester), id.Kind, id.Owner)
	case id.Use != ledger.UseSign && id.Use != ledger.UseSoftware:
		return refuse(CodeRequest, "the request is signed with a key for %s", id.Use)
	case id.Kind != ledger.OwnerPerson && id.Kind != ledger.OwnerDevice:
		return refuse(CodeRequest, "a %s is no requester", id.Kind)
	}
	return nil
}

// knows refuses to work for somebody who knows a newer ledger: this device has
// to catch up before it makes any partial signature (design.md §4).
func (m *Machine) knows(head envelope.Hash) error {
	if head.IsZero() {
		return nil
	}
	if _, ok := m.state.ledger.Knows(head); !ok {
		return refuse(CodeLedger, "the message was made under ledger head %s, which this device does not know: hand it the newer entries first", head)
	}
	return nil
}

// offerAsk makes a one-time key for a request, or repeats the offer in force.
func (m *Machine) offerAsk(c *ctx, v *envelope.Verified) (string, any, error) {
	if m.Phase() != PhaseReady {
		return "", nil, m.wrongPhase()
	}
	if err := m.leased(c); err != nil {
		return "", nil, err
	}
	var in OfferAsk
	if err := envelope.Decode(v, TypeOfferAsk, MessageVersion, &in); err != nil {
		return "", nil, faulty(CodeMessage, err)
	}
	a, err := m.acceptable(c, in.Request)
	if err != nil {
		return "", nil, err
	}
	k := offerKey{a.digest, a.holder.Share}
	if o, ok := m.offers[k]; ok && o.expires > c.Now {
		return TypeOffered, m.offered(o, a.holder.Share), nil
	}
	dealing, err := m.inForce(a)
	if err != nil {
		return "", nil, err
	}
	if len(m.offers) >= maxOffers {
		return "", nil, refuse(CodeOffer, "%d requests are open at this device; let some finish or expire", len(m.offers))
	}
	if n := m.offersOf(a.request.Requester); n >= maxOffersOfOne {
		return "", nil, refuse(CodeOffer, "%d requests by %s are open at this device; let some finish or expire", n, a.request.Requester)
	}
	key, err := ecdh.P256().GenerateKey(c.Rand)
	if err != nil {
		return "", nil, faulty(CodeInternal, err)
	}
	expires := min(a.request.Expires, c.Now+approval.MaxOfferLife)
	of := approval.Offer{
		Request: a.digest, Key: a.key.ID, Epoch: a.key.Epoch, Device: m.cfg.Local.ID, Share: a.holder.Share,
		Instance: m.cfg.Local.Instance, Public: key.PublicKey().Bytes(), Created: c.Now, Expires: expires,
	}
	if m.policy() != nil {
		if err := m.instance.Prove(c.Rand, &of, m.enrolment); err != nil {
			return "", nil, faulty(CodeInternal, err)
		}
	}
	raw, err := approval.NewOffer(c.Rand, m.cfg.Local.Sign, m.state.ledger, of, c.asked.ID)
	if err != nil {
		return "", nil, faulty(CodeInternal, err)
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return "", nil, faulty(CodeInternal, err)
	}
	// The digest of a message that this token has just signed.
	o := &offer{key: key, digest: u.UnverifiedDigest(), raw: raw, expires: expires, owner: a.request.Requester, dealing: dealing}
	m.offers[k] = o
	return TypeOffered, m.offered(o, a.holder.Share), nil
}

// inForce finds the dealing of the share that new work begins with: zero for a
// share of the ceremony.
func (m *Machine) inForce(a *asked) (envelope.Hash, error) {
	if a.key.Scheme != threshold.TwoLayer {
		return envelope.Hash{}, nil
	}
	d := m.state.dealtAs(a.key.ID, a.holder)
	if d == nil {
		return envelope.Hash{}, refuse(CodeShare, "version %d of share %s, which the ledger names, was not installed in device %s: let the distributor deal it again, as version %d",
			version(a.holder), a.holder.Share, m.cfg.Local.ID, version(a.holder)+1)
	}
	return d.Dealing, nil
}

func (m *Machine) offered(o *offer, shareID string) *Offered {
	if d := m.state.dealtBy(o.dealing); d != nil {
		return &Offered{Offer: o.raw, Pieces: d.Pieces}
	}
	return &Offered{Offer: o.raw, Pieces: m.state.piecesFor(share.PurposeShare, shareID)}
}

func (m *Machine) offersOf(requester string) (n int) {
	for _, o := range m.offers {
		if o.owner == requester {
			n++
		}
	}
	return n
}

// dropOffers erases one-time keys. Go's ecdh.PrivateKey has no wipe: the
// reference is dropped and the memory left to the collector, which
// docs/threat-model.md says.
func (m *Machine) dropOffers(which func(offerKey, *offer) bool) {
	maps.DeleteFunc(m.offers, which)
	maps.DeleteFunc(m.checks, func(k offerKey, _ *check) bool { _, ok := m.offers[k]; return !ok })
}

// close ends a request: its final signature verifies, so nobody needs another
// partial for it.
func (m *Machine) close(c *ctx, in Close) (*Closed, error) {
	a, err := m.acceptable(c, in.Request)
	if err != nil {
		if codeOf(err) == CodeClosed {
			return m.closedAlready(in)
		}
		return nil, err
	}
	if _, err := a.checked.AssembleAll(in.Signatures); err != nil {
		return nil, faulty(CodeMessage, err)
	}
	if err := c.add(recClosed, closedBody{Request: a.digest, Expires: a.request.Expires}); err != nil {
		return nil, err
	}
	m.dropOffers(func(k offerKey, _ *offer) bool { return k.request == a.digest })
	return &Closed{Request: a.digest}, nil
}

func (m *Machine) closedAlready(in Close) (*Closed, error) {
	u, err := envelope.Parse(in.Request)
	if err != nil {
		return nil, faulty(CodeMessage, err)
	}
	return &Closed{Request: u.UnverifiedDigest()}, nil
}

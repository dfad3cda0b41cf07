package firmware

import (
	"crypto/ecdh"
	"maps"
	"slices"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// offerAsk makes a one-time key for a request, or repeats the offer in force. It
// makes another where a revision has brought officers who have no piece of the
// share that the offer is for: the request would wait for them until the offer
// ends. What others have approved for it they approve again.
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
		if !m.outgrown(c, a, o) {
			m.verified.keep(a)
			return TypeOffered, m.offered(o, a.holder.Share), nil
		}
		delete(m.offers, k)
		m.forsake()
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
	m.verified.keep(a)
	return TypeOffered, m.offered(o, a.holder.Share), nil
}

// outgrown reports whether an officer of today has no piece of the dealt share
// that an offer is for, and the one in force has another.
func (m *Machine) outgrown(c *ctx, a *asked, o *offer) bool {
	now := m.state.dealtAs(a.key.ID, a.holder)
	if o.dealing.IsZero() || now == nil || now.Dealing == o.dealing {
		return false
	}
	s, then := m.state.ledger, m.state.dealtBy(o.dealing)
	return then == nil || slices.ContainsFunc(s.OfficersFor(a.key.ID, m.cfg.Local.ID, c.Now), func(row ledger.Officer) bool {
		return !slices.ContainsFunc(then.Pieces, func(p ceremony.SealedPiece) bool {
			person, card, ok := s.PersonOfKey(p.Card)
			return ok && person.ID == row.Person && card.Serial == row.Card
		})
	})
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

// dropOffers erases one-time keys, and the share in use that one of them opened.
// Go's ecdh.PrivateKey has no wipe: the reference is dropped and the memory left
// to the collector, which docs/threat-model.md says.
func (m *Machine) dropOffers(which func(offerKey, *offer) bool) {
	maps.DeleteFunc(m.offers, func(k offerKey, o *offer) bool {
		if !which(k, o) {
			return false
		}
		m.verified.drop(k.request)
		return true
	})
	maps.DeleteFunc(m.checks, func(k offerKey, _ *check) bool { _, ok := m.offers[k]; return !ok })
	m.forsake()
}

// close ends a request: its final signatures verify, so nobody needs another
// partial for it. That is all that the device has to know, and for that it
// compares with the encoded messages that it made itself. What people get is
// verified as certificates, by a second reader, at the output and at the client.
func (m *Machine) close(c *ctx, in Close) (*Closed, error) {
	a, err := m.acceptable(c, in.Request)
	if err != nil {
		if codeOf(err) == CodeClosed {
			return m.closedAlready(in)
		}
		return nil, err
	}
	if err := m.verifyAll(a, in.Signatures); err != nil {
		return nil, err
	}
	if err := c.add(recClosed, closedBody{Request: a.digest, Expires: a.request.Expires}); err != nil {
		return nil, err
	}
	m.dropOffers(func(k offerKey, _ *offer) bool { return k.request == a.digest })
	return &Closed{Request: a.digest}, nil
}

// verifyAll verifies the final signatures of a request, one for each document.
func (m *Machine) verifyAll(a *asked, signatures [][]byte) error {
	messages, err := a.checked.EncodedMessages(a.digest)
	if err != nil {
		return faulty(CodeRequest, err)
	}
	v, err := a.key.verifier()
	if err != nil {
		return faulty(CodeInternal, err)
	}
	return faulty(CodeMessage, v.VerifyAll(messages, signatures))
}

func (m *Machine) closedAlready(in Close) (*Closed, error) {
	u, err := envelope.Parse(in.Request)
	if err != nil {
		return nil, faulty(CodeMessage, err)
	}
	return &Closed{Request: u.UnverifiedDigest()}, nil
}

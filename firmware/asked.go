package firmware

import (
	"slices"

	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// asked is a request that this device may work on: signed by its requester,
// acceptable as a document, for a key of which this device holds a share.
type asked struct {
	digest  envelope.Hash
	request document.Request  // without its documents
	signer  envelope.KeyID    // the requester's key
	checked *document.Checked // bare
	key     *masterKey
	holder  ledger.Holder

	head   envelope.Hash // of the ledger that all of this is by
	octets int           // of the message
}

// acceptable verifies a request message and everything about its document, or
// finds that it did. The digest covers the header and the payload: a message that
// has it is that request, whatever signature it came with.
func (m *Machine) acceptable(c *ctx, raw []byte) (*asked, error) {
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, faulty(CodeMessage, err)
	}
	if err := m.knows(u.Header().LedgerHead); err != nil {
		return nil, err
	}
	digest := u.UnverifiedDigest()
	if err := m.isOpen(digest); err != nil {
		return nil, err
	}
	if a := m.verified.find(digest, m.state.ledger.Head(), c.Now); a != nil {
		return a, nil
	}
	return m.verify(c, u)
}

func (m *Machine) isOpen(request envelope.Hash) error {
	if m.state.closed[request] != 0 {
		return refuse(CodeClosed, "request %s is closed: it has its signature", request)
	}
	return nil
}

// verify does all of it.
func (m *Machine) verify(c *ctx, u *envelope.Unverified) (*asked, error) {
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
	a := &asked{digest: v.Digest(), signer: h.Signer, head: s.Head(), octets: len(u.Raw())}
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
	if a.key, ok = m.masters.get(s, a.request.Key); !ok {
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
	// The documents have done their part. What was decoded of a batch takes up to
	// sixteen times the octets of its message.
	a.checked = a.checked.Bare()
	a.request.Document, a.request.CSR, a.request.Batch = nil, nil, nil
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

// verified are requests that this device found acceptable, while it has one-time
// keys for them. Each task of a request, and its closing, bring it again as a
// whole, and a batch is long.
type verified struct {
	requests map[envelope.Hash]*asked
	oldest   []envelope.Hash // first
	octets   int             // of their messages, and verifiedCost for each
}

// find returns a request of which the check would find the same: by the same
// tables, and before it might end otherwise.
func (v *verified) find(digest, head envelope.Hash, now int64) *asked {
	a := v.requests[digest]
	if a == nil || a.head != head || now >= a.checked.HoldsUntil() {
		return nil
	}
	return a
}

// keep adds a request for which there is a one-time key. The oldest make room: they
// are verified anew when they come again.
func (v *verified) keep(a *asked) {
	if v.requests[a.digest] == a || a.checked.HoldsUntil() == 0 {
		return
	}
	v.drop(a.digest)
	if v.requests == nil {
		v.requests = map[envelope.Hash]*asked{}
	}
	v.requests[a.digest] = a
	v.oldest = append(v.oldest, a.digest)
	v.octets += a.octets + verifiedCost
	for v.octets > maxVerified {
		v.drop(v.oldest[0])
	}
}

func (v *verified) drop(digest envelope.Hash) {
	a := v.requests[digest]
	if a == nil {
		return
	}
	delete(v.requests, digest)
	v.oldest = slices.DeleteFunc(v.oldest, func(d envelope.Hash) bool { return d == digest })
	v.octets -= a.octets + verifiedCost
}

// masterKey is a key of the ledger: its row, and what verifies its signatures.
type masterKey struct {
	ledger.Key
	signatures *threshold.Verifier // nil until it is needed
}

// verifier verifies bare signatures by the key.
func (k *masterKey) verifier() (_ *threshold.Verifier, err error) {
	if k.signatures == nil {
		k.signatures, err = threshold.NewVerifier(&k.Public)
	}
	return k.signatures, err
}

// masterKeys are copies of the rows of keys under one ledger head. A row is long:
// all requests have the same copy, which nobody changes.
type masterKeys struct {
	head envelope.Hash
	keys map[string]*masterKey
}

func (m *masterKeys) get(s ledger.State, id string) (*masterKey, bool) {
	if m.keys == nil || m.head != s.Head() {
		m.head, m.keys = s.Head(), map[string]*masterKey{}
	}
	if k := m.keys[id]; k != nil {
		return k, true
	}
	row, ok := s.Key(id)
	if !ok {
		return nil, false
	}
	m.keys[id] = &masterKey{Key: row}
	return m.keys[id], true
}

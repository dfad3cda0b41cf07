package approval

import (
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Request is what this package needs to know of a request, which the caller has verified.
type Request struct {
	// Digest of the request message (envelope.Verified.Digest).
	Digest envelope.Hash
	// Key and Epoch it names.
	Key   string
	Epoch uint64
	// Requester is the person or device it names, Signer the key that signed it.
	Requester string
	Signer    envelope.KeyID
	// Created and Expires bound its life.
	Created, Expires int64
}

// Verified is an approval that counts, given by an officer of the device for the request. Only [Verify] makes one.
type Verified struct {
	approval Approval
	person   ledger.Person
	card     uint32
	signer   envelope.KeyID
	digest   envelope.Hash
}

// Approval is the payload. Its slices are shared: do not write to them.
func (v *Verified) Approval() Approval { return v.approval }

// Person is the id of the officer.
func (v *Verified) Person() string { return v.person.ID }

// Name is the officer's name, for people.
func (v *Verified) Name() string { return v.person.Name }

// Digest is the digest of the approval message, for logs.
func (v *Verified) Digest() envelope.Hash { return v.digest }

// Verify checks one approval, raw COSE_Sign1, for a request at a device, at now (Unix seconds). Servers use it to sort out early what
// a device would refuse. It does not look at what comes before in a chain.
//
// Errors, in the order of the checks: those of envelope; *UnknownSignerError, *FormError, *MismatchError (system),
// *WrongSignerError, *RequesterApprovedError, *WrongDeviceError, *NotOfficerError, *OfficerExpiredError, *WrongRequestError,
// *MismatchError, *ExpiredError, *TimeError, *UnknownHeadError, *RejectedError.
func Verify(s ledger.State, req Request, device string, raw []byte, now int64) (*Verified, error) {
	g, err := gateOf(s, req, device, now)
	if err != nil {
		return nil, err
	}
	return g.verify(raw)
}

// gate is one request at one device at one moment.
type gate struct {
	s         ledger.State
	req       Request
	device    string
	now       int64
	holder    ledger.Holder
	requester ledger.Identity
	twoLayer  bool
}

// gateOf refuses a request that no approval can help.
func gateOf(s ledger.State, req Request, device string, now int64) (*gate, error) {
	mismatch := func(field, got, want string) error {
		return &MismatchError{From: "the request", Field: field, Got: got, Want: want}
	}
	key, ok := s.Key(req.Key)
	if !ok {
		return nil, mismatch("key", req.Key, "a key of this system")
	}
	if req.Epoch != key.Epoch {
		return nil, mismatch("epoch", fmt.Sprint(req.Epoch), fmt.Sprint(key.Epoch))
	}
	h, ok := s.HolderOf(req.Key, device)
	if !ok {
		return nil, mismatch("device", device, "a holder of key "+req.Key)
	}
	// Devices may make requests (row A16); then nobody is excluded.
	id, ok := s.Identity(req.Signer)
	if !ok {
		return nil, &UnknownSignerError{Key: req.Signer}
	}
	if id.Owner != req.Requester || req.Requester == "" {
		return nil, mismatch("requester", req.Requester, id.Owner)
	}
	asks := id.Use == ledger.UseSign && (id.Kind == ledger.OwnerPerson || id.Kind == ledger.OwnerDevice) || id.Use == ledger.UseSoftware
	if !asks {
		return nil, &WrongSignerError{Owner: ownerOf(id), Why: "this key makes no requests"}
	}
	if req.Digest.IsZero() {
		return nil, mismatch("digest", req.Digest.String(), "a digest")
	}
	if now >= req.Expires {
		return nil, &ExpiredError{From: "the request", Expired: req.Expires, Now: now}
	}
	return &gate{s: s, req: req, device: device, now: now, holder: h, requester: id, twoLayer: key.Scheme == threshold.TwoLayer}, nil
}

func ownerOf(id ledger.Identity) string {
	return fmt.Sprintf("the %s key of %s %q", id.Use, id.Kind, id.Owner)
}

func (g *gate) verify(raw []byte) (*Verified, error) {
	id, v, err := authenticate(g.s, raw)
	if err != nil {
		return nil, err
	}
	from := "approval by " + ownerOf(id)
	var a Approval
	if err := envelope.Decode(v, TypeApproval, Version, &a); err != nil {
		return nil, err
	}
	if err := a.check(from); err != nil {
		return nil, err
	}
	if err := checkHeader(g.s, from, v.Header(), a.Key, a.Epoch, a.Created, a.Expires); err != nil {
		return nil, err
	}
	person, err := g.checkOfficer(id, &a)
	if err != nil {
		return nil, err
	}
	from = fmt.Sprintf("approval by %s (%s)", person.Name, person.ID)
	if err := g.checkSubject(from, &a); err != nil {
		return nil, err
	}
	if err := checkTimes(from, a.Created, a.Expires, g.now); err != nil {
		return nil, err
	}
	switch {
	case a.Created < g.req.Created-clockSkew:
		return nil, &TimeError{From: from, Why: "was given before the request was made"}
	case a.Created >= g.req.Expires:
		return nil, &TimeError{From: from, Why: "was given after the request had expired"}
	}
	if err := checkHead(g.s, from, v.Header().LedgerHead); err != nil {
		return nil, err
	}
	if a.Decision == Reject {
		return nil, &RejectedError{Person: person.ID, Name: person.Name, Reason: a.Reason}
	}
	return &Verified{approval: a, person: person, card: id.Card, signer: id.ID, digest: v.Digest()}, nil
}

// checkOfficer decides whether the signer is an officer of the device for the key, now, and not the requester.
func (g *gate) checkOfficer(id ledger.Identity, a *Approval) (ledger.Person, error) {
	var nobody ledger.Person
	if id.Kind != ledger.OwnerPerson {
		return nobody, &WrongSignerError{Owner: ownerOf(id), Why: "only officers' cards approve"}
	}
	p, _ := g.s.Person(id.Owner)
	// First of all, so that it is named whatever else is wrong, and before any question of registration: the persons are compared,
	// not the keys or cards.
	if g.requester.Kind == ledger.OwnerPerson && g.requester.Owner == id.Owner {
		return nobody, &RequesterApprovedError{Person: p.ID, Name: p.Name, Card: id.Card}
	}
	if id.Use != ledger.UseSign {
		return nobody, &WrongSignerError{Owner: ownerOf(id), Why: "an approval is signed in slot 9C of a card"}
	}
	// A person may have several rows at a device: one of the genesis and one of each enterprise, each for keys of its own. Only the one for
	// this key counts, with its card and its end; any other serves to say what is wrong.
	var row *ledger.Officer
	var serves []string
	for _, o := range g.s.Registrations(p.ID) {
		if !slices.Contains(serves, o.Device) {
			serves = append(serves, o.Device)
		}
		if o.Device == g.device && (row == nil || slices.Contains(o.Keys, g.req.Key)) {
			row = &o
		}
	}
	notOfficer := func(why string) error {
		return &NotOfficerError{Person: p.ID, Name: p.Name, Device: g.device, Key: g.req.Key, Why: why}
	}
	switch {
	case len(serves) == 0:
		return nobody, notOfficer("is no officer of any device")
	case row == nil || a.Device != g.device:
		return nobody, &WrongDeviceError{Person: p.ID, Name: p.Name, Registered: serves, Approved: a.Device, Want: g.device}
	case !slices.Contains(row.Keys, g.req.Key):
		return nobody, notOfficer("is not registered for this key")
	case row.Card != id.Card:
		return nobody, &WrongSignerError{Owner: ownerOf(id), Why: fmt.Sprintf("card %d is registered at %s, not card %d", row.Card, g.device, id.Card)}
	case g.now >= row.Expires:
		return nobody, &OfficerExpiredError{Person: p.ID, Name: p.Name, Device: g.device, Expired: row.Expires, Now: g.now}
	}
	return p, nil
}

// checkSubject compares what was approved with what is asked.
func (g *gate) checkSubject(from string, a *Approval) error {
	if a.Request != g.req.Digest {
		return &WrongRequestError{From: from, Got: a.Request, Want: g.req.Digest}
	}
	switch {
	case a.Key != g.req.Key:
		return &MismatchError{From: from, Field: "key", Got: a.Key, Want: g.req.Key}
	case a.Epoch != g.req.Epoch:
		return &MismatchError{From: from, Field: "epoch", Got: fmt.Sprint(a.Epoch), Want: fmt.Sprint(g.req.Epoch)}
	case a.Share != g.holder.Share:
		return &MismatchError{From: from, Field: "share", Got: a.Share, Want: g.holder.Share}
	}
	for _, p := range a.Pieces {
		if _, ok := g.s.HolderOf(a.Key, p.Device); !ok {
			return &MismatchError{From: from, Field: "piece's device", Got: p.Device, Want: "a holder of key " + a.Key}
		}
	}
	return nil
}

// authenticate finds the owner of the signing key and checks the signature.
func authenticate(s ledger.State, raw []byte) (ledger.Identity, *envelope.Verified, error) {
	u, err := envelope.Parse(raw)
	if err != nil {
		return ledger.Identity{}, nil, err
	}
	id, ok := s.Identity(u.Header().Signer)
	if !ok {
		return ledger.Identity{}, nil, &UnknownSignerError{Key: u.Header().Signer}
	}
	if id.SignKey == nil {
		return ledger.Identity{}, nil, &WrongSignerError{Owner: ownerOf(id), Why: "an agreement key signs nothing"}
	}
	v, err := u.Verify(id.SignKey)
	if err != nil {
		return ledger.Identity{}, nil, err
	}
	return id, v, nil
}

// checkHeader holds the header to this system and to the payload: what servers route by is what devices decide by.
func checkHeader(s ledger.State, from string, h envelope.Header, key string, epoch uint64, created, expires int64) error {
	switch {
	case h.System != s.System():
		return &MismatchError{From: from, Field: "system", Got: h.System.String(), Want: s.System().String()}
	case h.Key != key || h.Epoch != epoch:
		return &FormError{What: from, Why: "header and payload name different keys or epochs"}
	case h.Created != created || h.Expires != expires:
		return &FormError{What: from, Why: "header and payload name different times"}
	}
	return nil
}

func checkTimes(from string, created, expires, now int64) error {
	switch {
	case now >= expires:
		return &ExpiredError{From: from, Expired: expires, Now: now}
	case created > now+clockSkew:
		return &TimeError{From: from, Why: fmt.Sprintf("is dated %d s in the future: compare the clocks", created-now)}
	}
	return nil
}

// checkHead refuses a signer who knows more of the ledger than this device: what it does not know may be that an officer left.
func checkHead(s ledger.State, from string, head envelope.Hash) error {
	if _, ok := s.Knows(head); !ok {
		return &UnknownHeadError{From: from, Head: head}
	}
	return nil
}

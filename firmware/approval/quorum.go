package approval

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// Quorum says that enough officers of a device approved a request. Only [VerifyChain] and [VerifySet] make one.
type Quorum struct {
	req      Request
	device   string
	share    string
	officers []string
	digests  []envelope.Hash
	pieces   []Piece
}

// Piece is an officer's sealed piece for this device.
type Piece struct {
	SealedPiece
	// Officer is the id of the card's signature key that signed the approval, Person its owner.
	Officer envelope.KeyID
	Person  string
}

// Request is the digest of the request that was approved.
func (q *Quorum) Request() envelope.Hash { return q.req.Digest }

// Key and its epoch.
func (q *Quorum) Key() (id string, epoch uint64) { return q.req.Key, q.req.Epoch }

// Device is the device that may sign.
func (q *Quorum) Device() string { return q.device }

// Share is the id of the share it may use.
func (q *Quorum) Share() string { return q.share }

// Expires is when the request expires: no partial signature is made from then on.
func (q *Quorum) Expires() int64 { return q.req.Expires }

// Officers are the ids of the persons who approved, in the order of signing.
func (q *Quorum) Officers() []string { return slices.Clone(q.officers) }

// Approvals are the digests of their messages, in the same order, for logs.
func (q *Quorum) Approvals() []envelope.Hash { return slices.Clone(q.digests) }

// Pieces are the pieces for this device, one of each officer, in the same order.
func (q *Quorum) Pieces() []Piece { return slices.Clone(q.pieces) }

// VerifySet checks independent approvals (row A2), raw COSE_Sign1 each, in any order. Every one of them must count: what does not is
// refused by name and not passed over, since an appliance that skips what it does not understand hides an attack or a fault.
//
// Errors: those of [Verify]; *ChainError for an approval that was part of a chain, *DuplicateError, *MissingError, *QuorumError.
func VerifySet(s ledger.State, req Request, device string, raws [][]byte, now int64) (*Quorum, error) {
	g, err := gateOf(s, req, device, now)
	if err != nil {
		return nil, err
	}
	if len(raws) > MaxApprovals {
		return nil, &FormError{What: "set of approvals", Why: fmt.Sprintf("has %d, at most %d", len(raws), MaxApprovals)}
	}
	var all []*Verified
	for _, raw := range raws {
		v, err := g.verify(raw)
		if err != nil {
			return nil, err
		}
		if len(v.approval.Prior) != 0 {
			return nil, &ChainError{Why: "was signed over another message: it belongs in a chain, not in a set"}
		}
		all = append(all, v)
	}
	return g.count(all)
}

// VerifyChain checks a chain of approvals (row A14) by its outermost message, which holds all before it: each officer signed over the
// raw bytes of the one before, and the first over base. base is the raw partial signature message of the device before, which the
// caller verifies, or empty for the first device.
//
// Errors: those of [Verify]; *ChainError, *DuplicateError, *MissingError, *QuorumError.
func VerifyChain(s ledger.State, req Request, device string, raw, base []byte, now int64) (*Quorum, error) {
	g, err := gateOf(s, req, device, now)
	if err != nil {
		return nil, err
	}
	if g.twoLayer {
		return nil, &ChainError{Why: "is for a key in two layers, whose machines work at the same time: its officers approve as a set"}
	}
	var all []*Verified
	// len(rest) falls with every step, and the length of a chain is bounded by what can verify: each officer once.
	for rest := raw; !bytes.Equal(rest, base); {
		depth := len(all)
		switch {
		case len(rest) == 0:
			return nil, &ChainError{Depth: depth, Why: "begins without the partial signature it must follow"}
		case depth >= MaxApprovals:
			return nil, &ChainError{Depth: depth, Why: fmt.Sprintf("is longer than %d approvals", MaxApprovals)}
		}
		u, err := envelope.Parse(rest)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", &ChainError{Depth: depth, Why: "is not a message"}, err)
		}
		if typ := u.Header().Type; typ != TypeApproval {
			return nil, &ChainError{Depth: depth, Why: fmt.Sprintf("is a message of type %.32q, and not the one this chain must follow", typ)}
		}
		v, err := g.verify(rest)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
		rest = v.approval.Prior
	}
	slices.Reverse(all) // into the order of signing
	return g.count(all)
}

// count decides on approvals that were verified one by one.
func (g *gate) count(all []*Verified) (*Quorum, error) {
	// The ledger refuses such quorums; but a gate that hangs on one check alone has been found open elsewhere.
	if g.holder.Quorum < ledger.MinQuorum {
		return nil, &QuorumError{Device: g.device, Key: g.req.Key, Quorum: g.holder.Quorum}
	}
	q := &Quorum{req: g.req, device: g.device, share: g.holder.Share}
	for _, v := range all {
		if slices.Contains(q.officers, v.person.ID) {
			return nil, &DuplicateError{Person: v.person.ID, Name: v.person.Name}
		}
		q.officers = append(q.officers, v.person.ID)
		q.digests = append(q.digests, v.digest)
		for _, p := range v.approval.Pieces {
			if p.Device == g.device {
				p.Sealed = bytes.Clone(p.Sealed)
				q.pieces = append(q.pieces, Piece{SealedPiece: p, Officer: v.signer, Person: v.person.ID})
			}
		}
	}
	if uint64(len(q.officers)) < g.holder.Quorum {
		e := &MissingError{Device: g.device, Need: int(g.holder.Quorum), Have: len(q.officers)}
		for _, o := range g.s.OfficersFor(g.req.Key, g.device, g.now) {
			if slices.Contains(q.officers, o.Person) || o.Person == g.req.Requester {
				continue
			}
			p, _ := g.s.Person(o.Person)
			e.Missing = append(e.Missing, p.Name)
		}
		return nil, e
	}
	return q, nil
}

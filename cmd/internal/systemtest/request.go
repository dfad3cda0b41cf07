package systemtest

import (
	"crypto"
	"crypto/rand"
	"slices"

	"github.com/privyseal/privyseal/cmd/internal/profile"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Request is a request as its requester signed it.
type Request struct {
	document.Request
	Raw    []byte
	Digest envelope.Hash
}

func (r *Request) chain() bool { return r.Route.Approvals == document.ApprovalsChain }

// Wish alters a request before it is filled in and signed.
type Wish func(*document.Request)

// Chain asks for approvals in a chain; without it they are a set.
func Chain(r *document.Request) { r.Route.Approvals = document.ApprovalsChain }

// With asks for an algorithm; without it, RS256.
func With(a threshold.Algorithm) Wish { return func(r *document.Request) { r.Algorithm = a } }

// Via names the devices of the route; without it, all.
func Via(devices ...string) Wish { return func(r *document.Request) { r.Route.Devices = devices } }

// Request signs a request by a person's first card. What is missing in r is
// filled in; nothing is checked.
func (s *System) Request(person string, r document.Request, wishes ...Wish) *Request {
	s.t.Helper()
	var signer crypto.Signer = s.Robot
	if cards := s.People[person]; len(cards) > 0 {
		signer = cards[0]
	}
	return s.RequestBy(signer, person, r, wishes...)
}

// RequestBy is Request signed with any key.
func (s *System) RequestBy(signer crypto.Signer, person string, r document.Request, wishes ...Wish) *Request {
	s.t.Helper()
	r.Requester, r.Epoch = person, 1
	for _, w := range wishes {
		w(&r)
	}
	now := s.Now().Unix()
	if r.Algorithm == "" {
		r.Algorithm = threshold.RS256
	}
	if r.Route.Mode == "" {
		r.Route.Mode = document.ModeSequential
		if s.Key(r.Key).Scheme == threshold.Additive {
			r.Route.Mode = document.ModeParallel
		}
	}
	if r.Route.Approvals == "" {
		r.Route.Approvals = document.ApprovalsSet
	}
	if r.Route.Devices == nil {
		r.Route.Devices = Devices
	}
	if r.Created == 0 {
		r.Created = now
	}
	if r.Expires == 0 {
		r.Expires = r.Created + 24*3600
	}
	if r.Nonce == ([16]byte{}) {
		s.must(rand.Read(r.Nonce[:]))
	}
	body, err := envelope.Marshal(r)
	s.check(err)
	raw, err := envelope.Sign(rand.Reader, signer, envelope.Header{
		Type: document.TypeRequest, Version: document.VersionRequest, System: s.State.System(), LedgerHead: s.State.Head(),
		Key: r.Key, Epoch: r.Epoch, Created: r.Created, Expires: r.Expires,
	}, body)
	s.check(err)
	u, err := envelope.Parse(raw)
	s.check(err)
	return &Request{Request: r, Raw: raw, Digest: u.UnverifiedDigest()}
}

// File asks for a signature of a file by a key of that family.
func (s *System) File(key string, content []byte, wishes ...Wish) *Request {
	s.t.Helper()
	return s.Request(Requester, FileOf(key, content), wishes...)
}

// FileOf is the request for a file, not filled in.
func FileOf(key string, content []byte) document.Request {
	return document.Request{Key: key, Kind: document.KindFile, Document: content, Name: "release.tar", Size: uint64(len(content))}
}

// Certificate asks for a certificate for a PKCS#10 request in DER.
func (s *System) Certificate(csr []byte, wishes ...Wish) *Request {
	s.t.Helper()
	r := document.Request{Key: Certs, Kind: document.KindCertificate, Algorithm: threshold.RS256, CSR: csr}
	for _, w := range wishes {
		w(&r)
	}
	p, err := profile.Find("server")
	s.check(err)
	b, err := profile.Build(csr, p, s.Key(Certs).Certificate, profile.Options{
		Days: 90, Algorithm: r.Algorithm, Now: s.Now(), Random: rand.Reader,
	})
	s.check(err)
	r.Document = b.TBS
	return s.Request(Requester, r, wishes...)
}

// Check does what a device and an officer's workstation do with a request.
func (s *System) Check(r *Request) *document.Checked {
	s.t.Helper()
	c, err := document.CheckIn(s.State, &r.Request, s.Now().Unix())
	s.check(err)
	return c
}

// Task is what a device is asked at one place of an order.
func (r *Request) Task(offer *Offer, approvals [][]byte, order []uint64, position int, prior ...[]byte) firmware.Task {
	return firmware.Task{
		Request: r.Raw, Offer: offer.Raw, Approvals: approvals, Order: order, Position: uint64(position), Prior: prior,
	}
}

// Do sends a task and returns the partial signature with its raw message.
func (s *System) Do(device string, t firmware.Task) (*firmware.Partial, []byte, error) {
	s.t.Helper()
	return Ask[firmware.Partial](s, device, firmware.TypeTask, t, firmware.TypePartial)
}

// Part has one device make its partial signature, with approvals by all its
// officers.
func (s *System) Part(r *Request, order []uint64, position int, prior ...[]byte) (*firmware.Partial, []byte, error) {
	s.t.Helper()
	device := s.Key(r.Key).Holders[order[position]-1].Device
	offer, err := s.Offer(device, r)
	if err != nil {
		return nil, nil, err
	}
	var base []byte
	if len(prior) > 0 {
		base = prior[len(prior)-1]
	}
	return s.Do(device, r.Task(offer, s.Approvals(r, offer, base), order, position, prior...))
}

// Partials has all devices of an order make theirs.
func (s *System) Partials(r *Request, order ...uint64) ([]*firmware.Partial, error) {
	s.t.Helper()
	var out []*firmware.Partial
	var prior [][]byte
	for i := range order {
		p, raw, err := s.Part(r, order, i, prior...)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
		if r.Route.Mode == document.ModeSequential {
			prior = append(prior, raw)
		}
	}
	return out, nil
}

// Combine makes the final signature of an order's partial signatures.
func (s *System) Combine(r *Request, partials []*firmware.Partial) ([]byte, error) {
	s.t.Helper()
	key, digest := s.Key(r.Key), s.Check(r).Digest()
	if key.Scheme == threshold.Multiplicative {
		return threshold.FinishSequentialVarTime(&key.Public, r.Algorithm, digest, partials[len(partials)-1].Y)
	}
	var in []threshold.PartialSignature
	for _, p := range partials {
		subset, err := threshold.SubsetOf(p.Order...)
		s.check(err)
		in = append(in, threshold.PartialSignature{Index: p.Index, Share: p.Share, Subset: subset, Value: p.Y, Proof: p.Proof})
	}
	return threshold.CombineAdditiveVarTime(&key.Public, r.Algorithm, digest, in)
}

// Sign brings a request through the devices of an order, with approvals by all
// their officers, and returns the final signature, |N| bytes.
func (s *System) Sign(r *Request, order ...uint64) ([]byte, error) {
	s.t.Helper()
	partials, err := s.Partials(r, order...)
	if err != nil {
		return nil, err
	}
	return s.Combine(r, partials)
}

// MustSign is Sign for what should succeed.
func (s *System) MustSign(r *Request, order ...uint64) []byte {
	s.t.Helper()
	sig, err := s.Sign(r, order...)
	s.check(err)
	return sig
}

// Close tells a device that a request has its signature.
func (s *System) Close(device string, r *Request, signature []byte) error {
	s.t.Helper()
	_, err := s.Send(device, firmware.TypeClose, firmware.Close{Request: r.Raw, Signatures: [][]byte{signature}})
	return err
}

// Subsets are the orders, ascending, of all subsets that can sign with a key.
func (s *System) Subsets(key string) [][]uint64 {
	s.t.Helper()
	var out [][]uint64
	for _, x := range s.Key(key).Split().Subsets() {
		out = append(out, x.Indices())
	}
	return out
}

// Orders are all orders of the given indices.
func Orders(indices ...uint64) [][]uint64 {
	if len(indices) < 2 {
		return [][]uint64{indices}
	}
	var out [][]uint64
	for i, x := range indices {
		for _, rest := range Orders(slices.Delete(slices.Clone(indices), i, i+1)...) {
			out = append(out, append([]uint64{x}, rest...))
		}
	}
	return out
}

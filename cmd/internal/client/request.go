package client

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/profile"
	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Wish is what a requester wants signed. Zero values mean: the key's first
// algorithm, its holders in their order, the form of approval "set".
type Wish struct {
	Key       string
	Algorithm threshold.Algorithm
	Kind      string // document.KindCertificate, KindCertificates, KindFile or KindDigest

	CSR     []byte   // DER; KindCertificate
	CSRs    [][]byte // DER; KindCertificates
	Names   []string // what the requester calls each of CSRs; none, or one each
	Profile profile.Profile
	Days    uint64 // 0: the profile's

	Name string // of the file, without directories
	File []byte // its content, KindFile
	Size uint64 // KindDigest
	// Digest by the algorithm's hash, KindDigest.
	Digest []byte

	Approvals string
	Devices   []string
	Comment   string
	Lifetime  int64 // seconds, api.MinLifetime at least
}

// Signed is a request signed by its requester.
type Signed struct {
	Request document.Request
	Checked *document.Checked
	Digest  envelope.Hash // its name from now on
	Raw     []byte        // COSE_Sign1
	Server  string        // id of the server that coordinates it
	// Notes say where a certificate differs from its CSR: of each, if it is a batch.
	Notes []string
	// Names are what the requester calls each certificate of a batch, or none.
	// They stay with him.
	Names []string
}

// Requester names the person or device that a signature key belongs to. as, if
// not empty, must be that one.
func Requester(s ledger.State, pub crypto.PublicKey, as string) (ledger.Identity, error) {
	id, err := envelope.KeyIDOf(pub)
	if err != nil {
		return ledger.Identity{}, err
	}
	who, ok := s.Identity(id)
	switch {
	case !ok:
		return who, fmt.Errorf("the key %s is nobody's in system %q: have it registered", id, s.Name())
	case who.Kind != ledger.OwnerPerson || who.Use != ledger.UseSign && who.Use != ledger.UseSoftware:
		return who, fmt.Errorf("the %s key of %s %s makes no requests", who.Use, who.Kind, who.Owner)
	case as != "" && as != who.Owner:
		return who, fmt.Errorf("the key belongs to %s, not to %s", who.Owner, as)
	}
	return who, nil
}

// NewRequest makes a request, checks it as devices will, and signs it. server
// is where it will be sent.
func NewRequest(rand io.Reader, s ledger.State, signer crypto.Signer, w Wish, server ledger.Server, now int64) (*Signed, error) {
	who, err := Requester(s, signer.Public(), "")
	if err != nil {
		return nil, err
	}
	key, ok := s.Key(w.Key)
	if !ok {
		return nil, unknownKey(s, w.Key)
	}
	if err := CheckLifetime(w.Lifetime); err != nil {
		return nil, err
	}
	out := &Signed{Server: server.ID}
	r := &out.Request
	*r = document.Request{
		Key: key.ID, Epoch: key.Epoch, Algorithm: w.Algorithm, Kind: w.Kind,
		Route:     document.RouteTo(&key, w.Approvals),
		Requester: who.Owner, Created: now, Expires: now + w.Lifetime, Comment: w.Comment,
	}
	if r.Route.Approvals == "" {
		r.Route.Approvals = document.ApprovalsSet
	}
	if len(w.Devices) > 0 {
		r.Route.Devices = slices.Clone(w.Devices)
	}
	if r.Algorithm == "" && len(key.Algorithms) > 0 {
		r.Algorithm = threshold.Algorithm(key.Algorithms[0])
	}
	if r.Nonce, err = envelope.NewID(rand); err != nil {
		return nil, err
	}
	switch w.Kind {
	case document.KindCertificate:
		built, err := w.build(rand, &key, r.Algorithm, w.CSR, now)
		if err != nil {
			return nil, err
		}
		r.Document, r.CSR, out.Notes = built.TBS, built.CSR, built.Notes
	case document.KindCertificates:
		if out.Names, err = w.names(); err != nil {
			return nil, err
		}
		for i, csr := range w.CSRs {
			built, err := w.build(rand, &key, r.Algorithm, csr, now)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w.nameOf(i), err)
			}
			r.Batch = append(r.Batch, document.Draft{Document: built.TBS, CSR: built.CSR})
			for _, note := range built.Notes {
				out.Notes = append(out.Notes, fmt.Sprintf("%s: %s", w.nameOf(i), note))
			}
		}
	case document.KindFile:
		if err := checkSecret(w.Name, w.File); err != nil {
			return nil, err
		}
		r.Name, r.Size, r.Document = w.Name, uint64(len(w.File)), w.File
	case document.KindDigest:
		r.Name, r.Size, r.Digest = w.Name, w.Size, w.Digest
	default:
		return nil, fmt.Errorf("requests of kind %q are not made here", w.Kind)
	}
	// Devices will check this again; whoever asks should not have to wait for
	// their no.
	if out.Checked, err = document.CheckIn(s, r, now); err != nil {
		return nil, w.culprit(err)
	}
	payload, err := envelope.Marshal(r)
	if err != nil {
		return nil, err
	}
	out.Raw, err = envelope.Sign(rand, signer, envelope.Header{
		Type: document.TypeRequest, Version: document.VersionRequest, System: s.System(),
		Key: r.Key, Epoch: r.Epoch, LedgerHead: s.Head(), Created: r.Created, Expires: r.Expires,
	}, payload)
	if err != nil {
		return nil, err
	}
	u, err := envelope.Parse(out.Raw)
	if err != nil {
		return nil, err
	}
	out.Digest = u.UnverifiedDigest() // of what was just signed
	return out, nil
}

// CheckLifetime refuses requests, before anybody is asked, that nobody has time to
// approve.
func CheckLifetime(seconds int64) error {
	if seconds >= api.MinLifetime {
		return nil
	}
	return fmt.Errorf("a request that expires after %d s leaves no time to approve it: let it expire after %d s at least", seconds, api.MinLifetime)
}

func unknownKey(s ledger.State, id string) error {
	var names []string
	for _, k := range s.Keys() {
		if k.Family != ledger.FamilyLedger {
			names = append(names, fmt.Sprintf("%s (%s)", k.ID, k.Family))
		}
	}
	return fmt.Errorf("there is no key %q; there are %s", document.Escape(id), strings.Join(names, ", "))
}

// Send hands a request to the server that shall coordinate it.
func (c *Conn) Send(ctx context.Context, rand io.Reader, s ledger.State, r *Signed) error {
	to, err := agreementKey(s, r.Server)
	if err != nil {
		return err
	}
	sealed, err := envelope.Seal(rand, r.Raw, []*ecdh.PublicKey{to})
	if err != nil {
		return err
	}
	var out api.Accepted
	if err := c.ask(ctx, api.PathRequest, sealed, &out); err != nil {
		return err
	}
	if out.Request != r.Digest {
		return fmt.Errorf("message server %s took request %s for %s", c.name, r.Digest, out.Request)
	}
	return nil
}

// agreementKey is the key that messages to a server are sealed to.
func agreementKey(s ledger.State, server string) (*ecdh.PublicKey, error) {
	srv, ok := s.Server(server)
	if !ok {
		return nil, fmt.Errorf("there is no message server %q", server)
	}
	id, ok := s.Identity(envelope.KeyIDOfSPKI(srv.Agree))
	if !ok || id.AgreeKey == nil {
		return nil, fmt.Errorf("message server %q has no agreement key", server)
	}
	return id.AgreeKey, nil
}

// Result is what [Signed.Results] returns for a request of one document.
func (r *Signed) Result(t *api.Tracking) ([]byte, error) {
	out, err := r.Results(t)
	switch {
	case err != nil:
		return nil, err
	case len(out) != 1:
		return nil, fmt.Errorf("request %s is a batch of %d documents", r.Digest, len(out))
	}
	return out[0], nil
}

// Results verifies the final signature of each document under the public key
// and returns what the requester gets for it: a certificate in DER, or the
// signature. The server's own assembly is not looked at.
func (r *Signed) Results(t *api.Tracking) ([][]byte, error) {
	if t.State != api.StateDone {
		return nil, &UnfinishedError{Tracking: t}
	}
	out, err := r.Checked.AssembleAll(t.Signatures)
	if err != nil {
		return nil, fmt.Errorf("message server %s hands out a wrong signature: %w", r.Server, err)
	}
	return out, nil
}

// An UnfinishedError says why there is no signature, and who is missing.
type UnfinishedError struct{ Tracking *api.Tracking }

func (e *UnfinishedError) Error() string {
	t := e.Tracking
	text := fmt.Sprintf("request %s is %s: %d of %d partial signatures", t.Request.String()[:12], t.State, t.Made, t.Need)
	if t.Text != "" {
		text += "; " + t.Text
	}
	for _, line := range Missing(t) {
		text += "\n" + line
	}
	return text
}

// Missing says, a line for each device that has not signed, who or what is
// missing there.
func Missing(t *api.Tracking) []string {
	var out []string
	for i := range t.Devices {
		d := &t.Devices[i]
		if d.Signed && !d.Wrong {
			continue
		}
		out = append(out, fmt.Sprintf("%s: %s", nameOf(d), Situation(d)))
	}
	return out
}

func nameOf(d *api.DeviceTracking) string {
	if d.Name == "" || d.Name == d.Device {
		return d.Device
	}
	return fmt.Sprintf("%s (%s)", d.Device, d.Name)
}

// Situation is one line on how far a device is.
func Situation(d *api.DeviceTracking) string {
	var parts []string
	switch {
	case d.Wrong && d.Layer > 0:
		parts = append(parts, "was found lying")
	case d.Wrong:
		parts = append(parts, "made a wrong partial signature")
	case d.Signed:
		parts = append(parts, "signed")
	}
	if len(d.Approved) > 0 {
		parts = append(parts, "approved by "+strings.Join(d.Approved, ", "))
	}
	for _, r := range d.Rejected {
		parts = append(parts, fmt.Sprintf("rejected by %s (%s)", r.Name, r.Reason))
	}
	if len(d.Missing) > 0 && !d.Signed {
		more := int(d.Need) - len(d.Approved)
		if more == len(d.Missing) || more <= 0 {
			parts = append(parts, "missing: "+strings.Join(d.Missing, ", "))
		} else {
			parts = append(parts, fmt.Sprintf("missing: %d of %s", more, strings.Join(d.Missing, ", ")))
		}
	}
	if !d.Wrong && !d.Signed && len(d.Rejected) == 0 && len(d.Missing) == 0 && uint64(len(d.Approved)) < d.Need {
		parts = append(parts, fmt.Sprintf("%d more needed, and nobody is left who may approve there", d.Need-uint64(len(d.Approved))))
	}
	if d.Text != "" {
		parts = append(parts, d.Text)
	} else if !d.Offered && !d.Signed {
		parts = append(parts, "has not answered yet")
	}
	if len(parts) == 0 {
		return "waiting"
	}
	return strings.Join(parts, "; ")
}

// keptRequest is a request as its requester keeps it, to verify what comes
// back. It is public to all who sign it and secret to nobody here.
type keptRequest struct {
	Server string   `cbor:"1,keyasint"`
	Raw    []byte   `cbor:"2,keyasint"`
	Names  []string `cbor:"3,keyasint,omitempty"` // of a batch: Signed.Names
}

func (s *System) requestPath(request envelope.Hash) string {
	return filepath.Join(s.dir, "requests", s.ID().String()[:16], request.String()+".cbor")
}

// Keep stores a request in the home.
func (s *System) Keep(r *Signed) error {
	data, err := envelope.Marshal(&keptRequest{Server: r.Server, Raw: r.Raw, Names: r.Names})
	if err != nil {
		return err
	}
	path := s.requestPath(r.Digest)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return atomicfile.Write(path, data, 0o600)
}

// Kept finds a request that this home made, by its digest or the first digits
// of it. The error is fs.ErrNotExist if there is none.
func (s *System) Kept(digest string) (*Signed, error) {
	path := s.requestPath(envelope.Hash{})
	names, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*.cbor"))
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(filepath.Base(n), digest) })
	switch {
	case len(names) == 0 || !isHex(digest):
		return nil, fmt.Errorf("request %q: %w", document.Escape(digest), fs.ErrNotExist)
	case len(names) > 1:
		return nil, fmt.Errorf("request %q: %d begin so, give more digits", digest, len(names))
	}
	data, err := readFile(names[0], envelope.MaxMessage+1024)
	if err != nil {
		return nil, err
	}
	var k keptRequest
	if err := envelope.Unmarshal(data, &k); err != nil {
		return nil, fmt.Errorf("%s: %w", names[0], err)
	}
	r := &Signed{Server: k.Server, Raw: k.Raw, Names: k.Names}
	v, _, err := verifyRequest(s.state, k.Raw, &r.Request)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", names[0], err)
	}
	r.Digest = v.Digest()
	// As of when it was made: it may have expired since.
	if r.Checked, err = document.CheckIn(s.state, &r.Request, r.Request.Created); err != nil {
		return nil, fmt.Errorf("%s: %w", names[0], err)
	}
	if err := checkNames(r.Names, len(r.Request.Batch)); err != nil {
		return nil, fmt.Errorf("%s: %w", names[0], err)
	}
	return r, nil
}

// verifyRequest checks a request's signature and that its signer is the
// requester it names, and decodes it. The document is for the caller to check.
func verifyRequest(s ledger.State, raw []byte, into *document.Request) (*envelope.Verified, ledger.Identity, error) {
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, ledger.Identity{}, fmt.Errorf("the request: %w", err)
	}
	h := u.Header()
	id, ok := s.Identity(h.Signer)
	if !ok {
		return nil, id, fmt.Errorf("the request is signed by key %s, which this system does not know", h.Signer)
	}
	if id.Kind == ledger.OwnerServer || id.Use != ledger.UseSign && id.Use != ledger.UseSoftware {
		return nil, id, fmt.Errorf("the request is signed with the %s key of %s %s, which makes no requests", id.Use, id.Kind, id.Owner)
	}
	v, err := u.Verify(id.SignKey)
	if err != nil {
		return nil, id, fmt.Errorf("the request: %w", err)
	}
	if err := envelope.Decode(v, document.TypeRequest, document.VersionRequest, into); err != nil {
		return nil, id, fmt.Errorf("the request: %w", err)
	}
	switch {
	case h.System != s.System():
		return nil, id, errors.New("the request is for another system")
	case id.Owner != into.Requester:
		return nil, id, fmt.Errorf("the request names %s as requester, but %s signed it", document.Escape(into.Requester), id.Owner)
	}
	if _, ok := s.Knows(h.LedgerHead); !ok && !h.LedgerHead.IsZero() {
		return nil, id, errors.New("the request was made under a newer ledger than this home has: begin again, the message server has it")
	}
	return v, id, nil
}

func isHex(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) })
}

// publicKey reads a P-256 signature key of the tables.
func publicKey(s ledger.State, spki []byte) (*ecdsa.PublicKey, error) {
	id, ok := s.Identity(envelope.KeyIDOfSPKI(spki))
	if !ok || id.SignKey == nil || len(bytes.TrimSpace(spki)) == 0 {
		return nil, errors.New("the tables hold no such signature key")
	}
	return id.SignKey, nil
}

package document

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// ErrNeedsTables: documents of the ledger family are checked against the
// system's tables: use CheckIn.
var ErrNeedsTables = errors.New("a document of the ledger family is checked against the tables")

// ErrBare: the documents were not kept: see [Checked.Bare].
var ErrBare = errors.New("only what signing takes of the request was kept, not its documents")

// Checked is a document that passed every check a device makes before it
// signs. Only Check, CheckIn and CheckRoot make one.
type Checked struct {
	kind, family string
	algorithm    threshold.Algorithm
	public       threshold.PublicKey
	toBeSigned   []byte // nil for KindDigest
	digest       []byte
	content      *content
	header       func(*View)
	until        int64
	number       uint64     // of a document in its batch, from 1; 0: it is in none
	parts        []*Checked // of a batch
	bare         bool       // see Bare
}

// content is what the check of one kind of document found.
type content struct {
	issuer      *root               // for certificates: who issues
	certificate *certificateContent // for end entities
	signed      []byte              // what is signed, if not the document itself
	digest      []byte              // KindDigest
	view        func(*View)
	// until is from when on the content's own times have the check fail; 0 if that
	// is not known here.
	until int64
}

// Check checks a request and its document for a key of family certificate or
// file, at now (Unix seconds). It is pure. For a key of family ledger it
// returns ErrNeedsTables.
func Check(req *Request, key ledger.Key, now int64) (*Checked, error) {
	if err := req.validate(&key, now); err != nil {
		return nil, err
	}
	var c *content
	var err error
	switch {
	case key.Family == ledger.FamilyCertificate && req.Kind == KindCertificates:
		return checkBatch(req, &key, now)
	case key.Family == ledger.FamilyCertificate && req.Kind == KindCertificate:
		c, err = checkCertificate(req, &key, now)
	case key.Family == ledger.FamilyFile && req.Kind == KindFile:
		c, err = checkFile(req)
	case key.Family == ledger.FamilyFile && req.Kind == KindDigest:
		c, err = checkDigest(req, &key)
	case key.Family == ledger.FamilyLedger && (req.Kind == KindEntry || req.Kind == KindIdentity):
		return nil, ErrNeedsTables
	default:
		err = familyError(req, &key)
	}
	if err != nil {
		return nil, err
	}
	return newCheckedRequest(req, &key, c)
}

// CheckIn does what Check does for a key of any family, with the key and all
// else it needs from the system's tables.
func CheckIn(state ledger.State, req *Request, now int64) (*Checked, error) {
	key, ok := state.Key(req.Key)
	if !ok {
		return nil, fmt.Errorf("%w: key %q is unknown", ErrRequest, Escape(req.Key))
	}
	if key.Scheme == threshold.TwoLayer {
		r := *req
		r.Route.Devices = stillThere(state, &key, req.Route.Devices)
		return Check(&r, key, now)
	}
	if key.Family != ledger.FamilyLedger {
		return Check(req, key, now)
	}
	if err := req.validate(&key, now); err != nil {
		return nil, err
	}
	var c *content
	var err error
	switch req.Kind {
	case KindEntry:
		c, err = checkEntry(state, req, now)
	case KindIdentity:
		c, err = checkIdentity(state, req, &key, now)
	default:
		err = familyError(req, &key)
	}
	if err != nil {
		return nil, err
	}
	return newCheckedRequest(req, &key, c)
}

// stillThere leaves out machines that were taken away since the request was
// made: it does not fail for that if those that remain can sign.
func stillThere(state ledger.State, key *ledger.Key, devices []string) []string {
	return slices.DeleteFunc(slices.Clone(devices), func(id string) bool {
		_, now := state.HolderOf(key.ID, id)
		return !now && state.WasMachine(key.ID, id)
	})
}

func familyError(req *Request, key *ledger.Key) error {
	return fmt.Errorf("%w: key %q is of family %q and does not sign %q", ErrFamily, key.ID, key.Family, Escape(req.Kind))
}

func newCheckedRequest(req *Request, key *ledger.Key, content *content) (*Checked, error) {
	signed := req.Document
	if content.signed != nil {
		signed = content.signed
	}
	c, err := newChecked(signed, req.Algorithm, &key.Public, key.Family, content)
	if err != nil {
		return nil, err
	}
	return c.of(req, key), nil
}

// of adds what the request says besides its documents.
func (c *Checked) of(req *Request, key *ledger.Key) *Checked {
	c.kind = req.Kind
	if c.until != 0 {
		c.until = min(c.until, req.Expires)
	}
	r := *req
	// Not the whole row: it is long, and devices keep many of these.
	k := ledger.Key{ID: key.ID, Name: key.Name, Epoch: key.Epoch, Family: key.Family, Scheme: key.Scheme, T: key.T, Holders: key.Holders}
	c.header = func(v *View) { requestView(v, &r, &k) }
	return c
}

func newChecked(signed []byte, alg threshold.Algorithm, pub *threshold.PublicKey, family string, content *content) (*Checked, error) {
	if err := pub.Validate(); err != nil {
		return nil, err
	}
	c := &Checked{family: family, algorithm: alg, public: *pub, toBeSigned: bytes.Clone(signed), content: content, until: content.until}
	if content.digest != nil {
		c.toBeSigned, c.digest = nil, bytes.Clone(content.digest)
		return c, nil
	}
	h := alg.Hash().New()
	h.Write(c.toBeSigned)
	c.digest = h.Sum(nil)
	return c, nil
}

// Bare returns what signing takes of it, a small part: digests, what encoded messages
// are made of besides, and until when the check holds. The documents are not there:
// ToBeSigned is empty, the View as well, and Assemble returns ErrBare.
func (c *Checked) Bare() *Checked {
	if c.bare {
		return c
	}
	b := *c
	b.bare, b.toBeSigned, b.header, b.content, b.parts = true, nil, nil, &content{view: func(*View) {}}, nil
	for _, part := range c.parts {
		b.parts = append(b.parts, part.Bare())
	}
	return &b
}

// Whole returns a bare one with the documents of the request that it was made of, and
// with what Assemble takes besides. Its View stays empty. Nothing is checked again:
// what has the digests of what was checked is what was checked. key is the request's,
// as it is in the ledger now. A request that is another one is ErrRequest.
func (c *Checked) Whole(req *Request, key *ledger.Key) (*Checked, error) {
	if !c.bare {
		return c, nil
	}
	if req.Kind != c.kind || len(req.Batch) != len(c.parts) {
		return nil, fmt.Errorf("%w: it is not the one that was checked", ErrRequest)
	}
	var issuer *root
	var err error
	switch c.kind {
	case KindCertificate, KindCertificates, KindIdentity:
		if issuer, err = parseRoot(key.Certificate, key); err != nil {
			return nil, err
		}
	}
	if c.parts == nil {
		return c.with(req.Document, issuer)
	}
	w := *c
	w.bare, w.parts = false, nil
	for i, part := range c.parts {
		p, err := part.with(req.Batch[i].Document, issuer)
		if err != nil {
			return nil, err
		}
		w.parts = append(w.parts, p)
	}
	return &w, nil
}

// with gives one document back.
func (c *Checked) with(signed []byte, issuer *root) (*Checked, error) {
	w := *c
	w.bare, w.content = false, &content{issuer: issuer, view: func(*View) {}}
	switch c.kind {
	case KindDigest:
		return &w, nil
	case KindEntry:
		signed = ledger.ToBeSigned(signed)
	}
	h := c.algorithm.Hash().New()
	h.Write(signed)
	if !bytes.Equal(h.Sum(nil), c.digest) {
		return nil, fmt.Errorf("%w: it is not the one that was checked", ErrRequest)
	}
	w.toBeSigned = bytes.Clone(signed)
	return &w, nil
}

// Family is the family of the key, empty for a root (CheckRoot).
func (c *Checked) Family() string { return c.family }

// Kind is the kind of document, empty for a root.
func (c *Checked) Kind() string { return c.kind }

// Algorithm is the signature algorithm.
func (c *Checked) Algorithm() threshold.Algorithm { return c.algorithm }

// HoldsUntil is the first time (Unix seconds) at which the same check fails. At any
// time between its own and that one it passes and finds the same, but for
// warnings in its View, given the same tables; 0 where that time is not known.
func (c *Checked) HoldsUntil() int64 { return c.until }

// ToBeSigned returns the octets whose hash is signed; nil for KindDigest, and
// for a batch, whose parts have them.
func (c *Checked) ToBeSigned() []byte { return bytes.Clone(c.toBeSigned) }

// Digest returns their digest by the algorithm's hash; of a batch, a hash of the
// digests of all its documents.
func (c *Checked) Digest() []byte { return bytes.Clone(c.digest) }

// EncodedMessage returns the integer that is raised to the private exponent,
// |N| octets: EMSA-PKCS1-v1_5, or EMSA-PSS with a salt made of the request's
// digest (envelope.Verified.Digest), so that all devices find the same one and
// nobody chooses it. A root has no request; its own octets take that place.
//
// A batch has one for each document: see EncodedMessages.
func (c *Checked) EncodedMessage(request envelope.Hash) ([]byte, error) {
	if c.parts != nil {
		return nil, fmt.Errorf("%w: it is a batch", ErrRequest)
	}
	var salt []byte
	if c.algorithm.PSS() {
		request := c.requestOf(request)
		if c.family == "" {
			request = envelope.HashOf("privyseal/v1 document: root", c.toBeSigned)
		}
		if request.IsZero() {
			return nil, fmt.Errorf("%w: no digest to make the salt of", ErrRequest)
		}
		salt = saltFor(c.algorithm, request)
	}
	return threshold.Encode(c.algorithm, c.digest, salt, c.public.Bits())
}

// Assemble verifies a signature, |N| octets, under the key and returns what
// the requester gets: the certificate in DER, or for files, digests and
// entries the signature itself.
//
// A batch has one for each document: see AssembleAll.
func (c *Checked) Assemble(signature []byte) ([]byte, error) {
	if c.parts != nil {
		return nil, fmt.Errorf("%w: it is a batch", ErrRequest)
	}
	if c.bare {
		return nil, ErrBare
	}
	if err := threshold.VerifySignature(&c.public, c.algorithm, c.digest, signature); err != nil {
		return nil, err
	}
	if c.content.issuer == nil {
		return bytes.Clone(signature), nil
	}
	algorithm, err := AlgorithmIdentifier(c.algorithm)
	if err != nil {
		return nil, err
	}
	der, err := wrapCertificate(c.toBeSigned, algorithm, signature)
	if err != nil {
		return nil, err
	}
	// A second opinion, by a reader that shares no code with the first.
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("the finished certificate cannot be read: %w", err)
	}
	parent := c.content.issuer.x509
	if parent == nil {
		parent = cert
	}
	if err := cert.CheckSignatureFrom(parent); err != nil {
		return nil, fmt.Errorf("the finished certificate does not verify: %w", err)
	}
	return der, nil
}

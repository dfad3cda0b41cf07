package document

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Type and version of the message whose payload is a Request.
const (
	TypeRequest    = "request"
	VersionRequest = 1
)

// Kinds of documents.
const (
	KindCertificate  = "certificate"  // a TBSCertificate with its PKCS#10 request; family certificate
	KindCertificates = "certificates" // a batch of them; family certificate, keys in two layers
	KindFile         = "file"         // any file, whole; family file
	KindDigest       = "digest"       // a file of which only the digest is shown; family file, where the key allows it
	KindIdentity     = "identity"     // a TBSCertificate for a device or an officer; family ledger
	KindEntry        = "entry"        // a command of the ledger; family ledger
)

// Modes of signing and forms of approval, for Route.
const (
	ModeParallel   = "parallel"   // A2
	ModeSequential = "sequential" // A1
	ApprovalsChain = "chain"      // each officer signs over the one before (A14)
	ApprovalsSet   = "set"        // independent signatures (A14, "also")
)

// Request asks a quorum of devices for the signature of a document, or for those
// of a batch. It is the payload of a message of type "request", version 1, signed
// by its requester. The digest of that message (envelope.Verified.Digest) is what
// officers approve.
type Request struct {
	Key       string              `cbor:"1,keyasint"` // id of the key in the ledger
	Epoch     uint64              `cbor:"2,keyasint"` // of the key
	Algorithm threshold.Algorithm `cbor:"3,keyasint"`
	Kind      string              `cbor:"4,keyasint"` // a Kind constant
	// Document holds the octets to be signed: a TBSCertificate in DER, a whole
	// file, an encoded ledger.Entry; empty for KindDigest.
	Document []byte `cbor:"5,keyasint"`
	CSR      []byte `cbor:"6,keyasint"` // PKCS#10 in DER; KindCertificate only
	Name     string `cbor:"7,keyasint"` // the file's name; KindFile and KindDigest
	Size     uint64 `cbor:"8,keyasint"` // the file's length, octets; KindFile and KindDigest
	Digest   []byte `cbor:"9,keyasint"` // by the algorithm's hash; KindDigest only
	Route    Route  `cbor:"10,keyasint"`
	// Requester is the id of the person or device that signed the request.
	Requester string   `cbor:"11,keyasint"`
	Nonce     [16]byte `cbor:"12,keyasint"` // random: equal wishes are distinct requests
	Created   int64    `cbor:"13,keyasint"` // Unix seconds
	Expires   int64    `cbor:"14,keyasint"` // Unix seconds
	Comment   string   `cbor:"15,keyasint"` // for the officers; claims, not facts
	// Batch holds the documents of KindCertificates, in the order of their
	// signatures. Document and CSR are empty then.
	Batch []Draft `cbor:"16,keyasint,omitempty"`
}

// Draft is one certificate of a batch.
type Draft struct {
	Document []byte `cbor:"1,keyasint"` // TBSCertificate in DER
	CSR      []byte `cbor:"2,keyasint"` // PKCS#10 in DER
}

// Route says how a request is signed.
type Route struct {
	Mode      string `cbor:"1,keyasint"` // ModeParallel or ModeSequential
	Approvals string `cbor:"2,keyasint"` // ApprovalsChain or ApprovalsSet
	// Devices are ids of devices that hold shares of the key, at least t of
	// them, in the order preferred. Only their officers are asked. For a key in
	// two layers they are at least t calculators and a combiner that serves them.
	Devices []string `cbor:"3,keyasint"`
}

// Errors of a request as such. All wrap ErrRequest.
var (
	ErrRequest = errors.New("bad request")
	ErrRoute   = fmt.Errorf("%w: route", ErrRequest)
	// ErrFamily: the key does not sign documents of this kind.
	ErrFamily = errors.New("the key does not sign this kind of document")
	// ErrAlgorithm: the algorithm is not the key's, or not the one inside the certificate.
	ErrAlgorithm = errors.New("wrong signature algorithm")
	// ErrExpired and ErrNotYet: the request is not valid now.
	ErrExpired = errors.New("the request has expired")
	ErrNotYet  = errors.New("the request is from the future")
)

// ModeOf is the mode of signing for which a key is shared.
func ModeOf(key *ledger.Key) string {
	if key.Scheme == threshold.Multiplicative {
		return ModeSequential
	}
	return ModeParallel
}

// RouteTo is the route to all holders of a key, in the order of their shares,
// in the mode for which the key is shared. Keys in two layers take approvals as
// a set only.
func RouteTo(key *ledger.Key, approvals string) Route {
	r := Route{Mode: ModeOf(key), Approvals: approvals}
	for _, h := range key.Holders {
		r.Devices = append(r.Devices, h.Device)
	}
	return r
}

// Validate refuses a route that leaves anything open. key gives the holders
// and the threshold. There are no defaults: an empty or missing field is an
// error, because a gate left out is a gate left open.
func (r *Route) Validate(key *ledger.Key) error {
	if r.Mode == "" && r.Approvals == "" && len(r.Devices) == 0 {
		return fmt.Errorf("%w: it is missing", ErrRoute)
	}
	switch r.Mode {
	case ModeParallel, ModeSequential:
		if want := ModeOf(key); r.Mode != want {
			return fmt.Errorf("%w: key %q is shared for %s signing, the mode must be %q", ErrRoute, key.ID, want, want)
		}
	default:
		return fmt.Errorf("%w: mode %q is neither %q nor %q", ErrRoute, Escape(r.Mode), ModeParallel, ModeSequential)
	}
	if r.Approvals != ApprovalsChain && r.Approvals != ApprovalsSet {
		return fmt.Errorf("%w: approvals %q are neither %q nor %q", ErrRoute, Escape(r.Approvals), ApprovalsChain, ApprovalsSet)
	}
	if key.Scheme == threshold.TwoLayer && r.Approvals != ApprovalsSet {
		return fmt.Errorf("%w: the machines of key %q work at the same time, so their officers have none before them: the approvals must be a %q", ErrRoute, key.ID, ApprovalsSet)
	}
	if len(r.Devices) == 0 {
		return fmt.Errorf("%w: it names no device", ErrRoute)
	}
	if len(r.Devices) > maxRoute {
		return fmt.Errorf("%w: it names %d devices, more than %d", ErrRoute, len(r.Devices), maxRoute)
	}
	for i, id := range r.Devices {
		if !slices.ContainsFunc(key.Holders, func(h ledger.Holder) bool { return h.Device == id }) {
			return fmt.Errorf("%w: device %q holds no share of key %q", ErrRoute, Escape(id), key.ID)
		}
		if slices.Contains(r.Devices[:i], id) {
			return fmt.Errorf("%w: device %q is named twice", ErrRoute, Escape(id))
		}
	}
	if key.Scheme == threshold.TwoLayer {
		return r.validateLayers(key)
	}
	if key.T == 0 || uint64(len(r.Devices)) < key.T {
		return fmt.Errorf("%w: it names %d devices, key %q needs %d", ErrRoute, len(r.Devices), key.ID, key.T)
	}
	return nil
}

// validateLayers refuses a route on which no signature could ever be made: too
// few calculators, or no combiner that has a combination of them.
func (r *Route) validateLayers(key *ledger.Key) error {
	calculators, combiners := r.Machines(key)
	switch {
	case key.T == 0 || uint64(len(calculators)) < key.T:
		return fmt.Errorf("%w: it names %d calculators, key %q needs %d", ErrRoute, len(calculators), key.ID, key.T)
	case len(combiners) == 0:
		return fmt.Errorf("%w: it names no combiner of key %q, which needs one", ErrRoute, key.ID)
	case key.Layers == nil:
		return fmt.Errorf("%w: key %q has no layers", ErrRoute, key.ID)
	}
	have := make([]uint64, len(calculators))
	for i, h := range calculators {
		have[i] = h.Index
	}
	slices.Sort(have)
	for _, h := range combiners {
		if len(key.Layers.Grouping.Match(h.Index, have)) > 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: none of its combiners has a combination of its calculators: name more of them", ErrRoute)
}

// Machines are the rows of a route's devices in a key of two layers, in the
// order of the route.
func (r *Route) Machines(key *ledger.Key) (calculators, combiners []ledger.Holder) {
	for _, id := range r.Devices {
		for _, h := range key.Holders {
			switch {
			case h.Device != id:
			case h.Layer == ledger.LayerCalculator:
				calculators = append(calculators, h)
			case h.Layer == ledger.LayerCombiner:
				combiners = append(combiners, h)
			}
		}
	}
	return calculators, combiners
}

// validate checks what is common to all kinds of requests.
func (r *Request) validate(key *ledger.Key, now int64) error {
	if r.Key != key.ID {
		return fmt.Errorf("%w: it is for key %q, not %q", ErrRequest, Escape(r.Key), key.ID)
	}
	if r.Epoch == 0 || r.Epoch != key.Epoch {
		return fmt.Errorf("%w: it is for epoch %d of key %q, which is at %d: make the request again", ErrRequest, r.Epoch, key.ID, key.Epoch)
	}
	if !slices.Contains(key.Algorithms, string(r.Algorithm)) {
		return fmt.Errorf("%w: key %q signs with %v, not %q", ErrAlgorithm, key.ID, key.Algorithms, Escape(string(r.Algorithm)))
	}
	if _, err := AlgorithmIdentifier(r.Algorithm); err != nil {
		return err
	}
	if r.Requester == "" || len(r.Requester) > maxIDLength {
		return fmt.Errorf("%w: no requester", ErrRequest)
	}
	if r.Nonce == ([16]byte{}) {
		return fmt.Errorf("%w: no nonce", ErrRequest)
	}
	if len(r.Comment) > maxComment || !utf8.ValidString(r.Comment) {
		return fmt.Errorf("%w: the comment is longer than %d octets, or not UTF-8", ErrRequest, maxComment)
	}
	if r.Created <= 0 || r.Expires <= r.Created || r.Expires-r.Created > maxLifetime {
		return fmt.Errorf("%w: it must expire after it was created, within %d days", ErrRequest, maxLifetime/day)
	}
	if now >= r.Expires {
		return fmt.Errorf("%w: at %s", ErrExpired, formatTime(r.Expires))
	}
	if r.Created > now+maxClockSkew {
		return fmt.Errorf("%w: created at %s", ErrNotYet, formatTime(r.Created))
	}
	return r.Route.Validate(key)
}

// Fields of a request that belong to some kinds, for only.
const (
	fieldDocument = 1 << iota
	fieldCSR
	fieldName // and size
	fieldDigest
	fieldBatch
)

// only refuses fields that mean nothing for the request's kind: what a device
// does not check must not be there.
func (r *Request) only(fields int) error {
	for _, f := range []struct {
		name  string
		set   bool
		field int
	}{
		{"a certificate request", len(r.CSR) > 0, fieldCSR},
		{"a file name", r.Name != "", fieldName},
		{"a size", r.Size != 0, fieldName},
		{"a digest", len(r.Digest) > 0, fieldDigest},
		{"a document", len(r.Document) > 0, fieldDocument},
		{"a batch", len(r.Batch) > 0, fieldBatch},
	} {
		if f.set && fields&f.field == 0 {
			return fmt.Errorf("%w: %s has no place in a request of kind %q", ErrRequest, f.name, r.Kind)
		}
	}
	switch {
	case fields&fieldDocument != 0 && len(r.Document) == 0:
		return fmt.Errorf("%w: the document is empty", ErrRequest)
	case fields&fieldBatch != 0 && len(r.Batch) == 0:
		return fmt.Errorf("%w: the batch is empty", ErrRequest)
	}
	return nil
}

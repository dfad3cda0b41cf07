package envelope

import (
	"bytes"
	"crypto/ecdsa"
	"fmt"
	"math/big"
	"slices"

	"github.com/veraison/go-cose"
)

// sign1Head is tag 18 (COSE_Sign1) and an array of four.
var sign1Head = []byte{0xd2, 0x84}

// Unverified is a well-formed message whose signature nobody has checked. Use
// its header to find the key to check it with, and for nothing else.
type Unverified struct {
	header    Header
	protected []byte
	payload   []byte
	signature []byte
	raw       []byte
}

// Header returns what the message claims.
func (u *Unverified) Header() Header { return u.header.clone() }

// Raw returns a copy of the message's bytes.
func (u *Unverified) Raw() []byte { return slices.Clone(u.raw) }

// UnverifiedDigest is what Digest will be if the signature verifies: good for
// naming a refused message in a log.
func (u *Unverified) UnverifiedDigest() Hash { return HashOf(digestDomain, u.protected, u.payload) }

// UnverifiedPayload returns the payload before any check of the signature. It
// is for messages that carry the key they are signed with (a first contact):
// read the key, decide by other means whether it may speak, then Verify.
func (u *Unverified) UnverifiedPayload() []byte { return slices.Clone(u.payload) }

// Parse reads one COSE_Sign1 and refuses whatever Sign cannot have made, except
// a wrong signature.
func Parse(raw []byte) (*Unverified, error) {
	if len(raw) > MaxMessage {
		return nil, fmt.Errorf("%w: message of %d bytes, limit %d", ErrTooLarge, len(raw), MaxMessage)
	}
	if !bytes.HasPrefix(raw, sign1Head) {
		return nil, fmt.Errorf("envelope: not a tagged COSE_Sign1")
	}
	raw = slices.Clone(raw)
	if err := checkDeterministic(raw[1:]); err != nil { // the tag itself is not allowed elsewhere
		return nil, fmt.Errorf("cose_sign1: %w", err)
	}
	w := walker{data: raw, pos: len(sign1Head)}
	protected, err := w.byteString("protected header")
	if err != nil {
		return nil, err
	}
	if w.data[w.pos] != 0xa0 {
		return nil, &HeaderError{"unprotected", "must be an empty map: nothing is taken that is not signed"}
	}
	w.pos++
	payload, err := w.byteString("payload")
	if err != nil {
		return nil, err
	}
	signature, err := w.byteString("signature")
	if err != nil {
		return nil, err
	}
	if len(signature) != 64 {
		return nil, &HeaderError{"signature", fmt.Sprintf("has %d bytes, ES256 has 64", len(signature))}
	}
	if new(big.Int).SetBytes(signature[32:]).Cmp(halfOrder) > 0 {
		return nil, &HeaderError{"signature", "has s > n/2: the twin of a signature is not accepted"}
	}
	h, err := decodeHeader(protected)
	if err != nil {
		return nil, err
	}
	return &Unverified{header: *h, protected: protected, payload: payload, signature: signature, raw: raw}, nil
}

// byteString reads a byte string of an item that checkDeterministic accepted.
func (w *walker) byteString(what string) ([]byte, error) {
	major, n, err := w.head()
	if err != nil {
		return nil, err
	}
	if major != 2 {
		return nil, &HeaderError{what, "is not a byte string"}
	}
	s := w.data[w.pos : w.pos+int(n) : w.pos+int(n)]
	w.pos += int(n)
	return s, nil
}

// Verify checks the signature with pub, whose id must be the one the message
// names. Whether pub may say what the message says is for the caller.
func (u *Unverified) Verify(pub *ecdsa.PublicKey) (*Verified, error) {
	id, err := KeyIDOf(pub)
	if err != nil {
		return nil, err
	}
	if u.header.Signer != id {
		return nil, fmt.Errorf("%w: message names %v, key is %v", ErrWrongKey, u.header.Signer, id)
	}
	verifier, err := cose.NewVerifier(cose.AlgorithmES256, pub)
	if err != nil {
		return nil, fmt.Errorf("envelope: verify: %w", err)
	}
	// go-cose reads the bytes for itself: what it takes for header and payload
	// must be what Parse took.
	var msg cose.Sign1Message
	if err := msg.UnmarshalCBOR(u.raw); err != nil {
		return nil, fmt.Errorf("envelope: verify: %w", err)
	}
	if !bytes.Equal(msg.Payload, u.payload) || !bytes.Equal(msg.Headers.RawProtected, appendBytes(nil, u.protected)) {
		return nil, fmt.Errorf("envelope: verify: two readers disagree about the message")
	}
	if err := msg.Verify(nil, verifier); err != nil {
		return nil, fmt.Errorf("%w (signer %v)", ErrSignature, id)
	}
	return &Verified{u: *u, digest: u.UnverifiedDigest()}, nil
}

// digestDomain separates message digests from every other hash of the system.
const digestDomain = "privyseal message digest v1"

// Verified is a message whose signature is that of the key it names. Only
// Verify makes one.
type Verified struct {
	u      Unverified
	digest Hash
}

func (v *Verified) Header() Header  { return v.u.header.clone() }
func (v *Verified) Payload() []byte { return slices.Clone(v.u.payload) }
func (v *Verified) Raw() []byte     { return slices.Clone(v.u.raw) }
func (v *Verified) Signer() KeyID   { return v.u.header.Signer }

// Digest is the message's identity: the hash of what was signed, protected
// header and payload. The signature is not part of it, because a signer can
// make many of the same message.
func (v *Verified) Digest() Hash { return v.digest }

// CheckFresh compares the message's times with now (seconds since 1970). skew
// is how many seconds a sender's clock may be fast, at most MaxSkew; expiry is
// never stretched. Errors: *ExpiredError, *NotYetValidError.
func (v *Verified) CheckFresh(now, skew int64) error {
	h := &v.u.header
	if skew < 0 || skew > MaxSkew {
		return fmt.Errorf("envelope: clock skew of %d s, limit %d", skew, MaxSkew)
	}
	if now < 0 || now > MaxTime {
		return fmt.Errorf("envelope: time %d is out of range", now)
	}
	if now >= h.Expires {
		return &ExpiredError{Expires: h.Expires, Now: now}
	}
	if h.Created > now+skew {
		return &NotYetValidError{Created: h.Created, Now: now}
	}
	return nil
}

// Decode reads the payload of a message of the given type and version into a
// struct. Errors: *TypeError, and those of Unmarshal.
func Decode(v *Verified, typ string, version uint64, into any) error {
	h := &v.u.header
	if h.Type != typ || h.Version != version {
		return &TypeError{Want: typ, Got: h.Type, WantVersion: version, GotVersion: h.Version}
	}
	if err := Unmarshal(v.u.payload, into); err != nil {
		return fmt.Errorf("payload of %s: %w", typ, err)
	}
	return nil
}

package envelope

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"

	"github.com/veraison/go-cose"
)

// Sign makes a COSE_Sign1 of h and payload. signer is a P-256 ECDSA key, in a
// token, a card or memory, that returns ASN.1 signatures as crypto.Signer says.
// h.Signer is filled from it; a zero h.ID is filled from rand.
//
// The signature is verified before it is returned: a faulty or exchanged card
// is noticed here and not at five receivers.
func Sign(rand io.Reader, signer crypto.Signer, h Header, payload []byte) ([]byte, error) {
	pub, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("envelope: signer's key is a %T, not ECDSA", signer.Public())
	}
	id, err := KeyIDOf(pub)
	if err != nil {
		return nil, err
	}
	if !h.Signer.IsZero() && h.Signer != id {
		return nil, fmt.Errorf("%w: header names %v, signer is %v", ErrWrongKey, h.Signer, id)
	}
	h.Signer = id
	if h.ID == [16]byte{} {
		if h.ID, err = NewID(rand); err != nil {
			return nil, err
		}
	}
	protected, err := encodeHeader(&h)
	if err != nil {
		return nil, err
	}
	if len(payload) > MaxMessage-len(protected)-256 {
		return nil, fmt.Errorf("%w: payload of %d bytes, limit %d with the header", ErrTooLarge, len(payload), MaxMessage)
	}
	if payload == nil {
		payload = []byte{} // COSE reads nil as "detached"
	}
	msg := cose.Sign1Message{
		Headers: cose.Headers{
			RawProtected: appendBytes(nil, protected),
			Protected:    cose.ProtectedHeader{cose.HeaderLabelAlgorithm: cose.AlgorithmES256},
			Unprotected:  cose.UnprotectedHeader{},
		},
		Payload: payload,
	}
	if err := msg.Sign(rand, nil, es256{signer, pub}); err != nil {
		return nil, fmt.Errorf("envelope: sign: %w", err)
	}
	raw, err := msg.MarshalCBOR()
	if err != nil {
		return nil, fmt.Errorf("envelope: sign: %w", err)
	}
	u, err := Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("envelope: own message: %w", err)
	}
	if _, err := u.Verify(pub); err != nil {
		return nil, fmt.Errorf("envelope: the signer returned a bad signature: %w", err)
	}
	return raw, nil
}

// es256 is a cose.Signer over a crypto.Signer. The one in go-cose passes nil
// options, which tokens that look at the hash refuse.
type es256 struct {
	key crypto.Signer
	pub *ecdsa.PublicKey
}

func (s es256) Algorithm() cose.Algorithm { return cose.AlgorithmES256 }

// Sign returns r ‖ s, 32 bytes each (RFC 9053 section 2.1), with s ≤ n/2.
func (s es256) Sign(rand io.Reader, content []byte) ([]byte, error) {
	digest := sha256.Sum256(content)
	der, err := s.key.Sign(rand, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var sig struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &sig); err != nil || len(rest) != 0 {
		return nil, fmt.Errorf("signer's answer is not an ASN.1 ECDSA signature")
	}
	n := elliptic.P256().Params().N
	if sig.R.Sign() <= 0 || sig.S.Sign() <= 0 || sig.R.Cmp(n) >= 0 || sig.S.Cmp(n) >= 0 {
		return nil, fmt.Errorf("signer's answer is out of range")
	}
	if sig.S.Cmp(halfOrder) > 0 {
		sig.S.Sub(n, sig.S)
	}
	raw := make([]byte, 64)
	sig.R.FillBytes(raw[:32])
	sig.S.FillBytes(raw[32:])
	return raw, nil
}

// halfOrder is ⌊n/2⌋ of P-256: of s and n−s, which both verify, we accept only
// the one that is not greater.
var halfOrder = new(big.Int).Rsh(elliptic.P256().Params().N, 1)

func appendBytes(b, s []byte) []byte { return append(appendHead(b, 0x40, uint64(len(s))), s...) }

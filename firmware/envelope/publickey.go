package envelope

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
)

// ParseSigningKey reads the SubjectPublicKeyInfo (RFC 5480, DER) of a P-256
// key that signs. The encoding must be the one Go writes, named curve and
// uncompressed point: another encoding of the same point would be another
// KeyID for the same private key.
func ParseSigningKey(spki []byte) (*ecdsa.PublicKey, error) {
	switch {
	case len(spki) == 0:
		return nil, errors.New("missing")
	case len(spki) != spkiSize:
		return nil, fmt.Errorf("%d bytes, a P-256 key has %d", len(spki), spkiSize)
	}
	k, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, err
	}
	pub, ok := k.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("a %T, not a key on P-256", k)
	}
	if err := checkECDSA(pub); err != nil {
		return nil, err
	}
	again, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil || !bytes.Equal(again, spki) {
		return nil, errors.New("not in the usual encoding (named curve, uncompressed point)")
	}
	return pub, nil
}

// ParseAgreementKey is [ParseSigningKey] for a key that others seal to.
func ParseAgreementKey(spki []byte) (*ecdh.PublicKey, error) {
	pub, err := ParseSigningKey(spki)
	if err != nil {
		return nil, err
	}
	return pub.ECDH()
}

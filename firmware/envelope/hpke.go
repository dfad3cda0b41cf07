package envelope

import (
	"crypto/ecdh"
	"crypto/hpke"
	"fmt"
)

// encSize is the length of an encapsulated P-256 key (RFC 9180 section 7.1).
const encSize = 65

// SealTo encrypts plaintext to pub with HPKE in base mode, single shot:
// DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM (RFC 9180). The result is
// the 65-byte encapsulated key and the ciphertext, 81 bytes longer than
// plaintext. Base mode does not say who sealed: sign what carries it.
//
// The ephemeral key comes from the system's generator: crypto/hpke takes no
// other.
func SealTo(pub *ecdh.PublicKey, info, aad, plaintext []byte) ([]byte, error) {
	if pub == nil || pub.Curve() != ecdh.P256() {
		return nil, fmt.Errorf("envelope: seal: recipient's key is not on P-256")
	}
	pk, err := hpke.NewDHKEMPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("envelope: seal: %w", err)
	}
	enc, sender, err := hpke.NewSender(pk, hpke.HKDFSHA256(), hpke.AES256GCM(), info)
	if err != nil {
		return nil, fmt.Errorf("envelope: seal: %w", err)
	}
	ct, err := sender.Seal(aad, plaintext)
	if err != nil {
		return nil, fmt.Errorf("envelope: seal: %w", err)
	}
	return append(enc, ct...), nil
}

// OpenWith decrypts what SealTo made. kx is the recipient's key; its one ECDH
// is done by the token or card that holds it, whose own error (removed, locked)
// is returned wrapped. ErrOpen means that key, info, aad or bytes do not fit.
func OpenWith(kx ecdh.KeyExchanger, info, aad, sealed []byte) ([]byte, error) {
	if kx == nil || kx.Curve() != ecdh.P256() {
		return nil, fmt.Errorf("envelope: open: key is not on P-256")
	}
	if len(sealed) < encSize+16 {
		return nil, fmt.Errorf("%w: only %d bytes", ErrOpen, len(sealed))
	}
	if _, err := ecdh.P256().NewPublicKey(sealed[:encSize]); err != nil {
		// Checked here too, so that bad bytes do not look like a token's error.
		return nil, fmt.Errorf("%w: encapsulated key: %w", ErrOpen, err)
	}
	sk, err := hpke.NewDHKEMPrivateKey(kx)
	if err != nil {
		return nil, fmt.Errorf("envelope: open: %w", err)
	}
	r, err := hpke.NewRecipient(sealed[:encSize], sk, hpke.HKDFSHA256(), hpke.AES256GCM(), info)
	if err != nil {
		return nil, fmt.Errorf("envelope: open: %w", err)
	}
	pt, err := r.Open(aad, sealed[encSize:])
	if err != nil {
		return nil, ErrOpen
	}
	return pt, nil
}

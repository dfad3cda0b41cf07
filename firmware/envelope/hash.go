package envelope

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
)

// Hash is a SHA-256 value. It prints as 64 hex digits; in CBOR it is a byte
// string of exactly 32 bytes.
type Hash [32]byte

// KeyID is the SHA-256 of a public key's SubjectPublicKeyInfo in DER. It is
// the identity of whoever holds the key. Printed and encoded like [Hash].
type KeyID [32]byte

// HashOf returns SHA-256 over domain and parts as a CBOR array of one text and
// byte strings, so that no two lists of parts collide by concatenation.
func HashOf(domain string, parts ...[]byte) Hash {
	h := sha256.New()
	h.Write(appendHead(nil, 0x80, uint64(len(parts)+1)))
	h.Write(appendHead(nil, 0x60, uint64(len(domain))))
	h.Write([]byte(domain))
	for _, p := range parts {
		h.Write(appendHead(nil, 0x40, uint64(len(p))))
		h.Write(p)
	}
	return Hash(h.Sum(nil))
}

// KeyIDOf returns the identity of pub, an *ecdsa.PublicKey or *ecdh.PublicKey
// on P-256. A point has one identity, whatever it is used for.
func KeyIDOf(pub crypto.PublicKey) (KeyID, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if err := checkECDSA(k); err != nil {
			return KeyID{}, err
		}
	case *ecdh.PublicKey:
		if k == nil || k.Curve() != ecdh.P256() {
			return KeyID{}, fmt.Errorf("envelope: agreement key is not on P-256")
		}
	default:
		return KeyID{}, fmt.Errorf("envelope: %T is not a P-256 public key", pub)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return KeyID{}, fmt.Errorf("envelope: public key: %w", err)
	}
	return KeyIDOfSPKI(der), nil
}

// KeyIDOfSPKI hashes a SubjectPublicKeyInfo that the caller has parsed.
func KeyIDOfSPKI(der []byte) KeyID { return KeyID(sha256.Sum256(der)) }

// checkECDSA refuses nil keys, other curves and points that are not on P-256.
func checkECDSA(k *ecdsa.PublicKey) error {
	if k == nil || k.Curve != elliptic.P256() {
		return fmt.Errorf("envelope: signature key is not on P-256")
	}
	if _, err := k.ECDH(); err != nil {
		return fmt.Errorf("envelope: signature key: %w", err)
	}
	return nil
}

func (h Hash) IsZero() bool  { return h == Hash{} }
func (k KeyID) IsZero() bool { return k == KeyID{} }

func (h Hash) String() string  { return hex.EncodeToString(h[:]) }
func (k KeyID) String() string { return hex.EncodeToString(k[:]) }

// Format prints hex in every verb; without it %x would print the hex of the
// hex.
func (h Hash) Format(f fmt.State, verb rune)  { formatHex(f, verb, h[:]) }
func (k KeyID) Format(f fmt.State, verb rune) { formatHex(f, verb, k[:]) }

func formatHex(f fmt.State, verb rune, b []byte) {
	format := "%x"
	switch verb {
	case 'X':
		format = "%X"
	case 'q':
		format = "\"%x\""
	}
	fmt.Fprintf(f, format, b)
}

func (h Hash) MarshalText() ([]byte, error)     { return []byte(h.String()), nil }
func (k KeyID) MarshalText() ([]byte, error)    { return []byte(k.String()), nil }
func (h *Hash) UnmarshalText(text []byte) error { return fromHex((*[32]byte)(h), text) }
func (k *KeyID) UnmarshalText(text []byte) error {
	return fromHex((*[32]byte)(k), text)
}

// ParseHash reads 64 lower-case hex digits.
func ParseHash(s string) (Hash, error) {
	var h Hash
	err := fromHex((*[32]byte)(&h), []byte(s))
	return h, err
}

// ParseKeyID reads 64 lower-case hex digits.
func ParseKeyID(s string) (KeyID, error) {
	var k KeyID
	err := fromHex((*[32]byte)(&k), []byte(s))
	return k, err
}

func fromHex(dst *[32]byte, text []byte) error {
	var b [32]byte
	if len(text) != 64 {
		return fmt.Errorf("envelope: %d characters where 64 hex digits are expected", len(text))
	}
	if _, err := hex.Decode(b[:], text); err != nil {
		return fmt.Errorf("envelope: hash: %w", err)
	}
	if hex.EncodeToString(b[:]) != string(text) {
		return fmt.Errorf("envelope: hash: write hex digits in lower case")
	}
	*dst = b
	return nil
}

func (h Hash) MarshalCBOR() ([]byte, error)  { return append([]byte{0x58, 32}, h[:]...), nil }
func (k KeyID) MarshalCBOR() ([]byte, error) { return append([]byte{0x58, 32}, k[:]...), nil }

func (h *Hash) UnmarshalCBOR(data []byte) error  { return fromBytes((*[32]byte)(h), data) }
func (k *KeyID) UnmarshalCBOR(data []byte) error { return fromBytes((*[32]byte)(k), data) }

func fromBytes(dst *[32]byte, data []byte) error {
	if len(data) != 34 || data[0] != 0x58 || data[1] != 32 {
		return fmt.Errorf("envelope: not a byte string of 32 bytes")
	}
	copy(dst[:], data[2:])
	return nil
}

package envelope

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
	"slices"
)

// sealedVersion is the only version of the outer structure.
const sealedVersion = 1

// sealedMessage is what travels. The protected header is in clear so that a
// server can route by it and count it; it proves nothing until it is opened.
type sealedMessage struct {
	Version    uint64           `cbor:"1,keyasint"`
	Protected  []byte           `cbor:"2,keyasint"` // copy of the inner message's protected header
	Recipients []sealedContents `cbor:"3,keyasint"`
	Ciphertext []byte           `cbor:"4,keyasint"` // AES-256-GCM of the inner message under the content key
}

// sealedContents is the content key, sealed with SealTo to one recipient.
type sealedContents struct {
	ID  KeyID  `cbor:"1,keyasint"`
	Key []byte `cbor:"2,keyasint"` // enc ‖ ct, 113 bytes
}

const (
	contentKeySize  = 32
	sealedKeySize   = encSize + contentKeySize + 16
	sealedKeyDomain = "privyseal content key v1"
	sealedDomain    = "privyseal sealed message v1"
)

// Seal encrypts raw, a message made by Sign, to the keys in to: at least one,
// at most MaxRecipients. If the message's header names recipients, each key
// must be among them; the copies for several of them may be sealed apart.
//
// The content key is fresh from rand for each call and encrypts once, so the
// nonce is zero.
func Seal(rand io.Reader, raw []byte, to []*ecdh.PublicKey) ([]byte, error) {
	u, err := Parse(raw)
	if err != nil {
		return nil, err
	}
	if len(to) == 0 || len(to) > MaxRecipients {
		return nil, fmt.Errorf("envelope: seal: %d recipients, allowed 1 to %d", len(to), MaxRecipients)
	}
	cek := make([]byte, contentKeySize)
	defer clear(cek)
	if _, err := io.ReadFull(rand, cek); err != nil {
		return nil, fmt.Errorf("envelope: seal: content key: %w", err)
	}
	m := sealedMessage{Version: sealedVersion, Protected: u.protected}
	for _, pub := range to {
		id, err := KeyIDOf(pub)
		if err != nil {
			return nil, err
		}
		if len(u.header.To) != 0 && !slices.Contains(u.header.To, id) {
			return nil, fmt.Errorf("envelope: seal: %v is not among the recipients the message names", id)
		}
		if slices.ContainsFunc(m.Recipients, func(r sealedContents) bool { return r.ID == id }) {
			return nil, fmt.Errorf("envelope: seal: recipient %v twice", id)
		}
		key, err := SealTo(pub, contentKeyInfo(u.protected, id), nil, cek)
		if err != nil {
			return nil, err
		}
		m.Recipients = append(m.Recipients, sealedContents{ID: id, Key: key})
	}
	aead, err := contentCipher(cek)
	if err != nil {
		return nil, err
	}
	m.Ciphertext = aead.Seal(nil, make([]byte, aead.NonceSize()), raw, m.associatedData())
	out, err := Marshal(m)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Open decrypts a sealed message with one recipient's key and returns the
// COSE_Sign1 inside, well-formed but not verified: Parse and Verify it. A
// message whose signed header names other recipients than this key is refused,
// so nobody can pass a message on as if its author had sent it here.
func Open(sealed []byte, kx ecdh.KeyExchanger) ([]byte, error) {
	m, outer, err := parseSealed(sealed)
	if err != nil {
		return nil, err
	}
	if kx == nil {
		return nil, errors.New("envelope: open: no key")
	}
	id, err := KeyIDOf(kx.PublicKey())
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(m.Recipients, func(r sealedContents) bool { return r.ID == id })
	if i < 0 {
		return nil, fmt.Errorf("%w (%v)", ErrNotRecipient, id)
	}
	if len(outer.To) != 0 && !slices.Contains(outer.To, id) {
		return nil, fmt.Errorf("%w: the message is addressed to others than %v", ErrNotRecipient, id)
	}
	cek, err := OpenWith(kx, contentKeyInfo(m.Protected, id), nil, m.Recipients[i].Key)
	if err != nil {
		return nil, err
	}
	defer clear(cek)
	if len(cek) != contentKeySize {
		return nil, fmt.Errorf("%w: content key of %d bytes", ErrOpen, len(cek))
	}
	aead, err := contentCipher(cek)
	if err != nil {
		return nil, err
	}
	raw, err := aead.Open(nil, make([]byte, aead.NonceSize()), m.Ciphertext, m.associatedData())
	if err != nil {
		return nil, ErrOpen
	}
	u, err := Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("inside the seal: %w", err)
	}
	if !bytes.Equal(u.protected, m.Protected) {
		return nil, ErrHeaderCopy
	}
	return raw, nil
}

// Peek returns the clear header of a sealed message. It is UNVERIFIED: good for
// routing, for refusing early and for counting, never for a decision.
func Peek(sealed []byte) (Header, error) {
	_, h, err := parseSealed(sealed)
	if err != nil {
		return Header{}, err
	}
	return *h, nil
}

// PeekRecipients returns the keys a sealed message can be opened with.
// UNVERIFIED, like Peek.
func PeekRecipients(sealed []byte) ([]KeyID, error) {
	m, _, err := parseSealed(sealed)
	if err != nil {
		return nil, err
	}
	ids := make([]KeyID, len(m.Recipients))
	for i, r := range m.Recipients {
		ids[i] = r.ID
	}
	return ids, nil
}

func parseSealed(sealed []byte) (*sealedMessage, *Header, error) {
	var m sealedMessage
	if err := Unmarshal(sealed, &m); err != nil {
		return nil, nil, fmt.Errorf("sealed message: %w", err)
	}
	if m.Version != sealedVersion {
		return nil, nil, fmt.Errorf("envelope: sealed message of version %d, only %d is understood", m.Version, sealedVersion)
	}
	if len(m.Recipients) == 0 || len(m.Recipients) > MaxRecipients {
		return nil, nil, fmt.Errorf("envelope: sealed message for %d recipients, allowed 1 to %d", len(m.Recipients), MaxRecipients)
	}
	for i, r := range m.Recipients {
		if len(r.Key) != sealedKeySize {
			return nil, nil, fmt.Errorf("envelope: sealed content key of %d bytes, must be %d", len(r.Key), sealedKeySize)
		}
		for _, q := range m.Recipients[:i] {
			if q.ID == r.ID {
				return nil, nil, fmt.Errorf("envelope: sealed message names recipient %v twice", r.ID)
			}
		}
	}
	h, err := decodeHeader(m.Protected)
	if err != nil {
		return nil, nil, err
	}
	return &m, h, nil
}

// contentKeyInfo is the HPKE info of a content key: domain, hash of the
// protected header, recipient. A key taken from one message cannot be planted
// in another.
func contentKeyInfo(protected []byte, to KeyID) []byte {
	ph := HashOf(sealedKeyDomain, protected)
	info := HashOf(sealedKeyDomain, ph[:], to[:])
	return info[:]
}

// associatedData binds the ciphertext to the clear header and to the whole list
// of recipients: nobody on the way can add, drop or reorder one.
func (m *sealedMessage) associatedData() []byte {
	parts := [][]byte{m.Protected}
	for _, r := range m.Recipients {
		parts = append(parts, r.ID[:], r.Key)
	}
	aad := HashOf(sealedDomain, parts...)
	return aad[:]
}

func contentCipher(cek []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(cek)
	if err != nil {
		return nil, fmt.Errorf("envelope: content key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("envelope: content key: %w", err)
	}
	return aead, nil
}

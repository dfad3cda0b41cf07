package share

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/modexp"
)

// A share of two layers has many parts, and a calculator uses all of them for
// every signature, in the host. So the token wraps not each of them but one key,
//
//	AES-256-GCM(parts' key, part)
//	AES-256-GCM(officers' key, AES-KWP(token's KEK, parts' key))
//
// and is asked once for a signature: as before nothing opens without the token,
// and nothing without the officers. To unwrap a part itself, posing as a
// Diffie-Hellman key, costs a token that computes the public half of it more
// than the exponentiation that it is for.

// SealParts is Seal for a share of a key in two layers: a calculator's sub-keys,
// or a combiner's c_a, each of facts.Width bytes. They are counted from 1.
func SealParts(rand io.Reader, token Token, officers threshold.Secret, facts Facts, parts []threshold.Secret) (*Stored, error) {
	if facts.Layer == 0 {
		return nil, errors.New("share: seal parts of a share that has no layer")
	}
	outer, st, err := newStored(officers, facts)
	if err != nil {
		return nil, err
	}
	st.Subs = make([]StoredSub, len(parts)) // its length is part of the associated data
	k := make([]byte, keySize)
	key := threshold.NewSecret(k)
	defer key.Wipe()
	if _, err := io.ReadFull(rand, k); err != nil {
		return nil, fmt.Errorf("share: parts' key: %w", err)
	}
	wrapped, err := token.Wrap(facts.Modulus, k)
	if err != nil {
		return nil, fmt.Errorf("share: wrap the parts' key: %w", err)
	}
	if st.PartsKey, err = st.seal(rand, outer, 0, wrapped); err != nil {
		return nil, err
	}
	inner, err := newCipher(key)
	if err != nil {
		return nil, err
	}
	for i, d := range parts {
		if d.Len() != facts.Width() {
			return nil, fmt.Errorf("share: part %d has %d bytes, not %d", i+1, d.Len(), facts.Width())
		}
		sealed, err := st.seal(rand, inner, Label(i+1), d.Reveal())
		if err != nil {
			return nil, err
		}
		st.Subs[i] = *sealed
	}
	if err := st.validate(); err != nil {
		return nil, err
	}
	return st, nil
}

func (s *Stored) validateParts(f *Facts) error {
	if s.PartsKey == nil || s.PartsKey.Label != 0 {
		return fmt.Errorf("%w: the parts have no key", ErrFormat)
	}
	if err := s.PartsKey.validate(); err != nil {
		return fmt.Errorf("%w: parts' key: %w", ErrFormat, err)
	}
	for i, sub := range s.Subs {
		if sub.Label != Label(i+1) || len(sub.Nonce) != nonceSize || len(sub.Ciphertext) != f.Width()+aes.BlockSize {
			return fmt.Errorf("%w: part %d in place %d, of %d bytes, with a nonce of %d", ErrFormat, sub.Label, i+1, len(sub.Ciphertext), len(sub.Nonce))
		}
	}
	return nil
}

// Parts is a share of two layers in use in the host.
type Parts struct {
	stored  *Stored
	memory  Memory
	modulus *modexp.Modulus
	key     cipher.AEAD
}

// OpenParts takes both layers off the key of the parts. Parts come out one at a
// time, into the given memory. Errors are *FactError, ErrWrongPieces (another
// officers' key), ErrTampered and the token's.
func (s *Stored) OpenParts(token Token, memory Memory, facts Facts, officers threshold.Secret) (*Parts, error) {
	if facts.Layer == 0 {
		return nil, fmt.Errorf("%w: share %s is of one layer", ErrNoPart, facts.ShareID)
	}
	outer, err := s.opener(facts, officers)
	if err != nil {
		return nil, err
	}
	wrapped, err := outer.Open(nil, s.PartsKey.Nonce, s.PartsKey.Ciphertext, s.associatedData(0))
	if err != nil {
		return nil, fmt.Errorf("%w: key %s, share %s, the key of its parts", ErrTampered, s.Key, s.ShareID)
	}
	modulus, err := modexp.New(facts.Modulus)
	if err != nil {
		return nil, fmt.Errorf("share: use in host: %w", err)
	}
	padded, err := token.Reveal(facts.Modulus, wrapped)
	if err != nil {
		return nil, fmt.Errorf("share: use in host: %w", err)
	}
	whole := threshold.NewSecret(padded)
	defer whole.Wipe()
	k, err := trim(padded, keySize)
	if err != nil {
		return nil, err
	}
	key, err := newCipher(threshold.NewSecret(k))
	if err != nil {
		return nil, err
	}
	return &Parts{s, memory, modulus, key}, nil
}

// trim returns the last width bytes of what the token padded with zeros, in
// place. It looks at all the rest, whatever is in it.
func trim(d []byte, width int) ([]byte, error) {
	if len(d) < width {
		return nil, fmt.Errorf("%w: %d bytes, not %d", ErrWidth, len(d), width)
	}
	high := byte(0)
	for _, b := range d[:len(d)-width] {
		high |= b
	}
	if subtle.ConstantTimeByteEq(high, 0) != 1 {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrWidth, width)
	}
	return d[len(d)-width:], nil
}

// Len is how many parts there are.
func (p *Parts) Len() int { return len(p.stored.Subs) }

// Exponent puts a part to use, counted from 1. It has the width that the facts
// imply, and an exponentiation takes the time of that width: half the time for
// half the length of N. The caller closes it, which wipes it.
func (p *Parts) Exponent(part int) (*HostExponent, error) {
	if part < 1 || part > len(p.stored.Subs) {
		return nil, fmt.Errorf("%w: %d of %d", ErrNoPart, part, len(p.stored.Subs))
	}
	sub := &p.stored.Subs[part-1]
	return newHostExponent(p.memory, p.modulus, len(sub.Ciphertext)-aes.BlockSize, func(room []byte) error {
		if _, err := p.key.Open(room[:0], sub.Nonce, sub.Ciphertext, p.stored.associatedData(sub.Label)); err != nil {
			return fmt.Errorf("%w: key %s, share %s, part %d", ErrTampered, p.stored.Key, p.stored.ShareID, part)
		}
		return nil
	})
}

const redactedParts = "share.Parts(redacted)"

func (*Parts) String() string               { return redactedParts }
func (*Parts) GoString() string             { return redactedParts }
func (*Parts) Format(f fmt.State, _ rune)   { io.WriteString(f, redactedParts) }
func (*Parts) MarshalJSON() ([]byte, error) { return []byte(`"` + redactedParts + `"`), nil }
func (*Parts) MarshalText() ([]byte, error) { return []byte(redactedParts), nil }
func (*Parts) LogValue() slog.Value         { return slog.StringValue(redactedParts) }

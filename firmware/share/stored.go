package share

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Facts are what the ledger and the device's own record say about a share. A
// stored share is used only where all of them agree.
type Facts struct {
	Key     string // key id
	Epoch   uint64 // epoch of the split
	ShareID string
	Index   uint64 // of the share, 1 to 16
	Modulus []byte // N, big-endian without leading zeros
	Version uint64 // of the share at rest: grows with every re-encryption, from 1
}

func (f *Facts) validate() error {
	switch {
	case f.Key == "" || len(f.Key) > MaxName, f.ShareID == "" || len(f.ShareID) > MaxName:
		return errors.New("share: facts: key or share id is missing or too long")
	case f.Index == 0 || f.Index > threshold.MaxDevices:
		return fmt.Errorf("share: facts: index %d, allowed 1 to %d", f.Index, threshold.MaxDevices)
	case len(f.Modulus) == 0 || f.Modulus[0] == 0:
		return errors.New("share: facts: modulus is missing or has leading zeros")
	case f.Version == 0:
		return errors.New("share: facts: version is missing")
	}
	return nil
}

// Stored is a share at rest. It is no secret by itself, and it authenticates
// itself to whoever has the officers' key. Encode it with [Stored.Marshal].
type Stored struct {
	Format   uint64        `cbor:"1,keyasint"` // storedFormat
	Version  uint64        `cbor:"2,keyasint"`
	Key      string        `cbor:"3,keyasint"`
	Epoch    uint64        `cbor:"4,keyasint"`
	ShareID  string        `cbor:"5,keyasint"`
	Index    uint64        `cbor:"6,keyasint"`
	N        []byte        `cbor:"7,keyasint"`
	KeyCheck envelope.Hash `cbor:"8,keyasint"` // recognises the officers' key
	Subs     []StoredSub   `cbor:"9,keyasint"` // ascending by Subset
}

// StoredSub is one sub-share under both keys.
type StoredSub struct {
	Subset     threshold.Subset `cbor:"1,keyasint"`
	Nonce      []byte           `cbor:"2,keyasint"` // 12 bytes
	Ciphertext []byte           `cbor:"3,keyasint"`
}

const (
	storedFormat = 1
	storedDomain = "privyseal share at rest v1"
	nonceSize    = 12
	keySize      = 32
)

// NewOfficersKey returns 32 random bytes, the key of one version of one share.
// Split it with SplitSecret, then wipe it.
func NewOfficersKey(rand io.Reader) (threshold.Secret, error) {
	k := make([]byte, keySize)
	if _, err := io.ReadFull(rand, k); err != nil {
		return threshold.Secret{}, fmt.Errorf("share: officers' key: %w", err)
	}
	return threshold.NewSecret(k), nil
}

// Seal puts a share at rest: every sub-share is wrapped by the token and sealed
// under a fresh officers' key. Use a new officers' key each time. This is the
// only moment at which a share that is used in the token passes through the
// host; the caller wipes it.
func Seal(rand io.Reader, token Token, officers threshold.Secret, facts Facts, s *threshold.Share) (*Stored, error) {
	if err := facts.validate(); err != nil {
		return nil, err
	}
	if s.Index != facts.Index {
		return nil, fmt.Errorf("share: seal share %d as %d", s.Index, facts.Index)
	}
	aead, err := officersCipher(officers)
	if err != nil {
		return nil, err
	}
	st := &Stored{
		Format: storedFormat, Version: facts.Version, Key: facts.Key, Epoch: facts.Epoch, ShareID: facts.ShareID,
		Index: facts.Index, N: bytes.Clone(facts.Modulus), KeyCheck: keyCheck(officers.Reveal()),
	}
	for _, sub := range s.Subs {
		if sub.Value.Len() != len(facts.Modulus) {
			return nil, fmt.Errorf("share: sub-share %v has %d bytes, the modulus %d", sub.Subset, sub.Value.Len(), len(facts.Modulus))
		}
		wrapped, err := token.Wrap(facts.Modulus, sub.Value.Reveal())
		if err != nil {
			return nil, fmt.Errorf("share: wrap sub-share %v: %w", sub.Subset, err)
		}
		nonce := make([]byte, nonceSize)
		if _, err := io.ReadFull(rand, nonce); err != nil {
			return nil, fmt.Errorf("share: nonce: %w", err)
		}
		st.Subs = append(st.Subs, StoredSub{Subset: sub.Subset, Nonce: nonce,
			Ciphertext: aead.Seal(nil, nonce, wrapped, st.associatedData(sub.Subset))})
	}
	if err := st.validate(); err != nil {
		return nil, err
	}
	return st, nil
}

// Marshal returns the deterministic CBOR of a stored share.
func (s *Stored) Marshal() ([]byte, error) { return envelope.Marshal(s) }

// ParseStored reads a stored share. It says nothing yet about who wrote it.
func ParseStored(data []byte) (*Stored, error) {
	if len(data) > MaxStored {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrFormat, len(data), MaxStored)
	}
	var s Stored
	if err := envelope.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	return &s, nil
}

func (s *Stored) validate() error {
	if s.Format != storedFormat {
		return fmt.Errorf("%w: format %d, only %d is understood", ErrFormat, s.Format, storedFormat)
	}
	f := Facts{s.Key, s.Epoch, s.ShareID, s.Index, s.N, s.Version}
	if err := f.validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if len(s.Subs) == 0 || len(s.Subs) > threshold.MaxSubShares {
		return fmt.Errorf("%w: %d sub-shares, allowed 1 to %d", ErrFormat, len(s.Subs), threshold.MaxSubShares)
	}
	last := threshold.Subset(0)
	for _, sub := range s.Subs {
		switch {
		case sub.Subset <= last:
			return fmt.Errorf("%w: sub-share %v repeated or out of order", ErrFormat, sub.Subset)
		case !sub.Subset.Has(s.Index):
			return fmt.Errorf("%w: sub-share %v is not of share %d", ErrFormat, sub.Subset, s.Index)
		case len(sub.Nonce) != nonceSize:
			return fmt.Errorf("%w: sub-share %v: nonce of %d bytes", ErrFormat, sub.Subset, len(sub.Nonce))
		case len(sub.Ciphertext) <= aes.BlockSize || len(sub.Ciphertext) > maxWrapped:
			return fmt.Errorf("%w: sub-share %v: %d bytes", ErrFormat, sub.Subset, len(sub.Ciphertext))
		}
		last = sub.Subset
	}
	return nil
}

// CheckFacts compares a stored share with what is in force. Errors are
// *FactError. What it compares is authenticated when Open succeeds.
func (s *Stored) CheckFacts(f Facts) error {
	if err := f.validate(); err != nil {
		return err
	}
	u := func(n uint64) string { return strconv.FormatUint(n, 10) }
	switch {
	case s.Key != f.Key:
		return &FactError{"key", s.Key, f.Key, ErrWrongShare}
	case s.ShareID != f.ShareID:
		return &FactError{"share id", s.ShareID, f.ShareID, ErrWrongShare}
	case s.Index != f.Index:
		return &FactError{"index", u(s.Index), u(f.Index), ErrWrongShare}
	case !bytes.Equal(s.N, f.Modulus):
		return &FactError{"modulus", fingerprint(s.N), fingerprint(f.Modulus), ErrWrongModulus}
	case s.Epoch < f.Epoch:
		return &FactError{"epoch", u(s.Epoch), u(f.Epoch), ErrRolledBack}
	case s.Epoch > f.Epoch:
		return &FactError{"epoch", u(s.Epoch), u(f.Epoch), ErrWrongShare}
	case s.Version < f.Version:
		return &FactError{"version", u(s.Version), u(f.Version), ErrRolledBack}
	case s.Version > f.Version:
		return &FactError{"version", u(s.Version), u(f.Version), ErrWrongShare}
	}
	return nil
}

// fingerprint shortens a modulus for an error message.
func fingerprint(n []byte) string {
	h := envelope.HashOf("privyseal modulus", n)
	return hex.EncodeToString(h[:8])
}

// RecoverOfficersKey joins l of the given pieces to this share's officers' key;
// see Recover for wrong and the errors. The caller wipes the key.
func (s *Stored) RecoverOfficersKey(l int, pieces []Piece) (key threshold.Secret, wrong []uint64, err error) {
	return Recover(pieces, l, func(k []byte) bool { return keyCheck(k) == s.KeyCheck })
}

// Open takes the outer layer off one sub-share. What it returns is wrapped for
// the token: give it to InToken or InHost with the same modulus. Errors are
// *FactError, ErrNoSubset, ErrWrongPieces (another officers' key) and
// ErrTampered.
func (s *Stored) Open(facts Facts, officers threshold.Secret, subset threshold.Subset) (wrapped []byte, err error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	if err := s.CheckFacts(facts); err != nil {
		return nil, err
	}
	aead, err := officersCipher(officers)
	if err != nil {
		return nil, err
	}
	if keyCheck(officers.Reveal()) != s.KeyCheck {
		return nil, ErrWrongPieces
	}
	for _, sub := range s.Subs {
		if sub.Subset != subset {
			continue
		}
		wrapped, err := aead.Open(nil, sub.Nonce, sub.Ciphertext, s.associatedData(subset))
		if err != nil {
			return nil, fmt.Errorf("%w: key %s, share %s, subset %v", ErrTampered, s.Key, s.ShareID, subset)
		}
		return wrapped, nil
	}
	return nil, fmt.Errorf("%w: %v", ErrNoSubset, subset)
}

// associatedData binds a sub-share to all facts about it.
func (s *Stored) associatedData(subset threshold.Subset) []byte {
	h := envelope.HashOf(storedDomain, s.N, []byte(s.Key), number(s.Epoch), []byte(s.ShareID), number(s.Index),
		number(s.Version), number(uint64(subset)))
	return h[:]
}

// keyCheck recognises an officers' key. The key has 256 random bits, so its
// hash helps nobody to find it.
func keyCheck(k []byte) envelope.Hash { return envelope.HashOf(keyCheckDomain, k) }

func officersCipher(k threshold.Secret) (cipher.AEAD, error) {
	if k.Len() != keySize {
		return nil, fmt.Errorf("share: officers' key of %d bytes, must be %d", k.Len(), keySize)
	}
	block, err := aes.NewCipher(k.Reveal())
	if err != nil {
		return nil, fmt.Errorf("share: officers' key: %w", err)
	}
	return cipher.NewGCM(block)
}

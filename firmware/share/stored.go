package share

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// Layers of a share of a key in two layers, as the ledger numbers them.
const (
	LayerCalculator = 1 // its parts are sub-keys
	LayerCombiner   = 2 // its parts are the c_a of its combinations
)

// Facts are what the ledger and the device's own record say about a share. A
// stored share is used only where all of them agree.
type Facts struct {
	Key     string // key id
	Epoch   uint64 // epoch of the split
	ShareID string
	Index   uint64 // of the share, 1 to 16; of the machine in its layer, 1 to grouping.MaxNumber
	Modulus []byte // N, big-endian without leading zeros
	Version uint64 // of the share at rest: grows with every re-encryption, from 1
	Layer   uint64 // LayerCalculator or LayerCombiner; 0 for a key that is shared in one
}

// Width is the length in bytes of each secret number of the share. It is
// public, and what an exponentiation costs depends on it: a sub-key has little
// more than half the length of N.
func (f *Facts) Width() int {
	if f.Layer == LayerCalculator {
		return twolayer.SubKeyLen(8 * len(f.Modulus))
	}
	return len(f.Modulus)
}

func (f *Facts) validate() error {
	switch {
	case f.Key == "" || len(f.Key) > MaxName, f.ShareID == "" || len(f.ShareID) > MaxName:
		return errors.New("share: facts: key or share id is missing or too long")
	case f.Layer > LayerCombiner:
		return fmt.Errorf("share: facts: layer %d, there are two", f.Layer)
	case f.Index == 0 || f.Index > f.maxIndex():
		return fmt.Errorf("share: facts: index %d, allowed 1 to %d", f.Index, f.maxIndex())
	case len(f.Modulus) == 0 || f.Modulus[0] == 0:
		return errors.New("share: facts: modulus is missing or has leading zeros")
	case f.Version == 0:
		return errors.New("share: facts: version is missing")
	}
	return nil
}

func (f *Facts) maxIndex() uint64 {
	if f.Layer != 0 {
		return grouping.MaxNumber
	}
	return threshold.MaxDevices
}

// maxSubs is how many secret numbers a share of this kind has at most.
func (f *Facts) maxSubs() int {
	if f.Layer == LayerCalculator {
		return grouping.MaxKeys
	}
	return threshold.MaxSubShares
}

// format is that of a share at rest of this kind.
func (f *Facts) format() uint64 {
	if f.Layer != 0 {
		return partsFormat
	}
	return storedFormat
}

// Stored is a share at rest. It is no secret by itself, and it authenticates
// itself to whoever has the officers' key. Encode it with [Stored.Marshal].
type Stored struct {
	Format   uint64        `cbor:"1,keyasint"` // storedFormat or partsFormat
	Version  uint64        `cbor:"2,keyasint"`
	Key      string        `cbor:"3,keyasint"`
	Epoch    uint64        `cbor:"4,keyasint"`
	ShareID  string        `cbor:"5,keyasint"`
	Index    uint64        `cbor:"6,keyasint"`
	N        []byte        `cbor:"7,keyasint"`
	KeyCheck envelope.Hash `cbor:"8,keyasint"` // recognises the officers' key
	Subs     []StoredSub   `cbor:"9,keyasint"` // ascending by Label
	Layer    uint64        `cbor:"10,keyasint,omitempty"`
	// PartsKey, its label 0, holds the key of the parts of a share of two layers;
	// nil for any other.
	PartsKey *StoredSub `cbor:"11,keyasint,omitempty"`
}

// Label says what a sub-share is for: a subset of devices (threshold.Subset),
// or in two layers the number of a part of the share, from 1.
type Label uint64

// StoredSub is one sub-share under both keys, or one part under the parts' key,
// which is itself under both.
type StoredSub struct {
	Label      Label  `cbor:"1,keyasint"`
	Nonce      []byte `cbor:"2,keyasint"` // 12 bytes
	Ciphertext []byte `cbor:"3,keyasint"`
}

const (
	storedFormat = 1 // of a share of a key that is shared in one layer
	storedDomain = "privyseal share at rest v1"
	partsFormat  = 2 // of a share of a key in two layers
	partsDomain  = "privyseal share at rest v2"
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
	if facts.Layer != 0 {
		return nil, fmt.Errorf("share: seal a share of subsets in layer %d", facts.Layer)
	}
	if s.Index != facts.Index {
		return nil, fmt.Errorf("share: seal share %d as %d", s.Index, facts.Index)
	}
	aead, st, err := newStored(officers, facts)
	if err != nil {
		return nil, err
	}
	for _, sub := range s.Subs {
		if sub.Value.Len() != len(facts.Modulus) {
			return nil, fmt.Errorf("share: sub-share %v has %d bytes, the modulus %d", sub.Subset, sub.Value.Len(), len(facts.Modulus))
		}
		wrapped, err := token.Wrap(facts.Modulus, sub.Value.Reveal())
		if err != nil {
			return nil, fmt.Errorf("share: wrap sub-share %v: %w", sub.Subset, err)
		}
		sealed, err := st.seal(rand, aead, Label(sub.Subset), wrapped)
		if err != nil {
			return nil, err
		}
		st.Subs = append(st.Subs, *sealed)
	}
	if err := st.validate(); err != nil {
		return nil, err
	}
	return st, nil
}

// newStored is a share at rest with nothing in it yet.
func newStored(officers threshold.Secret, facts Facts) (cipher.AEAD, *Stored, error) {
	if err := facts.validate(); err != nil {
		return nil, nil, err
	}
	aead, err := newCipher(officers)
	if err != nil {
		return nil, nil, err
	}
	return aead, &Stored{
		Format: facts.format(), Version: facts.Version, Key: facts.Key, Epoch: facts.Epoch, ShareID: facts.ShareID,
		Index: facts.Index, N: bytes.Clone(facts.Modulus), KeyCheck: keyCheck(officers.Reveal()), Layer: facts.Layer,
	}, nil
}

func (s *Stored) seal(rand io.Reader, aead cipher.AEAD, label Label, plain []byte) (*StoredSub, error) {
	nonce := make([]byte, nonceSize)
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, fmt.Errorf("share: nonce: %w", err)
	}
	return &StoredSub{Label: label, Nonce: nonce, Ciphertext: aead.Seal(nil, nonce, plain, s.associatedData(label))}, nil
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

func (s *Stored) facts() Facts {
	return Facts{Key: s.Key, Epoch: s.Epoch, ShareID: s.ShareID, Index: s.Index, Modulus: s.N, Version: s.Version, Layer: s.Layer}
}

func (s *Stored) validate() error {
	f := s.facts()
	switch {
	case s.Format != storedFormat && s.Format != partsFormat:
		return fmt.Errorf("%w: format %d, only %d and %d are understood", ErrFormat, s.Format, storedFormat, partsFormat)
	case s.Format != f.format():
		return fmt.Errorf("%w: format %d of a share in layer %d", ErrFormat, s.Format, s.Layer)
	}
	if err := f.validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if len(s.Subs) == 0 || len(s.Subs) > f.maxSubs() {
		return fmt.Errorf("%w: %d sub-shares, allowed 1 to %d", ErrFormat, len(s.Subs), f.maxSubs())
	}
	if s.Layer != 0 {
		return s.validateParts(&f)
	}
	if s.PartsKey != nil {
		return fmt.Errorf("%w: a key of parts, and no layer", ErrFormat)
	}
	last := Label(0)
	for _, sub := range s.Subs {
		switch {
		case sub.Label > math.MaxUint16:
			return fmt.Errorf("%w: label %d", ErrFormat, sub.Label)
		case sub.Label <= last:
			return fmt.Errorf("%w: sub-share %v repeated or out of order", ErrFormat, threshold.Subset(sub.Label))
		case !threshold.Subset(sub.Label).Has(s.Index):
			return fmt.Errorf("%w: sub-share %v is not of share %d", ErrFormat, threshold.Subset(sub.Label), s.Index)
		}
		if err := sub.validate(); err != nil {
			return fmt.Errorf("%w: sub-share %v: %w", ErrFormat, threshold.Subset(sub.Label), err)
		}
		last = sub.Label
	}
	return nil
}

func (s *StoredSub) validate() error {
	switch {
	case len(s.Nonce) != nonceSize:
		return fmt.Errorf("nonce of %d bytes", len(s.Nonce))
	case len(s.Ciphertext) <= aes.BlockSize || len(s.Ciphertext) > maxWrapped:
		return fmt.Errorf("%d bytes", len(s.Ciphertext))
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
	case s.Layer != f.Layer:
		return &FactError{"layer", u(s.Layer), u(f.Layer), ErrWrongShare}
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
	if facts.Layer != 0 {
		return nil, fmt.Errorf("%w: %v, of a share in layer %d", ErrNoSubset, subset, facts.Layer)
	}
	aead, err := s.opener(facts, officers)
	if err != nil {
		return nil, err
	}
	for _, sub := range s.Subs {
		if sub.Label != Label(subset) {
			continue
		}
		wrapped, err := aead.Open(nil, sub.Nonce, sub.Ciphertext, s.associatedData(sub.Label))
		if err != nil {
			return nil, fmt.Errorf("%w: key %s, share %s, subset %v", ErrTampered, s.Key, s.ShareID, subset)
		}
		return wrapped, nil
	}
	return nil, fmt.Errorf("%w: %v", ErrNoSubset, subset)
}

// opener is the officers' key at work on a share that is the one in force.
func (s *Stored) opener(facts Facts, officers threshold.Secret) (cipher.AEAD, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	if err := s.CheckFacts(facts); err != nil {
		return nil, err
	}
	aead, err := newCipher(officers)
	if err != nil {
		return nil, err
	}
	if keyCheck(officers.Reveal()) != s.KeyCheck {
		return nil, ErrWrongPieces
	}
	return aead, nil
}

// associatedData binds a sub-share to all facts about it; in two layers also to
// how many there are, since what is not there cannot be missed by its label.
func (s *Stored) associatedData(label Label) []byte {
	fields := [][]byte{s.N, []byte(s.Key), number(s.Epoch), []byte(s.ShareID), number(s.Index), number(s.Version), number(uint64(label))}
	domain := storedDomain
	if s.Layer != 0 {
		domain, fields = partsDomain, append(fields, number(s.Layer), number(uint64(len(s.Subs))))
	}
	h := envelope.HashOf(domain, fields...)
	return h[:]
}

// keyCheck recognises an officers' key. The key has 256 random bits, so its
// hash helps nobody to find it.
func keyCheck(k []byte) envelope.Hash { return envelope.HashOf(keyCheckDomain, k) }

func newCipher(k threshold.Secret) (cipher.AEAD, error) {
	if k.Len() != keySize {
		return nil, fmt.Errorf("share: key of %d bytes, must be %d", k.Len(), keySize)
	}
	block, err := aes.NewCipher(k.Reveal())
	if err != nil {
		return nil, fmt.Errorf("share: %w", err)
	}
	return cipher.NewGCM(block)
}

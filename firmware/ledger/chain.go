package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// entryPrefix separates what the SWA signs of an entry from what else it signs: certificates, whose first byte is 0x30. No DER
// begins with this text.
const entryPrefix = "privyseal ledger entry v1\n"

// ToBeSigned is what the SWA signs of an encoded entry.
func ToBeSigned(entry []byte) []byte { return append([]byte(entryPrefix), entry...) }

// EntryHash is the hash of an encoded entry, as the next one names it. The signature is not part of it: one entry can have many.
func EntryHash(entry []byte) envelope.Hash { return sha256.Sum256(entry) }

// NewEntry drafts the entry that follows s. body is the structure of the kind. It returns the encoded entry, which the SWA is to
// sign ([ToBeSigned]), and refuses one that [VerifyEntry] would refuse for another reason than its signature.
func NewEntry(s State, kind string, body any, created int64) ([]byte, error) {
	raw, err := envelope.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("ledger: body of %s: %w", kind, err)
	}
	e := Entry{
		Version: EntryVersion, System: s.System(), Position: s.Height() + 1, Prev: s.Head(),
		Kind: kind, Body: raw, Created: created,
	}
	if _, err := checkEntry(s, &e, envelope.Hash{}); err != nil {
		return nil, err
	}
	entry, err := envelope.Marshal(&e)
	if err != nil {
		return nil, fmt.Errorf("ledger: entry: %w", err)
	}
	if len(entry) > MaxEntry {
		return nil, fmt.Errorf("ledger: entry has %d bytes, at most %d", len(entry), MaxEntry)
	}
	return entry, nil
}

// CheckDraft refuses an unsigned entry that could not follow s, for all reasons but its signature. Devices call it before they
// make a partial signature for an entry. Errors as for [VerifyEntry].
func CheckDraft(s State, entry []byte) (*Entry, error) {
	e, err := DecodeEntry(entry)
	if err != nil {
		return nil, err
	}
	if e.System != s.System() {
		return nil, &SystemError{Got: e.System, Want: s.System()}
	}
	if _, err := checkEntry(s, e, EntryHash(entry)); err != nil {
		return nil, err
	}
	return e, nil
}

// DecodeEntry reads an encoded entry strictly. Its kind and place in a chain are not looked at.
func DecodeEntry(raw []byte) (*Entry, error) {
	if len(raw) > MaxEntry {
		return nil, fmt.Errorf("ledger: entry has %d bytes, at most %d", len(raw), MaxEntry)
	}
	var e Entry
	if err := envelope.Unmarshal(raw, &e); err != nil {
		return nil, fmt.Errorf("ledger: entry: %w", err)
	}
	if e.Version != EntryVersion {
		return nil, &VersionError{What: "entry", Got: e.Version, Want: EntryVersion}
	}
	return &e, nil
}

// effect is what a command does to the tables. It never fails: all that can fail was checked.
type effect func(State) State

// VerifiedEntry is an entry that the SWA signed and that follows a certain state. Only [VerifyEntry] makes one.
type VerifiedEntry struct {
	entry Entry
	hash  envelope.Hash
	apply effect
}

// Entry is the command.
func (v *VerifiedEntry) Entry() Entry {
	e := v.entry
	e.Body = slices.Clone(e.Body)
	return e
}

// Hash is the entry's hash, which is the head once it is applied.
func (v *VerifiedEntry) Hash() envelope.Hash { return v.hash }

// VerifyEntry checks that x is signed by the SWA and is the next entry of s.
//
// The signature is checked before the place in the chain, so that a *ForkError is always proof. Errors: ErrSignature,
// *AlgorithmError, *VersionError, *SystemError, *ReplayError, *GapError, *ForkError, *TimeError, *KindError, those of
// envelope.Unmarshal, and for a body that its kind refuses an error that says why.
func VerifyEntry(s State, x SignedEntry) (*VerifiedEntry, error) {
	e, err := DecodeEntry(x.Entry)
	if err != nil {
		return nil, err
	}
	if e.System != s.System() {
		return nil, &SystemError{Got: e.System, Want: s.System()}
	}
	if err := s.verifySWA(x); err != nil {
		return nil, err
	}
	hash := EntryHash(x.Entry)
	apply, err := checkEntry(s, e, hash)
	if err != nil {
		return nil, err
	}
	return &VerifiedEntry{entry: *e, hash: hash, apply: apply}, nil
}

func (s State) verifySWA(x SignedEntry) error {
	t := s.tables()
	if len(t.genesis.Keys) == 0 {
		return ErrSignature
	}
	k := &t.genesis.Keys[t.ledgerKey]
	if !slices.Contains(k.Algorithms, x.Algorithm) {
		return &AlgorithmError{x.Algorithm}
	}
	alg := threshold.Algorithm(x.Algorithm)
	h := alg.Hash().New()
	h.Write(ToBeSigned(x.Entry))
	if err := threshold.VerifySignature(&k.Public, alg, h.Sum(nil), x.Signature); err != nil {
		return fmt.Errorf("%w (%w)", ErrSignature, err)
	}
	return nil
}

// checkEntry finds an entry's place and reads its command.
func checkEntry(s State, e *Entry, hash envelope.Hash) (effect, error) {
	if err := checkPlace(s, e, hash); err != nil {
		return nil, err
	}
	check, ok := commands[e.Kind]
	if !ok {
		return nil, &KindError{Position: e.Position, Kind: e.Kind}
	}
	apply, err := check(s, e)
	if err != nil {
		return nil, fmt.Errorf("ledger: entry %d, %s: %w", e.Position, e.Kind, err)
	}
	return apply, nil
}

// checkPlace demands that an entry is the next of s.
func checkPlace(s State, e *Entry, hash envelope.Hash) error {
	height, head := s.Height(), s.Head()
	switch {
	case e.Position <= height:
		// Position 0 is the genesis, and no entry hashes to it.
		if known, _ := s.HashAt(e.Position); known != hash {
			return &ForkError{Position: e.Position, Known: known, Got: hash}
		}
		return &ReplayError{Position: e.Position, Height: height}
	case e.Position > height+1:
		return &GapError{Position: e.Position, Height: height}
	case e.Prev != head:
		return &ForkError{Position: e.Position, Known: head, Got: e.Prev}
	case e.Created < s.Time() || e.Created > maxTime:
		return &TimeError{Position: e.Position, Created: e.Created, Low: s.Time()}
	}
	return nil
}

// ApplyVerified is s with the entry applied. The entry must have been verified against s; verified against another state it is
// refused with *ReplayError, *GapError or *ForkError.
func ApplyVerified(s State, v *VerifiedEntry) (State, error) {
	if v == nil || v.apply == nil {
		return s, errors.New("ledger: entry was not verified")
	}
	if v.entry.System != s.System() {
		return s, &SystemError{Got: v.entry.System, Want: s.System()}
	}
	// The entry names the head that it follows, and one head is one state: what was checked against it holds.
	if err := checkPlace(s, &v.entry, v.hash); err != nil {
		return s, err
	}
	next := v.apply(s)
	next.chain = &link{prev: s.chain, position: v.entry.Position, hash: v.hash, created: v.entry.Created}
	return next, nil
}

// Has reports whether an entry is in the chain of s, whoever signed this copy of it.
func (s State) Has(x SignedEntry) bool {
	e, err := DecodeEntry(x.Entry)
	if err != nil || e.Position == 0 || e.Position > s.Height() {
		return false
	}
	known, _ := s.HashAt(e.Position)
	return known == EntryHash(x.Entry)
}

// Catchup applies the entries of a chain that s does not have yet. Entries that s has may come first and are passed over if they
// are the same; others are forks. If an entry is refused, the state up to it is returned with a *CatchupError: what came before was
// verified and stands.
func Catchup(s State, entries []SignedEntry) (State, error) {
	for i, x := range entries {
		if s.Has(x) {
			continue
		}
		v, err := VerifyEntry(s, x)
		if err != nil {
			return s, &CatchupError{Index: i, Err: err}
		}
		if s, err = ApplyVerified(s, v); err != nil {
			return s, &CatchupError{Index: i, Err: err}
		}
	}
	return s, nil
}

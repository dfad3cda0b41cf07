package approval

import (
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// TypeUnlockOffer and TypeUnlockApproval are the messages by which officers open a locked device, both of version Version.
const (
	TypeUnlockOffer    = "unlock.offer"    // UnlockOffer, signed with the device's boot key
	TypeUnlockApproval = "unlock.approval" // UnlockApproval, signed in slot 9C
)

// UnlockOffer is a locked device's one-time key. A locked token cannot sign, so the offer is signed with the boot key, a key on
// the device's disk that the genesis lists: it keeps network attackers out, not a thief of the disk, who gains only the PIN
// (docs/decisions.md).
type UnlockOffer struct {
	Device string `cbor:"1,keyasint"`
	// Instance is what the officers enrol at the device's beat sources by opening it. Design §7.
	Instance [16]byte `cbor:"2,keyasint"`
	// Public is an uncompressed P-256 point, 65 bytes.
	Public  []byte `cbor:"3,keyasint"`
	Created int64  `cbor:"4,keyasint"`
	Expires int64  `cbor:"5,keyasint"`
	// Log and LogHead are the length and head of the device's log, by which officers and beat sources see whether its disk is an
	// older one than the device had.
	Log     uint64        `cbor:"6,keyasint"`
	LogHead envelope.Hash `cbor:"7,keyasint"`
}

// UnlockApproval is an officer's word that a device may be unlocked, with his piece of the PIN sealed to the offer's key.
type UnlockApproval struct {
	Device string        `cbor:"1,keyasint"`
	Offer  envelope.Hash `cbor:"2,keyasint"` // digest of the offer message
	Piece  string        `cbor:"3,keyasint"` // piece id
	// Sealed is the piece; empty in an approval of a device whose PIN is not asked for.
	Sealed  []byte `cbor:"4,keyasint"`
	Created int64  `cbor:"5,keyasint"`
	Expires int64  `cbor:"6,keyasint"`
	// Restored says that the officer knows that the device's log is shorter than it was, and takes it back with the disk it has.
	Restored bool `cbor:"7,keyasint"`
}

// Unlock is an officer's word to unlock, verified.
type Unlock struct {
	UnlockApproval
	Person, Name string
	Signer       envelope.KeyID
}

// VerifyUnlock checks that an officer of the device said to unlock it, in answer to this very offer, and that his word is fresh.
func VerifyUnlock(s ledger.State, device string, offer envelope.Hash, raw []byte, now int64) (*Unlock, error) {
	a, v, err := verifyUnlock(s, device, offer, raw, now)
	if err != nil {
		return nil, err
	}
	if err := v.CheckFresh(now, unlockSkew); err != nil {
		return nil, err
	}
	return a, nil
}

// Answers refuses a word that is older than what it answers, an offer made at offered. Enrolments are in the order of their officers'
// words: one officer alone could otherwise open a device with the others and, by dating his word back, have no source take it. Sources
// do not ask: they have only the device's clock to go by.
func (u *Unlock) Answers(offered int64) error {
	if u.Created < offered-unlockSkew {
		return fmt.Errorf("%s spoke at %d, before the device asked at %d: compare the clocks", u.Name, u.Created, offered)
	}
	return nil
}

func verifyUnlock(s ledger.State, device string, offer envelope.Hash, raw []byte, now int64) (*Unlock, *envelope.Verified, error) {
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, nil, err
	}
	person, card, ok := s.PersonOfKey(u.Header().Signer)
	if !ok || len(card.Sign) == 0 {
		return nil, nil, fmt.Errorf("signed by key %s, which is no officer's", u.Header().Signer)
	}
	pub, err := envelope.ParseSigningKey(card.Sign)
	if err != nil {
		return nil, nil, err
	}
	v, err := u.Verify(pub)
	if err != nil {
		return nil, nil, err
	}
	if v.Header().System != s.System() {
		return nil, nil, fmt.Errorf("%s unlocked a device of another system", person.Name)
	}
	a := &Unlock{Person: person.ID, Name: person.Name, Signer: v.Signer()}
	if err := envelope.Decode(v, TypeUnlockApproval, Version, &a.UnlockApproval); err != nil {
		return nil, nil, err
	}
	if h := v.Header(); h.Created != a.Created || h.Expires != a.Expires {
		return nil, nil, fmt.Errorf("header and payload of %s's word name different times", person.Name)
	}
	if a.Device != device || a.Offer != offer {
		return nil, nil, fmt.Errorf("%s unlocked %s for another offer: ask for the present one", person.Name, a.Device)
	}
	for _, o := range s.OfficersOf(device, now) {
		if o.Person == person.ID && o.Card == card.Serial {
			return a, v, nil
		}
	}
	return nil, nil, fmt.Errorf("%s is not an officer of device %s", person.Name, device)
}

// Enrolment is the proof that a quorum of officers opened an instance of their device: what they were shown, and what they said.
type Enrolment struct {
	Offer     []byte   `cbor:"1,keyasint"` // COSE_Sign1, an UnlockOffer
	Approvals [][]byte `cbor:"2,keyasint"` // COSE_Sign1, an UnlockApproval each
}

// Enrolled is an Enrolment that was verified.
type Enrolled struct {
	Instance [16]byte
	// Log is the length of the device's log as the officers saw it, LogHead its head.
	Log     uint64
	LogHead envelope.Hash
	// At is when the first of the counted officers spoke, by his own clock. Nothing said before it can be part of a later enrolment
	// that replaces this one.
	At int64
	// Restored says that every counted officer took back a device whose log is shorter than it was.
	Restored bool
	Officers []string // person ids
}

// ErrNoEnrolment reports that there is none.
var ErrNoEnrolment = errors.New("approval: no officers have enrolled this instance")

// VerifyEnrolment checks that a quorum of a device's officers opened the instance that is named in their offer. It says nothing
// about freshness: whoever believes an enrolment orders it by At.
func VerifyEnrolment(s ledger.State, device string, e *Enrolment, now int64) (*Enrolled, error) {
	if e == nil {
		return nil, ErrNoEnrolment
	}
	d, ok := s.Device(device)
	if !ok {
		return nil, fmt.Errorf("device %s is not in the ledger", device)
	}
	if d.UnlockQuorum < 2 {
		return nil, fmt.Errorf("the ledger names no quorum for unlocking device %s", device)
	}
	if len(e.Approvals) > MaxApprovals {
		return nil, fmt.Errorf("%d approvals, at most %d", len(e.Approvals), MaxApprovals)
	}
	u, err := envelope.Parse(e.Offer)
	if err != nil {
		return nil, fmt.Errorf("unlock offer: %w", err)
	}
	boot, err := envelope.ParseSigningKey(d.Boot)
	if err != nil {
		return nil, err
	}
	v, err := u.Verify(boot)
	if err != nil {
		return nil, fmt.Errorf("unlock offer: %w", err)
	}
	var o UnlockOffer
	if err := envelope.Decode(v, TypeUnlockOffer, Version, &o); err != nil {
		return nil, err
	}
	if o.Device != device || v.Header().System != s.System() {
		return nil, errors.New("the unlock offer is another device's")
	}
	out := &Enrolled{Instance: o.Instance, Log: o.Log, LogHead: o.LogHead, Restored: true}
	seen := map[string]bool{}
	for _, raw := range e.Approvals {
		a, _, err := verifyUnlock(s, device, v.Digest(), raw, now)
		if err != nil {
			return nil, err
		}
		if seen[a.Person] {
			continue
		}
		seen[a.Person] = true
		if len(out.Officers) == 0 || a.Created < out.At {
			out.At = a.Created
		}
		out.Restored = out.Restored && a.Restored
		out.Officers = append(out.Officers, a.Person)
	}
	if uint64(len(out.Officers)) < d.UnlockQuorum {
		return nil, fmt.Errorf("%d of %d officers have enrolled this instance of device %s", len(out.Officers), d.UnlockQuorum, device)
	}
	if out.At > now+unlockSkew {
		return nil, fmt.Errorf("the officers of device %s spoke at %d, which is in the future: compare the clocks", device, out.At)
	}
	return out, nil
}

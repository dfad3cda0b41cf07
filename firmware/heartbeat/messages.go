package heartbeat

import (
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// Types of messages, each of version MessageVersion.
const (
	TypeChallenge = "beat.challenge"  // Challenge: a device to its sources, signed by its token
	TypeBeat      = "beat"            // Beat: a source to an instance of a device, signed by its beat key
	TypeKey       = "beat.key"        // Key: a source's identity key certifies a beat key
	TypeRevoke    = "beat.revoke"     // Revoke: a person to a source, signed in slot 9C
	TypeRevoked   = "beat.revoked"    // Revoked: the source's answer, signed by its identity key
	TypeSystem    = "beat.system"     // System: a message server to a source of its site
	TypeSystemAsk = "beat.system.ask" // SystemAsk: a source to its message server, signed by its identity key

	MessageVersion = 1
)

// Challenge is a device's query to its sources.
type Challenge struct {
	Device string `cbor:"1,keyasint"`
	// Sign and Agree are the instance's public keys, uncompressed P-256 points
	// of 65 bytes. Their hash is the instance's id.
	Sign  []byte `cbor:"2,keyasint"`
	Agree []byte `cbor:"3,keyasint"`
	// Counter rises with each challenge of an instance.
	Counter uint64   `cbor:"4,keyasint"`
	Nonce   [32]byte `cbor:"5,keyasint"`
	// Log and LogHead are the length and head of the device's durable log.
	Log     uint64        `cbor:"6,keyasint"`
	LogHead envelope.Hash `cbor:"7,keyasint"`
	// Begin lists the one-way sources that are to begin a new series.
	Begin []string `cbor:"8,keyasint,omitempty"`
	// Enrolment shows that officers opened this instance; absent for the
	// instance of the ceremony, and once all sources know the instance.
	Enrolment *approval.Enrolment `cbor:"9,keyasint,omitempty"`
	// Proof is the instance's ECDSA signature, ASN.1, over all of the above:
	// whoever has the token alone cannot speak for the instance.
	Proof []byte `cbor:"10,keyasint"`
}

// Kinds of beats.
const (
	KindAnswer  = "answer"  // to a challenge
	KindMessage = "message" // of a series (row A24)
	KindValue   = "value"   // of a sequence (row A25)
	KindRefusal = "refusal" // of a challenge
)

// Beat is what a source says to an instance of a device.
type Beat struct {
	Source   string   `cbor:"1,keyasint"`
	Device   string   `cbor:"2,keyasint"`
	Instance [16]byte `cbor:"3,keyasint"`
	Kind     string   `cbor:"4,keyasint"`
	// Nonce is the challenge's that is answered, or the one's that began the
	// series.
	Nonce [32]byte `cbor:"5,keyasint"`
	// Slot is the number of a message or value, from 1.
	Slot uint64 `cbor:"6,keyasint,omitempty"`
	// Slots is the length of the series that an answer begins.
	Slots uint64 `cbor:"7,keyasint,omitempty"`
	// Value is the element of a sequence's chain for Slot; for slot 0 in the
	// answer that begins it.
	Value envelope.Hash `cbor:"8,keyasint,omitzero"`
	// Key is the certificate of the beat key, a message of TypeKey: in each
	// answer, and in beats of a series that began under another key.
	Key []byte `cbor:"9,keyasint,omitempty"`
	// Code and Text say why a challenge is refused.
	Code string `cbor:"10,keyasint,omitempty"`
	Text string `cbor:"11,keyasint,omitempty"`
}

// Codes of refusals.
const (
	CodeInstance = "instance" // the officers have not opened this instance, or opened another since
	CodeBehind   = "behind"   // the device's log is shorter than it was, or another
	CodeRevoked  = "revoked"  // an operator or officer silenced the source for this device
)

// Key certifies a source's beat key.
type Key struct {
	Source string `cbor:"1,keyasint"`
	// Epoch counts beat keys from 1. A device that has seen a later one takes
	// no earlier one.
	Epoch uint64 `cbor:"2,keyasint"`
	// Sign is the beat key, SPKI in DER.
	Sign    []byte `cbor:"3,keyasint"`
	Created int64  `cbor:"4,keyasint"`
}

// Revoke silences a source for a device, until the device's officers open it
// anew.
type Revoke struct {
	Device string `cbor:"1,keyasint"`
	Source string `cbor:"2,keyasint"`
	Reason string `cbor:"3,keyasint"`
	// Reply is a one-time P-256 point of 65 bytes, which the confirmation is
	// sealed to.
	Reply   []byte `cbor:"4,keyasint"`
	Created int64  `cbor:"5,keyasint"`
	Expires int64  `cbor:"6,keyasint"`
}

// Revoked confirms a revocation: the source has it on its disk.
type Revoked struct {
	Device string `cbor:"1,keyasint"`
	Source string `cbor:"2,keyasint"`
	// Revocation is the digest of the Revoke message.
	Revocation envelope.Hash `cbor:"3,keyasint"`
	// At is the source's clock.
	At int64 `cbor:"4,keyasint"`
}

// System is a page of what a source has to know of the system, from its message
// server: the bundle proves itself, the entries are signed by the SWA. A page
// without either says how many there are, and the source asks for what it lacks.
type System struct {
	Bundle  []byte   `cbor:"1,keyasint"` // ledger.Bundle; empty unless it was asked for
	After   uint64   `cbor:"2,keyasint"` // the position that the entries follow
	Entries [][]byte `cbor:"3,keyasint"` // ledger.SignedEntry, in order
	Height  uint64   `cbor:"4,keyasint"` // how many there are in all
}

// SystemAsk asks for the next page. A source asks for one at a time: it has
// beats to send, and no time to take in many.
type SystemAsk struct {
	After  uint64 `cbor:"1,keyasint"` // how many entries the source has
	Bundle bool   `cbor:"2,keyasint"` // it knows no system yet
}

package firmware

import (
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Types of the messages that a commissioned device takes and gives. Each is
// the type field of a protected header; every payload below is version 1.
// Before commissioning a device takes the messages of package ceremony only.
const (
	// To the device, signed by its message server.
	TypeOfferAsk  = "offer.ask"  // OfferAsk   -> "offered" (Offered)
	TypeTask      = "task"       // Task       -> "partial" (Partial)
	TypeClose     = "close"      // Close      -> "closed" (Closed)
	TypeCheckAsk  = "check.ask"  // CheckAsk   -> "check.commit" (CheckCommit)
	TypeCheckOpen = "check.open" // CheckOpen  -> "check.answer" (CheckAnswer)
	TypeUnlockAsk = "unlock.ask" // UnlockAsk  -> "unlock.offered" (UnlockOffered)
	TypeUnlock    = "unlock"     // Unlock     -> "status" (Status)
	TypeLock      = "lock"       // Lock       -> "status" (Status)
	TypeStatusAsk = "status.ask" // StatusAsk  -> "status" (Status)
	TypeCatchup   = "catchup"    // Catchup    -> "status" (Status)
	TypeRegister  = "register"   // Register   -> "status" (Status)
	TypeRecertify = "recertify"  // Recertify  -> "requests" (Requests)

	// From the device, signed with its token unless said otherwise.
	TypeOffered       = "offered"
	TypePartial       = "partial"
	TypeClosed        = "closed"
	TypeCheckCommit   = "check.commit"
	TypeCheckAnswer   = "check.answer"
	TypeUnlockOffered = "unlock.offered"
	TypeStatus        = "status"
	TypeRequests      = "requests"
	TypeGenesis       = "genesis"
	TypeRefusal       = "refusal"

	// MessageVersion is the version of every payload in this file.
	MessageVersion = 1
)

// OfferAsk asks a device for a one-time key for a request (design.md §3).
type OfferAsk struct {
	Request []byte `cbor:"1,keyasint"` // the request, a COSE_Sign1 by its requester
}

// Offered carries the device's offer, an approval.Offer signed by its token,
// which the officers verify themselves, and each officer's sealed piece of the
// share's key, which only his card opens.
type Offered struct {
	Offer  []byte                 `cbor:"1,keyasint"`
	Pieces []ceremony.SealedPiece `cbor:"2,keyasint"`
}

// Task asks a device for its partial signature.
type Task struct {
	Request []byte `cbor:"1,keyasint"` // the request, a COSE_Sign1 by its requester
	Offer   []byte `cbor:"2,keyasint"` // the offer this device made for it, a COSE_Sign1

	// Approvals are COSE_Sign1 messages by this device's officers: in a chain
	// only the last one, which holds all before it; in a set all of them.
	Approvals [][]byte `cbor:"3,keyasint"`

	// Order lists the share indices that sign in this attempt; its set is the
	// t-subset, and for sequential signing its order is the order of signing.
	Order []uint64 `cbor:"4,keyasint"`
	// Position is this device's place in Order, from 0.
	Position uint64 `cbor:"5,keyasint"`
	// Prior holds the partial messages of the places before this one, raw and
	// in order; empty for parallel signing and at position 0.
	Prior [][]byte `cbor:"6,keyasint"`
	// Prove asks for a proof of correctness where one is not demanded anyway.
	Prove bool `cbor:"7,keyasint"`
}

// Partial is a device's partial signature.
type Partial struct {
	Request  envelope.Hash    `cbor:"1,keyasint"` // digest of the request message
	Key      string           `cbor:"2,keyasint"`
	Epoch    uint64           `cbor:"3,keyasint"`
	Device   string           `cbor:"4,keyasint"`
	Share    string           `cbor:"5,keyasint"`
	Index    uint64           `cbor:"6,keyasint"`            // the share's index
	Order    []uint64         `cbor:"7,keyasint"`            // of the attempt
	Position uint64           `cbor:"8,keyasint"`            // in Order
	Y        []byte           `cbor:"9,keyasint"`            // min(y, N−y), |N| bytes big-endian
	Proof    *threshold.Proof `cbor:"10,keyasint,omitempty"` // nil where none was made
	LogHead  envelope.Hash    `cbor:"11,keyasint"`           // of the device's log, this partial included
	Officers []string         `cbor:"12,keyasint"`           // persons whose approvals counted
	Made     int64            `cbor:"13,keyasint"`           // unix seconds
}

// Close tells a device that a request has its final signatures. The device
// verifies them and never again makes a partial for that request.
type Close struct {
	Request    []byte   `cbor:"1,keyasint"` // the request message
	Signatures [][]byte `cbor:"2,keyasint"` // bare RSA signatures, |N| bytes, one for each document
}

// Closed answers Close.
type Closed struct {
	Request envelope.Hash `cbor:"1,keyasint"`
}

// CheckAsk begins the commit-and-open check of an in-token partial
// (threshold.Challenge). Besides the challenge it carries what a Task carries,
// since the share must be opened.
type CheckAsk struct {
	Task      Task                `cbor:"1,keyasint"`
	Challenge threshold.Challenge `cbor:"2,keyasint"`
}

// CheckCommit answers CheckAsk with a commitment to the answer.
type CheckCommit struct {
	Request envelope.Hash `cbor:"1,keyasint"`
	Index   uint64        `cbor:"2,keyasint"`
	Commit  []byte        `cbor:"3,keyasint"` // 32 bytes
}

// CheckOpen shows the device how the challenge was made; only then does it
// give its answer.
type CheckOpen struct {
	Request envelope.Hash     `cbor:"1,keyasint"`
	Opening threshold.Opening `cbor:"2,keyasint"`
}

// CheckAnswer is the answer that the device committed to.
type CheckAnswer struct {
	Request envelope.Hash    `cbor:"1,keyasint"`
	Index   uint64           `cbor:"2,keyasint"`
	Answer  threshold.Answer `cbor:"3,keyasint"`
}

// UnlockAsk asks a locked device for a one-time key for pieces of its PIN.
type UnlockAsk struct {
	Device string `cbor:"1,keyasint"`
}

// UnlockOffered carries the offer, an approval.UnlockOffer, which the officers verify themselves, and
// each officer's sealed piece of the PIN.
type UnlockOffered struct {
	Offer  []byte                 `cbor:"1,keyasint"`
	Pieces []ceremony.SealedPiece `cbor:"2,keyasint"`
}

// Unlock hands a quorum of approval.UnlockApproval to the device.
type Unlock struct {
	Offer     []byte   `cbor:"1,keyasint"` // raw
	Approvals [][]byte `cbor:"2,keyasint"` // raw
}

// Lock tells the device to lock its token.
type Lock struct {
	Device string `cbor:"1,keyasint"`
	Reason string `cbor:"2,keyasint"`
}

// StatusAsk asks a device how it is.
type StatusAsk struct{}

// Status is what a device says of itself.
type Status struct {
	Device     string        `cbor:"1,keyasint"`
	Name       string        `cbor:"2,keyasint"`
	Phase      string        `cbor:"3,keyasint"` // "fresh", "ceremony", "prepared", "locked", "ready", "destroyed"
	System     envelope.Hash `cbor:"4,keyasint"`
	Firmware   envelope.Hash `cbor:"5,keyasint"`
	LedgerHead envelope.Hash `cbor:"6,keyasint"`
	Height     uint64        `cbor:"7,keyasint"`
	LogHead    envelope.Hash `cbor:"8,keyasint"`
	Log        uint64        `cbor:"9,keyasint"` // entries
	Unattended bool          `cbor:"10,keyasint"`
	Use        string        `cbor:"11,keyasint"` // "in token" or "in host"
	Shares     []string      `cbor:"12,keyasint"` // share ids held
	Partials   uint64        `cbor:"13,keyasint"` // partial signatures, powers and combined signatures made since the start
	Token      string        `cbor:"14,keyasint"` // health, as text
	Certified  bool          `cbor:"15,keyasint"` // holds its SWA certificate
	Officers   []string      `cbor:"16,keyasint"` // registered with SWA certificates
	// Lease is nil for a device that needs no beats.
	Lease *LeaseStatus `cbor:"17,keyasint,omitempty"`
	// Machines says what the device is in authorities in two layers, or is about
	// to be, by enterprise code.
	Machines []MachineStatus `cbor:"18,keyasint,omitempty"`
}

// LeaseStatus is how a device stands with its beats.
type LeaseStatus struct {
	Left    int64          `cbor:"1,keyasint"` // milliseconds; 0: no lease
	Needed  uint64         `cbor:"2,keyasint"` // sources that have to speak
	Sources []SourceStatus `cbor:"3,keyasint"` // empty while the token is locked
	Silence int64          `cbor:"4,keyasint"` // seconds of powered time without a lease that count
	Destroy int64          `cbor:"5,keyasint"` // of them destroy the shares; 0: never
	// Armed says that backups are on record, so that they really would;
	// Maintained that a notice suspends it now.
	Armed      bool `cbor:"6,keyasint"`
	Maintained bool `cbor:"7,keyasint"`
}

// SourceStatus is a heartbeat source as a device sees it.
type SourceStatus struct {
	ID    string `cbor:"1,keyasint"`
	Kind  string `cbor:"2,keyasint"`
	State string `cbor:"3,keyasint"` // heartbeat.StateSpeaks, …
	Text  string `cbor:"4,keyasint"` // why it refuses
	Left  int64  `cbor:"5,keyasint"` // milliseconds that it has granted
}

// Catchup brings a device's ledger up to date, some entries at a time: the
// status that answers it says how many the device has, and the server goes on
// from there.
type Catchup struct {
	Entries [][]byte `cbor:"1,keyasint"` // ledger.SignedEntry, in order
}

// Recertify asks a device for requests for its own SWA certificate and its
// officers' (A12, A13).
type Recertify struct {
	Expires int64 `cbor:"1,keyasint"`
}

// Requests carries signed requests made by a device.
type Requests struct {
	Requests [][]byte `cbor:"1,keyasint"`
}

// Register hands SWA certificates to the device, which verifies and keeps
// them: its own, and its officers' in its table (A13).
type Register struct {
	Certificates [][]byte `cbor:"1,keyasint"` // X.509 DER
}

// Genesis is what a commissioned device answers to a hello: enough to finish a
// ceremony whose desk was lost. The entries since, which grow for years, are not
// in it.
type Genesis struct {
	Bundle []byte `cbor:"1,keyasint"` // ledger.Bundle
}

// Refusal says why a device did not do what it was asked.
type Refusal struct {
	Request envelope.Hash `cbor:"1,keyasint"` // zero where it does not apply
	Device  string        `cbor:"2,keyasint"`
	Code    string        `cbor:"3,keyasint"` // one of the Code constants
	Text    string        `cbor:"4,keyasint"` // one line, lower case
	// Type of the message that is refused; empty where the device could not open
	// it. Who shows a refusal to others must not pass one off as another.
	Type string `cbor:"5,keyasint,omitempty"`
}

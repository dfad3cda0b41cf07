package firmware

import (
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// Types of the messages of an authority in two layers: how a device comes to a
// share that was dealt off line, and how it works as a calculator or combiner.
// All travel as those of messages.go do, and every payload is version 1.
const (
	TypeInviteAsk   = "dealing.invite"  // InviteAsk   -> "dealing.invited" (Invited)
	TypeDeal        = "dealing.install" // Deal        -> "dealing.installed" (Dealt)
	TypePowersTask  = "powers.task"     // PowersTask  -> "powers" (Powers)
	TypeCombineTask = "combine.task"    // CombineTask -> "combined" (Combined)

	TypeInvited  = "dealing.invited"
	TypeDealt    = "dealing.installed"
	TypePowers   = "powers"
	TypeCombined = "combined"

	// TypeInvitation is the message inside an Invited, which travels to the
	// distributor on a medium.
	TypeInvitation = "dealing.invitation"
	// TypeDistribution is the packet that a task distributor broadcasts, signed
	// by its message server (B [0107], [0108]).
	TypeDistribution = "distribution"
)

// InviteAsk asks a device for a one-time key to which the distributor may seal a
// share. Nothing that opens a share is ever sealed to a long-lived key.
type InviteAsk struct {
	Enterprise uint64 `cbor:"1,keyasint"` // code
}

// Invited carries the invitation, an Invitation signed by the device's token.
type Invited struct {
	Invitation []byte `cbor:"1,keyasint"`
}

// Invitation is a one-time key for one dealing. The device keeps the private
// key in memory: it is gone at the next lock or restart.
type Invitation struct {
	Enterprise uint64   `cbor:"1,keyasint"`
	Device     string   `cbor:"2,keyasint"`
	Instance   [16]byte `cbor:"3,keyasint"`
	Public     []byte   `cbor:"4,keyasint"` // P-256 point, 65 bytes
	Created    int64    `cbor:"5,keyasint"`
	Expires    int64    `cbor:"6,keyasint"`
}

// Deal hands a device its share of a dealing. The device checks it against the
// dealing, stores it under a fresh officers' key, and uses it only while the
// ledger has this very dealing, or a later one that has the same version of its
// share.
type Deal struct {
	Dealing []byte `cbor:"1,keyasint"` // ledger.Dealing
	Sealed  []byte `cbor:"2,keyasint"` // DealtShare, sealed to the invitation's key
}

// DealtShare is what the distributor seals to a device.
type DealtShare struct {
	Dealing envelope.Hash      `cbor:"1,keyasint"` // ledger.Dealing.Digest
	Device  string             `cbor:"2,keyasint"`
	Share   string             `cbor:"3,keyasint"` // share id
	Version uint64             `cbor:"4,keyasint"`
	Layer   uint64             `cbor:"5,keyasint"`
	Number  uint64             `cbor:"6,keyasint"` // of the machine in its layer
	Parts   []threshold.Secret `cbor:"7,keyasint"` // a calculator's sub-keys, or a combiner's c_a
}

// Dealt answers Deal.
type Dealt struct {
	Dealing envelope.Hash `cbor:"1,keyasint"`
	Device  string        `cbor:"2,keyasint"`
	Share   string        `cbor:"3,keyasint"`
	Version uint64        `cbor:"4,keyasint"`
}

// Distribution is a task as the task distributor broadcasts it on channel B1.
type Distribution struct {
	Enterprise  uint64        `cbor:"1,keyasint"` // code
	Distributor uint64        `cbor:"2,keyasint"` // number
	Task        uint64        `cbor:"3,keyasint"` // number, unique for TaskPeriod at its distributor
	Request     envelope.Hash `cbor:"4,keyasint"` // digest of the request message
	Hash        []byte        `cbor:"5,keyasint"` // of what is signed (document.Checked.Digest): M in B
	Created     int64         `cbor:"6,keyasint"`
	Expires     int64         `cbor:"7,keyasint"`
	Documents   uint64        `cbor:"8,keyasint"` // of the request: more than one in a batch
}

// PowersTask asks a calculator for the powers of its sub-keys.
type PowersTask struct {
	Distribution []byte   `cbor:"1,keyasint"` // the packet, raw
	Request      []byte   `cbor:"2,keyasint"` // raw
	Offer        []byte   `cbor:"3,keyasint"` // the offer this device made for it, raw
	Approvals    [][]byte `cbor:"4,keyasint"` // of its officers, raw
	// Prove asks for proofs that the powers are those of the published check
	// values, where the sub-keys are used in the host.
	Prove bool `cbor:"5,keyasint"`
}

// Powers are a calculator's partial signatures M^d_ji, as it broadcasts them on
// channel B2 (B [0111]).
type Powers struct {
	Enterprise  uint64             `cbor:"1,keyasint"`
	Distributor uint64             `cbor:"2,keyasint"`
	Task        uint64             `cbor:"3,keyasint"`
	Request     envelope.Hash      `cbor:"4,keyasint"`
	Hash        []byte             `cbor:"5,keyasint"`
	Key         string             `cbor:"6,keyasint"`
	Device      string             `cbor:"7,keyasint"`
	Share       string             `cbor:"8,keyasint"`
	Number      uint64             `cbor:"9,keyasint"`            // j
	Y           [][]byte           `cbor:"10,keyasint"`           // of each document in turn: min(y, N−y) for i = 1 … l, |N| bytes each
	Proofs      []*threshold.Proof `cbor:"11,keyasint,omitempty"` // one for each Y, or none
	LogHead     envelope.Hash      `cbor:"12,keyasint"`
	Officers    []string           `cbor:"13,keyasint"`
	Made        int64              `cbor:"14,keyasint"`
}

// CombineTask hands a combiner the powers of at least t calculators.
type CombineTask struct {
	Distribution []byte   `cbor:"1,keyasint"`
	Request      []byte   `cbor:"2,keyasint"`
	Offer        []byte   `cbor:"3,keyasint"`
	Approvals    [][]byte `cbor:"4,keyasint"`
	Powers       [][]byte `cbor:"5,keyasint"` // raw messages of calculators
}

// Combined are a combiner's signatures, as it broadcasts them on channel B3. They
// have verified; whoever receives them verifies them again.
type Combined struct {
	Enterprise  uint64        `cbor:"1,keyasint"`
	Distributor uint64        `cbor:"2,keyasint"`
	Task        uint64        `cbor:"3,keyasint"`
	Request     envelope.Hash `cbor:"4,keyasint"`
	Key         string        `cbor:"5,keyasint"`
	Device      string        `cbor:"6,keyasint"`
	Share       string        `cbor:"7,keyasint"`
	Number      uint64        `cbor:"8,keyasint"` // of the combiner
	// Of each document: the signature, and the combination that gave it.
	Combinations []grouping.Combination `cbor:"9,keyasint"`
	Signatures   [][]byte               `cbor:"10,keyasint"` // |N| bytes
	// Wrong are the numbers of calculators whose powers this combiner found
	// wrong on the way, of some document: its word, which others judge. Who proves
	// all its powers right proves the combiner a liar.
	Wrong    []uint64      `cbor:"11,keyasint"`
	LogHead  envelope.Hash `cbor:"12,keyasint"`
	Officers []string      `cbor:"13,keyasint"`
	Made     int64         `cbor:"14,keyasint"`
	// Suspects are those of combinations that gave no signature, where it cannot
	// tell which of them was wrong (twolayer.Solution).
	Suspects []uint64 `cbor:"15,keyasint,omitempty"`
	// Given are the PowersHash of what those in Wrong had sent it, in their
	// order. A calculator can send it other powers than it sends, and proves to,
	// the distributor; and the packets that bring its messages along are not
	// signed.
	Given []envelope.Hash `cbor:"16,keyasint,omitempty"`
}

package ceremony

import (
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Types of the messages of the initialisation protocol, stage by stage
// (source A, "Encryption Key Distribution" to "Authorizing Agent
// Recertification"). Requests come from the desk: the key that the
// administrator's card named in its opening. All payloads are version 1.
const (
	TypeOpen   = "ceremony.open"   // Open, signed by the administrator's card
	TypeEnrol  = "ceremony.enrol"  // Enrolment, signed by an officer's card
	TypeRoster = "ceremony.roster" // Roster, signed by the administrator's card

	TypeHello     = "ceremony.hello"     // Hello   -> Identity              stage 1
	TypeIdentity  = "ceremony.identity"  //
	TypeJoin      = "ceremony.join"      // Join    -> Joined                stage 2
	TypeJoined    = "ceremony.joined"    //
	TypeSeed      = "ceremony.seed"      // Seed, device to lead, inside Joined
	TypeDeal      = "ceremony.deal"      // Deal    -> Dealt, at the lead    stage 3
	TypeDealt     = "ceremony.dealt"     //
	TypeShare     = "ceremony.share"     // ShareMessage, lead to device, inside Dealt
	TypeInstall   = "ceremony.install"   // Install -> Installed
	TypeInstalled = "ceremony.installed" //
	TypeTest      = "ceremony.test"      // Test    -> Tested
	TypeTested    = "ceremony.tested"    //
	TypePrepare   = "ceremony.prepare"   // Prepare -> Prepared
	TypePrepared  = "ceremony.prepared"  //
	TypeCommit    = "ceremony.commit"    // Commit  -> Committed
	TypeCommitted = "ceremony.committed" //
	TypeAbort     = "ceremony.abort"     // Abort   -> Committed (phase fresh)

	TypeRecord = "ceremony.record" // Record, signed by the administrator's card

	MessageVersion = 1
)

// Open is the administrator's word that a ceremony begins: what was reviewed,
// which attempt this is, and which desk speaks for him until NotAfter.
type Open struct {
	Plan    Plan   `cbor:"1,keyasint"`
	Attempt uint64 `cbor:"2,keyasint"` // from 1; a device leaves an attempt only for a higher one

	Administrator ledger.Card `cbor:"3,keyasint"` // the temporary administrator's own card (A9)
	DeskSign      []byte      `cbor:"4,keyasint"` // SPKI, P-256
	DeskAgree     []byte      `cbor:"5,keyasint"` // SPKI, P-256
	NotBefore     int64       `cbor:"6,keyasint"` // unix seconds
	NotAfter      int64       `cbor:"7,keyasint"` // hours, not days, later (A9)
}

// Hello begins stage 1 at a device. It is the one request that is not sealed:
// the desk does not know the device's key yet.
//
// A device that has signed a genesis answers with Committed instead, phase
// "prepared", and one that is in a system with that system's genesis.
type Hello struct {
	Open []byte `cbor:"1,keyasint"` // the Open message, raw
	// Leave says that the desk asked every device, and that the genesis which
	// this one signed was committed nowhere: it is to forget it.
	Leave bool `cbor:"2,keyasint"`
}

// Identity is a device's answer to Hello (A8): its keys, its maker's
// certificates, and the hash of the firmware it runs, signed with its key.
type Identity struct {
	Device    string        `cbor:"1,keyasint"`
	Serial    string        `cbor:"2,keyasint"`
	Model     string        `cbor:"3,keyasint"`
	Sign      []byte        `cbor:"4,keyasint"` // SPKI
	Agree     []byte        `cbor:"5,keyasint"` // SPKI
	Boot      []byte        `cbor:"6,keyasint"` // SPKI
	SignCert  [][]byte      `cbor:"7,keyasint"` // DER, leaf first; empty in a vault ceremony
	AgreeCert [][]byte      `cbor:"8,keyasint"`
	Firmware  envelope.Hash `cbor:"9,keyasint"`
	Instance  [16]byte      `cbor:"10,keyasint"`
	OneTime   []byte        `cbor:"11,keyasint"` // uncompressed P-256 point: shares of this attempt are sealed to it
	InToken   bool          `cbor:"12,keyasint"` // the token passed the self-test of partial exponentiation
	Open      envelope.Hash `cbor:"13,keyasint"` // digest of the Open message
}

// Enrolment is an officer's request for a temporary certificate (A9): who he
// is and which card speaks for him, with the card's own attestations.
type Enrolment struct {
	Open   envelope.Hash `cbor:"1,keyasint"`
	Person string        `cbor:"2,keyasint"`
	Card   ledger.Card   `cbor:"3,keyasint"`
}

// Roster is the temporary certificate of everyone who takes part, by the
// administrator's card, valid for hours, before witnesses (A9, Fig. 4).
type Roster struct {
	Open       envelope.Hash `cbor:"1,keyasint"`
	Identities [][]byte      `cbor:"2,keyasint"` // raw, in the order of the plan's devices
	Enrolments [][]byte      `cbor:"3,keyasint"` // raw, in the order of the plan's persons that have a card
	Witnesses  []string      `cbor:"4,keyasint"`
	NotBefore  int64         `cbor:"5,keyasint"`
	NotAfter   int64         `cbor:"6,keyasint"`
}

// Join hands the roster to a device.
type Join struct {
	Roster []byte `cbor:"1,keyasint"` // raw
}

// Joined says that a device accepts the roster, and carries its seed.
type Joined struct {
	Roster envelope.Hash `cbor:"1,keyasint"`
	Seed   []byte        `cbor:"2,keyasint"` // a Seed message, sealed to the lead's one-time key
}

// Seed is a device's random contribution to every key of the ceremony (A10).
type Seed struct {
	Roster envelope.Hash    `cbor:"1,keyasint"`
	Device string           `cbor:"2,keyasint"`
	Value  threshold.Secret `cbor:"3,keyasint"` // 64 bytes
}

// Deal asks the lead to make one key and to split it.
type Deal struct {
	Roster envelope.Hash `cbor:"1,keyasint"`
	Key    string        `cbor:"2,keyasint"`
	Joined [][]byte      `cbor:"3,keyasint"` // raw, of every device
}

// Dealt is what the lead made public of a key, with a sealed share for each
// holder. The whole key is gone when this leaves the lead.
type Dealt struct {
	Roster envelope.Hash `cbor:"1,keyasint"`
	Key    ledger.Key    `cbor:"2,keyasint"` // with commitment, root certificate, holders
	Shares []SealedShare `cbor:"3,keyasint"` // one for each holder
}

// SealedShare is a ShareMessage sealed to the holder's one-time key.
type SealedShare struct {
	Device string `cbor:"1,keyasint"`
	Sealed []byte `cbor:"2,keyasint"`
}

// ShareMessage carries a share from the lead to its holder with every fact
// that source A lists (stage 3, step 4).
type ShareMessage struct {
	TypeCode string          `cbor:"1,keyasint"` // "signature key share", scheme and length in the key
	Roster   envelope.Hash   `cbor:"2,keyasint"`
	Key      string          `cbor:"3,keyasint"`
	Epoch    uint64          `cbor:"4,keyasint"`
	ShareID  string          `cbor:"5,keyasint"`
	N        uint64          `cbor:"6,keyasint"` // shares dealt
	T        uint64          `cbor:"7,keyasint"` // shares needed
	Holders  []ledger.Holder `cbor:"8,keyasint"` // who holds the others
	Officers [][]byte        `cbor:"9,keyasint"` // key ids (32 bytes) of the officers' signing keys
	Modulus  []byte          `cbor:"10,keyasint"`
	Share    threshold.Share `cbor:"11,keyasint"`
}

// Install hands the lead's dealing of a key to a holder.
type Install struct {
	Dealt []byte `cbor:"1,keyasint"` // raw, signed by the lead
}

// SealedPiece is a piece of a share's key or of the token's PIN, sealed to an
// officer's 9D key. The device keeps it and hands it out with every offer:
// only the officer's card opens it.
type SealedPiece struct {
	ID      string         `cbor:"1,keyasint"` // piece id
	Purpose string         `cbor:"2,keyasint"` // "share" or "pin"
	Device  string         `cbor:"3,keyasint"`
	Share   string         `cbor:"4,keyasint"` // share id, "" for the PIN
	Person  string         `cbor:"5,keyasint"`
	Card    envelope.KeyID `cbor:"6,keyasint"` // of the 9D key
	Sealed  []byte         `cbor:"7,keyasint"`
}

// Installed says that a holder keeps its share.
type Installed struct {
	Roster envelope.Hash `cbor:"1,keyasint"`
	Share  string        `cbor:"2,keyasint"` // "" if the device holds none of this key
}

// Test asks a holder for its part of a test signature by one subset. Every
// subset signs once before the genesis is prepared (design.md §6).
type Test struct {
	Key      string   `cbor:"1,keyasint"`
	Order    []uint64 `cbor:"2,keyasint"` // share indices
	Position uint64   `cbor:"3,keyasint"`
	Prior    [][]byte `cbor:"4,keyasint"` // Tested messages, raw, sequential only
}

// Tested is a holder's partial of a test signature.
type Tested struct {
	Roster   envelope.Hash    `cbor:"1,keyasint"`
	Key      string           `cbor:"2,keyasint"`
	Order    []uint64         `cbor:"3,keyasint"`
	Position uint64           `cbor:"4,keyasint"`
	Y        []byte           `cbor:"5,keyasint"`
	Proof    *threshold.Proof `cbor:"6,keyasint,omitempty"`
}

// Prepare shows a device the genesis that the desk drew up.
type Prepare struct {
	Genesis []byte `cbor:"1,keyasint"` // ledger.Genesis
}

// Prepared is a device's signature under the genesis. From here on the device
// survives a restart with its share and its officers' sealed pieces.
type Prepared struct {
	Signature []byte `cbor:"1,keyasint"` // a genesis.sign message, raw
}

// Commit hands the device the genesis with everyone's signatures.
type Commit struct {
	Bundle []byte `cbor:"1,keyasint"` // ledger.Bundle
}

// Committed says in which phase the device is now.
type Committed struct {
	Phase  string        `cbor:"1,keyasint"`
	System envelope.Hash `cbor:"2,keyasint"`
	// Identity is the device's Identity message for the opening in force, where
	// this answers Hello: a desk that has just begun knows the device by it.
	Identity []byte `cbor:"3,keyasint"`
}

// Abort makes a device forget an attempt that has no committed genesis.
type Abort struct {
	Reason string `cbor:"1,keyasint"`
}

// Record is what remains of a ceremony for the archive.
type Record struct {
	Plan         Plan            `cbor:"1,keyasint"`
	Attempt      uint64          `cbor:"2,keyasint"`
	System       envelope.Hash   `cbor:"3,keyasint"` // genesis hash
	Bundle       []byte          `cbor:"4,keyasint"` // genesis and signatures
	Open         []byte          `cbor:"5,keyasint"`
	Roster       []byte          `cbor:"6,keyasint"`
	Tests        []TestSignature `cbor:"7,keyasint"`
	Certificates [][]byte        `cbor:"8,keyasint"` // SWA certificates of devices and officers, DER
	Finished     int64           `cbor:"9,keyasint"`
}

// TestSignature is one subset's test signature.
type TestSignature struct {
	Key       string   `cbor:"1,keyasint"`
	Order     []uint64 `cbor:"2,keyasint"`
	Signature []byte   `cbor:"3,keyasint"`
}

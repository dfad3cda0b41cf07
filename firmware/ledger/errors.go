package ledger

import (
	"errors"
	"fmt"
	"strings"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// ErrSignature is returned for an entry whose signature is not the SWA's.
var ErrSignature = errors.New("ledger: signature is not the system-wide authority's: ask for the entry from another device")

// InvalidError says what is wrong with a genesis.
type InvalidError struct {
	Where string // the row, e.g. `device "d1"`
	Why   string // the fault, with what would be right
}

func (e *InvalidError) Error() string { return "ledger: genesis: " + e.Where + ": " + e.Why }

// VersionError is an unknown version of a structure.
type VersionError struct {
	What      string // "genesis" or "entry"
	Got, Want uint64
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("ledger: %s has version %d, this firmware understands %d", e.What, e.Got, e.Want)
}

// SystemError is a genesis or an entry of another system.
type SystemError struct{ Got, Want envelope.Hash }

func (e *SystemError) Error() string {
	return fmt.Sprintf("ledger: belongs to system %v, this is %v", e.Got, e.Want)
}

// MissingSignaturesError names who has not signed a genesis.
type MissingSignaturesError struct{ Missing []string }

func (e *MissingSignaturesError) Error() string {
	return "ledger: genesis is not signed by " + strings.Join(e.Missing, ", ")
}

// BundleError is a signature in a bundle that does not belong there.
type BundleError struct {
	Index  int            // of the signature in the bundle
	Signer envelope.KeyID // who claims to have made it
	Name   string         // who that is, "" if unknown
	Err    error
}

func (e *BundleError) Error() string {
	who := e.Name
	if who == "" {
		who = "key " + e.Signer.String()
	}
	return fmt.Sprintf("ledger: genesis signature %d by %s: %v", e.Index, who, e.Err)
}

func (e *BundleError) Unwrap() error { return e.Err }

// ReplayError is an entry that the state already contains.
type ReplayError struct{ Position, Height uint64 }

func (e *ReplayError) Error() string {
	return fmt.Sprintf("ledger: entry %d is already in the chain, which has %d", e.Position, e.Height)
}

// GapError is an entry beyond the next position: those between are missing.
type GapError struct{ Position, Height uint64 }

func (e *GapError) Error() string {
	return fmt.Sprintf("ledger: entry %d does not follow entry %d: hand over those between first", e.Position, e.Height)
}

// ForkError is an entry, correctly signed by the SWA, that contradicts the chain. It is proof of a fault of the authority itself:
// keep both chains and call the operators.
type ForkError struct {
	Position uint64        // of the contradicting entry
	Known    envelope.Hash // the hash that the chain has: of the entry at that position, or of the one before
	Got      envelope.Hash // the hash that the entry has or names in that place
}

func (e *ForkError) Error() string {
	return fmt.Sprintf("ledger: entry %d forks the chain: %v here, %v there: stop and compare the devices", e.Position, e.Known, e.Got)
}

// TimeError is an entry that claims to be older than the one before.
type TimeError struct {
	Position     uint64
	Created, Low int64
}

func (e *TimeError) Error() string {
	return fmt.Sprintf("ledger: entry %d was created at %d, before the entry it follows (%d)", e.Position, e.Created, e.Low)
}

// KindError is an entry of a kind that this firmware does not know.
type KindError struct {
	Position uint64
	Kind     string
}

func (e *KindError) Error() string {
	return fmt.Sprintf("ledger: entry %d has unknown kind %.64q: update the firmware before the ledger", e.Position, e.Kind)
}

// AlgorithmError is an entry signed with an algorithm that the ledger key does not have.
type AlgorithmError struct{ Algorithm string }

func (e *AlgorithmError) Error() string {
	return fmt.Sprintf("ledger: algorithm %.16q is not one of the ledger key's", e.Algorithm)
}

// CatchupError is the first entry of a chain that could not be applied.
type CatchupError struct {
	Index int // in the slice that was handed over
	Err   error
}

func (e *CatchupError) Error() string {
	return fmt.Sprintf("ledger: catching up, item %d: %v", e.Index, e.Err)
}
func (e *CatchupError) Unwrap() error { return e.Err }

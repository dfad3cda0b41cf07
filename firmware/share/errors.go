package share

import (
	"errors"
	"fmt"
)

var (
	// ErrWrongPieces: the pieces do not join to the secret they are meant for.
	// One of them is of another share, version or device, or was altered.
	ErrWrongPieces = errors.New("share: the officers' pieces do not join to the right key")

	// ErrTooFewPieces: fewer pieces than the threshold.
	ErrTooFewPieces = errors.New("share: too few officers' pieces")

	// ErrPiece: a piece that cannot be joined with the others: index 0 or out
	// of range, one index twice, lengths that differ.
	ErrPiece = errors.New("share: bad piece")

	// ErrTampered: the officers' key is right and the stored share does not
	// authenticate. Restore it from a backup.
	ErrTampered = errors.New("share: the stored share was altered")

	// ErrRolledBack: the stored share is older than the version in force.
	ErrRolledBack = errors.New("share: the stored share is an older version")

	// ErrWrongModulus: the stored share is for another modulus. Under a
	// modulus of an attacker's choice a partial signature would reveal it.
	ErrWrongModulus = errors.New("share: the stored share is for another modulus")

	// ErrWrongShare: the stored share is of another key, epoch, share id, layer,
	// index or a version that is not in force yet.
	ErrWrongShare = errors.New("share: another share is stored")

	// ErrNoSubset: the share has no sub-share for this subset of devices.
	ErrNoSubset = errors.New("share: no sub-share for this subset of devices")

	// ErrNoPart: a share of two layers has no part of this number.
	ErrNoPart = errors.New("share: the share has no such part")

	// ErrWidth: what the token unwrapped is no key of parts.
	ErrWidth = errors.New("share: another length than a key of parts has")

	// ErrClosed: the exponent was wiped.
	ErrClosed = errors.New("share: sub-share is no longer in use")

	// ErrFormat: a stored share that does not parse.
	ErrFormat = errors.New("share: malformed stored share")
)

// A FactError says which fact of a stored share is not the one in force. It
// wraps ErrRolledBack, ErrWrongModulus or ErrWrongShare.
type FactError struct {
	Fact       string
	Stored     string
	InForce    string
	underlying error
}

func (e *FactError) Error() string {
	return fmt.Sprintf("%v: %s is %s, in force is %s", e.underlying, e.Fact, e.Stored, e.InForce)
}

func (e *FactError) Unwrap() error { return e.underlying }

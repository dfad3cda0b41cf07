package ceremony

import (
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/firmware/envelope"
)

var (
	// ErrOutOfOrder reports a message for which the device is not ready.
	ErrOutOfOrder = errors.New("ceremony: message out of order")

	// ErrAttempt reports an opening that is not newer than the one in force.
	ErrAttempt = errors.New("ceremony: another attempt is in force")

	// ErrExpired reports that the temporary certificates have run out.
	ErrExpired = errors.New("ceremony: the temporary certificates have expired; begin a new attempt")
)

// A PlanError names what is wrong in the reviewed file.
type PlanError struct {
	Where string // "device d2", "key swa", ...
	What  string
}

func (e *PlanError) Error() string { return fmt.Sprintf("ceremony plan: %s: %s", e.Where, e.What) }

func planErr(where, format string, args ...any) error {
	return &PlanError{Where: where, What: fmt.Sprintf(format, args...)}
}

// A FirmwareMismatchError names the devices whose firmware differs (A8). It
// stops the ceremony.
type FirmwareMismatchError struct {
	Device string // the device that compared
	Own    envelope.Hash
	Other  map[string]envelope.Hash // devices that run something else
}

func (e *FirmwareMismatchError) Error() string {
	s := fmt.Sprintf("ceremony: device %s runs firmware %s, but", e.Device, e.Own)
	sep := " "
	for _, id := range sortedKeys(e.Other) {
		s += fmt.Sprintf("%sdevice %s runs %s", sep, id, e.Other[id])
		sep = ", "
	}
	return s
}

// Hint says what operators do about a differing hash.
func (e *FirmwareMismatchError) Hint() string {
	return "install the same privyseal-device on every device, check the release's published hash, and begin a new attempt"
}

// A RosterError names the party whose entry in the roster does not hold.
type RosterError struct {
	Who string // "device d2", "person alice"
	Err error
}

func (e *RosterError) Error() string { return fmt.Sprintf("ceremony: roster: %s: %v", e.Who, e.Err) }
func (e *RosterError) Unwrap() error { return e.Err }

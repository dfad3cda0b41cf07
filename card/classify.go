package card

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ebfe/scard"
	"github.com/go-piv/piv-go/v2/piv"
)

// This is the only file that looks inside errors of PC/SC and of the card.
// scard's errors are typed; piv-go's PC/SC errors are not exported and are told
// apart by their text (piv/pcsc_errors.go of piv-go v2.6.0).

// noCode marks a row that scard does not report by a code.
const noCode scard.Error = 1

// errNoAnswer is this package's own word for piv-go's "scard response too
// short".
var errNoAnswer = errors.New("answer without a status word")

// pcscFaults maps both spellings of a PC/SC error to this package's errors.
var pcscFaults = []struct {
	code scard.Error
	text string // as piv-go prints it
	is   error
}{
	{scard.ErrNoService, "the Smart card resource manager is not running", ErrNoService},
	{scard.ErrServiceStopped, "the Smart card resource manager has shut down", ErrNoService},
	{scard.ErrNoReadersAvailable, "cannot find a smart card reader", ErrNoReader},
	{scard.ErrSharingViolation, "the smart card cannot be accessed because of other connections outstanding", ErrInUse},
	{scard.ErrNoSmartcard, "the operation requires a Smart Card, but no Smart Card is currently in the device", ErrRemoved},
	{scard.ErrRemovedCard, "the smart card has been removed, so further communication is not possible", ErrRemoved},
	// A reset that this process did not make means that the card was out.
	{scard.ErrResetCard, "the smart card has been reset, so any shared state information is invalid", ErrRemoved},
	{scard.ErrUnpoweredCard, "power has been removed from the smart card, so that further communication is not possible", ErrRemoved},
	{scard.ErrUnresponsiveCard, "the smart card is not responding to a reset", ErrRemoved},
	{scard.ErrReaderUnavailable, "the specified reader is not currently available for use", ErrRemoved},
	{scard.ErrUnknownReader, "the specified reader name is not recognized", ErrRemoved},
	// What a driver says when the card goes away in the middle of a command.
	{scard.ErrNotTransacted, "an attempt was made to end a non-existent transaction", ErrRemoved},
	{scard.ErrCommError, "an internal communications error has been detected", ErrRemoved},
	{scard.ErrCommDataLost, "a communications error with the smart card has been detected", ErrRemoved},
	// What Debian's vpcd says then: success, and no answer.
	{noCode, "scard response too short", ErrRemoved},
	// The daemon died: libpcsclite forgets its handles.
	{scard.ErrInvalidHandle, "the supplied handle was invalid", ErrRemoved},
	{scard.ErrTimeout, "the user-specified timeout value has expired", ErrTimeout},
}

// Status words this package acts on (ISO 7816-4 5.1.3, SP 800-73-4 part 2).
const (
	swOK              = 0x9000
	swVerifyFailed    = 0x6300
	swSecurityStatus  = 0x6982
	swWrongData       = 0x6a80
	swFileNotFound    = 0x6a82
	swRefDataNotFound = 0x6a88
)

// statusWord reports the status word of a card's refusal, or 0.
func statusWord(err error) uint16 {
	var s interface {
		error
		Status() uint16
	}
	if errors.As(err, &s) {
		return s.Status()
	}
	var w swError
	if errors.As(err, &w) {
		return uint16(w)
	}
	return 0
}

// swError is a status word other than 9000 seen by this package's own reader
// probe.
type swError uint16

func (e swError) Error() string { return fmt.Sprintf("smart card error %04x", uint16(e)) }

// classify adds this package's error to one of PC/SC, if it is one, and leaves
// others as they are. It never hides what it was given.
func classify(err error) error {
	if err == nil || statusWord(err) != 0 {
		return err
	}
	for _, known := range []error{ErrNoService, ErrNoReader, ErrInUse, ErrRemoved, ErrTimeout, ErrSwapped} {
		if errors.Is(err, known) {
			return err
		}
	}
	if errors.Is(err, errNoAnswer) {
		return fmt.Errorf("%w: %w", ErrRemoved, err)
	}
	var code scard.Error
	typed := errors.As(err, &code)
	text := err.Error()
	for _, f := range pcscFaults {
		if typed && code == f.code || !typed && strings.Contains(text, f.text) {
			return fmt.Errorf("%w: %w", f.is, err)
		}
	}
	return err
}

// fatal reports whether the connection is of no more use after err.
func fatal(err error) bool {
	return errors.Is(err, ErrRemoved) || errors.Is(err, ErrNoService) ||
		errors.Is(err, ErrTimeout) || errors.Is(err, ErrSwapped)
}

// absent reports whether err of piv-go says that a key or object is not there.
func absent(err error) bool {
	if errors.Is(err, piv.ErrNotFound) {
		return true
	}
	switch statusWord(err) {
	case swFileNotFound, swRefDataNotFound:
		return true
	}
	return false
}

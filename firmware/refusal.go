package firmware

import (
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Codes of refusals, for programs; the text is for people.
const (
	CodePhase    = "phase"    // not commissioned, locked, or in a ceremony
	CodeMessage  = "message"  // malformed, unknown, or signed by another
	CodeRequest  = "request"  // the request or its document is not acceptable
	CodeExpired  = "expired"  // request, offer or approval
	CodeClosed   = "closed"   // the request has its signature
	CodeQuorum   = "quorum"   // approvals missing or not counting
	CodeOffer    = "offer"    // the one-time key is gone
	CodeShare    = "share"    // the share cannot be opened: tampered, wrong pieces, token gone
	CodePartial  = "partial"  // a partial before this one is wrong
	CodeTask     = "task"     // a task packet is not acceptable, or its number is taken
	CodeLedger   = "ledger"   // this device has to catch up first
	CodeLease    = "lease"    // no beats: the device is silent, or about to be
	CodeBusy     = "busy"     // another task is under way
	CodeInternal = "internal" // the token or the device failed
)

// A Fault is a refusal with its code.
type Fault struct {
	Code string
	Err  error
}

func (f *Fault) Error() string { return f.Err.Error() }
func (f *Fault) Unwrap() error { return f.Err }

func refuse(code, format string, args ...any) error {
	return &Fault{Code: code, Err: fmt.Errorf(format, args...)}
}

func faulty(code string, err error) error {
	if err == nil {
		return nil
	}
	var f *Fault
	if errors.As(err, &f) {
		return err
	}
	return &Fault{Code: code, Err: err}
}

// codeOf gives the code under which an error is refused.
func codeOf(err error) string {
	var f *Fault
	var expired *envelope.ExpiredError
	var wrong *threshold.WrongPartialError
	switch {
	case errors.As(err, &f):
		return f.Code
	case errors.As(err, &expired), errors.Is(err, document.ErrExpired):
		return CodeExpired
	case errors.As(err, &wrong):
		return CodePartial
	case errors.Is(err, share.ErrWrongPieces):
		return CodeShare
	}
	return CodeInternal
}

// requestCode tells an expired request from an unacceptable one.
func requestCode(err error) string {
	if errors.Is(err, document.ErrExpired) {
		return CodeExpired
	}
	return CodeRequest
}

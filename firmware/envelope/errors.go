package envelope

import (
	"errors"
	"fmt"
)

var (
	// ErrSignature: the bytes are a well-formed message but the signature is
	// not this key's over them.
	ErrSignature = errors.New("envelope: signature does not verify")

	// ErrWrongKey: the message names another signer than the key it is checked
	// with.
	ErrWrongKey = errors.New("envelope: key id in the message is not that of the given key")

	// ErrNotRecipient: the sealed message has no part for this key.
	ErrNotRecipient = errors.New("envelope: not sealed to this key")

	// ErrOpen: decryption failed. Which of key, info, associated data or
	// ciphertext is at fault cannot be told.
	ErrOpen = errors.New("envelope: cannot decrypt: wrong key, wrong context or altered bytes")

	// ErrHeaderCopy: the clear header of a sealed message is not the one inside.
	ErrHeaderCopy = errors.New("envelope: header outside the seal differs from the signed one inside")

	// ErrTooLarge: more than MaxMessage bytes (or another limit on a length).
	ErrTooLarge = errors.New("envelope: too large")
)

// EncodingError says which rule of the deterministic encoding was broken and
// where. Offset counts bytes from the start of the CBOR item.
type EncodingError struct {
	Offset int
	Fault  string
}

func (e *EncodingError) Error() string {
	return fmt.Sprintf("envelope: cbor at byte %d: %s", e.Offset, e.Fault)
}

// HeaderError names the field of a header that is missing, unknown or wrong.
type HeaderError struct {
	Field string
	Fault string
}

func (e *HeaderError) Error() string { return "envelope: header " + e.Field + ": " + e.Fault }

// TypeError: the message is of another type or version than was asked for.
type TypeError struct {
	Want, Got               string
	WantVersion, GotVersion uint64
}

func (e *TypeError) Error() string {
	if e.Want != e.Got {
		return fmt.Sprintf("envelope: message of type %q where %q is expected", e.Got, e.Want)
	}
	return fmt.Sprintf("envelope: %s of version %d where version %d is understood", e.Got, e.GotVersion, e.WantVersion)
}

// ExpiredError: the message's time is over. Times in seconds since 1970.
type ExpiredError struct{ Expires, Now int64 }

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("envelope: message expired %d s ago", e.Now-e.Expires)
}

// NotYetValidError: the message was made later than now. Either its sender's
// clock is fast or the receiver's is slow. Times in seconds since 1970.
type NotYetValidError struct{ Created, Now int64 }

func (e *NotYetValidError) Error() string {
	return fmt.Sprintf("envelope: message is dated %d s in the future: compare the clocks", e.Created-e.Now)
}

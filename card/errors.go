package card

import (
	"fmt"
	"strconv"
)

// fault is a sentinel error that knows its remedy.
type fault struct{ text, hint string }

func (f *fault) Error() string { return f.text }

// Hint is one sentence that says what to do.
func (f *fault) Hint() string { return f.hint }

// Errors of this package. Each is found with errors.Is; what PC/SC or the card
// said is wrapped beside it.
var (
	// ErrNoService: the PC/SC daemon does not answer.
	ErrNoService error = &fault{"no PC/SC service", "start pcscd"}
	// ErrNoReader: no card reader is attached.
	ErrNoReader error = &fault{"no card reader", "attach a reader, or check that pcscd knows its driver"}
	// ErrRemoved: the card or its reader went away, or the card stopped
	// answering. The Card is dead; whether the last command took effect is not
	// known.
	ErrRemoved error = &fault{"card removed", "insert the card and begin again"}
	// ErrInUse: another program holds the card.
	ErrInUse error = &fault{"card in use by another program", "close the other program, or wait until it is done with the card"}
	// ErrPINBlocked: no tries are left.
	ErrPINBlocked error = &fault{"PIN blocked", "unblock it with the PUK"}
	// ErrPUKBlocked: no tries are left for the PUK, either.
	ErrPUKBlocked error = &fault{"PUK blocked", "the card's keys are lost: reset the card and have it registered anew"}
	// ErrPINLength: a PIN that no card can have; it was not sent.
	ErrPINLength error = &fault{"a PIN has 6 to 8 characters", "type the PIN again; no try was used"}
	// ErrTimeout: the card did not answer before the deadline. The Card is
	// dead; whether the last command took effect is not known.
	ErrTimeout error = &fault{"card did not answer in time", "take the card out, insert it and begin again"}
	// ErrTouch: the card waited for a touch in vain.
	ErrTouch error = &fault{"card was not touched", "touch the card when it blinks"}
	// ErrSwapped: another card answers than the one that was opened, or the
	// card's answer does not fit its key. The Card is dead.
	ErrSwapped error = &fault{"another card answers than the one opened", "leave the card in its reader and begin again"}
	// ErrClosed: the Card was closed.
	ErrClosed error = &fault{"card closed", "open it again"}
	// ErrManagementKey: the card refused the management key.
	ErrManagementKey error = &fault{"wrong management key", "give the card's management key; no limit is counted for it"}
	// ErrNotPIV: the card has no PIV application.
	ErrNotPIV error = &fault{"card has no PIV application", "use a PIV card"}
)

// NotFoundError says that no reader holds the card asked for.
type NotFoundError struct {
	Serial uint32
	Seen   []uint32 // serial numbers of the PIV cards that are there
}

func (e *NotFoundError) Error() string {
	if len(e.Seen) == 0 {
		return fmt.Sprintf("card %d not found: no PIV card in any reader", e.Serial)
	}
	s := ""
	for i, n := range e.Seen {
		if i > 0 {
			s += ", "
		}
		s += strconv.FormatUint(uint64(n), 10)
	}
	return fmt.Sprintf("card %d not found; found %s", e.Serial, s)
}

// Hint says what to do.
func (e *NotFoundError) Hint() string { return fmt.Sprintf("insert card %d", e.Serial) }

// PINError says that the card refused the PIN, or the PUK.
type PINError struct {
	Serial  uint32
	Retries int  // tries left, at least 1, or -1 if the card does not say; at 0 the error is ErrPINBlocked
	PUK     bool // it was the PUK
}

func (e *PINError) Error() string {
	what := "PIN"
	if e.PUK {
		what = "PUK"
	}
	switch e.Retries {
	case unknownRetries:
		return fmt.Sprintf("wrong %s for card %d", what, e.Serial)
	case 1:
		return fmt.Sprintf("wrong %s for card %d: 1 try left", what, e.Serial)
	}
	return fmt.Sprintf("wrong %s for card %d: %d tries left", what, e.Serial, e.Retries)
}

// Hint says what to do.
func (e *PINError) Hint() string {
	switch {
	case e.Retries == 1 && e.PUK:
		return "the next wrong PUK makes the card useless: look the PUK up before the next try"
	case e.Retries == 1:
		return "the next wrong PIN blocks the card: look the PIN up before the next try"
	}
	return "check the card's number and type it again"
}

// NoKeyError says that a slot holds no key.
type NoKeyError struct {
	Serial uint32
	Slot   Slot
}

func (e *NoKeyError) Error() string {
	return fmt.Sprintf("card %d has no key in slot %v", e.Serial, e.Slot)
}

// Hint says what to do.
func (e *NoKeyError) Hint() string { return "enrol the card first" }

// Is makes every NoKeyError match ErrNoKey(slot) of the same slot, whatever the
// card.
func (e *NoKeyError) Is(target error) bool {
	t, ok := target.(*NoKeyError)
	return ok && t.Slot == e.Slot && (t.Serial == 0 || t.Serial == e.Serial)
}

// ErrNoKey is the error to compare with by errors.Is.
func ErrNoKey(slot Slot) error { return &NoKeyError{Slot: slot} }

// KeyTypeError says that a slot holds a key that is not on P-256.
type KeyTypeError struct {
	Serial uint32
	Slot   Slot
	Type   string
}

func (e *KeyTypeError) Error() string {
	return fmt.Sprintf("card %d: the key in slot %v is %s, not on P-256", e.Serial, e.Slot, e.Type)
}

// KeyExistsError says that Enrol found a key or a certificate and was not told
// to overwrite it.
type KeyExistsError struct {
	Serial uint32
	Slot   Slot
}

func (e *KeyExistsError) Error() string {
	return fmt.Sprintf("card %d already has a key or certificate in slot %v", e.Serial, e.Slot)
}

// Hint says what to do.
func (e *KeyExistsError) Hint() string {
	return "use an empty card, or ask for the old keys to be overwritten: what was sealed to them is lost"
}

// WrongKeyError says that the card's key is not the one the caller expects.
type WrongKeyError struct {
	Serial uint32
	Slot   Slot
}

func (e *WrongKeyError) Error() string {
	return fmt.Sprintf("card %d: the key in slot %v is not the registered one", e.Serial, e.Slot)
}

// Hint says what to do.
func (e *WrongKeyError) Hint() string {
	return "the card was enrolled again, or it is another card with the same number: have it registered anew"
}

// Is makes a WrongKeyError an ErrSwapped.
func (e *WrongKeyError) Is(target error) bool { return target == ErrSwapped }

package hsm

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

var (
	// ErrLocked: the token is locked, or was locked while the operation ran.
	ErrLocked = errors.New("hsm: token is locked; its officers must unlock it")
	// ErrUnlocked: Unlock on a token that is not locked.
	ErrUnlocked = errors.New("hsm: token is already unlocked")
	// ErrClosed: the Token or Exponent was closed.
	ErrClosed = errors.New("hsm: already closed")
	// ErrTokenGone: the token was removed, deleted or replaced by another.
	ErrTokenGone = errors.New("hsm: token is gone")
	// ErrTokenNotFound: no token with this label or serial number.
	ErrTokenNotFound = errors.New("hsm: no such token")
	// ErrTokenAmbiguous: several tokens carry the label; name the serial number.
	ErrTokenAmbiguous = errors.New("hsm: several tokens carry this label; select one by serial number")
	// ErrTokenInUse: this process has opened the token already.
	ErrTokenInUse = errors.New("hsm: token is already open in this process")

	// ErrPINIncorrect: the PIN is wrong. Always inside a *PINError.
	ErrPINIncorrect = errors.New("hsm: wrong PIN")
	// ErrPINLocked: too many wrong PINs; the security officer must reset it.
	// Always inside a *PINError.
	ErrPINLocked = errors.New("hsm: PIN is locked; the security officer must reset it")
	// ErrPINInvalid: the PIN has a length or characters the token refuses.
	ErrPINInvalid = errors.New("hsm: PIN not acceptable")

	// ErrNoPIN: the token has no user PIN; its initialisation was cut short.
	ErrNoPIN = errors.New("hsm: token has no user PIN; remove it and initialise another")

	// ErrNotFound: no key or data object of that name.
	ErrNotFound = errors.New("hsm: not found")
	// ErrExists: a key or token of that name exists already.
	ErrExists = errors.New("hsm: exists already")
	// ErrCorrupt: a data object exists, but no copy of it is whole.
	ErrCorrupt = errors.New("hsm: data object is damaged")
	// ErrStaleVersion: the data object has this or a newer version already.
	ErrStaleVersion = errors.New("hsm: data object has a newer version")
	// ErrExposedKey: a key was not generated in the token, or may leave it.
	ErrExposedKey = errors.New("hsm: key was not made in the token or may leave it; generate another")
	// ErrConfined: the KEK releases exponents to the inside of the token only.
	ErrConfined = errors.New("hsm: the key-encryption key confines exponents to the token")

	// ErrAuthentication: a ciphertext or wrapped key is not authentic.
	ErrAuthentication = errors.New("hsm: message authentication failed")
	// ErrWrongModulus: a wrapped exponent belongs to another modulus.
	ErrWrongModulus = errors.New("hsm: exponent belongs to another modulus")
	// ErrArgument: an argument breaks a stated precondition.
	ErrArgument = errors.New("hsm: bad argument")
	// ErrUnsupported: the token cannot do this; see Capabilities.
	ErrUnsupported = errors.New("hsm: not supported by this token")
	// ErrBusy: the token has no session or memory left.
	ErrBusy = errors.New("hsm: token has no room left")
)

// PINError says what is known about the tries that are left. It matches
// ErrPINIncorrect or ErrPINLocked. Tokens give no number, only these flags, and
// SoftHSM2 counts no tries at all.
type PINError struct {
	Locked   bool // CKF_USER_PIN_LOCKED: no further try
	FinalTry bool // CKF_USER_PIN_FINAL_TRY: the next wrong one locks
	CountLow bool // CKF_USER_PIN_COUNT_LOW: at least one wrong one so far
}

func (e *PINError) Error() string {
	switch {
	case e.Locked:
		return ErrPINLocked.Error()
	case e.FinalTry:
		return ErrPINIncorrect.Error() + "; one try is left"
	}
	return ErrPINIncorrect.Error()
}

func (e *PINError) Unwrap() error {
	if e.Locked {
		return ErrPINLocked
	}
	return ErrPINIncorrect
}

// Error is a return value of the token that has no better name, or the detail
// behind one of the sentinels, which it matches with errors.Is.
type Error struct {
	Call string // the PKCS#11 function, such as "C_Sign"
	Code uint   // CKR_*
	kind error
}

func (e *Error) Error() string {
	// miekg's text is "pkcs11: 0x30: CKR_DEVICE_ERROR".
	if e.kind != nil {
		return fmt.Sprintf("%v (%s: %v)", e.kind, e.Call, pkcs11.Error(e.Code))
	}
	return fmt.Sprintf("hsm: %s: %v", e.Call, pkcs11.Error(e.Code))
}

func (e *Error) Unwrap() error { return e.kind }

// kinds is the one place where return values get their meaning, whatever the
// call. Values that mean different things in different calls are in fromCall.
var kinds = map[uint]error{
	pkcs11.CKR_PIN_INVALID:   ErrPINInvalid,
	pkcs11.CKR_PIN_LEN_RANGE: ErrPINInvalid,

	pkcs11.CKR_USER_PIN_NOT_INITIALIZED: ErrNoPIN,

	pkcs11.CKR_USER_NOT_LOGGED_IN:     ErrLocked,
	pkcs11.CKR_USER_ALREADY_LOGGED_IN: ErrUnlocked,

	pkcs11.CKR_DEVICE_REMOVED:        ErrTokenGone,
	pkcs11.CKR_TOKEN_NOT_PRESENT:     ErrTokenGone,
	pkcs11.CKR_TOKEN_NOT_RECOGNIZED:  ErrTokenGone,
	pkcs11.CKR_SLOT_ID_INVALID:       ErrTokenGone,
	pkcs11.CKR_OBJECT_HANDLE_INVALID: ErrNotFound,
	pkcs11.CKR_KEY_HANDLE_INVALID:    ErrNotFound,

	pkcs11.CKR_WRAPPING_KEY_HANDLE_INVALID:   ErrNotFound,
	pkcs11.CKR_UNWRAPPING_KEY_HANDLE_INVALID: ErrNotFound,

	pkcs11.CKR_MECHANISM_INVALID:       ErrUnsupported,
	pkcs11.CKR_MECHANISM_PARAM_INVALID: ErrUnsupported,
	pkcs11.CKR_FUNCTION_NOT_SUPPORTED:  ErrUnsupported,
	pkcs11.CKR_CURVE_NOT_SUPPORTED:     ErrUnsupported,
	pkcs11.CKR_DOMAIN_PARAMS_INVALID:   ErrUnsupported,

	pkcs11.CKR_DEVICE_MEMORY: ErrBusy,
	pkcs11.CKR_HOST_MEMORY:   ErrBusy,
	pkcs11.CKR_SESSION_COUNT: ErrBusy,
}

// authenticating are the calls whose input can be forged; a token says so with
// any of the values below. SoftHSM2 answers CKR_GENERAL_ERROR both for a wrong
// tag and for a dead token: Token.explain tells them apart with C_GetTokenInfo.
var authenticating = map[string]bool{"C_Decrypt": true, "C_UnwrapKey": true}

var forgery = map[uint]bool{
	pkcs11.CKR_GENERAL_ERROR:            true,
	pkcs11.CKR_FUNCTION_FAILED:          true,
	pkcs11.CKR_DATA_INVALID:             true,
	pkcs11.CKR_ENCRYPTED_DATA_INVALID:   true,
	pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE: true,
	pkcs11.CKR_WRAPPED_KEY_INVALID:      true,
	pkcs11.CKR_WRAPPED_KEY_LEN_RANGE:    true,
	pkcs11.CKR_SIGNATURE_INVALID:        true,
}

// vague return values may hide a token that is gone, and so may ErrNotFound: a
// deleted SoftHSM2 token has, for a while, no objects.
var vague = map[uint]bool{
	pkcs11.CKR_GENERAL_ERROR:          true,
	pkcs11.CKR_FUNCTION_FAILED:        true,
	pkcs11.CKR_DEVICE_ERROR:           true,
	pkcs11.CKR_SESSION_HANDLE_INVALID: true,
}

// fromCall turns what the binding returned for a call into an *Error.
func fromCall(call string, err error) error {
	if err == nil {
		return nil
	}
	var rv pkcs11.Error
	if !errors.As(err, &rv) {
		return fmt.Errorf("hsm: %s: %w", call, err)
	}
	e := &Error{Call: call, Code: uint(rv), kind: kinds[uint(rv)]}
	if authenticating[call] && forgery[e.Code] {
		e.kind = ErrAuthentication
	}
	return e
}

// code is the CKR_* behind err, or CKR_OK if there is none.
func code(err error) uint {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return pkcs11.CKR_OK
}

package hsm

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"unsafe"
)

const redacted = "hsm.PIN(redacted)"

// PIN is a token's user or security-officer PIN, 4 to 255 bytes. It is never
// printed: every verb, JSON, text and slog show a placeholder.
type PIN []byte

var (
	_ fmt.Formatter  = PIN(nil)
	_ json.Marshaler = PIN(nil)
	_ slog.LogValuer = PIN(nil)
)

// Wipe overwrites the PIN. Copies made by the PKCS#11 binding in the C heap are
// freed but not wiped.
func (p PIN) Wipe() { clear(p) }

func (PIN) String() string   { return redacted }
func (PIN) GoString() string { return redacted }

// Format writes the placeholder for every verb and flag.
func (PIN) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

func (PIN) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }
func (PIN) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (PIN) LogValue() slog.Value         { return slog.StringValue(redacted) }

func (p PIN) check() error {
	if len(p) < minPIN || len(p) > maxPIN {
		return fmt.Errorf("%w: it has %d bytes, between %d and %d are needed", ErrPINInvalid, len(p), minPIN, maxPIN)
	}
	return nil
}

// view is the PIN as the string the binding wants, without a copy that nobody
// could wipe. It must not outlive the call it is passed to.
func (p PIN) view() string { return unsafe.String(unsafe.SliceData(p), len(p)) }

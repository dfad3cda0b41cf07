package threshold

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// redacted is what all secret types print.
const redacted = "[secret]"

// Secret is a secret number or string of bytes. It redacts itself in every verb
// of fmt, in JSON, text and slog.
//
// fmt cannot call methods on unexported fields, nor for a verb that it reports as
// bad, and prints what it finds instead: in the first case the value, in the second
// what a pointer points to as well. Behind two pointers it finds an address.
//
// Copies of a Secret are the same secret: wiping one wipes all. In CBOR (and
// only there, through MarshalBinary) a Secret is its bytes, so encode it only
// into what is sealed.
type Secret struct{ p **[]byte }

// NewSecret takes ownership of b, which Wipe will erase.
func NewSecret(b []byte) Secret {
	p := &b
	return Secret{&p}
}

// Reveal returns the bytes themselves, not a copy; they are nil after Wipe.
func (s Secret) Reveal() []byte {
	if s.p == nil {
		return nil
	}
	return **s.p
}

// Len returns the number of bytes, 0 after Wipe.
func (s Secret) Len() int { return len(s.Reveal()) }

// Equal compares in constant time.
func (s Secret) Equal(t Secret) bool { return subtle.ConstantTimeCompare(s.Reveal(), t.Reveal()) == 1 }

// Clone returns an independent copy.
func (s Secret) Clone() Secret { return NewSecret(append([]byte(nil), s.Reveal()...)) }

// Wipe overwrites the bytes with zeros. It cannot reach copies that others
// made of them. It is not synchronised: let operations that use the bytes
// finish first. Keeping them out of swap is the program's duty, by locking its
// memory.
func (s Secret) Wipe() {
	if s.p == nil {
		return
	}
	b := *s.p
	clear((*b)[:cap(*b)])
	*b = nil
}

func (Secret) String() string               { return redacted }
func (Secret) GoString() string             { return redacted }
func (Secret) Format(f fmt.State, _ rune)   { io.WriteString(f, redacted) }
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }

// MarshalBinary returns a copy of the secret bytes, for the CBOR encoder.
func (s Secret) MarshalBinary() ([]byte, error) {
	b := s.Reveal()
	if b == nil {
		return nil, ErrWiped
	}
	return append([]byte{}, b...), nil
}

// UnmarshalBinary copies b, for the CBOR decoder.
func (s *Secret) UnmarshalBinary(b []byte) error {
	*s = NewSecret(append([]byte{}, b...))
	return nil
}

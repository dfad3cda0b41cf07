package share

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/modexp"
)

// Token is what this package asks of a token: one key-encryption key in it.
// [Bind] makes one of *hsm.Token and the KEK's label.
type Token interface {
	// Wrap encrypts the exponent d for the modulus n under the KEK.
	Wrap(n, d []byte) (wrapped []byte, err error)
	// Unwrap puts a wrapped exponent to work inside the token.
	Unwrap(n, wrapped []byte) (Exponent, error)
	// Reveal unwraps an exponent for the host: |n| bytes that the caller wipes.
	Reveal(n, wrapped []byte) (d []byte, err error)
}

// Exponent raises values to one sub-share until it is closed. Close erases the
// sub-share, here or in the token.
type Exponent interface {
	threshold.Exponentiator
	Close() error
}

// Memory gives room for a sub-share in use in the host: pages that are locked
// and left out of core dumps. Free gets back exactly what Alloc gave, already
// wiped.
type Memory interface {
	Alloc(n int) ([]byte, error)
	Free([]byte)
}

// LabelledToken is a token with several KEKs, each known by a label. It is
// *hsm.Token, whose exponents are E = *hsm.Exponent.
type LabelledToken[E Exponent] interface {
	WrapExponent(kek string, n, d []byte) ([]byte, error)
	UnwrapExponent(kek string, n, wrapped []byte) (E, error)
	RevealExponent(kek string, n, wrapped []byte) ([]byte, error)
}

// Bind returns t restricted to one KEK.
func Bind[E Exponent](t LabelledToken[E], kek string) Token { return bound[E]{t, kek} }

type bound[E Exponent] struct {
	t   LabelledToken[E]
	kek string
}

func (b bound[E]) Wrap(n, d []byte) ([]byte, error) { return b.t.WrapExponent(b.kek, n, d) }
func (b bound[E]) Reveal(n, wrapped []byte) ([]byte, error) {
	return b.t.RevealExponent(b.kek, n, wrapped)
}
func (b bound[E]) Unwrap(n, wrapped []byte) (Exponent, error) {
	e, err := b.t.UnwrapExponent(b.kek, n, wrapped)
	if err != nil { // a nil E in a non-nil interface would be a trap
		return nil, err
	}
	return e, nil
}

// InToken puts a sub-share, as Open returned it, to use inside the token: the
// host never sees it. The caller closes the Exponent.
func InToken(token Token, n, wrapped []byte) (Exponent, error) {
	e, err := token.Unwrap(n, wrapped)
	if err != nil {
		return nil, fmt.Errorf("share: use in token: %w", err)
	}
	return e, nil
}

// InHost puts a sub-share, as Open returned it, to use in the host, in the
// given memory. The caller closes the HostExponent, which wipes it.
func InHost(token Token, memory Memory, n, wrapped []byte) (*HostExponent, error) {
	d, err := token.Reveal(n, wrapped)
	if err != nil {
		return nil, fmt.Errorf("share: use in host: %w", err)
	}
	s := threshold.NewSecret(d)
	defer s.Wipe()
	return NewHostExponent(memory, n, s)
}

// HostExponent is a sub-share in use in the host. Close may come from a
// lock-down while another goroutine exponentiates: it waits for that one, some
// milliseconds.
type HostExponent struct {
	mu      sync.Mutex
	modulus *modexp.Modulus
	memory  Memory
	d       threshold.Secret // wiped once closed
}

// NewHostExponent copies a sub-share of |n| bytes into the given memory for use
// in the host. d stays the caller's to wipe.
func NewHostExponent(memory Memory, n []byte, d threshold.Secret) (*HostExponent, error) {
	if d.Len() != len(n) {
		return nil, fmt.Errorf("share: sub-share of %d bytes for a modulus of %d", d.Len(), len(n))
	}
	modulus, err := modexp.New(n)
	if err != nil {
		return nil, fmt.Errorf("share: use in host: %w", err)
	}
	return newHostExponent(memory, modulus, d.Len(), func(room []byte) error { copy(room, d.Reveal()); return nil })
}

// newHostExponent has fill write an exponent of size bytes into locked memory.
func newHostExponent(memory Memory, modulus *modexp.Modulus, size int, fill func(room []byte) error) (*HostExponent, error) {
	room, err := memory.Alloc(size)
	if err != nil {
		return nil, fmt.Errorf("share: use in host: locked memory: %w", err)
	}
	if len(room) != size {
		memory.Free(room)
		return nil, fmt.Errorf("share: use in host: asked for %d bytes of locked memory, got %d", size, len(room))
	}
	if err := fill(room); err != nil {
		clear(room)
		memory.Free(room)
		return nil, err
	}
	return &HostExponent{modulus: modulus, memory: memory, d: threshold.NewSecret(room)}, nil
}

// Exp raises x to the sub-share in constant time, or returns ErrClosed.
func (h *HostExponent) Exp(x []byte) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.d.Len() == 0 {
		return nil, ErrClosed
	}
	return h.modulus.Exp(x, h.d.Reveal())
}

// Secret is the sub-share itself, which proofs are made of. It is not a copy:
// Close erases it, and does not wait for those who use it.
func (h *HostExponent) Secret() threshold.Secret { return h.d }

// Close wipes the sub-share and gives its memory back.
func (h *HostExponent) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	room := h.d.Reveal()
	if room == nil {
		return ErrClosed
	}
	h.d.Wipe()
	h.memory.Free(room)
	return nil
}

const redacted = "share.HostExponent(redacted)"

var (
	_ fmt.Formatter  = (*HostExponent)(nil)
	_ json.Marshaler = (*HostExponent)(nil)
	_ slog.LogValuer = (*HostExponent)(nil)
)

func (*HostExponent) String() string               { return redacted }
func (*HostExponent) GoString() string             { return redacted }
func (*HostExponent) Format(f fmt.State, _ rune)   { io.WriteString(f, redacted) }
func (*HostExponent) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (*HostExponent) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (*HostExponent) LogValue() slog.Value         { return slog.StringValue(redacted) }

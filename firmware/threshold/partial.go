package threshold

import (
	"fmt"
	"math/big"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold/modexp"
)

// Exponentiator raises x to one secret sub-share: x and the result are |N|
// bytes, big-endian. It is implemented in the host by NewHostExponentiator and
// by tokens, which keep the sub-share to themselves.
type Exponentiator interface {
	Exp(x []byte) ([]byte, error)
}

type hostExponentiator struct {
	mod *modexp.Modulus
	d   Secret
}

// NewHostExponentiator returns an Exponentiator that uses libcrypto, in
// constant time. It fails with ErrWiped once d is wiped.
func NewHostExponentiator(pub *PublicKey, d Secret) (Exponentiator, error) {
	return NewHostExponentiatorOf(pub, d, pub.Len())
}

// NewHostExponentiatorOf is NewHostExponentiator for a sharing whose secrets are
// of another length than N: width bytes. Time depends on that length only.
func NewHostExponentiatorOf(pub *PublicKey, d Secret, width int) (Exponentiator, error) {
	if err := pub.Validate(); err != nil {
		return nil, err
	}
	if d.Len() != width {
		return nil, fmt.Errorf("%w: sub-share of %d bytes, not %d", ErrShare, d.Len(), width)
	}
	mod, err := modexp.New(pub.N)
	if err != nil {
		return nil, err
	}
	return &hostExponentiator{mod, d}, nil
}

func (h *hostExponentiator) Exp(x []byte) ([]byte, error) {
	if h.d.Len() == 0 {
		return nil, ErrWiped
	}
	return h.mod.Exp(x, h.d.Reveal())
}

// Partial returns the partial signature of x, min(y, N − y) for y = x^d mod N,
// as |N| bytes. x is the encoded message, or in sequential signing what
// VerifySequence returned.
//
// It returns ErrValue as NewBase and Base.Partial do.
func Partial(pub *PublicKey, x []byte, e Exponentiator) ([]byte, error) {
	b, err := NewBase(pub, x)
	if err != nil {
		return nil, err
	}
	return b.Partial(e)
}

// Base is what a device raises to its sub-shares, checked once for all of them. It
// is immutable.
type Base struct {
	g *group
	x []byte
}

// NewBase returns ErrValue if x is 0, 1, N−1, not |N| bytes, not below N or not
// coprime to N. No device raises such a number to its secret.
func NewBase(pub *PublicKey, x []byte) (*Base, error) {
	if err := pub.Validate(); err != nil {
		return nil, err
	}
	// Not pub.group(): this is the hot path, and the Montgomery constants are
	// the Exponentiator's.
	g := &group{pub: pub, n: new(big.Int).SetBytes(pub.N)}
	if _, err := g.unit(x); err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	return &Base{g, slices.Clone(x)}, nil
}

// Partial returns min(y, N − y) for y = x^d mod N, as |N| bytes. It returns
// ErrValue if the Exponentiator returns what is not |N| bytes or 0, 1, N−1 or not
// below N, as a token at fault might.
//
// That y is coprime to N is not checked, as x is. A fault that spoils y modulo one
// prime only is one of machines that compute modulo p and q (Boneh, DeMillo and
// Lipton 1997); an Exponentiator does not know them, and after any fault it hits a
// multiple of p or q as rarely as a guess. What else is wrong with y shows in the
// verification of the signature, which is not released without.
func (b *Base) Partial(e Exponentiator) ([]byte, error) {
	y, err := e.Exp(b.x)
	if err != nil {
		return nil, err
	}
	v, err := b.g.inRange(y)
	if err != nil {
		return nil, fmt.Errorf("result of exponentiation: %w", err)
	}
	// y leaves the device in this form or the other; which of the two it is
	// need not be hidden from a clock.
	return b.g.bytes(b.g.smaller(v)), nil
}

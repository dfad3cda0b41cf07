package threshold

import (
	"fmt"
	"math/big"

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
// It returns ErrValue if x is 0, 1, N−1, not below N or not coprime to N, and
// also if the Exponentiator returns such a value, which a token at fault might:
// a multiple of p or q would give the factors to whoever sees it.
func Partial(pub *PublicKey, x []byte, e Exponentiator) ([]byte, error) {
	if err := pub.Validate(); err != nil {
		return nil, err
	}
	// Not pub.group(): this is the hot path, and the Montgomery constants are
	// the Exponentiator's.
	g := &group{pub: pub, n: new(big.Int).SetBytes(pub.N)}
	if _, err := g.unit(x); err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	y, err := e.Exp(x)
	if err != nil {
		return nil, err
	}
	v, err := g.unit(y)
	if err != nil {
		return nil, fmt.Errorf("result of exponentiation: %w", err)
	}
	// y leaves the device in this form or the other; which of the two it is
	// need not be hidden from a clock.
	return g.bytes(g.smaller(v)), nil
}

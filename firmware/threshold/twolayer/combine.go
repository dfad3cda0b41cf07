package twolayer

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/modexp"
)

// Powers are what one calculator sends for a task: min(y, N − y) for
// y = M^d_ji mod N, i = 1 … l, |N| bytes each.
type Powers struct {
	Calculator uint64
	Y          [][]byte
}

// OfDocument returns the powers of the n-th document, from 0, where each Y holds l
// of every document in turn: as many as its caller has seen to be there.
func OfDocument(powers []Powers, n, l int) []Powers {
	out := slices.Clone(powers)
	for i := range out {
		out[i].Y = out[i].Y[n*l : (n+1)*l]
	}
	return out
}

func find(powers []Powers, calculator uint64) *Powers {
	i := slices.IndexFunc(powers, func(p Powers) bool { return p.Calculator == calculator })
	if i < 0 {
		return nil
	}
	return &powers[i]
}

// CombineVarTime multiplies the powers of one combination with the combiner's
// own, yc = M^c_a as Power returns it, and returns the signature of |N| bytes after
// it has been verified: S or N − S, whichever does. All its inputs are public.
//
// It returns ErrPowers if a power is missing, WrongPowersError if some are out of
// range, CombineError if the product does not verify, threshold.ErrValue if yc is
// out of range.
func CombineVarTime(pub *threshold.PublicKey, alg threshold.Algorithm, digest []byte, c grouping.Combination, powers []Powers, yc []byte) ([]byte, error) {
	m, err := newMaker(pub, alg)
	if err != nil {
		return nil, err
	}
	formed := m.formed(yc)
	for _, term := range c {
		p := find(powers, term.Calculator)
		if p == nil || term.Key < 1 || term.Key > uint64(len(p.Y)) {
			return nil, fmt.Errorf("%w: %v is missing", ErrPowers, term)
		}
		formed = formed && m.formed(p.Y[term.Key-1])
	}
	err = &CombineError{c}
	if formed {
		var sig []byte
		if sig, _, err = m.combine(digest, c, powers, yc); err == nil {
			return sig, nil
		}
	}
	// Only now what tells nothing of a product that verifies: whether its factors are
	// coprime to N.
	if err := pub.CheckPartial(yc); err != nil {
		return nil, ownPower(err)
	}
	wrong := &WrongPowersError{}
	for _, term := range c {
		if pub.CheckPartial(find(powers, term.Calculator).Y[term.Key-1]) != nil {
			wrong.Calculators = append(wrong.Calculators, term.Calculator)
		}
	}
	if len(wrong.Calculators) > 0 {
		return nil, wrong
	}
	return nil, err
}

func ownPower(err error) error { return fmt.Errorf("the combiner's own power: %w", err) }

// maker makes signatures under one key, which is set up once, by one algorithm.
type maker struct {
	pub      *threshold.PublicKey
	alg      threshold.Algorithm
	n        *big.Int
	half     []byte // (N − 1)/2, |N| bytes
	verifier *threshold.Verifier
}

func newMaker(pub *threshold.PublicKey, alg threshold.Algorithm) (*maker, error) {
	v, err := threshold.NewVerifier(pub)
	if err != nil {
		return nil, err
	}
	n := new(big.Int).SetBytes(pub.N)
	return &maker{pub, alg, n, new(big.Int).Rsh(n, 1).FillBytes(make([]byte, pub.Len())), v}, nil
}

// formed reports whether y is all that [threshold.PublicKey.CheckPartial] asks for but
// coprime to N: that takes most of its time, and shows in the product.
func (m *maker) formed(y []byte) bool {
	return len(y) == len(m.half) && bytes.Compare(y, m.half) <= 0 &&
		(y[len(y)-1] > 1 || slices.ContainsFunc(y[:len(y)-1], func(b byte) bool { return b != 0 }))
}

// combine multiplies the powers of a combination, which must all be there and in form,
// with the combiner's own. It returns the signature, or CombineError with the
// product that does not verify, up to its sign.
//
// A product that verifies has no factor in common with N, and so none of the
// powers has: its power is an encoded message, and whoever could choose a document
// whose encoded message has one knows the key.
func (m *maker) combine(digest []byte, c grouping.Combination, powers []Powers, yc []byte) (sig []byte, product *big.Int, err error) {
	y := new(big.Int).SetBytes(yc)
	for _, term := range c {
		y.Mul(y, new(big.Int).SetBytes(find(powers, term.Calculator).Y[term.Key-1])).Mod(y, m.n)
	}
	if other := new(big.Int).Sub(m.n, y); other.Cmp(y) < 0 {
		y = other
	}
	sig, err = m.verifier.FinishVarTime(m.alg, digest, y.FillBytes(make([]byte, m.pub.Len())))
	if errors.Is(err, modexp.ErrLibcrypto) {
		return nil, nil, err // that is nobody's fault
	}
	if err != nil {
		return nil, y, fmt.Errorf("%w (%w)", &CombineError{c}, err)
	}
	return sig, nil, nil
}

// square returns y² mod N.
func (m *maker) square(y *big.Int) *big.Int {
	s := new(big.Int).Mul(y, y)
	return s.Mod(s, m.n)
}

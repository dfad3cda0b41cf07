package twolayer

import (
	"fmt"
	"io"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/tuplehash"
)

// NewExponentiator returns an Exponentiator for a sub-key (SubKeyLen bytes) or
// a part c_a (|N| bytes) that uses libcrypto, in time that depends on which of
// the two it is. It fails with threshold.ErrWiped once d is wiped.
func NewExponentiator(pub *threshold.PublicKey, d threshold.Secret) (threshold.Exponentiator, error) {
	if err := pub.Validate(); err != nil {
		return nil, err
	}
	if d.Len() != SubKeyLen(pub.Bits()) && d.Len() != pub.Len() {
		return nil, fmt.Errorf("%w: %d bytes, not the %d of a sub-key or the %d of a part", ErrShare, d.Len(), SubKeyLen(pub.Bits()), pub.Len())
	}
	return threshold.NewHostExponentiatorOf(pub, d, d.Len())
}

// Power returns min(y, N − y) for y = x^d mod N, as |N| bytes, and refuses what
// [threshold.Partial] refuses. For several sub-keys and one x, a [threshold.Base]
// does the same and checks x once.
func Power(pub *threshold.PublicKey, x []byte, e threshold.Exponentiator) ([]byte, error) {
	return threshold.Partial(pub, x, e)
}

// Prove proves that y is the power of x by the sub-key that the term names, as
// [threshold.Equality] says. b.Subset and b.Position must be 0: the term takes
// their place, and neither proof can stand for the other, as their labels differ.
func Prove(rand io.Reader, pub *threshold.PublicKey, p *Public, b threshold.Binding, term grouping.Term, x, y []byte, d threshold.Secret) (*threshold.Proof, error) {
	st, err := p.statement(pub, b, term, x, y)
	if err != nil {
		return nil, err
	}
	return st.Prove(rand, pub, d)
}

// VerifyProof checks such a proof. What it is worth: see [threshold.VerifyProof].
func VerifyProof(pub *threshold.PublicKey, p *Public, b threshold.Binding, term grouping.Term, x, y []byte, proof *threshold.Proof) error {
	st, err := p.statement(pub, b, term, x, y)
	if err != nil {
		return err
	}
	if err := st.Verify(pub, proof); err != nil {
		return fmt.Errorf("sub-key %v: %w", term, err)
	}
	return nil
}

func (p *Public) statement(pub *threshold.PublicKey, b threshold.Binding, term grouping.Term, x, y []byte) (*threshold.Equality, error) {
	if err := pub.Validate(); err != nil {
		return nil, err
	}
	if err := pub.CheckUnit(p.H); err != nil {
		return nil, fmt.Errorf("%w: h: %w", ErrPublic, err)
	}
	v, err := p.CheckValue(term)
	if err != nil {
		return nil, err
	}
	switch {
	case b.Key == "" || len(b.Key) > threshold.MaxNameLen || b.Share == "" || len(b.Share) > threshold.MaxNameLen:
		return nil, fmt.Errorf("%w: key id of %d bytes, share id of %d", threshold.ErrProof, len(b.Key), len(b.Share))
	case b.Subset != 0 || b.Position != 0:
		return nil, fmt.Errorf("%w: a sub-key has no subset and no position", threshold.ErrProof)
	}
	return &threshold.Equality{
		Kind: "power of sub-key",
		Bind: func(t *tuplehash.XOF) {
			t.Add(b.System[:])
			t.AddString(b.Key)
			t.AddUint(b.Epoch)
			t.AddString(b.Share)
			t.Add(b.Request[:])
			t.AddUint(term.Calculator)
			t.AddUint(term.Key)
		},
		G: p.G(pub), V: v, X: x, Y: y, Width: SubKeyLen(pub.Bits()),
	}, nil
}

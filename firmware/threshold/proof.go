package threshold

import (
	"fmt"
	"io"

	"github.com/privyseal/privyseal/firmware/threshold/tuplehash"
)

// Proof shows that y² = (x²)^d mod N for the d of a published check value
// v = g^d, without telling more about d. C is the challenge, ChallengeLen
// bytes; Z the response r + C·d, |d| + 33 bytes.
type Proof struct {
	C []byte `cbor:"1,keyasint"`
	Z []byte `cbor:"2,keyasint"`
}

// Prove proves that y is the partial signature of x by the sub-share d of the
// given index: see [Equality.Prove]. rand gives 32 bytes.
func Prove(rand io.Reader, pub *PublicKey, c *Commitment, b Binding, index uint64, x, y []byte, d Secret) (*Proof, error) {
	st, err := newStatement(pub, c, b, index, x, y)
	if err != nil {
		return nil, err
	}
	return st.Prove(rand, pub, d)
}

// VerifyProof checks a proof that y is, up to its sign, the partial signature of
// x by the sub-share of the given index: see [Equality.Verify].
//
// # What a proof is worth
//
// Whoever passes two challenges C ≠ C' for the same A, B has g^ΔZ = v^ΔC and
// (x²)^ΔZ = (y²)^ΔC. If both primes of N are safe, the squares are a cyclic
// group of order p'q' with p', q' > 2^ChallengeLen bits, so ΔC is invertible modulo
// it and y² = (x²)^(log_g v): a false statement passes with a probability of 2⁻¹²⁸
// per query of the hash. As y² fixes y up to roots of 1, and other roots than ±1
// give the factors, y = ±x^d.
//
// With ordinary primes the order has small factors and the argument fails: a
// prover who knows an element u ≠ 1 of small order could send y·u and pass once in
// ord(u) tries. To find one without the factors is hard as far as is known (the
// low order assumption), but keys whose proofs carry weight, those of sequential
// signing, have safe primes.
func VerifyProof(pub *PublicKey, c *Commitment, b Binding, index uint64, x, y []byte, p *Proof) error {
	st, err := newStatement(pub, c, b, index, x, y)
	if err != nil {
		return err
	}
	if err := st.Verify(pub, p); err != nil {
		return fmt.Errorf("share %d, position %d: %w", index, b.Position, err)
	}
	return nil
}

func newStatement(pub *PublicKey, c *Commitment, b Binding, index uint64, x, y []byte) (*Equality, error) {
	if err := pub.Validate(); err != nil {
		return nil, err
	}
	if err := b.Validate(); err != nil {
		return nil, err
	}
	if !b.Subset.Has(index) {
		return nil, fmt.Errorf("%w: share %d is not in %v", ErrSubset, index, b.Subset)
	}
	v, err := c.Lookup(b.Subset, index)
	if err != nil {
		return nil, err
	}
	return &Equality{
		Kind: "partial signature", Bind: func(t *tuplehash.XOF) { b.bind(t, index) },
		G: c.G, V: v, X: x, Y: y, Width: pub.Len(),
	}, nil
}

package threshold

import (
	"crypto/subtle"
	"fmt"
	"io"
	"math/big"

	"github.com/privyseal/privyseal/firmware/threshold/tuplehash"
)

// Proof shows that y² = (x²)^d mod N for the d of a published check value
// v = g^d, without telling more about d. C is the challenge, ChallengeLen
// bytes; Z the response r + C·d, |N| + 33 bytes.
type Proof struct {
	C []byte `cbor:"1,keyasint"`
	Z []byte `cbor:"2,keyasint"`
}

const (
	proofLabel = "privyseal proof of partial signature v1"
	nonceLabel = "privyseal nonce of partial signature v1"
)

// Prove proves that y is the partial signature of x by the sub-share d of the
// given index. rand gives 32 bytes.
//
// It is Chaum and Pedersen's proof of equal discrete logarithms (Crypto '92) in
// the group of squares modulo N, non-interactive by Fiat and Shamir, as Shoup has
// it in "Practical Threshold Signatures" (Eurocrypt 2000, §2.2): for a random r of
// |N| + 256 bits,
//
//	A = g^r   B = (x²)^r   C = H(binding, index, N, g, v, x, y, A, B)   Z = r + C·d
//
// over the integers. Z hides d up to a statistical distance of 2⁻¹²⁸.
//
// Two proofs with one r and different C would reveal d. r is therefore derived
// from rand, d and the whole statement together (hedged, as in RFC 8032 §8.2's
// spirit and BIP 340): with a broken rand the same statement gives the same
// proof, and a different one another r.
//
// Everything that touches d or r takes constant time.
func Prove(rand io.Reader, pub *PublicKey, c *Commitment, b Binding, index uint64, x, y []byte, d Secret) (*Proof, error) {
	st, err := newStatement(pub, c, b, index, x, y)
	if err != nil {
		return nil, err
	}
	if d.Len() != pub.Len() {
		return nil, fmt.Errorf("%w: sub-share of %d bytes, not %d", ErrShare, d.Len(), pub.Len())
	}
	r, err := st.nonce(rand, d)
	if err != nil {
		return nil, err
	}
	defer clear(r)
	A, err := st.mod.Exp(st.g, r)
	if err != nil {
		return nil, err
	}
	B, err := st.mod.Exp(st.x2, r)
	if err != nil {
		return nil, err
	}
	challenge := st.challenge(A, B)
	z := make([]byte, pub.Len()+responseSlack)
	mulAdd(z, challenge, d.Reveal(), r)
	return &Proof{C: challenge, Z: z}, nil
}

// VerifyProof checks a proof that y is, up to its sign, the partial signature of
// x by the sub-share of the given index. All its inputs are public. It recomputes
//
//	A = g^Z·v^(−C)   B = (x²)^Z·(y²)^(−C)
//
// and compares the challenge. It returns ErrProof if the proof does not hold,
// ErrValue if x or y is out of range.
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
	if p == nil || len(p.C) != ChallengeLen || len(p.Z) != pub.Len()+responseSlack || p.Z[0] > 1 {
		return fmt.Errorf("%w: malformed", ErrProof)
	}
	st, err := newStatement(pub, c, b, index, x, y)
	if err != nil {
		return err
	}
	vInv, err := st.inverse(st.v)
	if err != nil {
		return err
	}
	y2Inv, err := st.inverse(st.y2)
	if err != nil {
		return err
	}
	A, err := st.mod.Exp2VarTime(st.g, p.Z, vInv, p.C)
	if err != nil {
		return err
	}
	B, err := st.mod.Exp2VarTime(st.x2, p.Z, y2Inv, p.C)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(st.challenge(A, B), p.C) != 1 {
		return fmt.Errorf("%w: share %d, position %d: challenge does not match", ErrProof, index, b.Position)
	}
	return nil
}

// statement is what a proof is about, checked for range.
type statement struct {
	*group
	b            Binding
	index        uint64
	g, v         []byte
	x, y, x2, y2 []byte
}

func newStatement(pub *PublicKey, c *Commitment, b Binding, index uint64, x, y []byte) (*statement, error) {
	grp, err := pub.group()
	if err != nil {
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
	X, err := grp.unit(x)
	if err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	Y, err := grp.partial(y)
	if err != nil {
		return nil, fmt.Errorf("partial signature: %w", err)
	}
	for _, published := range [][]byte{c.G, v} {
		if _, err := grp.unit(published); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCommitment, err)
		}
	}
	return &statement{grp, b, index, c.G, v, x, y, grp.square(X), grp.square(Y)}, nil
}

func (s *statement) hash(label string) *tuplehash.XOF {
	t := s.b.transcript(label, s.pub, s.index)
	for _, value := range [][]byte{s.g, s.v, s.x, s.y} {
		t.Add(value)
	}
	return t
}

func (s *statement) challenge(A, B []byte) []byte {
	t := s.hash(proofLabel)
	t.Add(A)
	t.Add(B)
	return t.Sum(ChallengeLen)
}

func (s *statement) nonce(rand io.Reader, d Secret) ([]byte, error) {
	var fresh [32]byte
	defer clear(fresh[:])
	if _, err := io.ReadFull(rand, fresh[:]); err != nil {
		return nil, fmt.Errorf("threshold: reading randomness: %w", err)
	}
	t := s.hash(nonceLabel)
	defer t.Wipe()
	t.Add(fresh[:])
	t.Add(d.Reveal())
	return t.Sum(s.pub.Len() + nonceSlack), nil
}

func (g *group) inverse(v []byte) ([]byte, error) {
	inv := new(big.Int).ModInverse(new(big.Int).SetBytes(v), g.n)
	if inv == nil {
		return nil, fmt.Errorf("%w: not coprime to N", ErrValue)
	}
	return g.bytes(inv), nil
}

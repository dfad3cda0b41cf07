package threshold

import (
	"crypto/subtle"
	"fmt"
	"io"
	"math/big"

	"github.com/privyseal/privyseal/firmware/threshold/tuplehash"
)

// Equality is the statement that y² = (x²)^d mod N for the d of a published
// v = g^d: what every proof of this system is about, whatever sharing d belongs
// to. All its fields are public.
type Equality struct {
	// Kind separates the statements of one sharing from those of another; it goes
	// into the labels of both hashes.
	Kind string
	// Bind adds to the hash what the statement was made for: system, key, request
	// and so on. It adds the same each time it is called.
	Bind func(t *tuplehash.XOF)

	G, V []byte // |N| bytes, units
	X    []byte // |N| bytes, a unit
	Y    []byte // |N| bytes, min(y, N − y)

	// Width is the length of d in bytes, which is public.
	Width int
}

// Prove proves the statement. rand gives 32 bytes.
//
// It is Chaum and Pedersen's proof of equal discrete logarithms (Crypto '92) in
// the group of squares modulo N, non-interactive by Fiat and Shamir, as Shoup has
// it in "Practical Threshold Signatures" (Eurocrypt 2000, §2.2): for a random r of
// |d| + 256 bits,
//
//	A = g^r   B = (x²)^r   C = H(bound, N, g, v, x, y, A, B)   Z = r + C·d
//
// over the integers. Z hides d up to a statistical distance of 2⁻¹²⁸.
//
// Two proofs with one r and different C would reveal d. r is therefore derived
// from rand, d and the whole statement together (hedged, as in RFC 8032 §8.2's
// spirit and BIP 340): with a broken rand the same statement gives the same
// proof, and a different one another r.
//
// Everything that touches d or r takes constant time.
func (e *Equality) Prove(rand io.Reader, pub *PublicKey, d Secret) (*Proof, error) {
	st, err := e.open(pub)
	if err != nil {
		return nil, err
	}
	if d.Len() != e.Width {
		return nil, fmt.Errorf("%w: sub-share of %d bytes, not %d", ErrShare, d.Len(), e.Width)
	}
	r, err := st.nonce(rand, d)
	if err != nil {
		return nil, err
	}
	defer clear(r)
	A, err := st.mod.Exp(e.G, r)
	if err != nil {
		return nil, err
	}
	B, err := st.mod.Exp(st.x2, r)
	if err != nil {
		return nil, err
	}
	challenge := st.challenge(A, B)
	z := make([]byte, e.Width+responseSlack)
	mulAdd(z, challenge, d.Reveal(), r)
	return &Proof{C: challenge, Z: z}, nil
}

// Verify checks a proof of the statement. All its inputs are public. It
// recomputes
//
//	A = g^Z·v^(−C)   B = (x²)^Z·(y²)^(−C)
//
// and compares the challenge. It returns ErrProof if the proof does not hold,
// ErrValue if x or y is out of range, with ErrCommitment if g or v is. What a
// proof is worth: see [VerifyProof].
func (e *Equality) Verify(pub *PublicKey, p *Proof) error {
	if p == nil || len(p.C) != ChallengeLen || len(p.Z) != e.Width+responseSlack || p.Z[0] > 1 {
		return fmt.Errorf("%w: malformed", ErrProof)
	}
	st, err := e.open(pub)
	if err != nil {
		return err
	}
	vInv, err := st.inverse(e.V)
	if err != nil {
		return err
	}
	y2Inv, err := st.inverse(st.y2)
	if err != nil {
		return err
	}
	A, err := st.mod.Exp2VarTime(e.G, p.Z, vInv, p.C)
	if err != nil {
		return err
	}
	B, err := st.mod.Exp2VarTime(st.x2, p.Z, y2Inv, p.C)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(st.challenge(A, B), p.C) != 1 {
		return fmt.Errorf("%w: challenge does not match", ErrProof)
	}
	return nil
}

// statement is an Equality checked for range.
type statement struct {
	*group
	*Equality
	x2, y2 []byte
}

func (e *Equality) open(pub *PublicKey) (*statement, error) {
	grp, err := pub.group()
	if err != nil {
		return nil, err
	}
	if e.Kind == "" || e.Bind == nil || e.Width < 1 {
		return nil, fmt.Errorf("%w: the statement is bound to nothing", ErrProof)
	}
	X, err := grp.unit(e.X)
	if err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	Y, err := grp.partial(e.Y)
	if err != nil {
		return nil, fmt.Errorf("partial signature: %w", err)
	}
	for _, published := range [][]byte{e.G, e.V} {
		if _, err := grp.unit(published); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCommitment, err)
		}
	}
	return &statement{grp, e, grp.square(X), grp.square(Y)}, nil
}

func (s *statement) hash(purpose string) *tuplehash.XOF {
	t := tuplehash.New("privyseal " + purpose + " of " + s.Kind + " v1")
	s.Bind(t)
	t.Add(s.pub.N)
	t.AddUint(s.pub.E)
	for _, value := range [][]byte{s.G, s.V, s.X, s.Y} {
		t.Add(value)
	}
	return t
}

func (s *statement) challenge(A, B []byte) []byte {
	t := s.hash("proof")
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
	t := s.hash("nonce")
	defer t.Wipe()
	t.Add(fresh[:])
	t.Add(d.Reveal())
	return t.Sum(s.Width + nonceSlack), nil
}

func (g *group) inverse(v []byte) ([]byte, error) {
	inv := new(big.Int).ModInverse(new(big.Int).SetBytes(v), g.n)
	if inv == nil {
		return nil, fmt.Errorf("%w: not coprime to N", ErrValue)
	}
	return g.bytes(inv), nil
}

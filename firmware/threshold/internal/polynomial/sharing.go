// Package polynomial is what packages shoup, integer and half have in common, whose
// shares are points of a polynomial. How the polynomial is drawn, why t − 1 points
// say nothing of it, and the two numbers that a [Sharing] needs are theirs.
//
// # Signing
//
// Device i holds s_i. For the integers λ_i of package lagrange the sum
//
//	S = Σ λ_i·s_i
//
// is the same for every set of t devices, modulo the order of the squares, and
// D = e·S is public, which S is not. For a public B a device answers to x with
// x_i = (x^B)^s_i. Anyone who has t of these makes
//
//	w = Π x_i^λ_i = x^(B·S),   w^e = x^(B·D),
//
// and with a·B·D + b·e = 1 the signature y = w^a·x^b, since y^e = x: Shoup,
// "Practical Threshold Signatures" (Eurocrypt 2000), §2.2.
//
// # Checking
//
// For a square g, v_i = g^s_i is published. By it a dealing is checked,
// (Π v_i^λ_i)^e = g^D, what a device got, and a proof that x_i is to x^B as v_i is
// to g ([threshold.Equality]).
package polynomial

import (
	"fmt"
	"math/big"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/lagrange"
)

// Share is what device Index holds: s_i, as many bytes as Sharing.Width says.
type Share struct {
	Index uint64           `cbor:"1,keyasint"`
	Value threshold.Secret `cbor:"2,keyasint"`
}

// Sharing is what everybody knows of a key that was shared so that any T of N
// devices sign. Only the schemes make one, after CheckNumbers.
type Sharing struct {
	Key  *threshold.PublicKey
	T, N uint64
	G    []byte   // |N| bytes
	V    [][]byte // V[i−1] is G^s_i mod N

	Kind  string   // what its proofs are called, to be taken for no other scheme's
	Width int      // of a share, bytes
	B, D  *big.Int // coprime to e

	// Squares: 2λ_i stands for λ_i when partial signatures are combined, as Shoup has
	// it, for whom x_i is a square up to the sign.
	Squares bool
}

// CheckNumbers returns threshold.ErrSplit unless 1 ≤ t ≤ n ≤ MaxDevices, and
// ErrPublicKey for a key that is none. Before it, no length may be computed of t
// and n.
func CheckNumbers(pub *threshold.PublicKey, t, n uint64) error {
	if err := pub.Validate(); err != nil {
		return err
	}
	if t < 1 || t > n || n > threshold.MaxDevices {
		return fmt.Errorf("%w: %d of %d devices; need 1 ≤ t ≤ n ≤ %d", threshold.ErrSplit, t, n, threshold.MaxDevices)
	}
	return nil
}

// Deal makes the shares f(1) to f(n), modulo m unless it is nil, and V of G. It
// wipes neither f nor m.
func (s *Sharing) Deal(f []*big.Int, m *big.Int) ([]Share, error) {
	shares := make([]Share, s.N)
	for i := range shares {
		y := lagrange.Evaluate(f, uint64(i+1))
		if m != nil {
			y.Mod(y, m)
		}
		shares[i] = Share{uint64(i + 1), threshold.NewSecret(y.FillBytes(make([]byte, s.Width)))}
		lagrange.Wipe(y)
	}
	s.V = nil
	for i := range shares {
		v, err := s.power(s.G, &shares[i])
		if err != nil {
			for j := range shares {
				shares[j].Value.Wipe()
			}
			return nil, err
		}
		s.V = append(s.V, v)
	}
	return shares, nil
}

// NewExponentiator returns an Exponentiator for a share that uses libcrypto, in
// time that depends on Width only. It fails with ErrWiped once the share is wiped.
func (s *Sharing) NewExponentiator(share *Share) (threshold.Exponentiator, error) {
	return threshold.NewHostExponentiatorOf(s.Key, share.Value, s.Width)
}

func (s *Sharing) power(x []byte, share *Share) ([]byte, error) {
	e, err := s.NewExponentiator(share)
	if err != nil {
		return nil, err
	}
	return e.Exp(x)
}

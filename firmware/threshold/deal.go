package threshold

import (
	"fmt"
	"io"
	"math/big"
)

// Share is all that one device holds of a key: a sub-share for each subset of
// t devices to which it belongs, in ascending order of subsets.
type Share struct {
	Index uint64     `cbor:"1,keyasint"`
	Subs  []SubShare `cbor:"2,keyasint"`
}

// SubShare is one device's part of d for one subset, |N| bytes.
type SubShare struct {
	Subset Subset `cbor:"1,keyasint"`
	Value  Secret `cbor:"2,keyasint"`
}

// Sub returns the sub-share for a subset, and whether the share has it.
func (s *Share) Sub(subset Subset) (Secret, bool) {
	for _, sub := range s.Subs {
		if sub.Subset == subset {
			return sub.Value, true
		}
	}
	return Secret{}, false
}

// Wipe erases all sub-shares.
func (s *Share) Wipe() {
	for _, sub := range s.Subs {
		sub.Value.Wipe()
	}
}

// Validate checks the form of a share for a split of a key: the index, one
// sub-share of |N| bytes for each subset that contains it, in order. Whether they
// are the right ones, Commitment.CheckShare tells.
func (s *Share) Validate(pub *PublicKey, split Split) error {
	if err := pub.Validate(); err != nil {
		return err
	}
	if err := split.Validate(); err != nil {
		return err
	}
	if s.Index < 1 || s.Index > split.N {
		return fmt.Errorf("%w: index %d of %d", ErrShare, s.Index, split.N)
	}
	if len(s.Subs) != split.SubShares() {
		return fmt.Errorf("%w: share %d has %d sub-shares, not %d", ErrShare, s.Index, len(s.Subs), split.SubShares())
	}
	i := 0
	for _, subset := range split.Subsets() {
		if !subset.Has(s.Index) {
			continue
		}
		if s.Subs[i].Subset != subset {
			return fmt.Errorf("%w: share %d has a sub-share for %v where that for %v belongs", ErrShare, s.Index, s.Subs[i].Subset, subset)
		}
		if s.Subs[i].Value.Len() != pub.Len() {
			return fmt.Errorf("%w: share %d, subset %v: %d bytes, not %d", ErrShare, s.Index, subset, s.Subs[i].Value.Len(), pub.Len())
		}
		i++
	}
	return nil
}

// Deal splits a key into shares 1 to N and publishes check values of all
// sub-shares. It does not wipe the key: test-sign first.
//
// # The split
//
// For every subset T of t devices, d is split afresh into t sub-shares d_{T,j},
// j ∈ T: all but the last are drawn at random, the last is what remains.
//
//   - Additive: d_{T,j} uniform in Z/φ(N), Σ_{j∈T} d_{T,j} = d mod φ(N).
//   - Multiplicative: d_{T,j} uniform in the units of Z/φ(N),
//     Π_{j∈T} d_{T,j} = d mod φ(N). d itself is a unit, as e·d = 1.
//
// A device belongs to C(n−1, t−1) subsets and holds as many sub-shares.
//
// # Why fewer than t devices learn nothing
//
// Take any set A of at most t−1 devices and any subset T. At least one member k
// of T is not in A. In the group G = (Z/φ(N), +), or (Z/φ(N))* with ×, the tuple
// (d_{T,j})_{j∈T} is uniform among the tuples whose sum (product) is d; leaving
// out coordinate k, the remaining t−1 are uniform in G^(t−1) and independent of d:
// whatever d is, exactly one value of d_{T,k} completes them. Different subsets
// use independent randomness, so the joint distribution of all that A holds is
// the same for every d. This is exact, not up to a statistical distance, because
// numbers modulo φ(N) are drawn by rejection. (Rejection takes a random number of
// draws, which depends on φ(N) and the stream, not on d.)
//
// What A holds depends on φ(N), which is secret as well, but says next to nothing
// about it. Additive: m numbers uniform below φ(N) differ from m numbers
// uniform below N, which everyone can draw, by a statistical distance of at most
// m·(N − φ(N))/N < m·2^(2−|N|/2). Multiplicative: besides that, the sub-shares
// are coprime to φ(N), so that with safe primes, where φ(N) = 4p'q', A learns
// that they are odd. With ordinary primes A could tell from many sub-shares which
// small primes divide φ(N): some bits, which are of no known use to factor N, but
// one more reason to give sequential keys safe primes.
//
// Two dealings of the same d are independent, but shares of both are shares of
// the same d: a re-split revokes nothing unless the old shares are destroyed.
//
// # What is published
//
// g, a random square that generates the squares mod N if the primes are safe,
// and v_{T,j} = g^{d_{T,j}} mod N. These hide the sub-shares as the partial
// signatures do (Shoup 2000, §2.2), and let everyone check later that the same
// sub-share was used.
func Deal(rand io.Reader, k *WholeKey, split Split) ([]Share, *Commitment, error) {
	if err := split.Validate(); err != nil {
		return nil, nil, err
	}
	if k.erased {
		return nil, nil, ErrWiped
	}
	grp, err := k.pub.group()
	if err != nil {
		return nil, nil, err
	}
	g, err := k.pub.RandomSquare(rand)
	if err != nil {
		return nil, nil, err
	}
	shares := make([]Share, split.N)
	for i := range shares {
		shares[i].Index = uint64(i + 1)
	}
	fail := func(err error) ([]Share, *Commitment, error) {
		for i := range shares {
			shares[i].Wipe()
		}
		return nil, nil, err
	}
	c := &Commitment{G: g}
	for _, subset := range split.Subsets() {
		parts, err := k.parts(rand, split.Scheme, subset.Len())
		if err != nil {
			return fail(err)
		}
		for i, index := range subset.Indices() {
			d := NewSecret(grp.bytes(parts[i]))
			shares[index-1].Subs = append(shares[index-1].Subs, SubShare{subset, d})
			v, err := grp.mod.Exp(c.G, d.Reveal())
			if err != nil {
				wipe(parts...)
				return fail(err)
			}
			c.V = append(c.V, SubCommitment{subset, index, v})
		}
		wipe(parts...)
	}
	return shares, c, nil
}

// parts splits d into t parts mod φ(N).
func (k *WholeKey) parts(rand io.Reader, scheme Scheme, t int) ([]*big.Int, error) {
	parts := make([]*big.Int, 0, t)
	phi := k.private().phi
	rest := new(big.Int).Set(k.private().d)
	for range t - 1 {
		part, err := uniform(rand, phi)
		for err == nil && scheme == Multiplicative && !coprime(part, phi) {
			wipe(part)
			part, err = uniform(rand, phi)
		}
		if err != nil {
			wipe(append(parts, rest)...)
			return nil, err
		}
		parts = append(parts, part)
		if scheme == Additive {
			rest.Sub(rest, part)
		} else {
			inverse := new(big.Int).ModInverse(part, phi)
			rest.Mul(rest, inverse)
			wipe(inverse)
		}
		rest.Mod(rest, phi)
	}
	return append(parts, rest), nil
}

func coprime(a, b *big.Int) bool { return new(big.Int).GCD(nil, nil, a, b).Cmp(one) == 0 }

// uniform returns a uniform number in [0, m), by rejection.
func uniform(rand io.Reader, m *big.Int) (*big.Int, error) {
	bits := m.BitLen()
	b := make([]byte, (bits+7)/8)
	defer clear(b)
	for {
		if _, err := io.ReadFull(rand, b); err != nil {
			return nil, fmt.Errorf("threshold: reading randomness: %w", err)
		}
		b[0] &= 0xff >> (8*len(b) - bits)
		if x := new(big.Int).SetBytes(b); x.Cmp(m) < 0 {
			return x, nil
		}
	}
}

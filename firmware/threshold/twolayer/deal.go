package twolayer

import (
	"fmt"
	"io"
	"math/big"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// Dealing is all that the distributor makes of one key: what it publishes, and
// every machine's share. Its CBOR is what a reserve keeps; the shares in it are
// together the whole key.
type Dealing struct {
	Public      Public            `cbor:"1,keyasint"`
	Calculators []CalculatorShare `cbor:"2,keyasint"` // as in Public.Grouping
	Combiners   []CombinerShare   `cbor:"3,keyasint"` // as in Public.Grouping

	// Gone are combinations that combiners were given and that the grouping no
	// longer has. Who took a machine away still knows them: growth counts them.
	Gone []grouping.Group `cbor:"4,keyasint,omitempty"`
}

// Wipe erases all shares.
func (d *Dealing) Wipe() {
	for i := range d.Calculators {
		d.Calculators[i].Wipe()
	}
	for i := range d.Combiners {
		d.Combiners[i].Wipe()
	}
}

// secrets are the numbers of a dealing while it is made.
type secrets struct {
	d    *big.Int
	keys map[grouping.Term]*big.Int
}

func (s *secrets) wipe() {
	wipe(s.d)
	for _, x := range s.keys {
		wipe(x)
	}
}

// wipe erases a number as well as math/big allows: see [threshold.WholeKey.Wipe].
func wipe(x *big.Int) {
	if x == nil {
		return
	}
	words := x.Bits()
	clear(words[:cap(words)])
	x.SetInt64(0)
}

// Deal shares a key by a grouping, and checks every share that it made. It does
// not wipe the key. Its arithmetic is math/big's, not in constant time, as that
// of [threshold.Deal]: it runs once, off line.
//
// The sub-keys d_ji are uniform in [0, 2^(|N|/2+128)), and c_a = d − Σ d_ji over the
// integers, for d = e⁻¹ mod φ(N). No multiple of φ(N) is needed to keep c_a
// positive: from e·d ≡ 1 mod φ(N) and d > 1 follows d > φ(N)/e > 2^(|N|−18), while the
// sum of at most 15 sub-keys is below 2^(|N|/2+132). So 0 < c_a < d < N, and |N| bytes
// hold it.
//
// It refuses a grouping from which some coalition that the sharing promises to
// resist would learn anything, with UnsafeError; what is promised, and why the
// shares keep it: see [Hiding]. The factors of N have to be of half its length,
// as those of [threshold.GenerateKey] are, or that argument does not hold.
func Deal(rand io.Reader, k *threshold.WholeKey, g grouping.Grouping) (*Dealing, error) {
	if err := g.Validate(); err != nil {
		return nil, err
	}
	if err := checkHiding(g.T, g.Combiners, g.Calculators); err != nil {
		return nil, err
	}
	pub := k.Public()
	d, err := exponent(k)
	if err != nil {
		return nil, err
	}
	s := &secrets{d, map[grouping.Term]*big.Int{}}
	defer s.wipe()
	if err := s.draw(rand, g.Calculators, g.L, 8*SubKeyLen(pub.Bits())); err != nil {
		return nil, err
	}
	h, err := pub.RandomSquare(rand)
	if err != nil {
		return nil, err
	}
	return s.deal(pub, Public{Grouping: g, H: h})
}

// exponent returns d = e⁻¹ mod φ(N) for a key with factors of half the length.
func exponent(k *threshold.WholeKey) (*big.Int, error) {
	pb, qb, err := k.Factors()
	if err != nil {
		return nil, err
	}
	defer pb.Wipe()
	defer qb.Wipe()
	p, q := new(big.Int).SetBytes(pb.Reveal()), new(big.Int).SetBytes(qb.Reveal())
	defer wipe(p)
	defer wipe(q)
	pub := k.Public()
	if 2*p.BitLen() != pub.Bits() || 2*q.BitLen() != pub.Bits() {
		return nil, fmt.Errorf("%w: factors of %d and %d bits, not of half the %d of the modulus", ErrKey, p.BitLen(), q.BitLen(), pub.Bits())
	}
	one := big.NewInt(1)
	phi := new(big.Int).Mul(p.Sub(p, one), q.Sub(q, one))
	defer wipe(phi)
	d := new(big.Int).ModInverse(new(big.Int).SetUint64(pub.E), phi)
	if d == nil {
		return nil, fmt.Errorf("%w: no private exponent", ErrKey)
	}
	return d, nil
}

// draw gives calculators that have none l sub-keys each, uniform in [0, 2^bits).
func (s *secrets) draw(rand io.Reader, calculators []uint64, l uint64, bits int) error {
	b := make([]byte, (bits+7)/8)
	defer clear(b)
	for _, j := range calculators {
		for i := uint64(1); i <= l; i++ {
			term := grouping.Term{Calculator: j, Key: i}
			if s.keys[term] != nil {
				continue
			}
			if _, err := io.ReadFull(rand, b); err != nil {
				return fmt.Errorf("twolayer: reading randomness: %w", err)
			}
			b[0] &= 0xff >> (8*len(b) - bits)
			s.keys[term] = new(big.Int).SetBytes(b)
		}
	}
	return nil
}

// part returns c_a.
func (s *secrets) part(c grouping.Combination) *big.Int {
	part := new(big.Int).Set(s.d)
	for _, term := range c {
		part.Sub(part, s.keys[term])
	}
	return part
}

// deal writes the shares, completes p with the check values that it lacks, and
// checks everything.
func (s *secrets) deal(pub *threshold.PublicKey, p Public) (*Dealing, error) {
	dealing := &Dealing{}
	if err := s.write(dealing, pub, &p); err != nil {
		dealing.Wipe()
		return nil, err
	}
	dealing.Public = p
	if err := dealing.check(pub); err != nil {
		dealing.Wipe()
		return nil, err
	}
	return dealing, nil
}

func (s *secrets) write(dealing *Dealing, pub *threshold.PublicKey, p *Public) error {
	width, g := SubKeyLen(pub.Bits()), p.G(pub)
	p.V = nil
	for _, j := range p.Grouping.Calculators {
		dealing.Calculators = append(dealing.Calculators, CalculatorShare{Number: j})
		share := &dealing.Calculators[len(dealing.Calculators)-1]
		for i := uint64(1); i <= p.Grouping.L; i++ {
			key := threshold.NewSecret(s.keys[grouping.Term{Calculator: j, Key: i}].FillBytes(make([]byte, width)))
			share.Keys = append(share.Keys, key)
			e, err := NewExponentiator(pub, key)
			if err != nil {
				return err
			}
			v, err := e.Exp(g)
			if err != nil {
				return err
			}
			p.V = append(p.V, v)
		}
	}
	for _, group := range p.Grouping.Combiners {
		dealing.Combiners = append(dealing.Combiners, CombinerShare{Number: group.Number})
		share := &dealing.Combiners[len(dealing.Combiners)-1]
		for _, c := range group.Combinations {
			part := s.part(c)
			if part.Sign() <= 0 || part.BitLen() > 8*pub.Len() {
				wipe(part)
				return fmt.Errorf("%w: the part of %v is out of range", ErrKey, c)
			}
			share.Parts = append(share.Parts, threshold.NewSecret(part.FillBytes(make([]byte, pub.Len()))))
			wipe(part)
		}
	}
	return nil
}

// check lets every machine's own check pass before anything leaves the
// distributor: a share that is wrong in memory would be found by its receiver, but
// by then the whole key is gone.
func (d *Dealing) check(pub *threshold.PublicKey) error {
	if err := d.Public.Validate(pub); err != nil {
		return err
	}
	g := &d.Public.Grouping
	if !slices.EqualFunc(d.Calculators, g.Calculators, func(s CalculatorShare, j uint64) bool { return s.Number == j }) ||
		!slices.EqualFunc(d.Combiners, g.Combiners, func(s CombinerShare, g grouping.Group) bool { return s.Number == g.Number }) {
		return fmt.Errorf("%w: the dealing's shares are not those of its machines, in order", ErrShare)
	}
	for i := range d.Calculators {
		if err := d.Public.CheckCalculator(pub, &d.Calculators[i]); err != nil {
			return err
		}
	}
	for i := range d.Combiners {
		if err := d.Public.CheckCombiner(pub, &d.Combiners[i]); err != nil {
			return err
		}
	}
	return nil
}

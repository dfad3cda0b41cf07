package threshold

import (
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold/prime"
)

// WholeKey is an RSA private key before it is split. It exists only in the lead
// device, from generation to dealing, and has no encoding: it never
// touches a disk. It redacts itself in print.
type WholeKey struct {
	pub    *PublicKey
	n      *big.Int
	erased bool
	safe   bool           // both primes were made or checked as safe ones
	priv   **privateParts // two pointers: see Secret
}

type privateParts struct{ p, q, d, phi *big.Int }

func (k *WholeKey) private() *privateParts { return *k.priv }

// GenerateKey makes a key of exactly the given number of bits (2048, 3072 or
// 4096) with e = PublicExponent. It is a function of rand alone: the same
// stream gives the same key.
//
// The primes are those of FIPS 186-5 §A.1.3, drawn from a stream that is at
// least as strong as the key: p and q of half the length with the two highest
// bits set, so that N has its exact length; gcd(e, (p−1)(q−1)) = 1;
// |p − q| > 2^(bits/2 − 100); d > 2^(bits/2). If safe is true, (p−1)/2 and
// (q−1)/2 are prime too, which is what proofs about partial signatures need
// (see Prove). That takes about a second at 2048 bits and some ten at 4096.
//
// progress, if not nil, is called before every test of a candidate with the number
// of tests so far.
func GenerateKey(rand io.Reader, bits int, safe bool, progress func(int)) (*WholeKey, error) {
	if !slices.Contains(modulusBits, bits) {
		return nil, fmt.Errorf("%w: %d bits; need one of %d", ErrPublicKey, bits, modulusBits)
	}
	generate := prime.Generate
	if safe {
		generate = prime.GenerateSafe
	}
	tests := 0
	count := func(int) {
		if tests++; progress != nil {
			progress(tests)
		}
	}
	coprime := func(p *big.Int) bool { // e is prime: gcd(e, p−1) = 1 iff e ∤ p−1
		r := new(big.Int).Mod(p, big.NewInt(PublicExponent))
		return r.Cmp(one) != 0
	}
	p, err := generate(rand, bits/2, coprime, count)
	if err != nil {
		return nil, err
	}
	defer wipe(p)
	q, err := generate(rand, bits/2, func(q *big.Int) bool { return coprime(q) && apart(p, q) }, count)
	if err != nil {
		return nil, err
	}
	defer wipe(q)
	return newWholeKey(p, q, safe)
}

// WholeKeyFromPrimes makes a key of two known primes, big-endian. It checks that
// they are primes, and safe ones if safe is true, and all that GenerateKey
// promises of N, but not how they were chosen.
func WholeKeyFromPrimes(p, q []byte, safe bool) (*WholeKey, error) {
	check := prime.Check
	if safe {
		check = prime.CheckSafe
	}
	P, Q := new(big.Int).SetBytes(p), new(big.Int).SetBytes(q)
	defer wipe(P, Q)
	for _, x := range []*big.Int{P, Q} {
		if ok, err := check(x); err != nil {
			return nil, err
		} else if !ok {
			return nil, fmt.Errorf("%w: a factor is not a prime of the kind asked for", ErrPublicKey)
		}
	}
	return newWholeKey(P, Q, safe)
}

// apart reports whether |p − q| > 2^(bits/2 − 100), for factors of bits/2 bits:
// Fermat's method finds nearer ones from N.
func apart(p, q *big.Int) bool {
	diff := new(big.Int).Sub(p, q)
	defer wipe(diff)
	return diff.BitLen() > p.BitLen()-100
}

func newWholeKey(p, q *big.Int, safe bool) (*WholeKey, error) {
	n := new(big.Int).Mul(p, q)
	pub := &PublicKey{N: n.Bytes(), E: PublicExponent}
	if err := pub.Validate(); err != nil {
		return nil, err
	}
	if !apart(p, q) {
		return nil, fmt.Errorf("%w: factors too near to each other", ErrPublicKey)
	}
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	defer wipe(p1, q1)
	phi := new(big.Int).Mul(p1, q1)
	d := new(big.Int).ModInverse(big.NewInt(PublicExponent), phi)
	if d == nil || d.BitLen() <= n.BitLen()/2 {
		wipe(phi, d)
		return nil, fmt.Errorf("%w: no usable private exponent", ErrPublicKey)
	}
	priv := &privateParts{new(big.Int).Set(p), new(big.Int).Set(q), d, phi}
	return &WholeKey{pub: pub, n: n, safe: safe, priv: &priv}, nil
}

// Public returns the public key, also after Wipe.
func (k *WholeKey) Public() *PublicKey { return &PublicKey{N: slices.Clone(k.pub.N), E: k.pub.E} }

// SignEncoded returns em^d mod N for an encoded message of |N| bytes, in
// constant time, and checks the result before it returns it: a fault would
// otherwise be released (Boneh, DeMillo, Lipton 1997).
func (k *WholeKey) SignEncoded(em []byte) ([]byte, error) {
	if k.erased {
		return nil, ErrWiped
	}
	g, err := k.pub.group()
	if err != nil {
		return nil, err
	}
	m, err := g.unit(em)
	if err != nil {
		return nil, err
	}
	d := k.private().d.FillBytes(make([]byte, k.pub.Len()))
	defer clear(d)
	sig, err := g.mod.Exp(em, d)
	if err != nil {
		return nil, err
	}
	if g.powE(new(big.Int).SetBytes(sig)).Cmp(m) != 0 {
		return nil, fmt.Errorf("%w: fault in computation", ErrSignature)
	}
	return sig, nil
}

// powE returns sᵉ mod N.
func (g *group) powE(s *big.Int) *big.Int {
	return new(big.Int).Exp(s, new(big.Int).SetUint64(g.pub.E), g.n)
}

// Wipe erases the private parts, as well as math/big allows: temporaries that it
// made during generation and dealing are out of reach. The lead therefore
// ends its process after a ceremony, and its memory is locked. After Wipe the
// key cannot sign or be dealt.
func (k *WholeKey) Wipe() {
	s := k.private()
	wipe(s.p, s.q, s.d, s.phi)
	k.erased = true
}

func (*WholeKey) String() string               { return redacted }
func (*WholeKey) GoString() string             { return redacted }
func (*WholeKey) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (*WholeKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (*WholeKey) LogValue() slog.Value         { return slog.StringValue(redacted) }

// Format has a value receiver so that a WholeKey printed by value is redacted too.
func (WholeKey) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

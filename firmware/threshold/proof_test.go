package threshold_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"math/big"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/privyseal/privyseal/firmware/threshold"
	"pgregory.net/rapid"
)

// proved is one true statement with its proof and all that a test may change.
type proved struct {
	pub   *threshold.PublicKey
	com   *threshold.Commitment
	b     threshold.Binding
	index uint64
	x, y  []byte
	p     *threshold.Proof
}

func (v proved) verify() error {
	return threshold.VerifyProof(v.pub, v.com, v.b, v.index, v.x, v.y, v.p)
}

func prove(t testing.TB, s *system) proved {
	t.Helper()
	_, em := message(t, threshold.RS256, "document", s.pub.Bits())
	b := s.binding(0b011)
	b.Share, b.Position = shareID(1), 1
	p := s.partial(b, 1, em, true)
	return proved{s.pub, s.com, b, 1, em, p.Value, p.Proof}
}

// TestProofBindsEverything: a proof holds for its statement and for no other.
func TestProofBindsEverything(t *testing.T) {
	s := deal(t, 2048, threshold.Multiplicative, 2, 3)
	v := prove(t, s)
	if err := v.verify(); err != nil {
		t.Fatal(err)
	}
	n := new(big.Int).SetBytes(s.pub.N)
	flip := func(b []byte, at int) []byte {
		b = slices.Clone(b)
		b[at] ^= 1
		return b
	}
	// Whoever knows the order of the group can write Z in other ways.
	pb, qb := s.whole.Primes()
	order := new(big.Int).Mul(new(big.Int).Rsh(new(big.Int).SetBytes(pb), 1), new(big.Int).Rsh(new(big.Int).SetBytes(qb), 1))
	beyond := new(big.Int).Lsh(big.NewInt(3), uint(8*(len(v.p.Z)-1)))
	beyond.Div(beyond, order).Mul(beyond, order).Add(beyond, new(big.Int).SetBytes(v.p.Z))

	for name, change := range map[string]func(*proved){
		"equivalent response": func(v *proved) {
			v.p = &threshold.Proof{C: v.p.C, Z: beyond.FillBytes(make([]byte, len(v.p.Z)))}
		},
		"system":       func(v *proved) { v.b.System[31] ^= 1 },
		"key":          func(v *proved) { v.b.Key = "key 8" },
		"epoch":        func(v *proved) { v.b.Epoch++ },
		"share":        func(v *proved) { v.b.Share = "share 11" },
		"request":      func(v *proved) { v.b.Request[0] ^= 1 },
		"subset":       func(v *proved) { v.b.Subset = 0b101 },
		"position":     func(v *proved) { v.b.Position = 2 },
		"parallel":     func(v *proved) { v.b.Position = 0 },
		"index":        func(v *proved) { v.index = 2 },
		"index 0":      func(v *proved) { v.index = 0 },
		"index 3":      func(v *proved) { v.index = 3 },
		"border":       func(v *proved) { v.b.Key, v.b.Share = "key", " 7share 1" },
		"x":            func(v *proved) { v.x = flip(v.x, 255) },
		"negated x":    func(v *proved) { v.x = new(big.Int).Sub(n, new(big.Int).SetBytes(v.x)).Bytes() },
		"y":            func(v *proved) { v.y = flip(v.y, 255) },
		"negated y":    func(v *proved) { v.y = new(big.Int).Sub(n, new(big.Int).SetBytes(v.y)).Bytes() },
		"x and y":      func(v *proved) { v.x, v.y = v.y, v.x },
		"challenge":    func(v *proved) { v.p = &threshold.Proof{C: flip(v.p.C, 0), Z: v.p.Z} },
		"response":     func(v *proved) { v.p = &threshold.Proof{C: v.p.C, Z: flip(v.p.Z, 200)} },
		"big response": func(v *proved) { v.p = &threshold.Proof{C: v.p.C, Z: append([]byte{2}, v.p.Z[1:]...)} },
		"long response": func(v *proved) {
			v.p = &threshold.Proof{C: v.p.C, Z: append([]byte{0}, v.p.Z...)}
		},
		"zero proof": func(v *proved) {
			v.p = &threshold.Proof{C: make([]byte, len(v.p.C)), Z: make([]byte, len(v.p.Z))}
		},
		"empty proof": func(v *proved) { v.p = &threshold.Proof{} },
		"no proof":    func(v *proved) { v.p = nil },
		"g": func(v *proved) {
			c := *v.com
			c.G = new(big.Int).Exp(new(big.Int).SetBytes(c.G), big.NewInt(2), n).FillBytes(make([]byte, 256))
			v.com = &c
		},
		"v": func(v *proved) {
			c := *v.com
			c.V = slices.Clone(c.V)
			c.V[0].Value = c.V[1].Value
			v.com = &c
		},
		"no commitment": func(v *proved) { v.com = &threshold.Commitment{} },
		"modulus":       func(v *proved) { v.pub = testKey(2048, false).Public() },
		"exponent":      func(v *proved) { v.pub = &threshold.PublicKey{N: v.pub.N, E: 3} },
		"no key id":     func(v *proved) { v.b.Key = "" },
		"no share id":   func(v *proved) { v.b.Share = "" },
	} {
		changed := v
		change(&changed)
		if changed.verify() == nil {
			t.Errorf("%s: changed, and the proof still holds", name)
		}
	}
}

// TestProofNonce: with a random source that repeats itself the same statement
// gives the same proof, and another statement must not be proved with the same
// nonce: z − z' = (C − C')·d would give the share away.
func TestProofNonce(t *testing.T) {
	s := deal(t, 2048, threshold.Multiplicative, 2, 2)
	v := prove(t, s)
	d, _ := s.shares[0].Sub(0b011)
	broken := func() *bytes.Reader { return bytes.NewReader(make([]byte, 32)) }
	b2 := v.b
	b2.Request = [32]byte{3}
	p1, err1 := threshold.Prove(broken(), s.pub, s.com, v.b, 1, v.x, v.y, d)
	p2, err2 := threshold.Prove(broken(), s.pub, s.com, v.b, 1, v.x, v.y, d)
	p3, err3 := threshold.Prove(broken(), s.pub, s.com, b2, 1, v.x, v.y, d)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p1.Z, p2.Z) || !bytes.Equal(p1.C, p2.C) {
		t.Error("same statement and randomness, another proof")
	}
	z := new(big.Int).Sub(new(big.Int).SetBytes(p1.Z), new(big.Int).SetBytes(p3.Z))
	c := new(big.Int).Sub(new(big.Int).SetBytes(p1.C), new(big.Int).SetBytes(p3.C))
	if quotient, rest := new(big.Int).QuoRem(z, c, new(big.Int)); rest.Sign() == 0 && bytes.Equal(quotient.Abs(quotient).FillBytes(make([]byte, 256)), d.Reveal()) {
		t.Error("two proofs with one nonce reveal the share")
	}
	fresh, err := threshold.Prove(rand.Reader, s.pub, s.com, v.b, 1, v.x, v.y, d)
	if err != nil || bytes.Equal(fresh.Z, p1.Z) {
		t.Errorf("fresh randomness, same proof (%v)", err)
	}
	if _, err := threshold.Prove(iotest.ErrReader(errors.New("broken")), s.pub, s.com, v.b, 1, v.x, v.y, d); err == nil {
		t.Error("no randomness, and a proof")
	}
	d.Wipe()
	if _, err := threshold.Prove(rand.Reader, s.pub, s.com, v.b, 1, v.x, v.y, d); err == nil {
		t.Error("proof with a wiped share")
	}
}

// TestMulAdd compares the constant-time arithmetic of the response with math/big.
func TestMulAdd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "a")
		b := rapid.SliceOfN(rapid.Byte(), 1, 530).Draw(t, "b")
		c := rapid.SliceOfN(rapid.Byte(), 0, 560).Draw(t, "c")
		if rapid.Bool().Draw(t, "all ones") {
			for _, s := range [][]byte{a, b, c} {
				for i := range s {
					s[i] = 0xff
				}
			}
		}
		z := make([]byte, max(len(a)+len(b), len(c))+1+rapid.IntRange(0, 5).Draw(t, "spare"))
		threshold.MulAdd(z, a, b, c)
		want := new(big.Int).Mul(new(big.Int).SetBytes(a), new(big.Int).SetBytes(b))
		want.Add(want, new(big.Int).SetBytes(c))
		if new(big.Int).SetBytes(z).Cmp(want) != 0 {
			t.Fatalf("%x·%x + %x = %x", a, b, c, z)
		}
	})
}

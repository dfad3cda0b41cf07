package threshold_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold"
)

// TestNoUnit: a partial signature that is a multiple of a prime convicts its
// sender, and never becomes a signature.
func TestNoUnit(t *testing.T) {
	for _, alg := range []threshold.Algorithm{threshold.RS256, threshold.PS512} {
		s := deal(t, 2048, threshold.Additive, 3, 3)
		pb, qb := s.whole.Primes()
		n := new(big.Int).SetBytes(s.pub.N)
		digest, em := message(t, alg, "document", 2048)
		var partials []threshold.PartialSignature
		for i := uint64(1); i <= 3; i++ {
			partials = append(partials, s.partial(s.binding(0b111), i, em, false))
		}
		if _, err := threshold.CombineAdditiveVarTime(s.pub, alg, digest, partials); err != nil {
			t.Fatal(err)
		}
		multiple := func(prime []byte, value []byte) []byte {
			y := new(big.Int).SetBytes(prime)
			y.Mul(y, new(big.Int).SetBytes(value)).Mod(y, n)
			return smaller(y, n).FillBytes(make([]byte, 256))
		}
		partials[1].Value = multiple(pb, partials[1].Value)
		var wrong *threshold.WrongPartialError
		if _, err := threshold.CombineAdditiveVarTime(s.pub, alg, digest, partials); !errors.As(err, &wrong) || !slices.Equal(wrong.Indices, []uint64{2}) {
			t.Errorf("%s, a multiple of p: %v", alg, err)
		}
		// Two make 0. With a third that is out of range, all three are named.
		partials[2].Value = multiple(qb, partials[2].Value)
		if _, err := threshold.CombineAdditiveVarTime(s.pub, alg, digest, partials); !errors.As(err, &wrong) || !slices.Equal(wrong.Indices, []uint64{2, 3}) {
			t.Errorf("%s, multiples of p and q: %v", alg, err)
		}
		partials[0].Value = make([]byte, 256)
		if _, err := threshold.CombineAdditiveVarTime(s.pub, alg, digest, partials); !errors.As(err, &wrong) || !slices.Equal(wrong.Indices, []uint64{1, 2, 3}) {
			t.Errorf("%s, and 0: %v", alg, err)
		}
		if _, err := threshold.FinishSequentialVarTime(s.pub, alg, digest, partials[1].Value); !errors.Is(err, threshold.ErrValue) {
			t.Errorf("%s, finishing with a multiple of p: %v", alg, err)
		}
	}
}

// TestFinish: of s and N − s the smaller one is finished, whichever of the two the
// signature is; and nothing else is.
func TestFinish(t *testing.T) {
	for _, bits := range []int{2048, 3072, 4096} {
		k := testKey(bits, false)
		pub, n := k.Public(), new(big.Int).SetBytes(k.Public().N)
		v := newVerifier(t, pub)
		for _, alg := range threshold.Algorithms() {
			negated := map[bool]bool{}
			for i := 0; len(negated) < 2; i++ {
				digest, em := message(t, alg, fmt.Sprint("document ", i), bits)
				sig, err := k.SignEncoded(em)
				if err != nil {
					t.Fatal(err)
				}
				s := new(big.Int).SetBytes(sig)
				y := smaller(new(big.Int).Set(s), n)
				negated[y.Cmp(s) != 0] = true
				fixed := func(v *big.Int) []byte { return v.FillBytes(make([]byte, bits/8)) }
				for name, finish := range map[string]func(threshold.Algorithm, []byte, []byte) ([]byte, error){
					"once": func(a threshold.Algorithm, digest, y []byte) ([]byte, error) {
						return threshold.FinishSequentialVarTime(pub, a, digest, y)
					},
					"by a Verifier": v.FinishVarTime,
				} {
					if got, err := finish(alg, digest, fixed(y)); err != nil || !bytes.Equal(got, sig) {
						t.Fatalf("%s, %d bits, %s: %v", alg, bits, name, err)
					}
					if _, err := finish(alg, digest, fixed(new(big.Int).Sub(n, y))); !errors.Is(err, threshold.ErrValue) {
						t.Errorf("%s, %d bits, %s, the larger one: %v", alg, bits, name, err)
					}
					twice := smaller(new(big.Int).Mod(new(big.Int).Lsh(y, 1), n), n)
					if _, err := finish(alg, digest, fixed(twice)); !errors.Is(err, threshold.ErrSignature) || err.Error() != "threshold: signature does not verify: "+string(alg) {
						t.Errorf("%s, %d bits, %s, twice the signature: %v", alg, bits, name, err)
					}
					if _, err := finish(alg, digest[1:], fixed(y)); !errors.Is(err, threshold.ErrAlgorithm) {
						t.Errorf("%s, %d bits, %s, a short digest: %v", alg, bits, name, err)
					}
					if _, err := finish("none", digest, fixed(y)); !errors.Is(err, threshold.ErrAlgorithm) {
						t.Errorf("%d bits, %s, an unknown algorithm: %v", bits, name, err)
					}
				}
			}
		}
	}
}

// TestFinishEnding: for PSS a number whose power ends as an encoded message does,
// and is none, is no signature.
func TestFinishEnding(t *testing.T) {
	k := testKey(2048, false)
	n := new(big.Int).SetBytes(k.Public().N)
	digest, em := message(t, threshold.PS256, "document", 2048)
	em[100] ^= 1
	sig, err := k.SignEncoded(em)
	if err != nil {
		t.Fatal(err)
	}
	y := smaller(new(big.Int).SetBytes(sig), n).FillBytes(make([]byte, 256))
	if _, err := threshold.FinishSequentialVarTime(k.Public(), threshold.PS256, digest, y); !errors.Is(err, threshold.ErrSignature) {
		t.Errorf("%v", err)
	}
}

// TestBase: a Base serves several sub-shares, as Partial serves one, and keeps its
// own copy of what it was made of.
func TestBase(t *testing.T) {
	s := deal(t, 2048, threshold.Additive, 2, 3)
	_, em := message(t, threshold.RS256, "document", 2048)
	mine := slices.Clone(em)
	b, err := threshold.NewBase(s.pub, mine)
	if err != nil {
		t.Fatal(err)
	}
	clear(mine)
	for _, subset := range []threshold.Subset{0b011, 0b101} {
		d, _ := s.shares[0].Sub(subset)
		e, err := threshold.NewHostExponentiator(s.pub, d)
		if err != nil {
			t.Fatal(err)
		}
		y, err := b.Partial(e)
		if want := s.partial(s.binding(subset), 1, em, false).Value; err != nil || !bytes.Equal(y, want) {
			t.Errorf("%v: %v", subset, err)
		}
	}
	if _, err := threshold.NewBase(&threshold.PublicKey{}, em); !errors.Is(err, threshold.ErrPublicKey) {
		t.Errorf("no key: %v", err)
	}
	if _, err := threshold.NewBase(s.pub, em[1:]); !errors.Is(err, threshold.ErrValue) {
		t.Errorf("a short message: %v", err)
	}
}

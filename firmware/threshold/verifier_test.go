package threshold_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/privyseal/privyseal/firmware/threshold"
)

func newVerifier(t testing.TB, pub *threshold.PublicKey) *threshold.Verifier {
	t.Helper()
	v, err := threshold.NewVerifier(pub)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestVerifier: what crypto/rsa signs passes, under every algorithm and size; each
// algorithm's encoded message passes its own signature only.
func TestVerifier(t *testing.T) {
	for _, bits := range []int{2048, 3072, 4096} {
		k := testKey(bits, false)
		v, whole := newVerifier(t, k.Public()), stdKey(t, k)
		var ems, sigs [][]byte
		for _, alg := range threshold.Algorithms() {
			digest, em := message(t, alg, "document", bits)
			sig, err := k.SignEncoded(em)
			if !alg.PSS() { // crypto/rsa draws the salt of PSS itself
				sig, err = rsa.SignPKCS1v15(nil, whole, alg.Hash(), digest)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := threshold.VerifySignature(k.Public(), alg, digest, sig); err != nil {
				t.Fatalf("%s, %d bits: crypto/rsa refuses: %v", alg, bits, err)
			}
			ems, sigs = append(ems, em), append(sigs, sig)
		}
		if err := v.VerifyAll(ems, sigs); err != nil {
			t.Errorf("%d bits, all: %v", bits, err)
		}
		for what, wrong := range map[string][][]byte{
			"one too few": sigs[1:], "one too many": append(slices.Clone(sigs), sigs[0]), "none": nil, "exchanged": append(slices.Clone(sigs[1:]), sigs[0]),
		} {
			if err := v.VerifyAll(ems, wrong); !errors.Is(err, threshold.ErrSignature) {
				t.Errorf("%d bits, %s: %v", bits, what, err)
			}
		}
		for i, em := range ems {
			for j, sig := range sigs {
				if err := v.Verify(em, sig); (err == nil) != (i == j) || err != nil && !errors.Is(err, threshold.ErrSignature) {
					t.Errorf("%d bits, message of %s, signature of %s: %v", bits, threshold.Algorithms()[i], threshold.Algorithms()[j], err)
				}
			}
		}
	}
}

// TestVerifierRefuses everything that is not the signature, in the one form that it
// has.
func TestVerifierRefuses(t *testing.T) {
	k := testKey(2048, false)
	pub := k.Public()
	v := newVerifier(t, pub)
	_, em := message(t, threshold.RS256, "document", 2048)
	sig, err := k.SignEncoded(em)
	if err != nil {
		t.Fatal(err)
	}
	n, s, x := new(big.Int).SetBytes(pub.N), new(big.Int).SetBytes(sig), new(big.Int).SetBytes(em)
	fixed := func(v *big.Int) []byte { return v.FillBytes(make([]byte, 256)) }
	// s + N fits 256 bytes for some messages only: take one for which it does.
	low, lowEM := sig, em
	for i := 0; new(big.Int).Add(new(big.Int).SetBytes(low), n).BitLen() > 2048; i++ {
		_, lowEM = message(t, threshold.RS256, fmt.Sprint(i), 2048)
		if low, err = k.SignEncoded(lowEM); err != nil {
			t.Fatal(err)
		}
	}
	if v.Verify(em, sig) != nil || v.Verify(lowEM, low) != nil {
		t.Fatal("refused")
	}
	one := big.NewInt(1)
	for name, c := range map[string]struct{ x, sig []byte }{
		"N − s":                     {em, fixed(new(big.Int).Sub(n, s))},
		"s + N":                     {lowEM, fixed(new(big.Int).Add(new(big.Int).SetBytes(low), n))},
		"s + 1":                     {em, fixed(new(big.Int).Add(s, one))},
		"message + 1":               {fixed(new(big.Int).Add(x, one)), sig},
		"message + N, 257 bytes":    {new(big.Int).Add(new(big.Int).Lsh(n, 8), x).Bytes(), sig},
		"message of 255 bytes":      {em[1:], sig},
		"message of 257 bytes":      {append([]byte{0}, em...), sig},
		"no message":                {nil, sig},
		"message N for signature 0": {pub.N, make([]byte, 256)},
		"short":                     {em, sig[1:]},
		"truncated":                 {em, sig[:255]},
		"long":                      {em, append([]byte{0}, sig...)},
		"long at the end":           {em, append(slices.Clone(sig), 0)},
		"none":                      {em, nil},
		"neither":                   {nil, nil},
		"0":                         {em, make([]byte, 256)},
		"1":                         {em, fixed(one)},
		"N − 1":                     {em, fixed(new(big.Int).Sub(n, one))},
		"N":                         {em, pub.N},
		"2²⁰⁴⁸ − 1":                 {em, bytes.Repeat([]byte{0xff}, 256)},
		"the message":               {em, em},
	} {
		if err := v.Verify(c.x, c.sig); !errors.Is(err, threshold.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range 2048 {
		flipped := slices.Clone(sig)
		flipped[i/8] ^= 0x80 >> (i % 8)
		if err := v.Verify(em, flipped); !errors.Is(err, threshold.ErrSignature) {
			t.Fatalf("bit %d of the signature: %v", i, err)
		}
		flipped = slices.Clone(em)
		flipped[i/8] ^= 0x80 >> (i % 8)
		if err := v.Verify(flipped, sig); !errors.Is(err, threshold.ErrSignature) {
			t.Fatalf("bit %d of the message: %v", i, err)
		}
	}
	other := newVerifier(t, testKey(2048, true).Public())
	if err := other.Verify(em, sig); !errors.Is(err, threshold.ErrSignature) {
		t.Errorf("another key: %v", err)
	}
}

// TestVerifierKeys: it works for no other keys than the rest of the package, and
// with its own copy of them.
func TestVerifierKeys(t *testing.T) {
	k := testKey(2048, false)
	good := k.Public()
	even := slices.Clone(good.N)
	even[255] &^= 1
	for name, pub := range map[string]*threshold.PublicKey{
		"none":          {},
		"exponent 3":    {N: good.N, E: 3},
		"exponent 0":    {N: good.N},
		"even":          {N: even, E: good.E},
		"2040 bits":     {N: good.N[:255], E: good.E},
		"leading zeros": {N: append([]byte{0}, good.N...), E: good.E},
	} {
		if v, err := threshold.NewVerifier(pub); !errors.Is(err, threshold.ErrPublicKey) || v != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, em := message(t, threshold.RS256, "document", 2048)
	sig, err := k.SignEncoded(em)
	if err != nil {
		t.Fatal(err)
	}
	mine := &threshold.PublicKey{N: slices.Clone(good.N), E: good.E}
	v := newVerifier(t, mine)
	clear(mine.N)
	if err := v.Verify(em, sig); err != nil {
		t.Errorf("the caller's key changed: %v", err)
	}
}

// TestVerifierProperty compares with crypto/rsa and math/big for signatures that
// are right, wrong or anything, of messages under any algorithm and salt.
func TestVerifierProperty(t *testing.T) {
	k := testKey(2048, false)
	pub := k.Public()
	v := newVerifier(t, pub)
	n, e := new(big.Int).SetBytes(pub.N), new(big.Int).SetUint64(pub.E)
	rapid.Check(t, func(t *rapid.T) {
		alg := rapid.SampledFrom(threshold.Algorithms()).Draw(t, "algorithm")
		digest := rapid.SliceOfN(rapid.Byte(), alg.Hash().Size(), alg.Hash().Size()).Draw(t, "digest")
		var salt []byte
		if alg.PSS() {
			salt = rapid.SliceOfN(rapid.Byte(), alg.SaltLen(), alg.SaltLen()).Draw(t, "salt")
		}
		em, err := threshold.Encode(alg, digest, salt, 2048)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := k.SignEncoded(em)
		if err != nil {
			t.Fatal(err)
		}
		switch rapid.SampledFrom([]string{"right", "changed", "negated", "anything"}).Draw(t, "signature") {
		case "changed":
			sig[rapid.IntRange(0, 255).Draw(t, "at")] ^= rapid.ByteRange(1, 255).Draw(t, "by")
		case "negated":
			sig = new(big.Int).Sub(n, new(big.Int).SetBytes(sig)).FillBytes(make([]byte, 256))
		case "anything":
			sig = rapid.SliceOfN(rapid.Byte(), 250, 260).Draw(t, "bytes")
		}
		s := new(big.Int).SetBytes(sig)
		right := len(sig) == 256 && s.Cmp(n) < 0 && new(big.Int).Exp(s, e, n).Cmp(new(big.Int).SetBytes(em)) == 0
		// crypto/rsa would take another salt too: no such signature is at hand here.
		std := threshold.VerifySignature(pub, alg, digest, sig) == nil
		if got := v.Verify(em, sig); (got == nil) != right || std != right || got != nil && !errors.Is(got, threshold.ErrSignature) {
			t.Fatalf("%v; by math/big %v, by crypto/rsa %v", got, right, std)
		}
	})
}

// TestVerifierSalt: a valid PSS signature with another salt is refused, as the
// caller knows the salt.
func TestVerifierSalt(t *testing.T) {
	k := testKey(2048, false)
	digest, em := message(t, threshold.PS256, "document", 2048)
	sig, err := rsa.SignPSS(rand.Reader, stdKey(t, k), threshold.PS256.Hash(), digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	if err != nil {
		t.Fatal(err)
	}
	if err := threshold.VerifySignature(k.Public(), threshold.PS256, digest, sig); err != nil {
		t.Fatal(err)
	}
	if err := newVerifier(t, k.Public()).Verify(em, sig); !errors.Is(err, threshold.ErrSignature) {
		t.Errorf("another salt: %v", err)
	}
}

func TestVerifierConcurrentUse(t *testing.T) {
	k := testKey(2048, false)
	v := newVerifier(t, k.Public())
	var wg sync.WaitGroup
	for i := range 8 {
		_, em := message(t, threshold.RS256, fmt.Sprint(i), 2048)
		sig, err := k.SignEncoded(em)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for range 20 {
				if v.Verify(em, sig) != nil || v.Verify(sig, em) == nil {
					t.Errorf("goroutine %d: wrong verdict", i)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkVerify compares a Verifier with VerifySignature.
func BenchmarkVerify(b *testing.B) {
	for _, bits := range []int{2048, 3072, 4096} {
		k := testKey(bits, false)
		v := newVerifier(b, k.Public())
		digest, em := message(b, threshold.RS256, "document", bits)
		sig, err := k.SignEncoded(em)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("verifier/%d", bits), func(b *testing.B) {
			for b.Loop() {
				if err := v.Verify(em, sig); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("crypto-rsa/%d", bits), func(b *testing.B) {
			for b.Loop() {
				if err := threshold.VerifySignature(k.Public(), threshold.RS256, digest, sig); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

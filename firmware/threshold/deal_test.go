package threshold_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/emsa"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
)

func seeds(values ...string) []threshold.Seed {
	var s []threshold.Seed
	for i, v := range values {
		s = append(s, threshold.Seed{ID: string(rune('a' + i)), Value: threshold.NewSecret(append(bytes.Repeat([]byte{7}, 32), v...))})
	}
	return s
}

// TestSeedReader: the same seeds give the same stream; every change gives
// another, also those that a careless concatenation would not notice.
func TestSeedReader(t *testing.T) {
	first := func(label string, s []threshold.Seed) string {
		t.Helper()
		r, err := threshold.NewSeedReader(label, s)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 64)
		r.Read(b[:10])
		r.Read(b[10:])
		return string(b)
	}
	base := seeds("one", "two", "three")
	if first("key 1", base) != first("key 1", seeds("one", "two", "three")) {
		t.Error("same seeds, another stream")
	}
	renamed := seeds("one", "two", "three")
	renamed[1].ID = "z"
	shifted := seeds("one", "two", "three")
	shifted[0].ID, shifted[0].Value = "a\x07", threshold.NewSecret(shifted[0].Value.Reveal()[1:])
	seen := map[string]string{first("key 1", base): "base"}
	for name, stream := range map[string]string{
		"label": first("key 2", base), "value": first("key 1", seeds("one", "two", "thref")), "dropped": first("key 1", base[:2]),
		"order": first("key 1", []threshold.Seed{base[1], base[0], base[2]}), "id": first("key 1", renamed), "border": first("key 1", shifted),
		"split": first("key 1", seeds("one", "twothree")), "longer": first("key 1", seeds("one", "two", "three\x00")), "empty ends": first("key 1", seeds("", "onetwo", "three")),
	} {
		if other, ok := seen[stream]; ok {
			t.Errorf("%s changed, and the stream is that of %s", name, other)
		}
		seen[stream] = name
	}

	duplicate := seeds("one", "two")
	duplicate[1].ID = "a"
	anonymous := seeds("one")
	anonymous[0].ID = ""
	short := seeds("one")
	short[0].Value = threshold.NewSecret(make([]byte, 31))
	for name, bad := range map[string][]threshold.Seed{"none": nil, "duplicate id": duplicate, "no id": anonymous, "short": short, "no value": {{ID: "a"}}} {
		if _, err := threshold.NewSeedReader("key 1", bad); !errors.Is(err, threshold.ErrSeed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := threshold.NewSeedReader("", base); !errors.Is(err, threshold.ErrSeed) {
		t.Error("no label accepted")
	}
	r, _ := threshold.NewSeedReader("key 1", base)
	r.Wipe()
	r.Wipe()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, threshold.ErrWiped) {
		t.Errorf("read after wipe: %v", err)
	}
}

// TestGenerateKey checks the promises of FIPS 186-5 §A.1.3 on fresh keys, and
// that any change of the stream changes the key.
func TestGenerateKey(t *testing.T) {
	seen := map[string]bool{}
	for _, label := range []string{"one", "two"} {
		r, err := threshold.NewSeedReader(label, seeds("s"))
		if err != nil {
			t.Fatal(err)
		}
		k, err := threshold.GenerateKey(r, 2048, label == "two", nil)
		if err != nil {
			t.Fatal(err)
		}
		pb, qb := k.Primes()
		p, q := new(big.Int).SetBytes(pb), new(big.Int).SetBytes(qb)
		n := new(big.Int).Mul(p, q)
		diff := new(big.Int).Sub(p, q)
		if n.BitLen() != 2048 || !bytes.Equal(n.Bytes(), k.Public().N) || p.BitLen() != 1024 || q.BitLen() != 1024 ||
			diff.BitLen() <= 1024-100 || !p.ProbablyPrime(20) || !q.ProbablyPrime(20) {
			t.Errorf("bad key: p %x q %x", p, q)
		}
		if label == "two" && (!new(big.Int).Rsh(p, 1).ProbablyPrime(20) || !new(big.Int).Rsh(q, 1).ProbablyPrime(20)) {
			t.Error("the primes are not safe")
		}
		if seen[string(k.Public().N)] {
			t.Error("another seed, same modulus")
		}
		seen[string(k.Public().N)] = true
		d, em := message(t, threshold.PS512, "document", 2048)
		sig, err := k.SignEncoded(em)
		if err != nil || threshold.VerifySignature(k.Public(), threshold.PS512, d, sig) != nil {
			t.Errorf("whole signature: %v", err)
		}
		k.Wipe()
		if _, err := k.SignEncoded(em); !errors.Is(err, threshold.ErrWiped) {
			t.Errorf("signing after wipe: %v", err)
		}
		if _, _, err := threshold.Deal(rand.Reader, k, threshold.Split{Scheme: threshold.Additive, T: 1, N: 1}); !errors.Is(err, threshold.ErrWiped) {
			t.Errorf("dealing after wipe: %v", err)
		}
		if wp, wq := k.Primes(); len(wp)+len(wq) != 0 {
			t.Error("factors survive the wipe")
		}
	}
	for _, bits := range []int{0, 1024, 2047, 2056, 8192} {
		if _, err := threshold.GenerateKey(rand.Reader, bits, false, nil); !errors.Is(err, threshold.ErrPublicKey) {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
	if _, err := threshold.GenerateKey(iotest.ErrReader(errors.New("broken")), 2048, false, nil); err == nil {
		t.Error("key without randomness")
	}
	p, q := testKey(2048, false).Primes()
	near := new(big.Int).Add(new(big.Int).SetBytes(p), big.NewInt(2))
	for !near.ProbablyPrime(10) {
		near.Add(near, big.NewInt(2))
	}
	for name, err := range map[string]error{
		"equal": keyErr(p, p, false), "near": keyErr(p, near.Bytes(), false), "not safe": keyErr(p, q, true), "even": keyErr(append(bytes.Clone(p[:127]), 2), q, false),
		"short": keyErr([]byte{7}, q, false), "none": keyErr(nil, q, false),
	} {
		if !errors.Is(err, threshold.ErrPublicKey) {
			t.Errorf("primes %s: %v", name, err)
		}
	}
}

func keyErr(p, q []byte, safe bool) error {
	_, err := threshold.WholeKeyFromPrimes(p, q, safe)
	return err
}

// TestDealIsDeterministic: shares are a function of the stream.
func TestDealIsDeterministic(t *testing.T) {
	k := testKey(2048, true)
	for _, scheme := range []threshold.Scheme{threshold.Additive, threshold.Multiplicative} {
		split := threshold.Split{Scheme: scheme, T: 2, N: 3}
		s1, c1, err1 := threshold.Deal(thresholdtest.Seeds(1, true), k, split)
		s2, c2, err2 := threshold.Deal(thresholdtest.Seeds(1, true), k, split)
		s3, _, err3 := threshold.Deal(thresholdtest.Seeds(2, true), k, split)
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		if !s1[0].Subs[0].Value.Equal(s2[0].Subs[0].Value) || !bytes.Equal(c1.G, c2.G) {
			t.Error("same stream, other shares")
		}
		if s1[0].Subs[0].Value.Equal(s3[0].Subs[0].Value) {
			t.Error("other stream, same share")
		}
	}
	if _, _, err := threshold.Deal(iotest.ErrReader(errors.New("broken")), k, threshold.Split{Scheme: 1, T: 2, N: 3}); err == nil {
		t.Error("dealt without randomness")
	}
}

// TestCheckShare: a device notices a share that is damaged, swapped or another's.
func TestCheckShare(t *testing.T) {
	for _, scheme := range []threshold.Scheme{threshold.Additive, threshold.Multiplicative} {
		s := deal(t, 2048, scheme, 2, 3)
		for i := range s.shares {
			if err := s.com.CheckShare(s.pub, s.split, &s.shares[i]); err != nil {
				t.Fatal(err)
			}
		}
		clone := func() *threshold.Share {
			c := threshold.Share{Index: 1}
			for _, sub := range s.shares[0].Subs {
				c.Subs = append(c.Subs, threshold.SubShare{Subset: sub.Subset, Value: sub.Value.Clone()})
			}
			return &c
		}
		for name, change := range map[string]func(*threshold.Share){
			"bit":       func(c *threshold.Share) { c.Subs[1].Value.Reveal()[200] ^= 4 },
			"index":     func(c *threshold.Share) { c.Index = 2 },
			"index 0":   func(c *threshold.Share) { c.Index = 0 },
			"index 4":   func(c *threshold.Share) { c.Index = 4 },
			"swapped":   func(c *threshold.Share) { c.Subs[0].Value, c.Subs[1].Value = c.Subs[1].Value, c.Subs[0].Value },
			"reordered": func(c *threshold.Share) { slices.Reverse(c.Subs) },
			"missing":   func(c *threshold.Share) { c.Subs = c.Subs[1:] },
			"extra":     func(c *threshold.Share) { c.Subs = append(c.Subs, c.Subs[0]) },
			"short":     func(c *threshold.Share) { c.Subs[0].Value = threshold.NewSecret(c.Subs[0].Value.Reveal()[1:]) },
			"wiped":     func(c *threshold.Share) { c.Wipe() },
			"empty":     func(c *threshold.Share) { *c = threshold.Share{} },
		} {
			c := clone()
			change(c)
			if err := s.com.CheckShare(s.pub, s.split, c); !errors.Is(err, threshold.ErrShare) {
				t.Errorf("%v, %s: %v", scheme, name, err)
			}
		}
	}
}

// TestCheckDealing: everyone can see that an additive dealing is right.
func TestCheckDealing(t *testing.T) {
	s := deal(t, 2048, threshold.Additive, 2, 3)
	n := new(big.Int).SetBytes(s.pub.N)
	for name, change := range map[string]func(*threshold.Commitment){
		"value": func(c *threshold.Commitment) {
			v := new(big.Int).SetBytes(c.V[3].Value)
			c.V[3].Value = v.Mul(v, v).Mod(v, n).FillBytes(make([]byte, 256))
		},
		"zero value": func(c *threshold.Commitment) { c.V[3].Value = make([]byte, 256) },
		"short":      func(c *threshold.Commitment) { c.V[3].Value = c.V[3].Value[1:] },
		"missing":    func(c *threshold.Commitment) { c.V = c.V[:5] },
		"extra":      func(c *threshold.Commitment) { c.V = append(c.V, c.V[0]) },
		"reordered":  func(c *threshold.Commitment) { c.V[0], c.V[1] = c.V[1], c.V[0] },
		"g":          func(c *threshold.Commitment) { c.G = big.NewInt(4).FillBytes(make([]byte, 256)) },
		"no g":       func(c *threshold.Commitment) { c.G = nil },
		"g = 1":      func(c *threshold.Commitment) { c.G = big.NewInt(1).FillBytes(make([]byte, 256)) },
	} {
		c := threshold.Commitment{G: s.com.G, V: slices.Clone(s.com.V)}
		change(&c)
		if err := c.CheckDealing(s.pub, s.split); !errors.Is(err, threshold.ErrCommitment) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.com.CheckDealing(s.pub, threshold.Split{Scheme: threshold.Additive, T: 3, N: 3}); err == nil {
		t.Error("another split accepted")
	}
	if err := deal(t, 2048, threshold.Multiplicative, 2, 3).com.CheckDealing(s.pub, threshold.Split{Scheme: threshold.Multiplicative, T: 2, N: 3}); err != nil {
		t.Errorf("multiplicative: %v", err)
	}
}

func TestSplitLimits(t *testing.T) {
	type tn struct{ t, n uint64 }
	for c, want := range map[tn]int{{1, 1}: 1, {2, 3}: 2, {3, 5}: 6, {4, 5}: 4, {5, 10}: 126, {3, 16}: 105, {16, 16}: 1, {1, 16}: 1} {
		s := threshold.Split{Scheme: threshold.Additive, T: c.t, N: c.n}
		if err := s.Validate(); err != nil || s.SubShares() != want {
			t.Errorf("%v: %d sub-shares, want %d (%v)", c, s.SubShares(), want, err)
		}
		held := 0
		for _, subset := range s.Subsets() {
			if err := s.Check(subset); err != nil {
				t.Error(err)
			}
			if subset.Has(1) {
				held++
			}
		}
		if held != want {
			t.Errorf("%v: %d subsets with share 1, want %d", c, held, want)
		}
	}
	for _, s := range []threshold.Split{
		{Scheme: 0, T: 1, N: 1}, {Scheme: 3, T: 1, N: 1}, {Scheme: 1, T: 0, N: 1}, {Scheme: 1, T: 2, N: 1}, {Scheme: 1, T: 0, N: 0},
		{Scheme: 1, T: 1, N: 17}, {Scheme: 1, T: 6, N: 11}, {Scheme: 1, T: 1 << 63, N: 1 << 63}, {Scheme: 1, T: 8, N: 16},
	} {
		if err := s.Validate(); !errors.Is(err, threshold.ErrSplit) || s.Subsets() != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
	for _, bad := range [][]uint64{{0}, {17}, {1, 1}, {1 << 63}} {
		if _, err := threshold.SubsetOf(bad...); !errors.Is(err, threshold.ErrSubset) {
			t.Errorf("%d: %v", bad, err)
		}
	}
	s, err := threshold.SubsetOf(4, 1, 16)
	if err != nil || s.String() != "{1 4 16}" || s.Len() != 3 || !s.Has(16) || s.Has(2) || s.Has(0) || s.Has(65) {
		t.Errorf("%v, %v", s, err)
	}
	if err := (threshold.Split{Scheme: 1, T: 3, N: 5}).Check(s); !errors.Is(err, threshold.ErrSubset) {
		t.Errorf("subset with share 16 of 5: %v", err)
	}
}

// TestEncodeAllAlgorithms signs every encoding at every length with the whole key
// and has crypto/rsa verify, and nothing else verify.
func TestEncodeAllAlgorithms(t *testing.T) {
	for _, bits := range []int{2048, 3072, 4096} {
		k := testKey(bits, bits == 2048)
		for _, alg := range threshold.Algorithms() {
			digest, em := message(t, alg, "document", bits)
			if len(em) != bits/8 {
				t.Errorf("%s, %d bits: %d bytes", alg, bits, len(em))
			}
			sig := wholeSignature(t, k, em)
			for _, other := range threshold.Algorithms() {
				err := threshold.VerifySignature(k.Public(), other, digest, sig)
				if (err == nil) != (other == alg) {
					t.Errorf("%s signature as %s: %v", alg, other, err)
				}
			}
			negated := new(big.Int).Sub(new(big.Int).SetBytes(k.Public().N), new(big.Int).SetBytes(sig)).FillBytes(make([]byte, bits/8))
			if !errors.Is(threshold.VerifySignature(k.Public(), alg, digest, negated), threshold.ErrSignature) {
				t.Errorf("%s: N − S verifies", alg)
			}
		}
	}
	digest := make([]byte, 32)
	k := testKey(2048, true)
	for _, salt := range []int{0, 20, 31, 33} {
		em, err := emsa.EncodePSS(crypto.SHA256, digest, make([]byte, salt), 2047)
		if err != nil {
			t.Fatal(err)
		}
		if err := threshold.VerifySignature(k.Public(), threshold.PS256, digest, wholeSignature(t, k, em)); !errors.Is(err, threshold.ErrSignature) {
			t.Errorf("salt of %d bytes: %v", salt, err)
		}
	}
	for name, err := range map[string]error{
		"unknown":      encodeErr("RS1", digest, nil, 2048),
		"lower case":   encodeErr("rs256", digest, nil, 2048),
		"empty":        encodeErr("", digest, nil, 2048),
		"salt for RS":  encodeErr(threshold.RS256, digest, digest, 2048),
		"no salt":      encodeErr(threshold.PS256, digest, nil, 2048),
		"short salt":   encodeErr(threshold.PS256, digest, digest[1:], 2048),
		"short digest": encodeErr(threshold.PS256, digest[1:], digest, 2048),
		"wrong hash":   encodeErr(threshold.RS512, digest, nil, 2048),
	} {
		if !errors.Is(err, threshold.ErrAlgorithm) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func encodeErr(a threshold.Algorithm, digest, salt []byte, bits int) error {
	_, err := threshold.Encode(a, digest, salt, bits)
	return err
}

func TestPublicKeyValidate(t *testing.T) {
	n := testKey(2048, true).Public().N
	even := bytes.Clone(n)
	even[255] &^= 1
	low := bytes.Clone(n)
	low[0] &= 0x7f
	for name, k := range map[string]threshold.PublicKey{
		"no modulus": {E: 65537}, "even": {N: even, E: 65537}, "2047 bits": {N: low, E: 65537}, "leading zero": {N: append([]byte{0}, n...), E: 65537},
		"e = 3": {N: n, E: 3}, "e = 0": {N: n}, "huge e": {N: n, E: 1 << 40}, "1024 bits": {N: n[:128], E: 65537},
	} {
		if err := k.Validate(); !errors.Is(err, threshold.ErrPublicKey) {
			t.Errorf("%s: %v", name, err)
		}
		if err := threshold.VerifySignature(&k, threshold.RS256, make([]byte, 32), n); err == nil {
			t.Errorf("%s: signature verifies", name)
		}
	}
}

// TestNeedsProof: all places of a chain but the last two, and none of a
// parallel signature.
func TestNeedsProof(t *testing.T) {
	for n, want := range map[uint64]string{1: ".", 2: "..", 3: "p..", 5: "ppp.."} {
		for scheme, want := range map[threshold.Scheme]string{threshold.Multiplicative: want, threshold.Additive: strings.Repeat(".", len(want))} {
			got := ""
			for i := range n {
				got += map[bool]string{true: "p", false: "."}[threshold.Split{Scheme: scheme, T: n, N: 8}.NeedsProof(i)]
			}
			if got != want {
				t.Errorf("%v, t = %d: %s, want %s", scheme, n, got, want)
			}
		}
	}
}

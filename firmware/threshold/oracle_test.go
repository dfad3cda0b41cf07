package threshold_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	circl "github.com/cloudflare/circl/tss/rsa"
	"pgregory.net/rapid"

	"github.com/privyseal/privyseal/firmware/threshold"
)

// TestOpenSSLVerifies has the openssl program verify a signature of each
// algorithm, made in parallel and in sequence.
func TestOpenSSLVerifies(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	parallel, sequential := deal(t, 3072, threshold.Additive, 2, 3), deal(t, 2048, threshold.Multiplicative, 3, 3)
	for _, alg := range threshold.Algorithms() {
		for _, s := range []*system{parallel, sequential} {
			const document = "document for openssl"
			digest, em := message(t, alg, document, s.pub.Bits())
			var sig []byte
			var err error
			if s == parallel {
				sig, err = s.parallel(alg, 0b101, digest, em)
			} else {
				sig, err = s.sequential(alg, []uint64{3, 1, 2}, digest, em, true)
			}
			if err != nil {
				t.Fatal(err)
			}
			spki, err := x509.MarshalPKIXPublicKey(s.pub.RSA())
			if err != nil {
				t.Fatal(err)
			}
			args := []string{
				"dgst", "-sha" + strings.TrimLeft(string(alg), "RPS"),
				"-verify", write("pub.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})),
				"-signature", write("sig", sig),
			}
			if alg.PSS() {
				args = append(args, "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest")
			}
			out, err := exec.Command("openssl", append(args, write("document", []byte(document)))...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "Verified OK") {
				t.Errorf("%s, %v: %v: %s", alg, s.split.Scheme, err, out)
			}
			if out, err := exec.Command("openssl", append(args, write("document", []byte("another")))...).CombinedOutput(); err == nil {
				t.Errorf("%s: openssl accepts another document: %s", alg, out)
			}
		}
	}
}

// TestAgainstCircl signs the same message with the same key by Shoup's scheme as
// Cloudflare implements it; PKCS #1 v1.5 signatures must be equal.
func TestAgainstCircl(t *testing.T) {
	s := deal(t, 2048, threshold.Additive, 2, 3)
	whole := stdKey(t, s.whole)
	shares, err := circl.Deal(rand.Reader, 3, 2, whole, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, alg := range threshold.Algorithms() {
		digest, em := message(t, alg, "document", 2048)
		if !alg.PSS() {
			padded, err := (circl.PKCS1v15Padder{}).Pad(&whole.PublicKey, alg.Hash(), digest)
			if err != nil || !bytes.Equal(padded, em) {
				t.Errorf("%s: circl encodes otherwise (%v)", alg, err)
			}
		}
		var parts []circl.SignShare
		for _, i := range []int{0, 2} {
			part, err := shares[i].Sign(rand.Reader, &whole.PublicKey, em, false)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, part)
		}
		want, err := circl.CombineSignShares(&whole.PublicKey, 3, 2, parts, em)
		if err != nil {
			t.Fatal(err)
		}
		for _, subset := range s.split.Subsets() {
			if got, err := s.parallel(alg, subset, digest, em); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %v: differs from circl (%v)", alg, subset, err)
			}
		}
	}
}

// TestAgainstCryptoRSA: PKCS #1 v1.5 signatures are equal to crypto/rsa's.
func TestAgainstCryptoRSA(t *testing.T) {
	for _, bits := range []int{2048, 3072, 4096} {
		s := deal(t, bits, threshold.Multiplicative, 2, 2)
		whole := stdKey(t, s.whole)
		for _, alg := range []threshold.Algorithm{threshold.RS256, threshold.RS384, threshold.RS512} {
			digest, em := message(t, alg, "document", bits)
			want, err := rsa.SignPKCS1v15(nil, whole, alg.Hash(), digest)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := s.sequential(alg, []uint64{2, 1}, digest, em, false); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %d bits: differs from crypto/rsa (%v)", alg, bits, err)
			}
		}
	}
}

// TestAnySystem draws split, subset, order, algorithm and document at random and
// compares with math/big doing the same without any sharing.
func TestAnySystem(t *testing.T) {
	dealt := map[threshold.Split]*system{}
	rapid.Check(t, func(rt *rapid.T) {
		scheme := rapid.SampledFrom([]threshold.Scheme{threshold.Additive, threshold.Multiplicative}).Draw(rt, "scheme")
		n := rapid.Uint64Range(1, 4).Draw(rt, "n")
		T := rapid.Uint64Range(1, n).Draw(rt, "t")
		split := threshold.Split{Scheme: scheme, T: T, N: n}
		if dealt[split] == nil {
			dealt[split] = deal(t, 2048, scheme, T, n)
		}
		s := dealt[split]
		subset := rapid.SampledFrom(s.split.Subsets()).Draw(rt, "subset")
		order := rapid.Permutation(subset.Indices()).Draw(rt, "order")
		alg := rapid.SampledFrom(threshold.Algorithms()).Draw(rt, "algorithm")
		digest, em := message(t, alg, rapid.String().Draw(rt, "document"), 2048)
		var sig []byte
		var err error
		if scheme == threshold.Additive {
			sig, err = s.parallel(alg, subset, digest, em)
		} else {
			sig, err = s.sequential(alg, order, digest, em, false)
		}
		key := stdKey(t, s.whole)
		want := new(big.Int).Exp(new(big.Int).SetBytes(em), key.D, key.N).FillBytes(make([]byte, 256))
		if err != nil || !bytes.Equal(sig, want) {
			rt.Fatalf("%v, order %d, %s: %v", s.split, order, alg, err)
		}
	})
}

// TestSmallOrder shows what safe primes are for. With ordinary primes, someone
// who knows them and helps a device has a root u of 1 of small odd order r. The
// proof for y·u holds for one challenge in r, so that the device need only try
// some nonces, and a wrong partial signature has a valid proof. With safe
// primes no such root exists.
func TestSmallOrder(t *testing.T) {
	k := testKey(2048, false)
	split := threshold.Split{Scheme: threshold.Multiplicative, T: 1, N: 1}
	shares, com, err := threshold.Deal(rand.Reader, k, split)
	if err != nil {
		t.Fatal(err)
	}
	s := &system{t, k, k.Public(), split, shares, com}
	u, r := smallRoot(k)
	if u == nil {
		t.Fatal("the ordinary test key has no small odd factor in p − 1 or q − 1")
	}
	digest, em := message(t, threshold.RS256, "document", 2048)
	b := s.binding(1)
	b.Share, b.Position = shareID(1), 1
	n := new(big.Int).SetBytes(s.pub.N)
	y := new(big.Int).SetBytes(s.partial(b, 1, em, false).Value)
	wrong := smaller(y.Mul(y, u).Mod(y, n), n).FillBytes(make([]byte, 256))
	d, _ := shares[0].Sub(1)
	passed := false
	for range 100 * r {
		p, err := threshold.Prove(rand.Reader, s.pub, com, b, 1, em, wrong, d)
		if err != nil {
			t.Fatal(err)
		}
		if passed = threshold.VerifyProof(s.pub, com, b, 1, em, wrong, p) == nil; passed {
			break
		}
	}
	if !passed {
		t.Errorf("no proof passed in %d tries, although u has order %d", 100*r, r)
	}
	if _, err := threshold.FinishSequentialVarTime(s.pub, threshold.RS256, digest, wrong); !errors.Is(err, threshold.ErrSignature) {
		t.Errorf("and yet it is no signature: %v", err)
	}
	if u, _ := smallRoot(testKey(2048, true)); u != nil {
		t.Error("the safe test key has a root of 1 of small odd order")
	}
}

// smallRoot returns an element of Z/N of smallest odd order r > 1, r < 1000.
func smallRoot(k *threshold.WholeKey) (*big.Int, int64) {
	pb, qb := k.Primes()
	p, q := new(big.Int).SetBytes(pb), new(big.Int).SetBytes(qb)
	one := big.NewInt(1)
	for r := int64(3); r < 1000; r += 2 {
		for _, f := range [][2]*big.Int{{p, q}, {q, p}} {
			order := new(big.Int).Sub(f[0], one)
			cofactor, rest := new(big.Int).QuoRem(order, big.NewInt(r), new(big.Int))
			if rest.Sign() != 0 {
				continue
			}
			for g := int64(2); g < 50; g++ {
				root := new(big.Int).Exp(big.NewInt(g), cofactor, f[0])
				if root.Cmp(one) != 0 { // u ≡ root mod f[0], u ≡ 1 mod f[1]
					u := new(big.Int).ModInverse(f[1], f[0])
					u.Mul(u, root.Sub(root, one)).Mod(u, f[0])
					return u.Mul(u, f[1]).Add(u, one), r
				}
			}
		}
	}
	return nil, 0
}

// TestRetry: whichever devices lie, as long as t are honest, trying the subsets
// in turn completes the signature and blames nobody who is honest.
func TestRetry(t *testing.T) {
	s := deal(t, 2048, threshold.Additive, 2, 4)
	digest, em := message(t, threshold.RS256, "document", 2048)
	for liars := threshold.Subset(0); liars < 16; liars++ {
		var blamed []uint64
		done := false
		for _, subset := range s.split.Subsets() {
			b := s.binding(subset)
			var partials []threshold.PartialSignature
			for _, i := range subset.Indices() {
				p := s.partial(b, i, em, false)
				if liars.Has(i) {
					p.Value = forge(p, big.NewInt(int64(i)+2), 256).Value
				}
				partials = append(partials, p)
			}
			sig, err := threshold.CombineAdditiveVarTime(s.pub, threshold.RS256, digest, partials)
			if err == nil {
				done = threshold.VerifySignature(s.pub, threshold.RS256, digest, sig) == nil
				break
			}
			for i := range partials { // now ask for proofs
				d, _ := s.shares[partials[i].Index-1].Sub(subset)
				at := b
				at.Share = partials[i].Share
				partials[i].Proof, err = threshold.Prove(rand.Reader, s.pub, s.com, at, partials[i].Index, em, partials[i].Value, d)
				if err != nil {
					t.Fatal(err)
				}
			}
			var wrong *threshold.WrongPartialError
			if err := threshold.VerifyPartials(s.pub, s.com, b, em, partials); !errors.As(err, &wrong) {
				t.Fatalf("liars %v, subset %v: %v", liars, subset, err)
			}
			blamed = append(blamed, wrong.Indices...)
		}
		if done != (liars.Len() <= 2) {
			t.Errorf("liars %v: signature made: %v", liars, done)
		}
		if i := slices.IndexFunc(blamed, func(i uint64) bool { return !liars.Has(i) }); i >= 0 {
			t.Errorf("liars %v: honest %d blamed", liars, blamed[i])
		}
	}
}

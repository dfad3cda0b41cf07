package threshold_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"math/big"
	"testing"

	circl "github.com/cloudflare/circl/tss/rsa"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/baseline"
)

// stdKey is the whole key as crypto/rsa has it.
func stdKey(t testing.TB, k *threshold.WholeKey) *rsa.PrivateKey {
	t.Helper()
	pb, qb := k.Primes()
	p, q := new(big.Int).SetBytes(pb), new(big.Int).SetBytes(qb)
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	key := &rsa.PrivateKey{PublicKey: *k.Public().RSA(), D: new(big.Int).ModInverse(big.NewInt(threshold.PublicExponent), phi), Primes: []*big.Int{p, q}}
	key.Precompute()
	if err := key.Validate(); err != nil {
		t.Fatal(err)
	}
	return key
}

// BenchmarkSign compares, at each size: a partial signature in the host; the
// exponentiation in it done by libcrypto in a bare loop; a whole signature by
// crypto/rsa; a partial signature by circl; and the rest of a signature.
func BenchmarkSign(b *testing.B) {
	for _, bits := range []int{2048, 3072, 4096} {
		s := deal(b, bits, threshold.Additive, 2, 3)
		const subset = threshold.Subset(0b011)
		digest, em := message(b, threshold.RS256, "document", bits)
		bind := s.binding(subset)
		d, _ := s.shares[0].Sub(subset)
		e, err := threshold.NewHostExponentiator(s.pub, d)
		if err != nil {
			b.Fatal(err)
		}
		whole := stdKey(b, s.whole)
		run := func(name string, f func() error) {
			b.Run(fmt.Sprintf("%s/%d", name, bits), func(b *testing.B) {
				b.ReportAllocs()
				for range b.N {
					if err := f(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run(fmt.Sprintf("libcrypto/%d", bits), func(b *testing.B) {
			if !baseline.Run(s.pub.N, em, d.Reveal(), b.N) {
				b.Fatal("libcrypto failed")
			}
		})
		run("partial", func() error { _, err := threshold.Partial(s.pub, em, e); return err })
		run("crypto-rsa-whole", func() error {
			_, err := rsa.SignPKCS1v15(nil, whole, threshold.RS256.Hash(), digest)
			return err
		})
		shares, err := circl.Deal(rand.Reader, 3, 2, whole, true)
		if err != nil {
			b.Fatal(err)
		}
		run("circl-partial", func() error { _, err := shares[0].Sign(nil, &whole.PublicKey, em, false); return err })
		run("circl-partial-blinded", func() error { _, err := shares[0].Sign(rand.Reader, &whole.PublicKey, em, false); return err })

		p1, p2 := s.partial(bind, 1, em, true), s.partial(bind, 2, em, true)
		bind.Share = p1.Share
		run("prove", func() error {
			_, err := threshold.Prove(rand.Reader, s.pub, s.com, bind, 1, em, p1.Value, d)
			return err
		})
		run("verify-proof", func() error {
			return threshold.VerifyProof(s.pub, s.com, bind, 1, em, p1.Value, p1.Proof)
		})
		run("combine", func() error {
			_, err := threshold.CombineAdditiveVarTime(s.pub, threshold.RS256, digest, []threshold.PartialSignature{p1, p2})
			return err
		})
	}
}

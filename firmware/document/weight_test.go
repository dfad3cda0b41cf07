package document

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/firmware/threshold"
)

// unproved is a certificate request for a key that nobody has: its signature is
// nonsense.
func unproved(t *testing.T, public any) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(0)
			b.AddASN1(asn1.SEQUENCE, func(*cryptobyte.Builder) {})
			b.AddBytes(spki)
			b.AddASN1(asn1.Tag(0).ContextSpecific().Constructed(), func(*cryptobyte.Builder) {})
		})
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(oid(1, 2, 840, 10045, 4, 3, 2)) })
		})
		b.AddASN1BitString([]byte{1, 2, 3})
	})
	return b.BytesOrPanic()
}

// oid encodes a short one.
func oid(arcs ...uint32) []byte {
	out := []byte{byte(40*arcs[0] + arcs[1])}
	for _, a := range arcs[2:] {
		if a >= 1<<7 {
			out = append(out, byte(a>>7)|0x80)
		}
		out = append(out, byte(a)&0x7f)
	}
	return out
}

// modulus has no small factor; whether it has two large ones only its owner knows.
func modulus(t *testing.T, bits int) *big.Int {
	t.Helper()
	for {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(bits-1)))
		if err != nil {
			t.Fatal(err)
		}
		n.SetBit(n, bits-1, 1).SetBit(n, 0, 1)
		if new(big.Int).GCD(nil, nil, n, smallPrimes).Cmp(big.NewInt(1)) == 0 {
			return n
		}
	}
}

// TestBatchWeight: a batch whose keys take long to verify is refused before one of
// them is; one of the same keys alone is not.
func TestBatchWeight(t *testing.T) {
	ec := func(c elliptic.Curve) any {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return &k.PublicKey
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	modulo := func(bits, e int) any { return &rsa.PublicKey{N: modulus(t, bits), E: e} }
	_, _, key := layersKey(t)
	for _, x := range []struct {
		name   string
		public any
		most   int // of them in a batch
	}{
		{"P-256", ec(elliptic.P256()), maxBatch},
		{"Ed25519", ed, maxBatch},
		{"RSA 2048 bits", modulo(2048, 65537), maxBatch},
		{"RSA 3072 bits", modulo(3072, 65537), maxBatch},
		{"RSA 4096 bits", modulo(4096, 65537), maxBatch},
		{"RSA 2048 bits", modulo(2048, 1<<31-1), maxBatch},
		{"RSA 4096 bits", modulo(4096, 1<<31-1), 37},
		{"RSA 8192 bits", modulo(8192, 65537), 30},
		{"RSA 8192 bits", modulo(8192, 1<<31-1), 9},
		{"P-384", ec(elliptic.P384()), 75},
		{"P-521", ec(elliptic.P521()), 15},
	} {
		csr := unproved(t, x.public)
		for _, n := range []int{1, x.most, x.most + 1} {
			r := batchOf(t, key, 1, threshold.RS256)
			for len(r.Batch) < min(n, maxBatch) {
				r.Batch = append(r.Batch, r.Batch[0])
			}
			for i := range r.Batch {
				r.Batch[i].CSR = csr
			}
			err := checkWeight(r.Batch)
			if n <= maxBatch && n > x.most {
				wantError(t, err, ErrBatch)
				if text := err.Error(); !strings.Contains(text, x.name) || !strings.Contains(text, "make several requests") {
					t.Errorf("%d of %s: %v", n, x.name, err)
				}
			} else if err != nil {
				t.Errorf("%d of %s: %v", n, x.name, err)
			}
		}
	}

	// All that could be told of each draft is wrong: it is not looked at.
	r := batchOf(t, key, 1, threshold.RS256)
	most := MaxBatch(&key)
	if most < 17 {
		t.Fatalf("%d certificates at most", most)
	}
	r.Batch = r.Batch[:0]
	for range 16 {
		r.Batch = append(r.Batch, Draft{[]byte("no certificate"), unproved(t, ec(elliptic.P521()))})
	}
	wantError(t, second(Check(r, key, now)), ErrBatch)
	// A key that is not certified is found before.
	r.Batch[15].CSR = unproved(t, modulo(1024, 65537))
	err = second(Check(r, key, now))
	wantError(t, err, ErrWeakKey)
	if !strings.Contains(err.Error(), "certificate 16 of 16") {
		t.Error(err)
	}
}

// TestHeavyKeysAlone: any key that may be certified is, by a request of its own and
// in a batch that is small enough.
func TestHeavyKeysAlone(t *testing.T) {
	_, _, key := layersKey(t)
	signer, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, signer)
	if err != nil {
		t.Fatal(err)
	}
	r := batchOf(t, key, 1, threshold.RS256)
	r.Batch = draftsOf(t, key, csr, 15)
	if _, err := Check(r, key, now); err != nil {
		t.Error(err)
	}
	one := *r
	one.Kind, one.Batch, one.Document, one.CSR = KindCertificate, nil, r.Batch[0].Document, csr
	if _, err := Check(&one, key, now); err != nil {
		t.Error(err)
	}
	if a, b := r.Weight(), one.Weight(); a != 15*weightP521 || b != weightP521 || fileRequest(key, []byte("a file")).Weight() != 0 {
		t.Errorf("weights %d and %d", a, b)
	}
	// A batch that is too long is refused for that, and not weighed as a whole before.
	long := *r
	for len(long.Batch) < 10*maxBatch {
		long.Batch = append(long.Batch, r.Batch[0])
	}
	if w := long.Weight(); w != maxBatch*weightP521 {
		t.Errorf("weight %d", w)
	}
	// A proof that fails is found as before.
	r.Batch[14].CSR = bytes.Clone(csr)
	r.Batch[14].CSR[len(csr)-1] ^= 1
	wantError(t, second(Check(r, key, now)), ErrCSRSignature)
}

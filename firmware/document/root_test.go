package document

import (
	"bytes"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// TestRoot: roots of all algorithms are what OpenSSL takes for a root, and
// devices accept from the lead only what RootTBS makes for the very key.
func TestRoot(t *testing.T) {
	k := rsaKey(t, "ca", 2048)
	pub := publicOf(k)
	otherPub := publicOf(rsaKey(t, "other", 2048))
	for _, alg := range threshold.Algorithms() {
		der := rootFor(t, k, alg)
		if err := VerifyRoot(der, &pub); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		path := filepath.Join(t.TempDir(), "ca.pem")
		writePEM(t, path, "CERTIFICATE", der)
		openssl(t, "verify", "-x509_strict", "-check_ss_sig", "-attime", "1767323045", "-CAfile", path, path)
		wantError(t, VerifyRoot(der, &otherPub), ErrRoot)
		broken := bytes.Clone(der)
		broken[len(broken)-1] ^= 1
		wantError(t, VerifyRoot(broken, &pub), ErrRoot)
		wantError(t, VerifyRoot(append(bytes.Clone(der), 0), &pub), ErrRoot)
	}
	// An ordinary root by another maker serves for issuing, but is not one that a
	// lead may hand out: it has no path length, and a short serial number.
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: time.Unix(now, 0), NotAfter: time.Unix(now+day, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SignatureAlgorithm: x509.SHA256WithRSA,
	}
	make := func() []byte {
		der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	if _, err := readRoot(make(), &pub); err != nil {
		t.Error(err)
	}
	wantError(t, VerifyRoot(make(), &pub), ErrRoot)
	template.IsCA, template.KeyUsage = false, x509.KeyUsageDigitalSignature
	_, err := readRoot(make(), &pub)
	wantError(t, err, ErrRoot)

	tbs, err := RootTBS(Name{CommonName: "x"}, &pub, threshold.RS256, Validity{now, now + day}, serial(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = CheckRoot(tbs, &pub, threshold.RS384)
	wantError(t, err, ErrAlgorithm)
	_, err = CheckRoot(tbs, &otherPub, threshold.RS256)
	wantError(t, err, ErrRoot)
	_, err = RootTBS(Name{}, &pub, threshold.RS256, Validity{now, now + day}, serial(t))
	wantError(t, err, ErrRoot)
	_, err = RootTBS(Name{CommonName: "x"}, &pub, threshold.RS256, Validity{now, now}, serial(t))
	wantError(t, err, ErrValidity)
	_, err = RootTBS(Name{CommonName: "x"}, &pub, threshold.RS256, Validity{now, now + day}, []byte{1})
	wantError(t, err, ErrSerial)
}

// TestSalt: the PSS salt follows from the request alone, is as long as the
// hash, and differs from request to request.
func TestSalt(t *testing.T) {
	key, _ := fileKey(t)
	r := fileRequest(key, []byte("data"))
	r.Algorithm = threshold.PS512
	c, err := Check(r, key, now)
	if err != nil {
		t.Fatal(err)
	}
	request := envelope.Hash{1, 2, 3}
	salt := sha512.Sum512(append([]byte("privyseal/v1 document: PSS salt\x00"), request[:]...))
	want, err := threshold.Encode(threshold.PS512, c.Digest(), salt[:], key.Public.Bits())
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.EncodedMessage(request)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, %v", got, err)
	}
	other, err := c.EncodedMessage(envelope.Hash{1, 2, 4})
	if err != nil || bytes.Equal(got, other) {
		t.Errorf("the same encoded message for another request: %v", err)
	}
	_, err = c.EncodedMessage(envelope.Hash{})
	wantError(t, err, ErrRequest)
}

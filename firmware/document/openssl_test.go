package document

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// openssl runs the OpenSSL command; a machine without it fails the test.
func openssl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// opensslCSR makes a key and a request for it, and returns DER.
func opensslCSR(t testing.TB, key []string, more ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	args := append([]string{"req", "-new", "-nodes", "-keyout", filepath.Join(dir, "key.pem"), "-outform", "DER", "-out", filepath.Join(dir, "csr.der"), "-utf8"}, key...)
	if !strings.Contains(strings.Join(more, " "), "-subj") {
		args = append(args, "-subj", "/C=NO/O=Prøve AS/CN=www.example.com")
	}
	openssl(t, append(args, more...)...)
	der, err := os.ReadFile(filepath.Join(dir, "csr.der"))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

var (
	newEC  = []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"}
	newRSA = []string{"-newkey", "rsa:2048"}
	san    = []string{"-addext", "subjectAltName=DNS:www.example.com,IP:192.0.2.7,IP:2001:db8::1"}
)

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// leaf makes a certificate for the request, as a profile would.
func leaf(t testing.TB, key ledger.Key, csrDER []byte, alg threshold.Algorithm) *TBS {
	t.Helper()
	csr, err := ParseCSR(csrDER)
	if err != nil {
		t.Fatal(err)
	}
	root, err := parseRoot(key.Certificate, &key)
	if err != nil {
		t.Fatal(err)
	}
	algorithm, err := AlgorithmIdentifier(alg)
	if err != nil {
		t.Fatal(err)
	}
	id, err := KeyIdentifier(csr.PublicKeyInfo())
	if err != nil {
		t.Fatal(err)
	}
	tbs := &TBS{
		Serial: serial(t), Algorithm: algorithm, Issuer: root.tbs.Subject, NotBefore: now - 300, NotAfter: now - 300 + 90*day - 1,
		Subject: csr.Subject(), SPKI: csr.PublicKeyInfo(),
		Extensions: []Extension{EndEntity(), KeyUsage(KeyUsageDigitalSignature), ExtKeyUsage(UsageTLSServer), SubjectKeyID(id), AuthorityKeyID(root.keyID)},
	}
	for _, e := range csr.Extensions() {
		if e.ID == OIDSubjectAltName {
			tbs.Extensions = append(tbs.Extensions, e)
		}
	}
	return tbs
}

func certificateRequest(t testing.TB, key ledger.Key, csr []byte, tbs *TBS, alg threshold.Algorithm) *Request {
	t.Helper()
	der, err := tbs.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	r := request(key, KindCertificate, alg)
	r.Document, r.CSR = der, csr
	return r
}

// TestCertificateOpenSSL: requests of every kind of key made by OpenSSL become
// certificates that OpenSSL verifies (P7, B8).
func TestCertificateOpenSSL(t *testing.T) {
	k := rsaKey(t, "ca", 2048)
	for i, key := range [][]string{
		newRSA, {"-newkey", "rsa:3072", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"}, newEC,
		{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"}, {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"}, {"-newkey", "ed25519"},
	} {
		alg := threshold.Algorithms()[i]
		t.Run(fmt.Sprintf("%s %v", alg, key), func(t *testing.T) {
			ca := certificateKey(t, k, alg)
			csr := opensslCSR(t, key, san...)
			c, err := Check(certificateRequest(t, ca, csr, leaf(t, ca, csr, alg), alg), ca, now)
			if err != nil {
				t.Fatal(err)
			}
			der := finish(t, c, k)
			dir := t.TempDir()
			rootPEM, certPEM := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem")
			writePEM(t, rootPEM, "CERTIFICATE", ca.Certificate)
			writePEM(t, certPEM, "CERTIFICATE", der)
			out := openssl(t, "verify", "-x509_strict", "-check_ss_sig", "-purpose", "sslserver", "-verify_hostname", "www.example.com",
				"-attime", fmt.Sprint(now), "-CAfile", rootPEM, certPEM)
			if !strings.Contains(out, "OK") {
				t.Error(out)
			}
			text := openssl(t, "x509", "-in", certPEM, "-noout", "-text")
			for _, want := range []string{"CN = www.example.com", "IP Address:192.0.2.7", "CA:FALSE", "TLS Web Server Authentication"} {
				if !strings.Contains(text, want) {
					t.Errorf("openssl does not print %q:\n%s", want, text)
				}
			}
			view := c.View().String()
			for _, want := range []string{"www.example.com", "IP: 192.0.2.7", "IP: 2001:db8::1", "TLS server", "90 days", "Prøve AS", "signature verified"} {
				if !strings.Contains(view, want) {
					t.Errorf("the view lacks %q:\n%s", want, view)
				}
			}
			if len(c.View().Warnings) != 0 {
				t.Errorf("warnings for a plain certificate: %q", c.View().Warnings)
			}
		})
	}
}

// TestAlgorithmIdentifierOpenSSL: OpenSSL writes the same AlgorithmIdentifiers
// (RFC 4055), parameters of PSS included.
func TestAlgorithmIdentifierOpenSSL(t *testing.T) {
	dir := t.TempDir()
	keyPath := filepath.Join(dir, "key.pem")
	openssl(t, "genrsa", "-out", keyPath, "2048")
	for _, alg := range threshold.Algorithms() {
		path := filepath.Join(dir, "c.der")
		args := []string{"req", "-x509", "-key", keyPath, "-subj", "/CN=x", "-outform", "DER", "-out", path, "-" + strings.ToLower(strings.ReplaceAll(alg.Hash().String(), "-", ""))}
		if alg.PSS() {
			args = append(args, "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest")
		}
		openssl(t, args...)
		der, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := AlgorithmIdentifier(alg)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(der, want); n != 2 {
			t.Errorf("%s: OpenSSL's certificate holds our AlgorithmIdentifier %d times, not 2:\n%x\n%x", alg, n, want, der)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseTBS(cert.RawTBSCertificate); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
}

// TestCSRSignature: a request whose signature is of another key, or broken, is
// refused by name.
func TestCSRSignature(t *testing.T) {
	for _, key := range [][]string{newRSA, newEC, {"-newkey", "ed25519"}} {
		good := opensslCSR(t, key, san...)
		if _, err := ParseCSR(good); err != nil {
			t.Fatal(err)
		}
		subject := bytes.Replace(bytes.Clone(good), []byte("Prøve"), []byte("Bløff"), 1)
		if bytes.Equal(subject, good) {
			t.Fatal("nothing was changed")
		}
		wantError(t, second(ParseCSR(subject)), ErrCSRSignature)
		tail := bytes.Clone(good)
		tail[len(tail)-2] ^= 1
		wantError(t, second(ParseCSR(tail)), ErrCSRSignature)
		wantError(t, second(ParseCSR(append(bytes.Clone(good), 0))), ErrCSR)
	}
	wantError(t, second(ParseCSR(opensslCSR(t, newRSA, "-sha1"))), ErrCSRSignature)
	wantError(t, second(ParseCSR(nil)), ErrCSR)
}

func TestWeakKeys(t *testing.T) {
	for _, key := range [][]string{
		{"-newkey", "rsa:1024"},
		{"-newkey", "rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:3"},
		{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-224"},
		{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"},
		{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"},
		{"-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"},
	} {
		t.Run(strings.Join(key, " "), func(t *testing.T) {
			_, err := ParseCSR(opensslCSR(t, key))
			wantError(t, err, ErrWeakKey)
		})
	}
}

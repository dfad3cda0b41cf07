package lint

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// tbs makes a TBSCertificate under an RSA key.
func tbs(t *testing.T, change func(*x509.Certificate)) []byte {
	t.Helper()
	ca, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial := new(big.Int).SetBytes(bytes.Repeat([]byte{0x47}, 19))
	now := time.Now().UTC()
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "a.example.com"}, DNSNames: []string{"a.example.com"},
		NotBefore: now, NotAfter: now.Add(90 * 24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, SubjectKeyId: bytes.Repeat([]byte{3}, 20), SignatureAlgorithm: x509.SHA256WithRSA,
	}
	change(c)
	parent := &x509.Certificate{Subject: pkix.Name{CommonName: "CA", Organization: []string{"O"}, Country: []string{"NO"}}, SubjectKeyId: bytes.Repeat([]byte{4}, 20)}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), ca)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made.RawTBSCertificate
}

func names(findings []Finding) (out []string) {
	for _, f := range findings {
		out = append(out, f.Name)
	}
	return out
}

func TestFindings(t *testing.T) {
	clean, err := TBS(tbs(t, func(*x509.Certificate) {}), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range clean {
		if f.Severity >= Error {
			t.Errorf("a plain certificate: %s", f)
		}
	}
	bad, err := TBS(tbs(t, func(c *x509.Certificate) {
		c.Subject.CommonName = strings.Repeat("x", 65)
		c.Subject.Organization = []string{" padded"}
		c.KeyUsage |= x509.KeyUsageCertSign // without CA:TRUE
	}), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"e_subject_common_name_max_length", "w_subject_dn_leading_whitespace"} {
		if !slices.Contains(names(bad), want) {
			t.Errorf("no finding %s: %q", want, names(bad))
		}
	}
	if !slices.IsSortedFunc(bad, func(a, b Finding) int {
		if a.Severity != b.Severity {
			return int(b.Severity - a.Severity)
		}
		return strings.Compare(a.Name, b.Name)
	}) {
		t.Errorf("not sorted: %q", names(bad))
	}
	for _, f := range bad {
		if f.Name == "" || f.Description == "" || f.Source == "" || strings.HasPrefix(f.Source, "CABF") {
			t.Errorf("finding %+v", f)
		}
	}
	raw, err := json.Marshal(bad)
	if err != nil || !strings.Contains(string(raw), `"severity":"error"`) {
		t.Errorf("JSON: %s, %v", raw, err)
	}
}

// TestPublic: rules for publicly trusted certificates come on demand.
func TestPublic(t *testing.T) {
	der := tbs(t, func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(3 * 365 * 24 * time.Hour) })
	private, err := TBS(der, false)
	if err != nil {
		t.Fatal(err)
	}
	public, err := TBS(der, true)
	if err != nil {
		t.Fatal(err)
	}
	if len(public) <= len(private) || !slices.ContainsFunc(public, func(f Finding) bool { return strings.HasPrefix(f.Source, "CABF") }) {
		t.Errorf("private: %q\npublic: %q", names(private), names(public))
	}
}

func TestUnreadable(t *testing.T) {
	for _, der := range [][]byte{nil, []byte("x"), {0x30, 0}} {
		if _, err := TBS(der, false); !errors.Is(err, ErrUnreadable) {
			t.Errorf("%x: %v", der, err)
		}
	}
}

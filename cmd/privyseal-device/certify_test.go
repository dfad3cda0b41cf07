package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/command"
)

// works makes a manufacturer: the files of its certificate and of its key.
func works(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Works"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("works.pem", "CERTIFICATE", der), write("works.key", "PRIVATE KEY", pkcs8)
}

func TestCertify(t *testing.T) {
	dir, _ := newDevice(t)
	cert, key := works(t)
	_, other := works(t)
	for _, x := range []struct {
		want string
		args []string
	}{
		{"is not the key of the certificate", []string{"--ca-cert", cert, "--ca-key", other}},
		{"there is no certificate in", []string{"--ca-cert", cert + ".none", "--ca-key", key}},
		{"no such file", []string{"--ca-cert", cert, "--ca-key", key + ".none"}},
		{"not PEM", []string{"--ca-cert", cert, "--ca-key", filepath.Join(dir, fileConfig)}},
		{"one year at least", []string{"--ca-cert", cert, "--ca-key", key, "--years", "0"}},
	} {
		if code, out, errs := do(t, "", append([]string{"certify", "--dir", dir}, x.args...)...); code == command.ExitOK || out != "" || !strings.Contains(errs, x.want) || !strings.Contains(errs, "\nhint: ") {
			t.Errorf("%q: exit %d\n%s%s", x.args, code, out, errs)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, fileSignCert)); err == nil {
		t.Error("a refused certification left a certificate")
	}
	args := []string{"certify", "--dir", dir, "--ca-cert", cert, "--ca-key", key}
	if code, out, errs := do(t, "", args...); code != command.ExitOK || !strings.Contains(out, filepath.Join(dir, fileSignCert)) {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	code, _, errs := do(t, "", args...)
	if code != command.ExitFailed || !strings.HasPrefix(errs, "error: device d1 is certified already: ") || !strings.Contains(errs, "\nhint: nothing is overwritten") {
		t.Errorf("again: exit %d\n%s", code, errs)
	}
}

package systemtest

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// wantRefusal checks that a device refused, under this code and in words that
// name the fault.
func wantRefusal(t testing.TB, err error, code string, words ...string) {
	t.Helper()
	var r *RefusedError
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a refusal with code %q", err, code)
	}
	if r.Code != code {
		t.Errorf("refused with code %q (%s), want %q", r.Code, r.Text, code)
	}
	for _, w := range words {
		if !strings.Contains(r.Text, w) {
			t.Errorf("refusal does not say %q: %s", w, r.Text)
		}
	}
}

// wantRefusalFrame is wantRefusal for d1's answer to a frame.
func wantRefusalFrame(t testing.TB, s *System, answer []byte, code string, words ...string) {
	t.Helper()
	h, err := envelope.Peek(answer)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.read("d1", answer, h.Re)
	wantRefusal(t, err, code, words...)
}

// openssl runs OpenSSL's command line in dir.
func openssl(t testing.TB, dir string, args ...string) string {
	t.Helper()
	out, err := opensslErr(dir, args...)
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func opensslErr(dir string, args ...string) (string, error) {
	cmd := exec.Command("openssl", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// newCSR has OpenSSL make a key and a certificate request, in DER.
func newCSR(t testing.TB, dir, host string) []byte {
	t.Helper()
	openssl(t, dir, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key.pem",
		"-subj", "/CN="+host, "-addext", "subjectAltName=DNS:"+host, "-outform", "DER", "-out", "csr.der")
	der, err := os.ReadFile(filepath.Join(dir, "csr.der"))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func write(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func writePEM(t testing.TB, dir, name, typ string, der []byte) string {
	t.Helper()
	return write(t, dir, name, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}))
}

// writePublic writes a key's public half as OpenSSL reads it.
func writePublic(t testing.TB, dir string, k *ledger.Key) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Public.RSA())
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, dir, "public.pem", "PUBLIC KEY", der)
}

func same(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %x… differs from %x…", what, got[:8], want[:8])
	}
}

func order(indices ...uint64) []uint64 { return indices }

func deviceOf(index uint64) string { return fmt.Sprintf("d%d", index) }

package client_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/firmware/document"
)

// TestSecret: a private key does not leave the machine as a file to be signed, in
// whatever form; public keys, and files that hold other things besides, do.
func TestSecret(t *testing.T) {
	w := newWorld(t)
	srv, _ := w.sys.Server("")
	ask := func(content []byte) error {
		wish := file(document.ApprovalsSet)
		wish.Name, wish.File = "a.key", content
		_, err := client.NewRequest(rand.Reader, w.State, w.program(), wish, srv, w.unix())
		return err
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	long, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(long)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(ec.Public())
	if err != nil {
		t.Fatal(err)
	}
	block := func(typ string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}))
	}
	path := filepath.Join(t.TempDir(), "k")
	if out, err := exec.Command("openssl", "genpkey", "-algorithm", "ED25519", "-aes256", "-pass", "pass:x", "-out", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	encrypted, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, content := range map[string]string{
		"PKCS #8":        string(pkcs8),
		"PKCS #1":        string(x509.MarshalPKCS1PrivateKey(long)),
		"SEC 1":          string(sec1),
		"PEM":            block("PRIVATE KEY", pkcs8),
		"PEM of SEC 1":   "\n" + block("EC PRIVATE KEY", sec1),
		"behind another": block("PUBLIC KEY", public) + block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(long)),
		"OpenSSH":        block("OPENSSH PRIVATE KEY", []byte("openssh-key-v1")),
		"encrypted":      string(encrypted),
	} {
		if err := ask([]byte(content)); err == nil || !strings.Contains(err.Error(), `"a.key" is a private key`) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, content := range map[string]string{
		"a public key": block("PUBLIC KEY", public),
		"a source":     "package x\n\nconst key = `" + block("PRIVATE KEY", pkcs8) + "`\n",
		"nothing":      "-----BEGIN ",
	} {
		if err := ask([]byte(content)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

package hsm_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/hsmtest"
)

// run runs a program that must exist and succeed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// OpenSC's pkcs11-tool, another process, is the judge: it lists what this
// package made and signs with it.
func TestOpenSCJudges(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	k, err := tok.GenerateSigner("device")
	if err != nil {
		t.Fatal(err)
	}
	if err := tok.GenerateKEK("kek", hsm.InToken); err != nil {
		t.Fatal(err)
	}
	if err := tok.PutObject("share", 1, []byte("sealed")); err != nil {
		t.Fatal(err)
	}
	tool := func(args ...string) string {
		return run(t, "pkcs11-tool", append([]string{"--module", hsm.DefaultModule(),
			"--token-label", tok.Label(), "--login", "--pin", hsmtest.PIN}, args...)...)
	}
	list := tool("--list-objects")
	for _, want := range []string{"Private Key Object; EC", "sensitive, always sensitive, never extractable, local",
		"Secret Key Object; AES length 32", "Data object", "application:    'privyseal'",
		"Usage:      wrap, unwrap\n", "Usage:      sign\n"} {
		if !strings.Contains(list, want) {
			t.Errorf("pkcs11-tool does not list %q:\n%s", want, list)
		}
	}
	dir := t.TempDir()
	digest := sha256.Sum256([]byte("document"))
	in, out := filepath.Join(dir, "digest"), filepath.Join(dir, "sig")
	if err := os.WriteFile(in, digest[:], 0o600); err != nil {
		t.Fatal(err)
	}
	tool("--sign", "--mechanism", "ECDSA", "--signature-format", "openssl", "--label", "device", "--input-file", in, "--output-file", out)
	sig, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), digest[:], sig) {
		t.Error("the signature pkcs11-tool made does not verify under our public key")
	}
}

package vpcd_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-piv/piv-go/v2/piv"

	"github.com/privyseal/privyseal/card/virtual"
)

// run runs a foreign program and fails the test if it does. A program that is
// not installed is a failure too.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// waitForCard waits until a daemon shows a card in a reader, with the eyes of
// a client in another process.
func waitForCard(t *testing.T, socket, reader string) {
	t.Helper()
	var out []byte
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		cmd := exec.CommandContext(t.Context(), "opensc-tool", "--list-readers")
		cmd.Env = append(os.Environ(), "PCSCLITE_CSOCK_NAME="+socket)
		out, _ = cmd.CombinedOutput()
		for line := range strings.Lines(string(out)) {
			// Nr.  Card  Features  Name
			if w := strings.Fields(line); len(w) > 2 && w[1] == "Yes" && strings.Contains(line, reader) {
				return
			}
		}
	}
	t.Fatalf("no card in %q:\n%s", reader, out)
}

// certificate has a throwaway authority certify a public key, so that hosts
// that find keys by their certificates find it.
func certificate(t *testing.T, public any, name string) []byte {
	t.Helper()
	authority, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "test"}}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}, issuer, public, authority)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestYubicoPIVTool has Yubico's own tool (2.2.0 knows 3DES management keys
// only, so with the 5.4 profile) use the card: every kind of key is generated,
// certified, attested, signs and decrypts or agrees, and the tool verifies.
// Self-signing is left out: this version cannot with OpenSSL 3, on any card
// (https://github.com/Yubico/yubico-piv-tool/issues/388).
func TestYubicoPIVTool(t *testing.T) {
	reader, _ := plug(t, newCard(t, virtual.Profile54(), 4242, virtual.Config{}))
	waitForCard(t, daemon.Socket, reader)
	dir := t.TempDir()
	pub, cert := filepath.Join(dir, "pub.pem"), filepath.Join(dir, "cert.pem")
	tool := func(args ...string) string {
		t.Helper()
		return run(t, "yubico-piv-tool", append([]string{"-r", reader}, args...)...)
	}
	expect := func(out string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("the tool did not say %q, but:\n%s", w, out)
			}
		}
	}
	for _, k := range []struct{ slot, algorithm, signed, used string }{
		{"9a", "RSA1024", "Successful RSA verification", "RSA decryption"},
		{"9c", "RSA2048", "Successful RSA verification", "RSA decryption"},
		{"9d", "ECCP256", "Successful ECDSA verification", "ECDH exchange"},
		{"9e", "ECCP384", "Successful ECDSA verification", "ECDH exchange"},
		{"82", "ECCP256", "Successful ECDSA verification", "ECDH exchange"},
	} {
		tool("-s", k.slot, "-A", k.algorithm, "-a", "generate", "-o", pub)
		b, err := os.ReadFile(pub)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(b)
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		der := certificate(t, public, "slot "+k.slot)
		if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		tool("-s", k.slot, "-a", "import-certificate", "-i", cert)
		if b, _ := pem.Decode([]byte(tool("-s", k.slot, "-a", "read-certificate"))); b == nil || !bytes.Equal(b.Bytes, der) {
			t.Errorf("slot %s gives another certificate than was imported", k.slot)
		}
		expect(tool("-s", k.slot, "-P", piv.DefaultPIN, "-a", "verify-pin", "-a", "test-signature", "-i", cert), k.signed)
		expect(tool("-s", k.slot, "-P", piv.DefaultPIN, "-a", "verify-pin", "-a", "test-decipher", "-i", cert), k.used)
		attestation, _ := pem.Decode([]byte(tool("-s", k.slot, "-a", "attest")))
		if attestation == nil {
			t.Fatalf("slot %s is not attested", k.slot)
		}
		if c, err := x509.ParseCertificate(attestation.Bytes); err != nil || c.Subject.CommonName != "YubiKey PIV Attestation "+k.slot {
			t.Errorf("attestation of slot %s: %v", k.slot, err)
		}
	}
	expect(tool("-a", "status"), "Version:\t5.4.3", "Serial Number:\t4242", "PIN tries left:\t3",
		"Slot 9a", "Slot 9c", "Slot 9d", "Slot 9e", "Slot 82", "Subject DN:\tCN=slot 9d")
	tool("-a", "set-chuid", "-a", "set-ccc")
	tool("-a", "change-pin", "-P", piv.DefaultPIN, "-N", "987654")
	tool("-a", "change-puk", "-P", piv.DefaultPUK, "-N", "99999999")
	for range 3 {
		if out, err := exec.Command("yubico-piv-tool", "-r", reader, "-a", "verify-pin", "-P", "000000").CombinedOutput(); err == nil {
			t.Fatalf("a wrong PIN was accepted: %s", out)
		}
	}
	expect(tool("-a", "status"), "PIN tries left:\t0")
	tool("-a", "unblock-pin", "-P", "99999999", "-N", "111111")
	tool("-a", "verify-pin", "-P", "111111")
	const other = "0807060504030201080706050403020108070605040302FF"
	tool("-a", "set-mgm-key", "-n", other)
	tool("-k"+other, "-a", "verify-pin", "-P", "111111", "-a", "pin-retries", "--pin-retries", "5", "--puk-retries", "4")
	expect(tool("-a", "status"), "PIN tries left:\t5")
}

// TestOpenSC has OpenSC, the other independent reader of PIV cards, run its
// self-test over PKCS#11 on cards of both profiles.
func TestOpenSC(t *testing.T) {
	module := openSCModule(t)
	for i, p := range []virtual.Profile{virtual.Profile54(), virtual.Profile57()} {
		t.Run(p.Name, func(t *testing.T) {
			reader, _ := plug(t, newCard(t, p, uint32(4300+i), virtual.Config{}))
			yk := open(t, reader)
			for slot, alg := range map[piv.Slot]piv.Algorithm{
				piv.SlotAuthentication:     piv.AlgorithmRSA2048,
				piv.SlotSignature:          piv.AlgorithmRSA2048,
				piv.SlotKeyManagement:      piv.AlgorithmRSA1024,
				piv.SlotCardAuthentication: piv.AlgorithmEC256,
			} {
				policy := piv.PINPolicyOnce
				if slot == piv.SlotSignature {
					policy = piv.PINPolicyAlways
				}
				pub, err := yk.GenerateKey(piv.DefaultManagementKey, slot, piv.Key{Algorithm: alg, PINPolicy: policy, TouchPolicy: piv.TouchPolicyNever})
				if err != nil {
					t.Fatal(err)
				}
				cert, err := x509.ParseCertificate(certificate(t, pub, "slot "+slot.String()))
				if err != nil {
					t.Fatal(err)
				}
				if err := yk.SetCertificate(piv.DefaultManagementKey, slot, cert); err != nil {
					t.Fatal(err)
				}
			}
			if err := yk.Close(); err != nil {
				t.Fatal(err)
			}
			waitForCard(t, daemon.Socket, reader)
			slot := openSCSlot(t, module, reader)
			out := run(t, "pkcs11-tool", "--module", module, "--slot", slot, "--login", "--pin", piv.DefaultPIN, "--test")
			for _, want := range []string{"No errors", "testing key 0 (PIV AUTH key)", "all 4 signature functions seem to work",
				"testing key 1 (SIGN key)", "testing key 2 (KEY MAN key)", "RSA-X-509: OK", "RSA-PKCS: OK", "SHA256-RSA-PKCS: OK"} {
				if !strings.Contains(out, want) {
					t.Errorf("pkcs11-tool --test did not say %q, but:\n%s", want, out)
				}
			}

			// Elliptic curves it does not test by itself: OpenSSL verifies.
			dir := t.TempDir()
			data, sig, pub := filepath.Join(dir, "data"), filepath.Join(dir, "sig"), filepath.Join(dir, "pub")
			if err := os.WriteFile(data, []byte("a document"), 0o600); err != nil {
				t.Fatal(err)
			}
			pkcs11 := func(args ...string) {
				t.Helper()
				run(t, "pkcs11-tool", append([]string{"--module", module, "--slot", slot, "--login", "--pin", piv.DefaultPIN, "--id", "04"}, args...)...)
			}
			pkcs11("--sign", "--mechanism", "ECDSA-SHA1", "--signature-format", "openssl", "-i", data, "-o", sig)
			pkcs11("--read-object", "--type", "pubkey", "-o", pub)
			if out := run(t, "openssl", "dgst", "-sha1", "-keyform", "DER", "-verify", pub, "-signature", sig, data); !strings.Contains(out, "Verified OK") {
				t.Errorf("OpenSSL: %s", out)
			}
		})
	}
}

func openSCModule(t *testing.T) string {
	t.Helper()
	for _, pattern := range []string{"/usr/lib/*/opensc-pkcs11.so", "/usr/lib64/opensc-pkcs11.so", "/usr/lib/*/pkcs11/opensc-pkcs11.so"} {
		if m, _ := filepath.Glob(pattern); len(m) > 0 {
			return m[0]
		}
	}
	t.Fatal("opensc-pkcs11.so is not installed (Debian: apt-get install opensc)")
	return ""
}

// openSCSlot finds the PKCS#11 slot of a reader.
func openSCSlot(t *testing.T, module, reader string) string {
	t.Helper()
	out := run(t, "pkcs11-tool", "--module", module, "--list-slots")
	for line := range strings.Lines(out) {
		// Slot 2 (0x8): Virtual PIV 01 00 00
		if head, name, ok := strings.Cut(strings.TrimSpace(line), "): "); ok && name == reader {
			_, id, _ := strings.Cut(head, "(")
			return id
		}
	}
	t.Fatalf("OpenSC has no slot for %q:\n%s", reader, out)
	return ""
}

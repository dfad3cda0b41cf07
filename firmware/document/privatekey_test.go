package document

import (
	"bytes"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// privateKeys are keys as OpenSSL writes them, in PEM; the name has the
// form that the same key has in DER, if it has one.
func privateKeys(t *testing.T) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, args := range map[string][]string{
		"PKCS #8 rsa":     {"genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
		"PKCS #8 pss":     {"genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"},
		"PKCS #8 ec":      {"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
		"PKCS #8 curve":   {"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"},
		"PKCS #8 ed25519": {"genpkey", "-algorithm", "ED25519"},
		"PKCS #8 ed448":   {"genpkey", "-algorithm", "ED448"},
		"PKCS #8 x25519":  {"genpkey", "-algorithm", "X25519"},
		"PKCS #1":         {"genrsa", "-traditional"},
		"SEC 1":           {"ecparam", "-genkey", "-name", "prime256v1", "-noout"},
		"with parameters": {"ecparam", "-genkey", "-name", "secp384r1"},
	} {
		openssl(t, append(args, "-out", at(name))...)
	}
	openssl(t, "pkcs8", "-topk8", "-in", at("PKCS #1"), "-passout", "pass:x", "-out", at("encrypted"))
	openssl(t, "rsa", "-traditional", "-aes128", "-in", at("PKCS #1"), "-passout", "pass:x", "-out", at("encrypted as of old"))
	out := map[string][]byte{"OpenSSH": pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: []byte("openssh-key-v1\x00")})}
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if out[n.Name()], err = os.ReadFile(at(n.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestPrivateKeys: a private key that was named by mistake goes to no officer.
func TestPrivateKeys(t *testing.T) {
	key, _ := fileKey(t)
	refused := func(name string, file []byte, want string) {
		t.Helper()
		_, err := Check(fileRequest(key, file), key, now)
		if !errors.Is(err, ErrPrivateKey) || !strings.Contains(err.Error(), "("+want) {
			t.Errorf("%s: %v, expected %q", name, err, want)
		}
	}
	signed := func(name string, file []byte) {
		t.Helper()
		if _, err := Check(fileRequest(key, file), key, now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	keys := privateKeys(t)
	for name, file := range keys {
		refused(name, file, "PEM, ")
		refused(name+", with Windows line ends", bytes.ReplaceAll(file, []byte("\n"), []byte("\r\n")), "PEM, ")
		block, _ := pem.Decode(file)
		form := ""
		for _, f := range []string{"PKCS #8", "PKCS #1", "SEC 1"} {
			if strings.HasPrefix(name, f) {
				form = f
				refused(name+" in DER", block.Bytes, form)
			}
		}
		// Something besides a key is another file.
		signed(name+" in a script", append([]byte("#!/bin/sh\ncat <<E\n"), file...))
		signed(name+" before text", append(slices.Clone(file), "and this\n"...))
		if form != "" {
			signed(name+" with an octet behind", append(slices.Clone(block.Bytes), 0))
			signed(name+" cut off", block.Bytes[:len(block.Bytes)-1])
			for i := range 40 { // of lengths, numbers and identifiers
				x := slices.Clone(block.Bytes)
				x[i] ^= 0x40
				if what := privateDER(x); what != "" && what != form {
					t.Errorf("%s: octet %d: %s", name, i, what)
				}
			}
		}
	}
	two := slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}), []byte("\n"), keys["SEC 1"])
	refused("a public key before it", two, "PEM, EC PRIVATE KEY")
}

// TestNoPrivateKeys: files that have something of a private key are signed.
func TestNoPrivateKeys(t *testing.T) {
	key, _ := fileKey(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	openssl(t, "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", at("key"))
	openssl(t, "pkcs8", "-topk8", "-in", at("key"), "-passout", "pass:x", "-outform", "DER", "-out", at("encrypted in DER"))
	openssl(t, "rsa", "-in", at("key"), "-pubout", "-out", at("public"))
	openssl(t, "rsa", "-in", at("key"), "-pubout", "-outform", "DER", "-out", at("public in DER"))
	openssl(t, "rsa", "-in", at("key"), "-RSAPublicKey_out", "-outform", "DER", "-out", at("public as of old"))
	openssl(t, "ecparam", "-name", "prime256v1", "-out", at("parameters"))
	if err := os.Remove(at("key")); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 5 {
		t.Fatalf("%v, %d files", err, len(names))
	}
	files := map[string][]byte{
		"white space":       []byte("\n"),
		"a word":            []byte("-----BEGIN PRIVATE KEY-----"),
		"no end":            []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n"),
		"another end":       []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"),
		"a small structure": {0x30, 6, 2, 1, 1, 4, 1, 7},
		"nine numbers":      append([]byte{0x30, 27}, bytes.Repeat([]byte{2, 1, 0}, 9)...),
		"another algorithm": {0x30, 15, 2, 1, 0, 0x30, 7, 6, 3, 0x55, 4, 3, 5, 0, 4, 1, 7},
	}
	for _, n := range names {
		if files[n.Name()], err = os.ReadFile(at(n.Name())); err != nil {
			t.Fatal(err)
		}
	}
	for name, file := range files {
		if _, err := Check(fileRequest(key, file), key, now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzPrivateKey(f *testing.F) {
	for _, s := range []string{"", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "\x30\x06\x02\x01\x01\x04\x01\x07"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		before := bytes.Clone(file)
		err := checkPrivateKey(file)
		if !bytes.Equal(before, file) {
			t.Error("altered")
		}
		// Exactly: an octet in front makes it something else.
		if err != nil && checkPrivateKey(append([]byte("x"), file...)) != nil {
			t.Errorf("%q", file)
		}
	})
}

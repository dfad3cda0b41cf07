package profile

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/lint"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

func openssl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// authority is a key of family certificate; its whole private key stands for
// the quorum.
type authority struct {
	private *rsa.PrivateKey
	key     ledger.Key
	now     time.Time
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{private: k, now: time.Now()}
	pub := threshold.PublicKey{N: k.N.Bytes(), E: uint64(k.E)}
	serial, err := document.NewSerial(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := a.now.Unix()
	tbs, err := document.RootTBS(document.Name{Organization: "Test", CommonName: "Test Root"}, &pub, threshold.RS256,
		document.Validity{NotBefore: now - 3600, NotAfter: now + 5000*86400}, serial)
	if err != nil {
		t.Fatal(err)
	}
	c, err := document.CheckRoot(tbs, &pub, threshold.RS256)
	if err != nil {
		t.Fatal(err)
	}
	a.key = ledger.Key{
		ID: "tls", Name: "TLS", Family: ledger.FamilyCertificate, Scheme: threshold.Additive, T: 1, N: 1, Public: pub, Epoch: 1,
		Algorithms: []string{"RS256", "PS256"}, MaxDays: 800, Holders: []ledger.Holder{{Index: 1, Device: "d1", Quorum: 2}},
	}
	a.key.Certificate = a.sign(t, c)
	return a
}

func (a *authority) sign(t testing.TB, c *document.Checked) []byte {
	t.Helper()
	em, err := c.EncodedMessage(envelope.Hash{1})
	if err != nil {
		t.Fatal(err)
	}
	s := new(big.Int).Exp(new(big.Int).SetBytes(em), a.private.D, a.private.N)
	out, err := c.Assemble(s.FillBytes(make([]byte, a.private.Size())))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (a *authority) options() Options {
	return Options{Algorithm: threshold.RS256, Now: a.now, Random: rand.Reader}
}

func (a *authority) check(t testing.TB, b *Built, alg threshold.Algorithm) (*document.Checked, error) {
	t.Helper()
	now := a.now.Unix()
	return document.Check(&document.Request{
		Key: "tls", Epoch: 1, Algorithm: alg, Kind: document.KindCertificate, Document: b.TBS, CSR: b.CSR, Requester: "ann",
		Nonce: [16]byte{1}, Created: now, Expires: now + 60,
		Route: document.Route{Mode: document.ModeParallel, Approvals: document.ApprovalsChain, Devices: []string{"d1"}},
	}, a.key, now)
}

func makeCSR(t testing.TB, args ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "csr.pem")
	openssl(t, append([]string{"req", "-new", "-nodes", "-utf8", "-keyout", filepath.Join(t.TempDir(), "key.pem"), "-out", path}, args...)...)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := pem.Decode(file) // ReadCSR refuses some
	if b == nil {
		t.Fatalf("no PEM:\n%s", file)
	}
	return b.Bytes
}

func mustFind(t testing.TB, name string) Profile {
	t.Helper()
	p, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestProfiles: what each profile makes passes a device's check and, signed,
// OpenSSL's for its purpose.
func TestProfiles(t *testing.T) {
	a := newAuthority(t)
	for _, test := range []struct {
		profile, purpose string
		alg              threshold.Algorithm
		csr              []string
		text             []string
		notes            []string
	}{
		{"server", "sslserver", threshold.RS256, []string{"-newkey", "rsa:2048", "-subj", "/O=A/CN=a.example.com", "-addext", "subjectAltName=DNS:a.example.com,DNS:*.b.example.com,IP:192.0.2.1"},
			[]string{"DNS:*.b.example.com", "IP Address:192.0.2.1", "Key Encipherment", "TLS Web Server"}, nil},
		{"server", "sslserver", threshold.PS256, []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=only-a-common.name"},
			[]string{"DNS:only-a-common.name"}, []string{"common name"}},
		{"server", "sslserver", threshold.RS256, []string{"-newkey", "ed25519", "-subj", "/", "-addext", "subjectAltName=DNS:a.example.com"},
			[]string{"Subject Alternative Name: critical"}, nil},
		{"server", "sslserver", threshold.RS256, []string{"-newkey", "rsa:2048", "-subj", "/CN=x", "-addext", "subjectAltName=DNS:a.example.com,email:a@example.com",
			"-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign"}, []string{"CA:FALSE"}, []string{"no e-mail address", "extension basic constraints (2.5.29.19) of the CSR", "2.5.29.15"}},
		{"client", "sslclient", threshold.RS256, []string{"-newkey", "rsa:3072", "-subj", "/CN=Ann Bø", "-addext", "subjectAltName=email:ann@example.com"},
			[]string{"email:ann@example.com", "TLS Web Client"}, nil},
		{"code-signing", "any", threshold.RS256, []string{"-newkey", "rsa:2048", "-subj", "/O=Maker/CN=Maker"}, []string{"Code Signing"}, nil},
	} {
		t.Run(test.profile+" "+strings.Join(test.csr, " "), func(t *testing.T) {
			p, o := mustFind(t, test.profile), a.options()
			o.Algorithm = test.alg
			b, err := Build(makeCSR(t, test.csr...), p, a.key.Certificate, o)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range test.notes {
				if !strings.Contains(strings.Join(b.Notes, "\n"), want) {
					t.Errorf("no note of %q: %q", want, b.Notes)
				}
			}
			if len(test.notes) == 0 && len(b.Notes) > 0 {
				t.Errorf("notes: %q", b.Notes)
			}
			c, err := a.check(t, b, test.alg)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			for name, der := range map[string][]byte{"ca.pem": a.key.Certificate, "cert.pem": a.sign(t, c)} {
				if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			openssl(t, "verify", "-x509_strict", "-purpose", test.purpose, "-CAfile", filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"))
			text := openssl(t, "x509", "-in", filepath.Join(dir, "cert.pem"), "-noout", "-text")
			for _, want := range test.text {
				if !strings.Contains(text, want) {
					t.Errorf("openssl does not print %q:\n%s", want, text)
				}
			}
			findings, err := lint.TBS(b.TBS, false)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range findings {
				if f.Severity >= lint.Error {
					t.Errorf("lint: %s", f)
				}
			}
		})
	}
}

func TestValidity(t *testing.T) {
	a := newAuthority(t)
	csr := makeCSR(t, "-newkey", "rsa:2048", "-subj", "/CN=a.example.com")
	p := mustFind(t, "server")
	for days, want := range map[uint64]error{0: nil, 1: nil, 800: nil, 801: document.ErrValidity, 5001: ErrValidity, 1 << 63: ErrValidity} {
		o := a.options()
		o.Days = days
		b, err := Build(csr, p, a.key.Certificate, o)
		if err == nil {
			_, err = a.check(t, b, threshold.RS256)
		}
		if !errors.Is(err, want) {
			t.Errorf("%d days: got %v, want %v", days, err, want)
		}
	}
	// The number that is named is one that is taken.
	for _, c := range []struct {
		days, max uint64
		words     string
	}{
		{5001, 800, "5001 days, and this key certifies for 800 at most"},
		{801, 800, "801 days, and this key certifies for 800 at most"},
		{800, 800, ""},
		{5001, 9000, ": ask for 5000 at most"},
		{5000, 9000, ""},
	} {
		o := a.options()
		o.Days, o.MaxDays = c.days, c.max
		_, err := Build(csr, p, a.key.Certificate, o)
		if (err == nil) != (c.words == "") || err != nil && !strings.Contains(err.Error(), c.words) {
			t.Errorf("%d days of %d: %v", c.days, c.max, err)
		}
	}
}

func TestErrors(t *testing.T) {
	a := newAuthority(t)
	good := makeCSR(t, "-newkey", "rsa:2048", "-subj", "/CN=a.example.com")
	bad := bytes.Replace(bytes.Clone(good), []byte("a.example.com"), []byte("b.example.com"), 1)
	for _, test := range []struct {
		name, profile string
		csr, root     []byte
		want          error
		text          string
	}{
		{"bad signature", "server", bad, a.key.Certificate, document.ErrCSRSignature, "hint"},
		{"no host name", "server", makeCSR(t, "-newkey", "rsa:2048", "-subj", "/CN=Ann Bee"), a.key.Certificate, ErrNames, "subjectAltName"},
		{"nobody", "client", makeCSR(t, "-newkey", "rsa:2048", "-subj", "/"), a.key.Certificate, ErrNames, "neither"},
		{"nobody signs code", "code-signing", makeCSR(t, "-newkey", "rsa:2048", "-subj", "/"), a.key.Certificate, ErrNames, "subject"},
		{"root is no certificate", "server", good, good, ErrRoot, ""},
		{"weak key", "server", makeCSR(t, "-newkey", "rsa:1024", "-subj", "/CN=a.example.com"), a.key.Certificate, document.ErrWeakKey, "1024"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Build(test.csr, mustFind(t, test.profile), test.root, a.options())
			if !errors.Is(err, test.want) || !strings.Contains(fmt.Sprint(err), test.text) {
				t.Errorf("got %v, want %v with %q", err, test.want, test.text)
			}
		})
	}
	for name, want := range map[string]error{"sub-ca": ErrSubordinate, "": ErrUnknown, "Server": ErrUnknown} {
		if _, err := Find(name); !errors.Is(err, want) {
			t.Errorf("profile %q: %v", name, err)
		}
	}
	for name, file := range map[string][]byte{
		"empty": nil, "spaces": []byte(" \n"), "text": []byte("hello"),
		"a key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{0x30, 0}}),
		"two":   slices.Concat(block(good), []byte("text\n"), block(good)), "garbage": block([]byte{0x30, 0}),
	} {
		if _, err := ReadCSR(file); !errors.Is(err, document.ErrCSR) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if der, err := ReadCSR(block(good)); err != nil || !bytes.Equal(der, good) {
		t.Errorf("PEM: %v", err)
	}
	if der, err := ReadCSR(good); err != nil || !bytes.Equal(der, good) {
		t.Errorf("DER: %v", err)
	}
}

func block(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

package document

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/privyseal/privyseal/firmware/threshold"
)

func wantAs[E error](t testing.TB, err error, target *E) {
	t.Helper()
	if !errors.As(err, target) {
		t.Errorf("got error %v, want a %T", err, *target)
	}
}

// signedThings are structures whose signature means more than a file's, made
// by x509 and OpenSSL.
func signedThings(t testing.TB) map[string][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	must := func(der []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "CA"}, NotBefore: time.Unix(now, 0), NotAfter: time.Unix(now+day, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1, 2, 3},
	}
	cert := must(x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key))
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	crl := must(x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Unix(now, 0), NextUpdate: time.Unix(now+day, 0),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(5), RevocationTime: time.Unix(now, 0)}},
	}, parsed, key))
	parsedCRL, err := x509.ParseRevocationList(crl)
	if err != nil {
		t.Fatal(err)
	}
	csr := must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, key))
	parsedCSR, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		t.Fatal(err)
	}
	k := rsaKey(t, "ca", 2048)
	root := certificateKey(t, k, threshold.PS256).Certificate
	rootCert, err := x509.ParseCertificate(root)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{
		"certificate": cert, "TBSCertificate": parsed.RawTBSCertificate, "CRL": crl, "TBSCertList": parsedCRL.RawTBSRevocationList,
		"CSR": csr, "CertificationRequestInfo": parsedCSR.RawTBSCertificateRequest, "our root's TBSCertificate": rootCert.RawTBSCertificate,
	}

	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	keyDER := must(x509.MarshalPKCS8PrivateKey(key))
	writePEM(t, path("key.pem"), "PRIVATE KEY", keyDER)
	writePEM(t, path("ca.pem"), "CERTIFICATE", cert)
	if err := os.WriteFile(path("index.txt"), []byte("V\t300101000000Z\t\t4D\tunknown\t/CN=CA\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path("data"), []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	openssl(t, "ocsp", "-issuer", path("ca.pem"), "-cert", path("ca.pem"), "-reqout", path("req.der"), "-no_nonce")
	openssl(t, "ocsp", "-index", path("index.txt"), "-rsigner", path("ca.pem"), "-rkey", path("key.pem"), "-CA", path("ca.pem"),
		"-reqin", path("req.der"), "-respout", path("resp.der"))
	out["OCSP response"] = must(os.ReadFile(path("resp.der")))
	out["OCSP ResponseData"] = responseData(t, out["OCSP response"])
	openssl(t, "cms", "-sign", "-in", path("data"), "-signer", path("ca.pem"), "-inkey", path("key.pem"), "-outform", "DER", "-binary", "-nodetach", "-out", path("cms.der"))
	out["CMS that holds a certificate"] = must(os.ReadFile(path("cms.der")))
	out["CMS signed attributes"] = signedAttributes(t, out["CMS that holds a certificate"])
	return out
}

func responseData(t testing.TB, response []byte) []byte {
	t.Helper()
	var r struct {
		Status asn1.Enumerated
		Bytes  struct {
			Type asn1.ObjectIdentifier
			Data []byte
		} `asn1:"explicit,tag:0"`
	}
	if _, err := asn1.Unmarshal(response, &r); err != nil {
		t.Fatal(err)
	}
	in := cryptobyte.String(r.Bytes.Data)
	var basic, data cryptobyte.String
	if !in.ReadASN1(&basic, 0x30) || !basic.ReadASN1Element(&data, 0x30) {
		t.Fatal("bad OCSP response")
	}
	return data
}

// signedAttributes finds them in a CMS SignedData and writes them as they are
// signed: with the tag of a SET (RFC 5652 5.4).
func signedAttributes(t testing.TB, cms []byte) []byte {
	t.Helper()
	at := bytes.Index(cms, append([]byte{0x06, 0x09}, contentType...))
	for back := at; back > 0; back-- {
		e, _, ok := readBER(cms[back:])
		if ok && e.tag == 0xa0 && isSignedAttributes(e.body) {
			header := bytes.Index(cms[back:], e.body)
			out := bytes.Clone(cms[back : back+header+len(e.body)])
			out[0] = 0x31
			return out
		}
	}
	t.Fatal("no signed attributes")
	return nil
}

// disguises wrap octets as an attacker would to have them pass for a file.
var disguises = map[string]func([]byte) []byte{
	"as it is":        func(b []byte) []byte { return b },
	"trailing octets": func(b []byte) []byte { return append(bytes.Clone(b), "\n-- \nrelease notes"...) },
	"leading space":   func(b []byte) []byte { return append([]byte("\r\n\t "), b...) },
	"byte order mark": func(b []byte) []byte { return append([]byte("\xef\xbb\xbf"), b...) },
	"after a null":    func(b []byte) []byte { return append([]byte{5, 0}, b...) },
	"PEM":             func(b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b}) },
	"PEM of odd type": func(b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "RELEASE NOTES", Bytes: b}) },
	"PEM with a header": func(b []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "X", Headers: map[string]string{"a": "b"}, Bytes: b})
	},
	"PEM behind text": func(b []byte) []byte {
		return append([]byte("Dear officers,\nplease sign:\n"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b})...)
	},
	"PEM without its end": func(b []byte) []byte {
		return []byte("-----BEGIN CERTIFICATE-----\n" + base64.StdEncoding.EncodeToString(b))
	},
	"base64":           func(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b)) },
	"base64, trailing": func(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b) + "#!?") },
	"base64url":        func(b []byte) []byte { return []byte(base64.RawURLEncoding.EncodeToString(b)) },
	"base64 in lines": func(b []byte) []byte {
		return []byte(strings.Join(split(base64.StdEncoding.EncodeToString(b), 20), "\r\n  "))
	},
	"base64 twice": func(b []byte) []byte {
		return []byte(base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString(b))))
	},
	"hex": func(b []byte) []byte { return []byte(hex.EncodeToString(b)) },
	"hex with colons": func(b []byte) []byte {
		return []byte(strings.ToUpper(strings.Join(split(hex.EncodeToString(b), 2), ":")))
	},
	"in an octet string": func(b []byte) []byte { return tlv(0x04, b) },
	"in a bit string":    func(b []byte) []byte { return tlv(0x03, append([]byte{0}, b...)) },
	"in a sequence":      func(b []byte) []byte { return tlv(0x30, b) },
	"in CMS data": func(b []byte) []byte {
		return tlv(0x30, append([]byte("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"), tlv(0xa0, tlv(0x04, b))...))
	},
	"padded length":     func(b []byte) []byte { return relength(b, 5) },
	"indefinite length": func(b []byte) []byte { return append(append([]byte{b[0], 0x80}, content0(b)...), 0, 0) },
}

func split(s string, n int) (out []string) {
	for len(s) > n {
		out, s = append(out, s[:n]), s[n:]
	}
	return append(out, s)
}

func tlv(tag byte, body []byte) []byte { return append(header(tag, len(body)), body...) }

func header(tag byte, n int) []byte { return []byte{tag, 0x83, byte(n >> 16), byte(n >> 8), byte(n)} }

func content0(b []byte) []byte {
	e, _, _ := readBER(b)
	return e.body
}

func relength(b []byte, octets int) []byte {
	body := content0(b)
	out := []byte{b[0], 0x80 | byte(octets)}
	for i := octets - 1; i >= 0; i-- {
		out = append(out, byte(len(body)>>(8*i)))
	}
	return append(out, body...)
}

// TestDisguises: every signed structure, in every disguise, is refused as a
// file and named.
func TestDisguises(t *testing.T) {
	key, _ := fileKey(t)
	for thing, der := range signedThings(t) {
		for disguise, wrap := range disguises {
			t.Run(thing+", "+disguise, func(t *testing.T) {
				_, err := Check(fileRequest(key, wrap(der)), key, now)
				var d *DisguiseError
				wantAs(t, err, &d)
			})
		}
	}
}

// TestDisguiseNames: the error says what it is and how it was wrapped.
func TestDisguiseNames(t *testing.T) {
	things := signedThings(t)
	for thing, want := range map[string]string{
		"TBSCertificate": "a TBSCertificate", "TBSCertList": "a TBSCertList", "OCSP ResponseData": "an OCSP ResponseData",
		"CertificationRequestInfo": "a CertificationRequestInfo", "CMS signed attributes": "a set of CMS signed attributes",
	} {
		var d *DisguiseError
		wantAs(t, checkDisguise(things[thing]), &d)
		if d.What != want || len(d.Layers) != 0 || d.Trailer {
			t.Errorf("%s: %+v", thing, d)
		}
	}
	var d *DisguiseError
	wantAs(t, checkDisguise(disguises["base64, trailing"](disguises["trailing octets"](things["TBSCertificate"]))), &d)
	if d.Error() != "the file is a TBSCertificate wrapped in base64 with more octets behind it, which a key for files does not sign: ask a key of the right family" {
		t.Error(d)
	}
}

// TestOrdinaryFiles: what a release desk signs is not mistaken.
func TestOrdinaryFiles(t *testing.T) {
	key, _ := fileKey(t)
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signedThings(t)["certificate"]})
	spki, err := SPKI(&key.Public)
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 1<<16)
	rand.Read(random)
	for name, file := range map[string][]byte{
		"text":                    []byte("version 1.2.3\n"),
		"long words":              bytes.Repeat([]byte("MIIBIjANBgkq"), 40),
		"a checksum file":         []byte(strings.Repeat("0", 64) + "  release.tar\n"),
		"a script with a PEM":     append(bytes.Repeat([]byte("echo installing, please wait\n"), 400), cert...),
		"a public key":            spki,
		"a public key in PEM":     pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}),
		"random":                  random,
		"zeros":                   make([]byte, 1000),
		"one octet":               {0x30},
		"an empty sequence":       {0x30, 0},
		"JSON":                    []byte(`{"name": "x", "hash": "` + strings.Repeat("ab", 32) + `"}`),
		"ELF":                     append([]byte("\x7fELF\x02\x01\x01"), random...),
		"a sentence about it all": []byte("-----BEGIN CERTIFICATE----- is how a certificate begins.\n"),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Check(fileRequest(key, file), key, now); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDetectorBounded: hostile nesting and lengths end. A search that were not
// linear would not, within any test's patience.
func TestDetectorBounded(t *testing.T) {
	for name, b := range map[string][]byte{
		"indefinite nest":      bytes.Repeat([]byte{0x30, 0x80}, MaxFile/2),
		"indefinite, then all": append(bytes.Repeat([]byte{0x30, 0x80}, 16), bytes.Repeat([]byte{0x30, 0}, MaxFile/2-16)...),
		"flat":                 tlv(0x30, bytes.Repeat([]byte{0x30, 0}, MaxFile/2)),
		"base64 of base64":     bytes.Repeat([]byte("A"), MaxFile),
		"PEM heads":            bytes.Repeat([]byte("-----BEGIN X-----\n"), MaxFile/18),
		"PEM blocks":           bytes.Repeat([]byte("-----BEGIN X-----\nAAAA\n-----END X-----\n"), MaxFile/40),
	} {
		if err := checkDisguise(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

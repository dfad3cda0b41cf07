package document

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// TestDifferential: what x509.CreateCertificate writes is read the same by
// both readers, and passes or fails Check as its template says.
func TestDifferential(t *testing.T) {
	k := rsaKey(t, "ca", 2048)
	ca := certificateKey(t, k, threshold.RS256)
	root, err := x509.ParseCertificate(ca.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	csrDER := opensslCSR(t, newEC, san...)
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		t.Fatal(err)
	}
	uri, _ := url.Parse("spiffe://example.com/x")
	base := func() *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: new(big.Int).SetBytes(serial(t)), Subject: csr.Subject, DNSNames: csr.DNSNames, IPAddresses: csr.IPAddresses,
			NotBefore: time.Unix(now, 0), NotAfter: time.Unix(now+30*day, 0), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		}
	}
	algorithms := map[threshold.Algorithm]x509.SignatureAlgorithm{
		threshold.RS256: x509.SHA256WithRSA, threshold.RS384: x509.SHA384WithRSA, threshold.RS512: x509.SHA512WithRSA,
		threshold.PS256: x509.SHA256WithRSAPSS, threshold.PS384: x509.SHA384WithRSAPSS, threshold.PS512: x509.SHA512WithRSAPSS,
	}
	for name, test := range map[string]struct {
		change func(*x509.Certificate)
		ok     bool
	}{
		"plain": {func(*x509.Certificate) {}, true},
		"all names": {func(c *x509.Certificate) {
			c.EmailAddresses, c.URIs = []string{"a@example.com"}, []*url.URL{uri}
			c.IPAddresses = append(c.IPAddresses, net.IPv6loopback)
		}, true},
		"pointers": {func(c *x509.Certificate) {
			c.OCSPServer, c.IssuingCertificateURL = []string{"http://o.example.com"}, []string{"http://i.example.com"}
			c.CRLDistributionPoints = []string{"http://c.example.com/1", "http://c.example.com/2"}
			c.PolicyIdentifiers = []asn1.ObjectIdentifier{{2, 23, 140, 1, 2, 1}}
		}, true},
		"unknown use": {func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3, 4}} }, true},
		"after 2049":  {func(c *x509.Certificate) { c.NotAfter = time.Date(2051, 1, 1, 0, 0, 0, 0, time.UTC) }, false},
		"authority":   {func(c *x509.Certificate) { c.IsCA = true }, false},
		"cert sign":   {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, false},
		"any use":     {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, false},
		"constraints": {func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"x.no"} }, false},
		"critical": {func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}, false},
		"short serial": {func(c *x509.Certificate) { c.SerialNumber = big.NewInt(7) }, false},
	} {
		for alg, xalg := range algorithms {
			t.Run(fmt.Sprint(name, " ", alg), func(t *testing.T) {
				template := base()
				test.change(template)
				template.SignatureAlgorithm = xalg
				der, err := x509.CreateCertificate(rand.Reader, template, root, csr.PublicKey, k)
				if err != nil {
					t.Fatal(err)
				}
				made, err := x509.ParseCertificate(der)
				if err != nil {
					t.Fatal(err)
				}
				tbs, err := ParseTBS(made.RawTBSCertificate)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(tbs.SPKI, made.RawSubjectPublicKeyInfo) || !bytes.Equal(tbs.Subject, made.RawSubject) ||
					new(big.Int).SetBytes(tbs.Serial).Cmp(made.SerialNumber) != 0 || tbs.NotAfter != made.NotAfter.Unix() || len(tbs.Extensions) != len(made.Extensions) {
					t.Errorf("read differently: %+v", tbs)
				}
				for i, e := range made.Extensions {
					if x := tbs.Extensions[i]; x.ID.String() != e.Id.String() || x.Critical != e.Critical || !bytes.Equal(x.Value, e.Value) {
						t.Errorf("extension %d read differently: %+v", i, x)
					}
				}
				r := request(ca, KindCertificate, alg)
				r.Document, r.CSR = made.RawTBSCertificate, csrDER
				c, err := Check(r, ca, now)
				if (err == nil) != test.ok {
					t.Fatalf("Check: %v", err)
				}
				if err != nil {
					return
				}
				out := finish(t, c, k)
				if !alg.PSS() && !bytes.Equal(out, der) {
					t.Error("not the certificate that x509 made")
				}
			})
		}
	}
}

func FuzzParseTBS(f *testing.F) {
	k := rsaKey(f, "ca", 2048)
	ca := certificateKey(f, k, threshold.PS256)
	root, err := parseRoot(ca.Certificate, &ca)
	if err != nil {
		f.Fatal(err)
	}
	for _, extra := range [][]string{san, nil, {"-addext", "keyUsage=keyAgreement", "-addext", "certificatePolicies=1.2.3"}} {
		csr := mustParseCSR(f, opensslCSR(f, newEC, extra...))
		tbs := leaf(f, ca, opensslCSR(f, newEC, extra...), threshold.PS256)
		tbs.Extensions = append(tbs.Extensions, csr.Extensions()...)
		der, err := tbs.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Add(root.x509.RawTBSCertificate)
	f.Fuzz(func(t *testing.T, der []byte) {
		tbs, err := ParseTBS(der)
		if err != nil {
			return
		}
		again, err := tbs.Marshal()
		if err != nil || !bytes.Equal(again, der) {
			t.Fatalf("a second encoding: %x", again)
		}
		// What is a certificate to us must be one to the detector.
		if checkDisguise(der) == nil {
			t.Fatalf("the detector missed %x", der)
		}
		if c, err := checkExtensions(tbs, root); err == nil {
			v := new(View)
			v.section("x")
			extensionsView(v, tbs, c)
			for _, s := range v.Sections {
				for _, field := range s.Fields {
					for _, value := range field.Values {
						checkSafe(t, value)
					}
				}
			}
			// x509 must not see an authority where we see none.
			whole, err := wrapCertificate(der, tbs.Algorithm, make([]byte, 256))
			if err != nil {
				t.Fatal(err)
			}
			if x, err := x509.ParseCertificate(whole); err == nil && (x.IsCA || x.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0) {
				t.Fatalf("x509 reads an authority: %x", der)
			}
		}
		if name, err := parseName(tbs.Subject); err == nil {
			checkSafe(t, oneLine(name))
		}
	})
}

func FuzzDisguise(f *testing.F) {
	for _, der := range signedThings(f) {
		f.Add(der, uint8(0))
		for i, wrap := range []string{"PEM", "base64", "hex", "indefinite length", "in CMS data"} {
			f.Add(disguises[wrap](der), uint8(i))
		}
	}
	names := []string{"as it is", "trailing octets", "PEM", "base64", "base64url", "hex", "in an octet string", "leading space"}
	f.Fuzz(func(t *testing.T, data []byte, which uint8) {
		if len(data) > 1<<16 {
			return
		}
		// What is recognised bare is recognised behind each simple disguise.
		if d, ok := checkDisguise(data).(*DisguiseError); ok && len(d.Layers) == 0 && len(data) > 100 {
			name := names[int(which)%len(names)]
			if checkDisguise(disguises[name](data)) == nil {
				t.Fatalf("%s hides %s: %x", name, d.What, data)
			}
		}
	})
}

func FuzzRequest(f *testing.F) {
	key, _ := fileKey(f)
	k := rsaKey(f, "ca", 2048)
	ca := certificateKey(f, k, threshold.RS256)
	csr := opensslCSR(f, newEC, san...)
	blind := fileRequest(key, []byte("x"))
	asDigest(blind, nil)
	_, _, layers := layersKey(f)
	for _, r := range []*Request{
		fileRequest(key, []byte("data\n")), blind, certificateRequest(f, ca, csr, leaf(f, ca, csr, threshold.RS256), threshold.RS256),
		batchOf(f, layers, 2, threshold.PS256),
	} {
		raw, err := envelope.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	key.AllowDigest = true
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r Request
		if envelope.Unmarshal(raw, &r) != nil {
			return
		}
		again, err := envelope.Marshal(&r)
		if err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("a second encoding: %x", again)
		}
		c, err := Check(&r, key, now)
		for _, other := range []ledger.Key{ca, layers} {
			if err != nil {
				c, err = Check(&r, other, now)
			}
		}
		if err != nil {
			return
		}
		if ems, err := c.EncodedMessages(envelope.Hash{1}); err != nil || len(ems) != max(1, len(r.Batch)) {
			t.Fatal(len(ems), err)
		}
		for _, line := range c.View().Lines(80) {
			if len([]rune(line)) > 80 {
				t.Fatalf("a line of %d columns", len([]rune(line)))
			}
		}
	})
}

func FuzzParseCSR(f *testing.F) {
	for _, key := range [][]string{newRSA, newEC, {"-newkey", "ed25519"}} {
		f.Add(opensslCSR(f, key, san...))
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := ParseCSR(der)
		if err != nil {
			return
		}
		if _, err := parseName(c.Subject()); err != nil {
			t.Fatal(err)
		}
	})
}

package ledger_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// issuer makes certificates by one key.
type issuer struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate // nil: self-signed
}

func (i issuer) issue(pub any, name string, ca bool) []byte {
	i.t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true, IsCA: ca,
		NotBefore: time.Unix(ledgertest.Epoch, 0), NotAfter: time.Unix(ledgertest.Epoch+1e9, 0),
	}
	parent := i.cert
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	return der
}

func maker(t *testing.T, name string) (issuer, []byte) {
	i := issuer{t: t, key: ledgertest.NewSigner(t, name)}
	der := i.issue(i.key.Public(), name, true)
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	i.cert = c
	return i, der
}

// under makes an authority below i.
func (i issuer) under(name string, ca bool) (issuer, []byte) {
	k := ledgertest.NewSigner(i.t, name)
	der := i.issue(k.Public(), name, ca)
	c, err := x509.ParseCertificate(der)
	if err != nil {
		i.t.Fatal(err)
	}
	return issuer{t: i.t, key: k, cert: c}, der
}

// attested turns the test genesis into one with makers' certificates for all devices and cards.
func attested(t *testing.T) *ledgertest.System {
	s := ledgertest.Unsigned(t)
	g := &s.Genesis
	g.UnattestedCards, g.Ceremony.Vault = false, false
	cards, cardRoot := maker(t, "card maker")
	tokens, tokenRoot := maker(t, "token maker")
	g.Models = []ledger.Model{
		{Kind: ledger.ModelCard, Manufacturer: "Cards & Co", Model: "Software card", Root: cardRoot, Standard: "FIPS 140-3"},
		{Kind: ledger.ModelDevice, Manufacturer: "Tokens & Co", Model: "Software token", Root: tokenRoot},
	}
	batch, batchDER := tokens.under("token batch", true)
	for i := range g.Devices {
		id := g.Devices[i].ID
		g.Devices[i].SignCert = [][]byte{batch.issue(s.Devices[id].Sign.Public(), id, false), batchDER}
		g.Devices[i].AgreeCert = [][]byte{batch.issue(s.Devices[id].Agree.PublicKey(), id, false), batchDER}
	}
	for i := range g.Persons {
		p := s.Persons[g.Persons[i].ID]
		for j := range g.Persons[i].Cards {
			f9, f9DER := cards.under("f9", true)
			g.Persons[i].Cards[j].Intermediate = f9DER
			g.Persons[i].Cards[j].AttestSign = f9.issue(p.Cards[j].Sign.Public(), "9c", false)
			g.Persons[i].Cards[j].AttestAgree = f9.issue(p.Cards[j].Agree.PublicKey(), "9d", false)
		}
	}
	return s
}

func TestAttestation(t *testing.T) {
	attested(t).Commission(t)

	other, otherRoot := maker(t, "other maker")
	for _, c := range []struct {
		name string
		edit func(*ledgertest.System)
		want string
	}{
		{"card of an unknown model", func(s *ledgertest.System) { s.Genesis.Persons[0].Cards[0].Model = "Toy" }, `no approved card model "Toy"`},
		{"device of an unknown model", func(s *ledgertest.System) { s.Genesis.Devices[0].Model = "Toy" }, `no approved device model "Toy"`},
		{"card model approved as a device", func(s *ledgertest.System) { s.Genesis.Models[0].Kind = ledger.ModelDevice }, `no approved card model "Software card"`},
		{"card attested by another maker", func(s *ledgertest.System) { s.Genesis.Models[0].Root = otherRoot }, "does not lead to an approved root"},
		{"attestation of another card", func(s *ledgertest.System) {
			p := s.Genesis.Persons
			p[0].Cards[0].AttestSign = p[1].Cards[0].AttestSign
		}, "attestation of the signature key: is of another key"},
		{"attestations exchanged", func(s *ledgertest.System) {
			c := &s.Genesis.Persons[0].Cards[0]
			c.AttestSign, c.AttestAgree = c.AttestAgree, c.AttestSign
		}, "is of another key"},
		{"attested by a forged card key", func(s *ledgertest.System) {
			c := &s.Genesis.Persons[0].Cards[0]
			fake, _ := other.under("forged f9", true)
			c.AttestSign = fake.issue(s.Persons["officer-1a"].Card().Sign.Public(), "9c", false)
		}, "is not signed by certificate 1"},
		{"a card's own key as intermediate", func(s *ledgertest.System) {
			// A genuine card signs, in slot 9C, an "attestation" of a key in software.
			genuine := s.Genesis.Persons[1].Cards[0]
			cert, err := x509.ParseCertificate(genuine.AttestSign)
			if err != nil {
				t.Fatal(err)
			}
			by := issuer{t: t, key: s.Persons["officer-1b"].Card().Sign, cert: cert}
			c := &s.Genesis.Persons[0].Cards[0]
			c.Intermediate = genuine.AttestSign
			c.AttestSign = by.issue(s.Persons["officer-1a"].Card().Sign.Public(), "9c", false)
			c.AttestAgree = by.issue(s.Persons["officer-1a"].Card().Agree.PublicKey(), "9d", false)
		}, "does not lead to an approved root"},
		{"a device's own key as intermediate", func(s *ledgertest.System) {
			genuine := s.Genesis.Devices[1].SignCert
			cert, err := x509.ParseCertificate(genuine[0])
			if err != nil {
				t.Fatal(err)
			}
			by := issuer{t: t, key: s.Devices["device-2"].Sign, cert: cert}
			s.Genesis.Devices[0].SignCert = append([][]byte{by.issue(s.Devices["device-1"].Sign.Public(), "x", false)}, genuine...)
		}, "certificate 1 is not an authority's"},
		{"device certificates exchanged", func(s *ledgertest.System) {
			s.Genesis.Devices[0].AgreeCert = s.Genesis.Devices[0].SignCert
		}, "certificate of the agreement key: is of another key"},
		{"no intermediate", func(s *ledgertest.System) { s.Genesis.Persons[0].Cards[0].Intermediate = nil }, "certificate 1 is missing"},
		{"no attestation", func(s *ledgertest.System) { s.Genesis.Persons[0].Cards[0].AttestAgree = nil }, "attestation of the agreement key: certificate 0 is missing"},
		{"rubbish", func(s *ledgertest.System) { s.Genesis.Persons[0].Cards[0].AttestSign = []byte("x") }, "certificate 0"},
		{"chain without end", func(s *ledgertest.System) { s.Genesis.Devices[0].SignCert = make([][]byte, 9) }, "chain of 9 certificates"},
		{"half a vault", func(s *ledgertest.System) {
			s.Genesis.Ceremony.Vault = true
			s.Genesis.Devices[0].SignCert = nil
		}, "chain of 0 certificates"},
		{"model twice", func(s *ledgertest.System) { s.Genesis.Models[1] = s.Genesis.Models[0] }, "is listed twice"},
		{"model without manufacturer", func(s *ledgertest.System) { s.Genesis.Models[0].Manufacturer = "" }, "manufacturer is empty"},
		{"model with a bad standard", func(s *ledgertest.System) { s.Genesis.Models[0].Standard = "\n" }, "standard"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := attested(t)
			c.edit(s)
			err := s.Genesis.Validate()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant …%s…", err, c.want)
			}
		})
	}
}

// The root certificate that the lead made must be an authority's, self-issued, and made with the key it is for.
func TestRootCertificate(t *testing.T) {
	good := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root"}, BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageCertSign, SignatureAlgorithm: x509.SHA384WithRSAPSS,
		NotBefore: time.Unix(ledgertest.Epoch, 0), NotAfter: time.Unix(ledgertest.Epoch+1e9, 0),
	}
	for _, c := range []struct {
		name   string
		edit   func(c, parent *x509.Certificate)
		signer string
		want   string
	}{
		{"good", func(c, p *x509.Certificate) {}, "certs", ""},
		{"no authority", func(c, p *x509.Certificate) { c.IsCA = false }, "certs", "not a certificate authority's"},
		{"no certificates", func(c, p *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }, "certs", "does not allow certificates to be signed"},
		{"issued by another name", func(c, p *x509.Certificate) { p.Subject.CommonName = "Other" }, "certs", "names another issuer"},
		{"no validity", func(c, p *x509.Certificate) { c.NotAfter = c.NotBefore }, "certs", "no validity"},
		{"expired", func(c, p *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Unix(1, 0), time.Unix(ledgertest.Epoch, 0)
		}, "certs", "expired before the key"},
		{"signed by another key", func(c, p *x509.Certificate) {}, "swa", "not signed by its own key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := ledgertest.Unsigned(t)
			template, parent := good, good
			c.edit(&template, &parent)
			key := func(id string) *rsa.PrivateKey { return s.Keys[id].Whole }
			der, err := x509.CreateCertificate(rand.Reader, &template, &parent, key("certs").Public(), key(c.signer))
			if err != nil {
				t.Fatal(err)
			}
			s.Genesis.Keys[certs].Certificate = der
			switch err := s.Genesis.Validate(); {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got  %v\nwant …%s…", err, c.want)
			}
		})
	}
}

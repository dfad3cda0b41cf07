package profile

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// backdate lets clients whose clocks are slow use a new certificate at once.
const backdate = 5 * time.Minute

// Options vary a profile.
type Options struct {
	Days      uint64              // validity; 0: the profile's
	MaxDays   uint64              // that the issuer's key certifies for; 0: whoever asks does not know
	Algorithm threshold.Algorithm // of the issuer's signature
	Now       time.Time
	Random    io.Reader // for the serial number
}

// Built is a certificate ready to be requested.
type Built struct {
	TBS []byte // TBSCertificate, DER
	CSR []byte // the request it answers, DER
	// Notes say, for people, where it differs from what the CSR asks for.
	Notes []string
}

// ReadCSR takes a certificate request as people keep it, in PEM or DER, and
// returns it in DER. Its signature is verified.
func ReadCSR(file []byte) ([]byte, error) {
	text := bytes.TrimSpace(file)
	if len(text) == 0 {
		return nil, fmt.Errorf("%w: the file is empty", document.ErrCSR)
	}
	der := file
	if block, rest := pem.Decode(text); block != nil {
		if !isRequest(block) {
			return nil, fmt.Errorf("%w: the file holds a %s; make a request with: openssl req -new -key KEY -subj /CN=NAME", document.ErrCSR, document.Escape(block.Type))
		}
		if next, _ := pem.Decode(rest); next != nil && isRequest(next) {
			return nil, fmt.Errorf("%w: the file holds several: put each into a file of its own", document.ErrCSR)
		}
		der = block.Bytes
	} else if file[0] != 0x30 {
		return nil, fmt.Errorf("%w: the file is neither PEM nor DER", document.ErrCSR)
	}
	if _, err := document.ParseCSR(der); err != nil {
		return nil, explain(err)
	}
	return der, nil
}

func isRequest(b *pem.Block) bool {
	return b.Type == "CERTIFICATE REQUEST" || b.Type == "NEW CERTIFICATE REQUEST"
}

// Build makes a TBSCertificate from a CSR in DER, for the issuer whose
// certificate is root in DER.
func Build(csr []byte, p Profile, root []byte, o Options) (*Built, error) {
	c, err := document.ParseCSR(csr)
	if err != nil {
		return nil, explain(err)
	}
	issuer, err := x509.ParseCertificate(root)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRoot, err)
	}
	if !issuer.IsCA || len(issuer.SubjectKeyId) == 0 {
		return nil, fmt.Errorf("%w: it is not an authority with a key identifier", ErrRoot)
	}
	algorithm, err := document.AlgorithmIdentifier(o.Algorithm)
	if err != nil {
		return nil, err
	}
	serial, err := document.NewSerial(o.Random)
	if err != nil {
		return nil, err
	}
	t := &document.TBS{
		Serial: serial, Algorithm: algorithm, Issuer: issuer.RawSubject, Subject: c.Subject(), SPKI: c.PublicKeyInfo(),
	}
	if t.NotBefore, t.NotAfter, err = validity(p, o, issuer); err != nil {
		return nil, err
	}
	if p.needSubject && c.EmptySubject() {
		return nil, fmt.Errorf("%w: profile %q needs a subject", ErrNames, p.Name)
	}
	names, notes, err := p.alternativeNames(c)
	if err != nil {
		return nil, err
	}
	usage := uint16(document.KeyUsageDigitalSignature)
	if p.encipherment && isRSA(t.SPKI) {
		usage |= document.KeyUsageKeyEncipherment
	}
	id, err := document.KeyIdentifier(t.SPKI)
	if err != nil {
		return nil, err
	}
	t.Extensions = []document.Extension{document.EndEntity(), document.KeyUsage(usage), document.ExtKeyUsage(p.uses...)}
	if names != nil {
		t.Extensions = append(t.Extensions, document.Extension{
			ID: document.OIDSubjectAltName, Critical: c.EmptySubject(), Value: names,
		})
	} else if c.EmptySubject() {
		return nil, fmt.Errorf("%w: it has neither a subject nor alternative names", ErrNames)
	}
	t.Extensions = append(t.Extensions, document.SubjectKeyID(id), document.AuthorityKeyID(issuer.SubjectKeyId))
	for _, e := range c.Extensions() {
		if e.ID != document.OIDSubjectAltName && !slices.ContainsFunc(t.Extensions, func(x document.Extension) bool {
			return x.ID == e.ID && bytes.Equal(x.Value, e.Value)
		}) {
			notes = append(notes, fmt.Sprintf("extension %s of the CSR is replaced by the profile's or left out", document.ExtensionLabel(e.ID)))
		}
	}
	tbs, err := t.Marshal()
	if err != nil {
		return nil, err
	}
	return &Built{TBS: tbs, CSR: csr, Notes: notes}, nil
}

// explain adds what to do to errors that people meet most.
func explain(err error) error {
	if errors.Is(err, document.ErrCSRSignature) {
		return fmt.Errorf("%w\nhint: the file was changed, or signed with a key other than the one in it; "+
			"make it again: openssl req -new -key KEY -out CSR", err)
	}
	return err
}

func isRSA(spki []byte) bool {
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return false
	}
	_, ok := pub.(*rsa.PublicKey)
	return ok
}

func validity(p Profile, o Options, issuer *x509.Certificate) (notBefore, notAfter int64, err error) {
	days := o.Days
	if days == 0 {
		days = p.Days
	}
	if days == 0 || days > 36525 {
		return 0, 0, fmt.Errorf("%w: %d days", ErrValidity, days)
	}
	// Before the end of the root: who is told to ask for fewer days than those left
	// would be refused once more.
	if o.MaxDays != 0 && days > o.MaxDays {
		return 0, 0, fmt.Errorf("%w: %d days, and this key certifies for %d at most", ErrValidity, days, o.MaxDays)
	}
	begin := o.Now.Add(-backdate)
	if begin.Before(issuer.NotBefore) {
		begin = issuer.NotBefore
	}
	notBefore = begin.Unix()
	notAfter = notBefore + int64(days)*24*60*60 - 1 // both ends count
	if notAfter > issuer.NotAfter.Unix() {
		return 0, 0, fmt.Errorf("%w: %d days end after the issuer's own certificate, at %s: ask for %d at most",
			ErrValidity, days, issuer.NotAfter.UTC().Format(time.RFC3339), max(0, (issuer.NotAfter.Unix()-notBefore+1)/(24*60*60)))
	}
	return notBefore, notAfter, nil
}

// alternativeNames takes from the CSR the kinds of names that the profile
// knows, and returns the extension's value, nil if it would be empty.
func (p Profile) alternativeNames(c *document.CSR) (value []byte, notes []string, err error) {
	var kept [][]byte
	asked := false
	for _, e := range c.Extensions() {
		if e.ID != document.OIDSubjectAltName {
			continue
		}
		asked = true
		in := cryptobyte.String(e.Value)
		var list cryptobyte.String
		if !in.ReadASN1(&list, asn1.SEQUENCE) {
			return nil, nil, fmt.Errorf("%w: bad alternative names", ErrNames)
		}
		for !list.Empty() {
			var name cryptobyte.String
			var tag asn1.Tag
			if !list.ReadAnyASN1Element(&name, &tag) {
				return nil, nil, fmt.Errorf("%w: bad alternative names", ErrNames)
			}
			if kind := nameKind(tag & 0x1f); slices.Contains(p.names, kind) {
				kept = append(kept, name)
			} else {
				notes = append(notes, fmt.Sprintf("profile %q takes no %s: left out", p.Name, kind))
			}
		}
	}
	if !asked && p.fromCommon {
		if cn := commonName(c.Subject()); document.IsHostName(cn) {
			var b cryptobyte.Builder
			b.AddASN1(asn1.Tag(nameDNS).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(cn)) })
			kept = append(kept, b.BytesOrPanic())
			notes = append(notes, fmt.Sprintf("the CSR has no alternative names: its common name %s serves as DNS name", cn))
		}
	}
	if len(kept) == 0 {
		if p.needName {
			return nil, nil, fmt.Errorf("%w: profile %q needs a DNS name or IP address; add one: openssl req -addext subjectAltName=DNS:NAME", ErrNames, p.Name)
		}
		return nil, notes, nil
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, name := range kept {
			b.AddBytes(name)
		}
	})
	value, err = b.Bytes()
	return value, notes, err
}

// commonName returns the last common name of a Name, which is the one that
// readers take, or "".
func commonName(der []byte) (cn string) {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) {
		return ""
	}
	for !seq.Empty() {
		var set, pair, id, value cryptobyte.String
		var tag asn1.Tag
		if !seq.ReadASN1(&set, asn1.SET) {
			return ""
		}
		for !set.Empty() {
			if !set.ReadASN1(&pair, asn1.SEQUENCE) || !pair.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) || !pair.ReadAnyASN1(&value, &tag) {
				return ""
			}
			if document.OID(id) == document.OIDCommonName {
				cn = string(value)
			}
		}
	}
	return cn
}

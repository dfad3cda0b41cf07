package document

import (
	"crypto/x509"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Errors of a certificate request.
var (
	// ErrCSR: it cannot be read.
	ErrCSR = errors.New("bad certificate request")
	// ErrCSRSignature: its signature does not verify, so that whoever made it
	// has not shown that he has the private key.
	ErrCSRSignature = errors.New("the CSR's signature does not verify")
)

// CSR is a PKCS#10 certificate request (RFC 2986) whose signature verified and
// whose key may be certified. Only ParseCSR makes one.
type CSR struct {
	key        subjectKey
	subject    []byte // Name, DER
	attributes []attribute
	extensions []Extension // what it asks for
	names      []generalName
	hasNames   bool
}

// ParseCSR reads and verifies a certificate request in DER. Errors wrap
// ErrCSR, ErrCSRSignature or ErrWeakKey.
func ParseCSR(der []byte) (*CSR, error) {
	// The key first: x509 says of an unsupported key only that the whole is bad.
	key, err := csrKey(der)
	if err != nil {
		return nil, err
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCSR, err)
	}
	switch r.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.PureEd25519:
	case x509.UnknownSignatureAlgorithm:
		return nil, fmt.Errorf("%w: it is made with an algorithm that is not supported; make the request again with SHA-256 (PSS with a salt as long as the hash)", ErrCSRSignature)
	default:
		// x509 would still take SHA-1 here.
		return nil, fmt.Errorf("%w: it is made with %s; make the request again with SHA-256 or better", ErrCSRSignature, r.SignatureAlgorithm)
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: make the request again with the private key that belongs to it (%v)", ErrCSRSignature, err)
	}
	c := &CSR{key: key, subject: r.RawSubject}
	if c.attributes, err = parseName(r.RawSubject); err != nil {
		return nil, fmt.Errorf("%w: subject: %w", ErrCSR, err)
	}
	if err := c.readExtensions(r.RawTBSCertificateRequest); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCSR, err)
	}
	for _, e := range c.extensions {
		if e.ID != OIDSubjectAltName {
			continue
		}
		if c.hasNames {
			return nil, fmt.Errorf("%w: it asks for alternative names twice", ErrCSR)
		}
		if c.names, err = parseNames(e.Value); err != nil {
			return nil, fmt.Errorf("%w: alternative names: %w", ErrCSR, err)
		}
		c.hasNames = true
	}
	return c, nil
}

// csrKey reads the key for which a certificate is requested, and verifies nothing.
// Errors wrap ErrCSR or ErrWeakKey.
func csrKey(der []byte) (subjectKey, error) {
	if len(der) == 0 {
		return subjectKey{}, fmt.Errorf("%w: it is missing", ErrCSR)
	}
	if len(der) > maxCSR {
		return subjectKey{}, fmt.Errorf("%w: %d octets, more than %d", ErrCSR, len(der), maxCSR)
	}
	if err := checkDER(der); err != nil {
		return subjectKey{}, fmt.Errorf("%w: %w", ErrCSR, err)
	}
	var seq, info cryptobyte.String
	if in := cryptobyte.String(der); !in.ReadASN1(&seq, asn1.SEQUENCE) || !seq.ReadASN1(&info, asn1.SEQUENCE) ||
		!info.SkipASN1(asn1.INTEGER) || !info.SkipASN1(asn1.SEQUENCE) {
		return subjectKey{}, fmt.Errorf("%w: not PKCS#10", ErrCSR)
	}
	spki, ok := readElement(&info, asn1.SEQUENCE)
	if !ok {
		return subjectKey{}, fmt.Errorf("%w: not PKCS#10", ErrCSR)
	}
	return parseSubjectKey(spki)
}

// readExtensions finds the extensionRequest attributes, RFC 2985 5.4.2.
func (c *CSR) readExtensions(info []byte) error {
	in := cryptobyte.String(info)
	var seq, attributes cryptobyte.String
	var some bool
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !seq.SkipASN1(asn1.INTEGER) || !seq.SkipASN1(asn1.SEQUENCE) ||
		!seq.SkipASN1(asn1.SEQUENCE) || !seq.ReadOptionalASN1(&attributes, &some, contextConstructed(0)) {
		return errors.New("bad attributes")
	}
	for !attributes.Empty() {
		var a, id, values cryptobyte.String
		if !attributes.ReadASN1(&a, asn1.SEQUENCE) || !a.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) || !a.ReadASN1(&values, asn1.SET) {
			return errors.New("bad attributes")
		}
		if OID(id) != oidExtensionRequest {
			continue
		}
		if len(c.extensions) > 0 {
			return errors.New("it asks for extensions twice")
		}
		var err error
		if c.extensions, err = parseExtensions(&values); err != nil {
			return err
		}
	}
	return nil
}

// PublicKeyInfo returns the key that the request asks to have certified, as
// SubjectPublicKeyInfo in DER.
func (c *CSR) PublicKeyInfo() []byte { return c.key.spki }

// Subject returns the Name it asks for, in DER.
func (c *CSR) Subject() []byte { return c.subject }

// EmptySubject says whether that Name has no attribute.
func (c *CSR) EmptySubject() bool { return len(c.attributes) == 0 }

// Extensions returns what it asks for. They are wishes: whoever makes a
// certificate decides.
func (c *CSR) Extensions() []Extension { return c.extensions }

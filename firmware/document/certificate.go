package document

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Errors of a certificate.
var (
	ErrIssuer       = errors.New("the certificate names another issuer")
	ErrAuthorityKey = errors.New("the authority key identifier is missing or not the issuer's")
	ErrSerial       = errors.New("bad serial number")
	ErrValidity     = errors.New("bad validity")
	ErrPublicKey    = errors.New("the certificate's key is not the CSR's")
	// ErrAuthority: it would make its subject a certificate authority, or let
	// it speak for one.
	ErrAuthority = errors.New("it would give the powers of a certificate authority")
	// ErrDuplicate: an extension stands twice, and readers differ in which they take.
	ErrDuplicate = errors.New("an extension stands twice")
	// ErrCritical: a critical extension that this system does not understand.
	ErrCritical = errors.New("unknown critical extension")
	// ErrExtension: an extension is malformed or has the wrong criticality.
	ErrExtension = errors.New("bad extension")
	ErrSubject   = errors.New("bad subject")
)

// checkCertificate checks a TBSCertificate for a key of family certificate.
func checkCertificate(req *Request, key *ledger.Key, now int64) (*content, error) {
	if err := req.only(fieldDocument | fieldCSR); err != nil {
		return nil, err
	}
	root, err := parseRoot(key.Certificate, key)
	if err != nil {
		return nil, err
	}
	return checkDraft(&Draft{req.Document, req.CSR}, req.Algorithm, root, key, now)
}

// checkDraft checks one certificate that a root is to issue.
func checkDraft(d *Draft, algorithm threshold.Algorithm, root *root, key *ledger.Key, now int64) (*content, error) {
	t, err := readIssued(d.Document, algorithm, root)
	if err != nil {
		return nil, err
	}
	csr, err := ParseCSR(d.CSR)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(csr.key.spki, t.SPKI) {
		return nil, fmt.Errorf("%w: %x, not %x", ErrPublicKey, subjectKey{spki: t.SPKI}.fingerprint(), csr.key.fingerprint())
	}
	if bytes.Equal(t.SPKI, root.tbs.SPKI) {
		return nil, fmt.Errorf("%w: it certifies the issuer's own key", ErrAuthority)
	}
	if err := checkValidity(t, root, key.MaxDays, now); err != nil {
		return nil, err
	}
	f, err := checkExtensions(t, root)
	if err != nil {
		return nil, err
	}
	subject, err := parseName(t.Subject)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSubject, err)
	}
	switch san := t.extension(OIDSubjectAltName); {
	case len(subject) == 0 && (san == nil || !san.Critical):
		// RFC 5280 4.1.2.6.
		return nil, fmt.Errorf("%w: it is empty, and there is no critical subject alternative name instead", ErrSubject)
	case bytes.Equal(t.Subject, t.Issuer):
		return nil, fmt.Errorf("%w: it is the issuer's own name", ErrSubject)
	}
	c := &certificateContent{tbs: t, facts: f, csr: csr, subject: subject, root: root, now: now}
	// From then on checkValidity finds something else.
	until := min(t.NotAfter, t.NotBefore+maxBackdate+1)
	return &content{issuer: root, certificate: c, view: c.view, until: until}, nil
}

// readIssued reads a certificate that a root is to issue, and checks what all of
// them have in common.
func readIssued(tbs []byte, algorithm threshold.Algorithm, root *root) (*TBS, error) {
	t, err := ParseTBS(tbs)
	if err != nil {
		return nil, err
	}
	identifier, err := AlgorithmIdentifier(algorithm)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(t.Algorithm, identifier) {
		return nil, fmt.Errorf("%w: the certificate does not say %s with its usual parameters (RFC 4055)", ErrAlgorithm, algorithm)
	}
	if !bytes.Equal(t.Issuer, root.tbs.Subject) {
		return nil, fmt.Errorf("%w: it must be the subject of the key's root, octet for octet", ErrIssuer)
	}
	return t, checkSerial(t.Serial)
}

func checkSerial(serial []byte) error {
	switch {
	case len(serial) == 0 || serial[0]&0x80 != 0:
		return fmt.Errorf("%w: it is negative", ErrSerial)
	case len(serial) > maxSerial:
		return fmt.Errorf("%w: %d octets, more than %d", ErrSerial, len(serial), maxSerial)
	}
	if bits := new(big.Int).SetBytes(serial).BitLen(); bits < minSerialBits {
		return fmt.Errorf("%w: %d bits, fewer than %d: take it from a random source", ErrSerial, bits, minSerialBits)
	}
	return nil
}

// checkValidity: both ends count, so that a validity from 00:00:00 to 23:59:59
// is one day (RFC 5280 4.1.2.5).
func checkValidity(t *TBS, root *root, maxDays uint64, now int64) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrValidity, fmt.Sprintf(format, args...))
	}
	length := t.NotAfter - t.NotBefore + 1
	switch {
	case length <= 0:
		return bad("it ends before it begins")
	case t.NotAfter <= now:
		return bad("it ended at %s", formatTime(t.NotAfter))
	case t.NotBefore < now-maxBackdate:
		return bad("it begins at %s, more than %d days ago", formatTime(t.NotBefore), maxBackdate/day)
	case t.NotBefore > now+maxPostdate:
		return bad("it begins at %s, more than %d days from now", formatTime(t.NotBefore), maxPostdate/day)
	case maxDays == 0:
		return bad("the key has no longest validity, and may certify nothing")
	case uint64(length) > maxDays*day:
		return bad("%s, longer than the %d days the key may certify", days(length), maxDays)
	case t.NotBefore < root.tbs.NotBefore:
		return bad("it begins before the issuer's own, at %s", formatTime(root.tbs.NotBefore))
	case t.NotAfter > root.tbs.NotAfter:
		return bad("it ends after the issuer's own, at %s", formatTime(root.tbs.NotAfter))
	}
	return nil
}

// authorityOnly are extensions that mean something only in the certificate of
// an authority.
var authorityOnly = map[OID]bool{
	oidNameConstraints:   true,
	oidPolicyMappings:    true,
	oidPolicyConstraints: true,
	oidInhibitAnyPolicy:  true,
	// OpenSSL takes a certificate of this type and without basic constraints for
	// an authority (x509/v3_purp.c, check_ca).
	oidNetscapeType: true,
}

// checkExtensions checks the extensions of a certificate for an end entity.
// There is no flag in the tables that would allow a subordinate authority, so
// nothing that looks like one passes.
func checkExtensions(t *TBS, root *root) (*facts, error) {
	seen := make(map[OID]bool)
	for _, e := range t.Extensions {
		if seen[e.ID] {
			return nil, fmt.Errorf("%w: %s", ErrDuplicate, ExtensionLabel(e.ID))
		}
		seen[e.ID] = true
		if authorityOnly[e.ID] {
			return nil, fmt.Errorf("%w: extension %s", ErrAuthority, ExtensionLabel(e.ID))
		}
	}
	f, known, err := readExtensions(t.Extensions)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrExtension, err)
	}
	for _, e := range t.Extensions {
		if e.Critical && !known(e.ID) {
			return nil, fmt.Errorf("%w: %s", ErrCritical, ExtensionLabel(e.ID))
		}
		// RFC 5280 4.2.1.1, 4.2.1.2, 4.2.2.1: conforming issuers mark these as not critical.
		if e.Critical && (e.ID == oidAuthorityKeyID || e.ID == oidSubjectKeyID || e.ID == oidAuthorityInfo) {
			return nil, fmt.Errorf("%w: %s must not be critical", ErrExtension, ExtensionLabel(e.ID))
		}
	}
	if !bytes.Equal(f.authority, root.keyID) {
		return nil, fmt.Errorf("%w: it must be %x", ErrAuthorityKey, root.keyID)
	}
	if f.constraints != nil && f.constraints.ca {
		return nil, fmt.Errorf("%w: basic constraints say CA:TRUE", ErrAuthority)
	}
	if f.keyUsage&(KeyUsageCertSign|KeyUsageCRLSign) != 0 {
		return nil, fmt.Errorf("%w: key usage allows it to sign certificates or CRLs", ErrAuthority)
	}
	for _, use := range f.extKeyUsage {
		switch use {
		case oidUsageOCSP:
			return nil, fmt.Errorf("%w: it could sign OCSP responses in the issuer's name", ErrAuthority)
		case oidAnyUsage:
			return nil, fmt.Errorf("%w: extended key usage allows any use", ErrAuthority)
		}
	}
	return f, nil
}

// ExtensionLabel is the name of an extension with its identifier, or that alone.
func ExtensionLabel(id OID) string {
	if name, ok := extensionNames[id]; ok {
		return name + " (" + id.String() + ")"
	}
	return id.String()
}

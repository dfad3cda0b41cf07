package document

import (
	"bytes"
	"fmt"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Readers of the extensions that say where and under which rules; see
// readExtensions.

func (f *facts) readSubjectKey(der []byte) ([]string, error) {
	in := cryptobyte.String(der)
	var id cryptobyte.String
	if !in.ReadASN1(&id, asn1.OCTET_STRING) || len(id) == 0 || len(id) > 64 {
		return nil, errExtension
	}
	f.subjectKey = bytes.Clone(id)
	return []string{fmt.Sprintf("%x", []byte(id))}, nil
}

// readAuthority: RFC 5280 4.2.1.1. Only the key identifier is taken: the
// issuer's name and serial number are a second way to say the same.
func (f *facts) readAuthority(der []byte) ([]string, error) {
	in := cryptobyte.String(der)
	var seq, id cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !seq.ReadASN1(&id, context(0)) || len(id) == 0 || len(id) > 64 {
		return nil, errExtension
	}
	if !seq.Empty() {
		return nil, fmt.Errorf("%w: it holds more than a key identifier", errExtension)
	}
	f.authority = bytes.Clone(id)
	return []string{fmt.Sprintf("%x", []byte(id))}, nil
}

// readCRLPoints: RFC 5280 4.2.1.13, without reasons and indirect issuers.
func (f *facts) readCRLPoints(der []byte) ([]string, error) {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || seq.Empty() {
		return nil, errExtension
	}
	var lines []string
	for !seq.Empty() {
		var point, choice, full cryptobyte.String
		if !seq.ReadASN1(&point, asn1.SEQUENCE) || !point.ReadASN1(&choice, contextConstructed(0)) ||
			!choice.ReadASN1(&full, contextConstructed(0)) || !choice.Empty() || full.Empty() {
			return nil, errExtension
		}
		if !point.Empty() {
			return nil, fmt.Errorf("%w: reasons and indirect issuers are not supported", errExtension)
		}
		for !full.Empty() {
			n, err := parseGeneralName(&full)
			if err != nil {
				return nil, err
			}
			if lines = append(lines, n.String()); len(lines) > maxNames {
				return nil, fmt.Errorf("more than %d names", maxNames)
			}
		}
	}
	return lines, nil
}

func (f *facts) readAccess(der []byte) ([]string, error) {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || seq.Empty() {
		return nil, errExtension
	}
	var lines []string
	for !seq.Empty() {
		var access, id cryptobyte.String
		if !seq.ReadASN1(&access, asn1.SEQUENCE) || !access.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) {
			return nil, errExtension
		}
		n, err := parseGeneralName(&access)
		if err != nil {
			return nil, err
		}
		if !access.Empty() || len(lines) == maxNames {
			return nil, errExtension
		}
		method := OID(id).String()
		switch OID(id) {
		case oidAccessOCSP:
			method = "OCSP"
		case oidAccessIssuers:
			method = "issuer's certificate"
		}
		lines = append(lines, method+" at "+n.String())
	}
	return lines, nil
}

// readPolicies: RFC 5280 4.2.1.4. Qualifiers are shown as they are.
func (f *facts) readPolicies(der []byte) ([]string, error) {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || seq.Empty() {
		return nil, errExtension
	}
	var lines []string
	for !seq.Empty() {
		var policy, id, qualifiers cryptobyte.String
		if !seq.ReadASN1(&policy, asn1.SEQUENCE) || !policy.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) {
			return nil, errExtension
		}
		line := OID(id).String()
		if !policy.Empty() {
			if !policy.ReadASN1(&qualifiers, asn1.SEQUENCE) || !policy.Empty() || qualifiers.Empty() {
				return nil, errExtension
			}
			for !qualifiers.Empty() {
				var q, qid, text cryptobyte.String
				if !qualifiers.ReadASN1(&q, asn1.SEQUENCE) || !q.ReadASN1(&qid, asn1.OBJECT_IDENTIFIER) {
					return nil, errExtension
				}
				switch {
				case OID(qid) == oidPolicyQualifierCPS && q.ReadASN1(&text, asn1.IA5String) && q.Empty():
					line += ", statement at " + Escape(string(text))
				case OID(qid) == oidPolicyQualifierNote:
					line += fmt.Sprintf(", notice %x", []byte(q))
				default:
					return nil, errExtension
				}
			}
		}
		if lines = append(lines, line); len(lines) > maxNames {
			return nil, errExtension
		}
	}
	return lines, nil
}

// readTLSFeature: RFC 7633.
func (f *facts) readTLSFeature(der []byte) ([]string, error) {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || seq.Empty() {
		return nil, errExtension
	}
	var features []string
	for !seq.Empty() {
		var n uint64
		if !seq.ReadASN1Integer(&n) || n > 0xffff {
			return nil, errExtension
		}
		if n == 5 {
			features = append(features, "must staple an OCSP response")
		} else {
			features = append(features, fmt.Sprintf("feature %d", n))
		}
	}
	return []string{strings.Join(features, ", ")}, nil
}

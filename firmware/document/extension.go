package document

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidSubjectKeyID        = mustOID("2.5.29.14")
	oidKeyUsage            = mustOID("2.5.29.15")
	oidBasicConstraints    = mustOID("2.5.29.19")
	oidNameConstraints     = mustOID("2.5.29.30")
	oidCRLPoints           = mustOID("2.5.29.31")
	oidPolicies            = mustOID("2.5.29.32")
	oidPolicyMappings      = mustOID("2.5.29.33")
	oidAuthorityKeyID      = mustOID("2.5.29.35")
	oidPolicyConstraints   = mustOID("2.5.29.36")
	oidExtKeyUsage         = mustOID("2.5.29.37")
	oidInhibitAnyPolicy    = mustOID("2.5.29.54")
	oidAuthorityInfo       = mustOID("1.3.6.1.5.5.7.1.1")
	oidTLSFeature          = mustOID("1.3.6.1.5.5.7.1.24")
	oidNetscapeType        = mustOID("2.16.840.1.113730.1.1")
	oidExtensionRequest    = mustOID("1.2.840.113549.1.9.14")
	oidAnyUsage            = mustOID("2.5.29.37.0")
	oidUsageOCSP           = mustOID("1.3.6.1.5.5.7.3.9")
	oidAccessOCSP          = mustOID("1.3.6.1.5.5.7.48.1")
	oidAccessIssuers       = mustOID("1.3.6.1.5.5.7.48.2")
	oidPolicyQualifierCPS  = mustOID("1.3.6.1.5.5.7.2.1")
	oidPolicyQualifierNote = mustOID("1.3.6.1.5.5.7.2.2")
)

// OIDSubjectAltName identifies the subject alternative name, RFC 5280 4.2.1.6.
var OIDSubjectAltName = mustOID("2.5.29.17")

// Extended key usages, RFC 5280 4.2.1.12.
var (
	UsageTLSServer    = mustOID("1.3.6.1.5.5.7.3.1")
	UsageTLSClient    = mustOID("1.3.6.1.5.5.7.3.2")
	UsageCodeSigning  = mustOID("1.3.6.1.5.5.7.3.3")
	UsageEmail        = mustOID("1.3.6.1.5.5.7.3.4")
	UsageTimestamping = mustOID("1.3.6.1.5.5.7.3.8")
)

var extensionNames = map[OID]string{
	oidSubjectKeyID:                        "subject key identifier",
	oidKeyUsage:                            "key usage",
	OIDSubjectAltName:                      "subject alternative name",
	oidBasicConstraints:                    "basic constraints",
	oidNameConstraints:                     "name constraints",
	oidCRLPoints:                           "CRL distribution points",
	oidPolicies:                            "certificate policies",
	oidPolicyMappings:                      "policy mappings",
	oidAuthorityKeyID:                      "authority key identifier",
	oidPolicyConstraints:                   "policy constraints",
	oidExtKeyUsage:                         "extended key usage",
	oidInhibitAnyPolicy:                    "inhibit any policy",
	oidAuthorityInfo:                       "authority information access",
	oidTLSFeature:                          "TLS feature",
	oidNetscapeType:                        "Netscape certificate type",
	mustOID("1.3.6.1.4.1.11129.2.4.2"):     "signed certificate timestamps",
	mustOID("1.3.6.1.4.1.11129.2.4.3"):     "precertificate poison",
	mustOID("1.3.6.1.5.5.7.48.1.5"):        "OCSP no check",
	mustOID("1.3.6.1.4.1.37476.9000.64.1"): "step provisioner",
	mustOID("1.3.6.1.4.1.311.20.2"):        "Microsoft template name",
	mustOID("1.3.6.1.4.1.311.21.7"):        "Microsoft template",
	mustOID("1.3.6.1.4.1.311.25.2"):        "Microsoft security identifier",
	mustOID("1.3.6.1.4.1.41482.3.8"):       "YubiKey PIN and touch policy",
	mustOID("2.5.29.18"):                   "issuer alternative name",
	mustOID("2.5.29.9"):                    "subject directory attributes",
	mustOID("1.3.6.1.5.5.7.1.3"):           "qualified certificate statements",
	mustOID("1.3.6.1.5.5.7.1.11"):          "subject information access",
	mustOID("1.3.6.1.4.1.11129.2.4.5"):     "OCSP signed certificate timestamps",
	mustOID("1.2.840.113533.7.65.0"):       "Entrust version",
	mustOID("2.16.840.1.113730.1.13"):      "Netscape comment",
	mustOID("1.3.6.1.4.1.44363.44"):        "delegation usage",
	mustOID("1.3.6.1.5.5.7.1.2"):           "biometric information",
	mustOID("1.3.6.1.5.5.7.1.26"):          "telephone number authorization",
	mustOID("1.3.6.1.5.5.7.1.7"):           "IP address blocks",
	mustOID("1.3.6.1.5.5.7.1.8"):           "autonomous system identifiers",
	mustOID("2.5.29.46"):                   "freshest CRL",
	mustOID("2.5.29.16"):                   "private key usage period",
}

var usageNames = map[OID]string{
	oidAnyUsage:                       "any use",
	UsageTLSServer:                    "TLS server",
	UsageTLSClient:                    "TLS client",
	UsageCodeSigning:                  "code signing",
	UsageEmail:                        "e-mail protection",
	UsageTimestamping:                 "timestamping",
	oidUsageOCSP:                      "OCSP signing",
	mustOID("1.3.6.1.5.5.7.3.21"):     "SSH client",
	mustOID("1.3.6.1.5.5.7.3.22"):     "SSH server",
	mustOID("1.3.6.1.5.5.7.3.36"):     "document signing",
	mustOID("1.3.6.1.5.2.3.4"):        "Kerberos client",
	mustOID("1.3.6.1.5.2.3.5"):        "Kerberos KDC",
	mustOID("1.3.6.1.4.1.311.20.2.2"): "smart card logon",
	mustOID("1.3.6.1.5.5.7.3.5"):      "IPsec end system",
	mustOID("1.3.6.1.5.5.7.3.17"):     "IPsec IKE",
}

// keyUsageBits: RFC 5280 4.2.1.3, bit 0 first.
var keyUsageBits = [...]string{
	"digital signature", "non-repudiation", "key encipherment", "data encipherment",
	"key agreement", "certificate signing", "CRL signing", "encipher only", "decipher only",
}

// Bits of the key usage that this system sets or looks at, RFC 5280 4.2.1.3.
const (
	KeyUsageDigitalSignature = 1 << 0
	KeyUsageKeyEncipherment  = 1 << 2
	KeyUsageKeyAgreement     = 1 << 4
	KeyUsageCertSign         = 1 << 5
	KeyUsageCRLSign          = 1 << 6
)

// facts is what the extensions that this package understands say.
type facts struct {
	constraints *constraints
	keyUsage    uint16 // bit i as in keyUsageBits
	hasKeyUsage bool
	extKeyUsage []OID
	names       []generalName
	subjectKey  []byte
	authority   []byte
	shown       map[OID][]string // lines for officers, escaped
}

type constraints struct {
	ca      bool
	pathLen int // -1: none
}

// generalName is one subject alternative name.
type generalName struct {
	kind  string // "DNS", "IP", "URI", "e-mail", "directory name", "other name"
	value string // escaped text
}

func (g generalName) String() string { return g.kind + ": " + g.value }

var errExtension = errors.New("malformed")

// readExtensions decodes every extension this package knows. known reports,
// for an identifier, whether its meaning was understood in full, which a
// critical extension demands (RFC 5280 4.2).
func readExtensions(list []Extension) (f *facts, known func(OID) bool, err error) {
	f = &facts{shown: make(map[OID][]string)}
	readers := map[OID]func(*facts, []byte) ([]string, error){
		oidBasicConstraints: (*facts).readConstraints,
		oidKeyUsage:         (*facts).readKeyUsage,
		oidExtKeyUsage:      (*facts).readExtKeyUsage,
		OIDSubjectAltName:   (*facts).readNames,
		oidSubjectKeyID:     (*facts).readSubjectKey,
		oidAuthorityKeyID:   (*facts).readAuthority,
		oidCRLPoints:        (*facts).readCRLPoints,
		oidAuthorityInfo:    (*facts).readAccess,
		oidPolicies:         (*facts).readPolicies,
		oidTLSFeature:       (*facts).readTLSFeature,
	}
	known = func(id OID) bool { return readers[id] != nil }
	for _, e := range list {
		read := readers[e.ID]
		if read == nil {
			continue
		}
		if err := checkDER(e.Value); err != nil {
			return nil, nil, fmt.Errorf("extension %s: %w", extensionNames[e.ID], err)
		}
		lines, err := read(f, e.Value)
		if err != nil {
			return nil, nil, fmt.Errorf("extension %s: %w", extensionNames[e.ID], err)
		}
		f.shown[e.ID] = lines
	}
	return f, known, nil
}

// readConstraints: RFC 5280 4.2.1.9. CA is FALSE by default, and DER leaves
// defaults out.
func (f *facts) readConstraints(der []byte) ([]string, error) {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	c := &constraints{pathLen: -1}
	if !in.ReadASN1(&seq, asn1.SEQUENCE) {
		return nil, errExtension
	}
	if seq.PeekASN1Tag(asn1.BOOLEAN) && (!seq.ReadASN1Boolean(&c.ca) || !c.ca) {
		return nil, fmt.Errorf("%w: CA:FALSE must be left out", errExtension)
	}
	if seq.PeekASN1Tag(asn1.INTEGER) {
		if !seq.ReadASN1Integer(&c.pathLen) || c.pathLen < 0 || !c.ca {
			return nil, fmt.Errorf("%w: path length", errExtension)
		}
	}
	if !seq.Empty() {
		return nil, errExtension
	}
	f.constraints = c
	switch {
	case !c.ca:
		return []string{"not a certificate authority"}, nil
	case c.pathLen >= 0:
		return []string{fmt.Sprintf("CERTIFICATE AUTHORITY, path length %d", c.pathLen)}, nil
	}
	return []string{"CERTIFICATE AUTHORITY"}, nil
}

func (f *facts) readKeyUsage(der []byte) ([]string, error) {
	in := cryptobyte.String(der)
	var bits cryptobyte.String
	if !in.ReadASN1(&bits, asn1.BIT_STRING) || len(bits) < 2 || len(bits) > 3 || bits[len(bits)-1] == 0 {
		return nil, errExtension // RFC 5280: at least one bit; X.690 11.2.2: no trailing zero octets
	}
	// X.690 11.2.2: trailing zero bits of a named bit list are removed.
	if last := bits[len(bits)-1]; last&(1<<bits[0]) == 0 {
		return nil, fmt.Errorf("%w: trailing zero bits", errExtension)
	}
	var names []string
	for i, name := range keyUsageBits {
		if at := 1 + i/8; at < len(bits) && bits[at]&(0x80>>(i%8)) != 0 {
			f.keyUsage |= 1 << i
			names = append(names, name)
		}
	}
	if len(bits) == 3 && bits[2]&0x7f != 0 {
		return nil, fmt.Errorf("%w: unknown bits", errExtension)
	}
	f.hasKeyUsage = true
	return []string{strings.Join(names, ", ")}, nil
}

func (f *facts) readExtKeyUsage(der []byte) ([]string, error) {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || seq.Empty() {
		return nil, errExtension
	}
	var lines []string
	for !seq.Empty() {
		var id cryptobyte.String
		if !seq.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) {
			return nil, errExtension
		}
		f.extKeyUsage = append(f.extKeyUsage, OID(id))
		if name, ok := usageNames[OID(id)]; ok {
			lines = append(lines, name)
		} else {
			lines = append(lines, "unknown use "+OID(id).String())
		}
	}
	return []string{strings.Join(lines, ", ")}, nil
}

func (f *facts) readNames(der []byte) ([]string, error) {
	names, err := parseNames(der)
	f.names = names
	return linesOf(names), err
}

func linesOf(names []generalName) (lines []string) {
	for _, n := range names {
		lines = append(lines, n.String())
	}
	return lines
}

// parseNames reads GeneralNames, RFC 5280 4.2.1.6.
func parseNames(der []byte) ([]generalName, error) {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || seq.Empty() {
		return nil, errExtension
	}
	var out []generalName
	for !seq.Empty() {
		n, err := parseGeneralName(&seq)
		if err != nil {
			return nil, err
		}
		if out = append(out, n); len(out) > maxNames {
			return nil, fmt.Errorf("more than %d names", maxNames)
		}
	}
	return out, nil
}

func parseGeneralName(in *cryptobyte.String) (generalName, error) {
	var v cryptobyte.String
	var tag asn1.Tag
	if !in.ReadAnyASN1(&v, &tag) || len(v) == 0 || len(v) > maxAttribute {
		return generalName{}, errExtension
	}
	text := func(kind string) (generalName, error) {
		for _, c := range v {
			if c <= ' ' || c >= 0x7f {
				// IA5String allows controls, no name needs them; a NUL ends a C string.
				return generalName{}, fmt.Errorf("%w: the %s name %q holds an octet that is not printable ASCII", errExtension, kind, Escape(string(v)))
			}
		}
		return generalName{kind, Escape(string(v))}, nil
	}
	switch tag {
	case context(1):
		return text("e-mail")
	case context(2):
		if err := checkDNSName(string(v)); err != nil {
			return generalName{}, err
		}
		return text("DNS")
	case context(6):
		return text("URI")
	case context(7):
		addr, ok := netip.AddrFromSlice(v)
		if !ok {
			return generalName{}, fmt.Errorf("%w: an IP address of %d octets", errExtension, len(v))
		}
		return generalName{"IP", addr.String()}, nil
	case contextConstructed(4):
		name, err := parseName(v)
		if err != nil {
			return generalName{}, err
		}
		return generalName{"directory name", oneLine(name)}, nil
	case contextConstructed(0):
		var id cryptobyte.String
		if !v.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) {
			return generalName{}, errExtension
		}
		return generalName{"other name", fmt.Sprintf("%s %x", OID(id), []byte(v))}, nil
	case context(8):
		return generalName{"registered id", OID(v).String()}, nil
	}
	return generalName{}, fmt.Errorf("%w: a name of type %#x", errExtension, tag)
}

// IsHostName says whether s can stand as a DNS name in a certificate.
func IsHostName(s string) bool { return checkDNSName(s) == nil && strings.Contains(s, ".") }

// checkDNSName takes the preferred name syntax of RFC 1034 3.5 with
// underscores, and one "*" as the whole leftmost label (RFC 6125 6.4.3).
func checkDNSName(s string) error {
	bad := func(why string) error { return fmt.Errorf("%w: DNS name %q %s", errExtension, Escape(s), why) }
	if len(s) > 253 {
		return bad("is longer than 253 octets")
	}
	labels := strings.Split(s, ".")
	for i, l := range labels {
		if l == "*" && i == 0 && len(labels) > 2 {
			continue
		}
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return bad("has a bad label")
		}
		for _, c := range []byte(l) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return bad("holds a character that no host name has; write internationalised names as xn--…")
			}
		}
	}
	return nil
}

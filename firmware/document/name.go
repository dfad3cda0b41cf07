package document

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Name is the plain distinguished name of a certificate that this system makes
// itself: one attribute to a level, empty ones left out, in this order.
type Name struct {
	Country            string // two letters
	Organization       string
	OrganizationalUnit string
	Title              string
	SerialNumber       string
	UserID             string
	CommonName         string
}

var (
	oidCountry      = mustOID("2.5.4.6")
	oidOrganization = mustOID("2.5.4.10")
	oidUnit         = mustOID("2.5.4.11")
	oidTitle        = mustOID("2.5.4.12")
	oidSerialNumber = mustOID("2.5.4.5")
	oidUserID       = mustOID("0.9.2342.19200300.100.1.1")
)

// OIDCommonName identifies the common name, X.520.
var OIDCommonName = mustOID("2.5.4.3")

// attributeNames: RFC 4514, RFC 5280 appendix A, CA/Browser Forum EV.
var attributeNames = map[OID]string{
	OIDCommonName:                         "common name",
	mustOID("2.5.4.4"):                    "surname",
	oidSerialNumber:                       "serial number",
	oidCountry:                            "country",
	mustOID("2.5.4.7"):                    "locality",
	mustOID("2.5.4.8"):                    "state or province",
	mustOID("2.5.4.9"):                    "street",
	oidOrganization:                       "organization",
	oidUnit:                               "organizational unit",
	oidTitle:                              "title",
	mustOID("2.5.4.13"):                   "description",
	mustOID("2.5.4.15"):                   "business category",
	mustOID("2.5.4.17"):                   "postal code",
	mustOID("2.5.4.42"):                   "given name",
	mustOID("2.5.4.43"):                   "initials",
	mustOID("2.5.4.44"):                   "generation",
	mustOID("2.5.4.46"):                   "dn qualifier",
	mustOID("2.5.4.65"):                   "pseudonym",
	mustOID("2.5.4.97"):                   "organization identifier",
	oidUserID:                             "user id",
	mustOID("0.9.2342.19200300.100.1.25"): "domain component",
	mustOID("1.2.840.113549.1.9.1"):       "e-mail address",
	mustOID("1.3.6.1.4.1.311.60.2.1.1"):   "jurisdiction locality",
	mustOID("1.3.6.1.4.1.311.60.2.1.2"):   "jurisdiction state",
	mustOID("1.3.6.1.4.1.311.60.2.1.3"):   "jurisdiction country",
}

// Marshal encodes n as an RDNSequence, RFC 5280 4.1.2.4: UTF8String, but for
// country and serial number, which must be PrintableString.
func (n Name) Marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, a := range []struct {
			oid   OID
			tag   asn1.Tag
			value string
		}{
			{oidCountry, asn1.PrintableString, n.Country},
			{oidOrganization, asn1.UTF8String, n.Organization},
			{oidUnit, asn1.UTF8String, n.OrganizationalUnit},
			{oidTitle, asn1.UTF8String, n.Title},
			{oidSerialNumber, asn1.PrintableString, n.SerialNumber},
			{oidUserID, asn1.UTF8String, n.UserID},
			{OIDCommonName, asn1.UTF8String, n.CommonName},
		} {
			if a.value == "" {
				continue
			}
			b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					addOID(b, a.oid)
					b.AddASN1(a.tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(a.value)) })
				})
			})
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("cannot encode a name: %w", err)
	}
	if _, err := parseName(der); err != nil {
		return nil, fmt.Errorf("cannot encode a name: %w", err)
	}
	return der, nil
}

// attribute is one attribute of a distinguished name; joined says that it
// stands in one level with the attribute before.
type attribute struct {
	id     OID
	value  string
	joined bool
}

func (a attribute) label() string {
	if name, ok := attributeNames[a.id]; ok {
		return name
	}
	return a.id.String()
}

// parseName reads an RDNSequence in DER. It takes the string types of RFC 5280
// that have one reading: PrintableString, UTF8String, IA5String.
func parseName(der []byte) ([]attribute, error) {
	if err := checkDER(der); err != nil {
		return nil, err
	}
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) {
		return nil, errors.New("a name is not a SEQUENCE")
	}
	var out []attribute
	for !seq.Empty() {
		var set cryptobyte.String
		if !seq.ReadASN1(&set, asn1.SET) || set.Empty() {
			return nil, errors.New("a level of a name is not a SET, or empty")
		}
		for joined := false; !set.Empty(); joined = true {
			var pair, id, value cryptobyte.String
			var tag asn1.Tag
			if !set.ReadASN1(&pair, asn1.SEQUENCE) || !pair.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) ||
				!pair.ReadAnyASN1(&value, &tag) || !pair.Empty() {
				return nil, errors.New("an attribute of a name is not a pair")
			}
			a := attribute{id: OID(id), value: string(value), joined: joined}
			switch tag {
			case asn1.PrintableString, asn1.UTF8String, asn1.IA5String:
			default:
				return nil, fmt.Errorf("attribute %s of a name is of string type %d: use UTF8String (openssl req -utf8)", a.label(), tag)
			}
			if len(value) == 0 || len(value) > maxAttribute || !utf8.Valid(value) {
				return nil, fmt.Errorf("attribute %s of a name is empty or longer than %d octets", a.label(), maxAttribute)
			}
			if bytes.IndexByte(value, 0) >= 0 {
				// Readers that use C strings would stop here and see another name.
				return nil, fmt.Errorf("attribute %s of a name holds a NUL", a.label())
			}
			if out = append(out, a); len(out) > maxRDNs {
				return nil, fmt.Errorf("a name of more than %d attributes", maxRDNs)
			}
		}
	}
	return out, nil
}

// oneLine writes a name on one line, most significant part first, escaped.
func oneLine(name []attribute) string {
	if len(name) == 0 {
		return "(empty)"
	}
	var b strings.Builder
	for i, a := range name {
		switch {
		case a.joined:
			b.WriteString(" + ")
		case i > 0:
			b.WriteString(", ")
		}
		// A comma or plus inside a value must not look like the next attribute.
		value := strings.NewReplacer(",", `\,`, "+", `\+`, "=", `\=`).Replace(Escape(a.value))
		b.WriteString(a.label() + "=" + value)
	}
	return b.String()
}

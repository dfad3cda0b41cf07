package document

import (
	"bytes"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// ASN.1 string types that cryptobyte does not name.
const (
	tagNumericString   = asn1.Tag(18)
	tagVisibleString   = asn1.Tag(26)
	tagUniversalString = asn1.Tag(28)
	tagBMPString       = asn1.Tag(30)
	tagRelativeOID     = asn1.Tag(13)
)

func context(n uint8) asn1.Tag            { return asn1.Tag(n).ContextSpecific() }
func contextConstructed(n uint8) asn1.Tag { return asn1.Tag(n).ContextSpecific().Constructed() }

var errNotDER = errors.New("not DER")

// checkDER walks der, which must be exactly one element, and refuses whatever
// BER allows and DER does not (X.690 10 and 11): two readers must never see two
// different documents in the bytes that are signed. cryptobyte already insists
// on definite, minimal lengths and single-octet tags.
func checkDER(der []byte) error {
	in := cryptobyte.String(der)
	if err := checkElement(&in, 0); err != nil {
		return err
	}
	if !in.Empty() {
		return fmt.Errorf("%w: %d octets follow the value", errNotDER, len(in))
	}
	return nil
}

func checkElement(in *cryptobyte.String, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: nested deeper than %d", errNotDER, maxDepth)
	}
	var body cryptobyte.String
	var tag asn1.Tag
	if !in.ReadAnyASN1(&body, &tag) {
		return fmt.Errorf("%w: a length is cut short, indefinite or not minimal", errNotDER)
	}
	const constructed = 0x20
	if tag&0xc0 == 0 && tag&constructed != 0 && tag != asn1.SEQUENCE && tag != asn1.SET {
		return fmt.Errorf("%w: constructed encoding of universal type %d", errNotDER, tag&0x1f)
	}
	if tag&constructed != 0 {
		var previous []byte
		for !body.Empty() {
			before := body
			if err := checkElement(&body, depth+1); err != nil {
				return err
			}
			element := before[:len(before)-len(body)]
			// X.690 11.6: the elements of a SET OF stand in ascending order. Encodings
			// are prefix-free, so its padding rule never decides.
			if tag == asn1.SET && bytes.Compare(previous, element) > 0 {
				return fmt.Errorf("%w: the elements of a set are out of order", errNotDER)
			}
			previous = element
		}
		return nil
	}
	if tag&0xc0 != 0 {
		return nil // implicit tags: their reader knows the type
	}
	return checkPrimitive(tag, body)
}

func checkPrimitive(tag asn1.Tag, v []byte) error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", errNotDER, what) }
	switch tag {
	case asn1.BOOLEAN:
		if len(v) != 1 || v[0] != 0 && v[0] != 0xff {
			return bad("a boolean is neither 00 nor FF")
		}
	case asn1.INTEGER, asn1.ENUM:
		if !minimalInteger(v) {
			return bad("an integer is not in its shortest form")
		}
	case asn1.BIT_STRING:
		if len(v) == 0 || v[0] > 7 || len(v) == 1 && v[0] != 0 || v[len(v)-1]&(1<<v[0]-1) != 0 && v[0] > 0 {
			return bad("the unused bits of a bit string are not zero")
		}
	case asn1.NULL:
		if len(v) != 0 {
			return bad("a null has content")
		}
	case asn1.OBJECT_IDENTIFIER:
		if !validOID(v) {
			return bad("an object identifier is not in its shortest form")
		}
	case asn1.UTF8String:
		if !utf8.Valid(v) {
			return bad("a UTF8String is not UTF-8")
		}
	case asn1.PrintableString:
		for _, c := range v {
			if !printable(c) {
				return bad("a PrintableString holds an octet outside its alphabet")
			}
		}
	case asn1.IA5String, tagVisibleString, tagNumericString:
		for _, c := range v {
			if c >= 0x80 {
				return bad("an ASCII string holds an octet above 7F")
			}
		}
	case asn1.UTCTime:
		if _, err := parseTime(tag, v); err != nil {
			return err
		}
	case asn1.GeneralizedTime:
		if _, err := parseTime(tag, v); err != nil {
			return err
		}
	case asn1.OCTET_STRING, asn1.T61String, tagBMPString, tagUniversalString, tagRelativeOID, asn1.GeneralString:
	default:
		return bad(fmt.Sprintf("universal type %d does not belong in a certificate", tag))
	}
	return nil
}

func minimalInteger(v []byte) bool {
	if len(v) == 0 {
		return false
	}
	return len(v) == 1 || !(v[0] == 0 && v[1]&0x80 == 0 || v[0] == 0xff && v[1]&0x80 != 0)
}

// printable is the alphabet of PrintableString, X.680 41.4.
func printable(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		bytes.IndexByte([]byte(" '()+,-./:=?"), c) >= 0
}

const (
	utcLayout         = "060102150405Z"
	generalizedLayout = "20060102150405Z"
)

// parseTime reads the only two forms RFC 5280 4.1.2.5 allows: seconds present,
// no fraction, Zulu. Years until 2049 are UTCTime, later ones GeneralizedTime;
// that rule is checked by encoding again. The result is Unix seconds.
func parseTime(tag asn1.Tag, v []byte) (int64, error) {
	layout := utcLayout
	if tag == asn1.GeneralizedTime {
		layout = generalizedLayout
	}
	t, err := time.Parse(layout, string(v))
	if err != nil || t.Format(layout) != string(v) {
		return 0, fmt.Errorf("%w: a time is not written as %s", errNotDER, layout)
	}
	// time.Parse takes years 69–99 as the 1900s; RFC 5280 draws the line at 50.
	if tag == asn1.UTCTime && t.Year() >= 2050 {
		t = t.AddDate(-100, 0, 0)
	}
	return t.Unix(), nil
}

func addTime(b *cryptobyte.Builder, unix int64) {
	t := time.Unix(unix, 0).UTC()
	tag, layout := asn1.GeneralizedTime, generalizedLayout
	if y := t.Year(); 1950 <= y && y < 2050 {
		tag, layout = asn1.UTCTime, utcLayout
	}
	if y := t.Year(); y < 0 || y > 9999 {
		b.SetError(fmt.Errorf("the year %d cannot be written in a certificate", y))
		return
	}
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(t.Format(layout))) })
}

// readElement reads one value with its header.
func readElement(in *cryptobyte.String, tag asn1.Tag) (element []byte, ok bool) {
	var e cryptobyte.String
	if !in.ReadASN1Element(&e, tag) {
		return nil, false
	}
	return e, true
}

package document

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// ErrMalformed: the bytes are not a TBSCertificate of X.509 version 3 in DER.
var ErrMalformed = errors.New("not a TBSCertificate in DER")

// TBS is a TBSCertificate, RFC 5280 4.1, version 3 without unique identifiers.
// It is both what ParseTBS reads and what Marshal writes.
type TBS struct {
	Serial              []byte // content octets of the INTEGER, big-endian, signed
	Algorithm           []byte // AlgorithmIdentifier, DER
	Issuer              []byte // Name, DER
	NotBefore, NotAfter int64  // Unix seconds; both are part of the validity
	Subject             []byte // Name, DER
	SPKI                []byte // SubjectPublicKeyInfo, DER
	Extensions          []Extension
}

// Extension is one X.509 extension; Value is the content of its OCTET STRING.
type Extension struct {
	ID       OID
	Critical bool
	Value    []byte
}

// ParseTBS reads a TBSCertificate. It accepts one encoding only: what it read
// is encoded again and compared, names and key are walked for DER. Errors wrap
// ErrMalformed.
func ParseTBS(der []byte) (*TBS, error) {
	if len(der) > maxTBS {
		return nil, fmt.Errorf("%w: %d octets, more than %d", ErrMalformed, len(der), maxTBS)
	}
	t, err := parseTBS(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	again, err := t.Marshal()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !bytes.Equal(again, der) {
		return nil, fmt.Errorf("%w: encoding it again gives other octets", ErrMalformed)
	}
	return t, nil
}

func parseTBS(der []byte) (*TBS, error) {
	in := cryptobyte.String(der)
	var body cryptobyte.String
	if !in.ReadASN1(&body, asn1.SEQUENCE) {
		return nil, errors.New("no SEQUENCE")
	}
	if !in.Empty() {
		return nil, fmt.Errorf("%d octets follow it", len(in))
	}
	var t TBS
	var version cryptobyte.String
	var v int
	if !body.ReadASN1(&version, contextConstructed(0)) || !version.ReadASN1Integer(&v) || !version.Empty() || v != 2 {
		return nil, errors.New("it is not of version 3")
	}
	var serial cryptobyte.String
	if !body.ReadASN1(&serial, asn1.INTEGER) || !minimalInteger(serial) {
		return nil, errors.New("bad serial number")
	}
	t.Serial = bytes.Clone(serial)
	var ok bool
	if t.Algorithm, ok = readElement(&body, asn1.SEQUENCE); !ok {
		return nil, errors.New("bad signature algorithm")
	}
	if t.Issuer, ok = readElement(&body, asn1.SEQUENCE); !ok {
		return nil, errors.New("bad issuer")
	}
	var validity cryptobyte.String
	if !body.ReadASN1(&validity, asn1.SEQUENCE) {
		return nil, errors.New("bad validity")
	}
	for _, at := range []*int64{&t.NotBefore, &t.NotAfter} {
		var when cryptobyte.String
		var tag asn1.Tag
		if !validity.ReadAnyASN1(&when, &tag) || tag != asn1.UTCTime && tag != asn1.GeneralizedTime {
			return nil, errors.New("bad validity")
		}
		unix, err := parseTime(tag, when)
		if err != nil {
			return nil, fmt.Errorf("bad validity: %w", err)
		}
		*at = unix
	}
	if !validity.Empty() {
		return nil, errors.New("bad validity: more than two times")
	}
	if t.Subject, ok = readElement(&body, asn1.SEQUENCE); !ok {
		return nil, errors.New("bad subject")
	}
	if t.SPKI, ok = readElement(&body, asn1.SEQUENCE); !ok {
		return nil, errors.New("bad public key")
	}
	if body.PeekASN1Tag(context(1)) || body.PeekASN1Tag(context(2)) {
		return nil, errors.New("unique identifiers are not supported (RFC 5280 4.1.2.8)")
	}
	for _, part := range []struct {
		name string
		der  []byte
	}{{"signature algorithm", t.Algorithm}, {"issuer", t.Issuer}, {"subject", t.Subject}, {"public key", t.SPKI}} {
		if err := checkDER(part.der); err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	if body.Empty() {
		return &t, nil
	}
	var list cryptobyte.String
	if !body.ReadASN1(&list, contextConstructed(3)) || !body.Empty() {
		return nil, errors.New("an unknown field follows the public key")
	}
	var err error
	if t.Extensions, err = parseExtensions(&list); err != nil {
		return nil, err
	}
	return &t, nil
}

// parseExtensions reads the SEQUENCE OF Extension that is all of in.
func parseExtensions(in *cryptobyte.String) ([]Extension, error) {
	var list cryptobyte.String
	if !in.ReadASN1(&list, asn1.SEQUENCE) || !in.Empty() || list.Empty() {
		return nil, errors.New("bad list of extensions")
	}
	var out []Extension
	for !list.Empty() {
		if len(out) == maxExtensions {
			return nil, fmt.Errorf("more than %d extensions", maxExtensions)
		}
		var ext, id, value cryptobyte.String
		e := Extension{}
		if !list.ReadASN1(&ext, asn1.SEQUENCE) || !ext.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) || !validOID(id) {
			return nil, errors.New("bad extension")
		}
		e.ID = OID(id)
		if ext.PeekASN1Tag(asn1.BOOLEAN) && (!ext.ReadASN1Boolean(&e.Critical) || !e.Critical) {
			// X.690 11.5: a value equal to its default is left out.
			return nil, fmt.Errorf("extension %s: bad criticality", e.ID)
		}
		if !ext.ReadASN1(&value, asn1.OCTET_STRING) || !ext.Empty() {
			return nil, fmt.Errorf("extension %s: bad value", e.ID)
		}
		e.Value = bytes.Clone(value)
		out = append(out, e)
	}
	return out, nil
}

// Marshal encodes t in DER. It checks nothing but what would not encode.
func (t *TBS) Marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(contextConstructed(0), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) })
		b.AddASN1(asn1.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(t.Serial) })
		b.AddBytes(t.Algorithm)
		b.AddBytes(t.Issuer)
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addTime(b, t.NotBefore)
			addTime(b, t.NotAfter)
		})
		b.AddBytes(t.Subject)
		b.AddBytes(t.SPKI)
		if len(t.Extensions) == 0 {
			return
		}
		b.AddASN1(contextConstructed(3), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, e := range t.Extensions {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte(e.ID)) })
						if e.Critical {
							b.AddASN1Boolean(true)
						}
						b.AddASN1OctetString(e.Value)
					})
				}
			})
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("cannot encode the certificate: %w", err)
	}
	return der, nil
}

// extension finds an extension by its identifier, or nil.
func (t *TBS) extension(id OID) *Extension {
	for i := range t.Extensions {
		if t.Extensions[i].ID == id {
			return &t.Extensions[i]
		}
	}
	return nil
}

// wrapCertificate makes the Certificate of RFC 5280 4.1 from its three parts.
func wrapCertificate(tbs, algorithm, signature []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(algorithm)
		b.AddASN1BitString(signature)
	})
	return b.Bytes()
}

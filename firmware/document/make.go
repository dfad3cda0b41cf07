package document

import (
	"fmt"
	"io"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Makers of extensions, for roots, identities and the requester's profiles.

// NewSerial reads a serial number from random: 19 octets, positive, 150 bits
// of it random, so that nobody can prepare a collision and no two meet.
func NewSerial(random io.Reader) ([]byte, error) {
	serial := make([]byte, 19)
	if _, err := io.ReadFull(random, serial); err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	serial[0] = serial[0]&0x3f | 0x40
	return serial, nil
}

// KeyUsage makes the key usage extension, critical; bit i as in RFC 5280 4.2.1.3.
func KeyUsage(bits uint16) Extension {
	var octets [2]byte
	last := 0
	for i := range keyUsageBits {
		if bits&(1<<i) != 0 {
			octets[i/8] |= 0x80 >> (i % 8)
			last = i
		}
	}
	// X.690 11.2.2: no trailing zero bits.
	n := last/8 + 1
	value := append([]byte{byte(asn1.BIT_STRING), byte(n + 1), byte(7 - last%8)}, octets[:n]...)
	return Extension{oidKeyUsage, true, value}
}

// SubjectKeyID makes the subject key identifier extension.
func SubjectKeyID(id []byte) Extension {
	return Extension{oidSubjectKeyID, false, mustBuild(func(b *cryptobyte.Builder) { b.AddASN1OctetString(id) })}
}

// AuthorityKeyID makes the authority key identifier extension.
func AuthorityKeyID(id []byte) Extension {
	return Extension{oidAuthorityKeyID, false, mustBuild(func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(context(0), func(b *cryptobyte.Builder) { b.AddBytes(id) })
		})
	})}
}

// EndEntity makes basic constraints that say CA:FALSE, critical.
func EndEntity() Extension { return Extension{oidBasicConstraints, true, []byte{0x30, 0}} }

// ExtKeyUsage makes the extended key usage extension.
func ExtKeyUsage(uses ...OID) Extension {
	return Extension{oidExtKeyUsage, false, mustBuild(func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, u := range uses {
				addOID(b, u)
			}
		})
	})}
}

// uriName makes a subject alternative name of one URI.
func uriName(uri string) Extension {
	return Extension{OIDSubjectAltName, false, mustBuild(func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(context(6), func(b *cryptobyte.Builder) { b.AddBytes([]byte(uri)) })
		})
	})}
}

// mustBuild: the makers above add only what always encodes.
func mustBuild(f cryptobyte.BuilderContinuation) []byte {
	var b cryptobyte.Builder
	f(&b)
	return b.BytesOrPanic()
}

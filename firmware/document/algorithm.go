package document

import (
	"crypto"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/firmware/threshold"
)

var (
	oidRSAPSS = mustOID("1.2.840.113549.1.1.10")
	oidMGF1   = mustOID("1.2.840.113549.1.1.8")
)

// signatureOIDs: RFC 4055 section 5.
var signatureOIDs = map[threshold.Algorithm]OID{
	"RS256": mustOID("1.2.840.113549.1.1.11"),
	"RS384": mustOID("1.2.840.113549.1.1.12"),
	"RS512": mustOID("1.2.840.113549.1.1.13"),
	"PS256": oidRSAPSS,
	"PS384": oidRSAPSS,
	"PS512": oidRSAPSS,
}

// hashOIDs: RFC 4055 section 2.1.
var hashOIDs = map[crypto.Hash]OID{
	crypto.SHA256: mustOID("2.16.840.1.101.3.4.2.1"),
	crypto.SHA384: mustOID("2.16.840.1.101.3.4.2.2"),
	crypto.SHA512: mustOID("2.16.840.1.101.3.4.2.3"),
}

// AlgorithmIdentifier returns the DER AlgorithmIdentifier of alg as it stands
// in a certificate, RFC 4055: for PKCS#1 v1.5 with NULL parameters (section
// 5), for PSS with the hash, MGF1 over the same hash, a salt as long as the
// hash and the default trailer left out (section 3.1). It is the only
// encoding that this package writes or accepts.
func AlgorithmIdentifier(alg threshold.Algorithm) ([]byte, error) {
	oid, ok := signatureOIDs[alg]
	if !ok {
		return nil, fmt.Errorf("%w: %q is unknown", ErrAlgorithm, Escape(string(alg)))
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addOID(b, oid)
		if oid != oidRSAPSS {
			b.AddBytes(asn1.NullBytes)
			return
		}
		hash := func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addOID(b, hashOIDs[alg.Hash()])
				b.AddBytes(asn1.NullBytes) // RFC 4055 2.1: NULL, though readers take both
			})
		}
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(contextConstructed(0), hash)
			b.AddASN1(contextConstructed(1), func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					addOID(b, oidMGF1)
					hash(b)
				})
			})
			b.AddASN1(contextConstructed(2), func(b *cryptobyte.Builder) {
				b.AddASN1Int64(int64(alg.Hash().Size()))
			})
		})
	})
	return b.Bytes()
}

func addOID(b *cryptobyte.Builder, oid OID) {
	b.AddASN1(cbasn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte(oid)) })
}

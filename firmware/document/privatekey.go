package document

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// ErrPrivateKey: officers and message servers see every file, and this one nobody
// should.
var ErrPrivateKey = fmt.Errorf("%w: it is a private key, which nobody but its owner may see", ErrFile)

// checkPrivateKey refuses what somebody took for another file. It is no protection
// from whoever wants a private key signed.
func checkPrivateKey(file []byte) error {
	if what := PrivateKey(file); what != "" {
		return fmt.Errorf("%w (%s): name the file that you mean", ErrPrivateKey, what)
	}
	return nil
}

// PrivateKey says of which form a file is that is a private key and nothing else: PEM
// blocks, also of one that is encrypted, or DER. It is empty for all others: a script
// that has a key in it is a script.
func PrivateKey(file []byte) string {
	if what := privatePEM(file); what != "" {
		return what
	}
	if len(file) <= maxPrivateKey && checkDER(file) == nil {
		return privateDER(file)
	}
	return ""
}

// privatePEM finds a private key in a file that has PEM blocks and nothing else.
func privatePEM(file []byte) string {
	const begin = "-----BEGIN "
	found := ""
	rest := bytes.TrimSpace(file)
	for len(rest) > 0 {
		// pem.Decode passes over text in front of a block.
		if !bytes.HasPrefix(rest, []byte(begin)) {
			return ""
		}
		block, after := pem.Decode(rest)
		if block == nil || bytes.Count(rest[:len(rest)-len(after)], []byte(begin)) != 1 {
			return ""
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			found = "PEM, " + block.Type
		}
		rest = bytes.TrimSpace(after)
	}
	return found
}

// privateDER names the form of a private key. der is one element of DER.
func privateDER(der []byte) string {
	var body cryptobyte.String
	in := cryptobyte.String(der)
	if !in.ReadASN1(&body, asn1.SEQUENCE) {
		return ""
	}
	switch {
	case isPKCS8(body):
		return "PKCS #8"
	case isPKCS1(body):
		return "PKCS #1"
	case isSEC1(body):
		return "SEC 1"
	}
	return ""
}

// keyAlgorithms are those of private keys, by their identifiers in PKCS #8. Other
// things have a number, an algorithm and octets, too.
var keyAlgorithms = map[OID]bool{
	mustOID("1.2.840.113549.1.1.1"):    true, // RSA
	mustOID("1.2.840.113549.1.1.10"):   true, // RSA for PSS
	mustOID("1.2.840.10045.2.1"):       true, // elliptic curves
	mustOID("1.2.840.10040.4.1"):       true, // DSA
	mustOID("1.2.840.113549.1.3.1"):    true, // Diffie-Hellman
	mustOID("1.3.101.110"):             true, // X25519
	mustOID("1.3.101.111"):             true, // X448
	mustOID("1.3.101.112"):             true, // Ed25519
	mustOID("1.3.101.113"):             true, // Ed448
	mustOID("2.16.840.1.101.3.4.3.17"): true, // ML-DSA-44
	mustOID("2.16.840.1.101.3.4.3.18"): true, // ML-DSA-65
	mustOID("2.16.840.1.101.3.4.3.19"): true, // ML-DSA-87
}

// isPKCS8: OneAsymmetricKey, RFC 5958 section 2.
func isPKCS8(s cryptobyte.String) bool {
	var version int
	var algorithm, id cryptobyte.String
	return s.ReadASN1Integer(&version) && (version == 0 || version == 1) &&
		s.ReadASN1(&algorithm, asn1.SEQUENCE) && algorithm.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) && keyAlgorithms[OID(id)] &&
		s.SkipASN1(asn1.OCTET_STRING) && s.SkipOptionalASN1(contextConstructed(0)) &&
		s.SkipOptionalASN1(context(1)) && s.Empty()
}

// isPKCS1: RSAPrivateKey, RFC 8017 appendix A.1.2, of two primes, whose product is
// the modulus.
func isPKCS1(s cryptobyte.String) bool {
	var version int
	if !s.ReadASN1Integer(&version) || version != 0 {
		return false
	}
	var n [8]big.Int // N, e, d, p, q, d mod p-1, d mod q-1, 1/q mod p
	for i := range n {
		if !s.ReadASN1Integer(&n[i]) || n[i].Sign() <= 0 {
			return false
		}
	}
	return s.Empty() && n[0].Cmp(new(big.Int).Mul(&n[3], &n[4])) == 0
}

// isSEC1: ECPrivateKey, RFC 5915 section 3, with the name of its curve.
func isSEC1(s cryptobyte.String) bool {
	var version int
	var curve cryptobyte.String
	return s.ReadASN1Integer(&version) && version == 1 && s.SkipASN1(asn1.OCTET_STRING) &&
		s.ReadASN1(&curve, contextConstructed(0)) && curve.SkipASN1(asn1.OBJECT_IDENTIFIER) && curve.Empty() &&
		s.SkipOptionalASN1(contextConstructed(1)) && s.Empty()
}

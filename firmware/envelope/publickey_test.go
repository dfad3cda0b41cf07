package envelope_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
)

func TestParsePublicKey(t *testing.T) {
	key := newSigner(t)
	spki := marshalSPKI(t, key.Public())
	sign, err := envelope.ParseSigningKey(spki)
	if err != nil || !sign.Equal(key.Public()) {
		t.Fatalf("%v, %v", sign, err)
	}
	agree, err := envelope.ParseAgreementKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	want, err := key.PublicKey.ECDH()
	if err != nil || !agree.Equal(want) {
		t.Fatalf("%v, %v", agree, err)
	}

	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	large, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	altered := func(at int, to byte) []byte {
		b := bytes.Clone(spki)
		b[at] = to
		return b
	}
	// The point at infinity, as SEC 1 section 2.3.3 encodes it, in a structure
	// of the right length: 0x00 and then zeros.
	infinity := append(bytes.Clone(spki[:26]), make([]byte, 65)...)
	for name, tc := range map[string]struct {
		spki []byte
		want string
	}{
		"nothing":            {nil, "missing"},
		"rubbish":            {[]byte("rubbish"), "7 bytes"},
		"P-384":              {marshalSPKI(t, other.Public()), "120 bytes"},
		"RSA":                {marshalSPKI(t, large.Public()), "294 bytes"},
		"a byte more":        {append(bytes.Clone(spki), 0), "92 bytes"},
		"off the curve":      {altered(90, spki[90]^1), "not on curve"},
		"hybrid point":       {altered(26, 6|spki[90]&1), "invalid uncompressed"},
		"secp256k1":          {bytes.Replace(spki, []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}, []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 8}, 1), "x509: "},
		"unused bits of one": {altered(25, 1), ""},
		"infinity":           {infinity, "invalid uncompressed"},
	} {
		for parser, err := range map[string]error{
			"signing":   second(envelope.ParseSigningKey(tc.spki)),
			"agreement": second(envelope.ParseAgreementKey(tc.spki)),
		} {
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %s key: %v", name, parser, err)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

func marshalSPKI(t *testing.T, pub any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

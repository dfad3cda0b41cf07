package client

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/privyseal/privyseal/firmware/document"
)

// checkSecret refuses a file that is a private key before it leaves the machine:
// requests are kept by servers and read by officers.
func checkSecret(name string, file []byte) error {
	kind := privateKey(file)
	if kind == "" {
		return nil
	}
	return fmt.Errorf("%q is a private key (%s), and a request shows it to servers, devices and officers: "+
		"name the file that you mean", document.Escape(name), kind)
}

// privateKey says of which form a file is that holds nothing but keys and
// certificates, a private key among them; it is empty for all others, such as a
// program's source with a key for its tests.
func privateKey(file []byte) string {
	if rest := bytes.TrimSpace(file); bytes.HasPrefix(rest, []byte("-----BEGIN ")) {
		for {
			var b *pem.Block
			if b, rest = pem.Decode(rest); b == nil {
				return ""
			}
			if strings.HasSuffix(b.Type, "PRIVATE KEY") {
				return "PEM, " + b.Type
			}
		}
	}
	if _, err := x509.ParsePKCS8PrivateKey(file); err == nil {
		return "PKCS #8"
	}
	if _, err := x509.ParsePKCS1PrivateKey(file); err == nil {
		return "PKCS #1"
	}
	if _, err := x509.ParseECPrivateKey(file); err == nil {
		return "SEC 1"
	}
	return ""
}

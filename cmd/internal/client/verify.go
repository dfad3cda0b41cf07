package client

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// ErrNotSigned: no algorithm of the key verifies the signature.
var ErrNotSigned = errors.New("the signature does not verify")

// ErrIssuer: no key of the tables issued the certificate. One that came into
// the ledger since may have: take newer entries ([System.Refresh]).
var ErrIssuer = errors.New("its issuer")

// VerifyFile finds the algorithm under which sig, |N| octets, is the key's
// signature of the file. alg "" tries all of the key's.
func VerifyFile(s ledger.State, key string, alg threshold.Algorithm, file io.ReadSeeker, sig []byte) (threshold.Algorithm, error) {
	k, ok := s.Key(key)
	if !ok {
		return "", unknownKey(s, key)
	}
	if k.Family != ledger.FamilyFile {
		return "", fmt.Errorf("key %q signs documents of family %q, not files", k.ID, k.Family)
	}
	if size := k.Public.Bits() / 8; len(sig) != size {
		return "", fmt.Errorf("%w: it has %d octets, one of key %s has %d", ErrNotSigned, len(sig), k.ID, size)
	}
	tried := 0
	for _, a := range k.Algorithms {
		a := threshold.Algorithm(a)
		if alg != "" && a != alg {
			continue
		}
		tried++
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return "", err
		}
		h := a.Hash().New()
		if _, err := io.Copy(h, file); err != nil {
			return "", err
		}
		if threshold.VerifySignature(&k.Public, a, h.Sum(nil), sig) == nil {
			return a, nil
		}
	}
	if tried == 0 {
		return "", fmt.Errorf("key %s does not sign with %q, but with %v", k.ID, document.Escape(string(alg)), k.Algorithms)
	}
	return "", fmt.Errorf("%w: the file was changed, or it is another key's", ErrNotSigned)
}

// VerifyCertificate checks a certificate, DER, against the roots in the
// ledger, and returns the key that signed it. now is compared with its
// validity.
func VerifyCertificate(s ledger.State, der []byte, now int64) (ledger.Key, *x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return ledger.Key{}, nil, fmt.Errorf("the certificate cannot be read: %w", err)
	}
	for _, k := range s.Keys() {
		if len(k.Certificate) == 0 {
			continue
		}
		root, err := x509.ParseCertificate(k.Certificate)
		if err != nil {
			return ledger.Key{}, nil, fmt.Errorf("root of key %s: %w", k.ID, err)
		}
		if !bytes.Equal(cert.RawIssuer, root.RawSubject) {
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(root)
		if err := cert.CheckSignatureFrom(root); err != nil {
			return k, cert, fmt.Errorf("%w under key %s: %w", ErrNotSigned, k.ID, err)
		}
		_, err = cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: unix(now), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		return k, cert, err
	}
	return ledger.Key{}, cert, fmt.Errorf("%w: %w %q is no key of system %q", ErrNotSigned, ErrIssuer, document.Escape(cert.Issuer.String()), s.Name())
}

// ReadCertificates takes certificates as people keep them, PEM or DER, and
// returns DER: all that a file in PEM holds, of which the first must be one.
func ReadCertificates(file []byte) ([][]byte, error) {
	block, rest := pem.Decode(file)
	if block == nil {
		return [][]byte{file}, nil
	}
	if block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("the file holds a %s, not a certificate", document.Escape(block.Type))
	}
	var out [][]byte
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			out = append(out, block.Bytes)
		}
	}
	return out, nil
}

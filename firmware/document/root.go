package document

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// ErrRoot: a root certificate is not the narrow kind this system makes, or not
// the key's.
var ErrRoot = errors.New("bad root certificate")

// Validity is a span of Unix seconds; both ends belong to it.
type Validity struct{ NotBefore, NotAfter int64 }

// RootTBS makes the TBSCertificate of a self-signed root for a key that is
// about to be split (A10): an authority over end entities (path length 0) that
// signs certificates and CRLs. serial is the content of the INTEGER: positive,
// 64 bits to 20 octets.
func RootTBS(name Name, pub *threshold.PublicKey, alg threshold.Algorithm, v Validity, serial []byte) ([]byte, error) {
	subject, err := name.Marshal()
	if err != nil {
		return nil, err
	}
	if name == (Name{}) {
		return nil, fmt.Errorf("%w: it needs a name", ErrRoot)
	}
	return rootTBS(subject, pub, alg, v, serial)
}

func rootTBS(subject []byte, pub *threshold.PublicKey, alg threshold.Algorithm, v Validity, serial []byte) ([]byte, error) {
	algorithm, err := AlgorithmIdentifier(alg)
	if err != nil {
		return nil, err
	}
	spki, err := SPKI(pub)
	if err != nil {
		return nil, err
	}
	if err := checkSerial(serial); err != nil {
		return nil, err
	}
	if v.NotAfter <= v.NotBefore {
		return nil, fmt.Errorf("%w: it ends before it begins", ErrValidity)
	}
	id, err := KeyIdentifier(spki)
	if err != nil {
		return nil, err
	}
	t := &TBS{
		Serial: serial, Algorithm: algorithm, Issuer: subject, NotBefore: v.NotBefore, NotAfter: v.NotAfter, Subject: subject, SPKI: spki,
		Extensions: []Extension{
			{oidBasicConstraints, true, []byte{0x30, 6, 1, 1, 0xff, 2, 1, 0}}, // CA, path length 0
			KeyUsage(KeyUsageCertSign | KeyUsageCRLSign),
			SubjectKeyID(id),
		},
	}
	return t.Marshal()
}

// SignRoot has a whole key sign its own root certificate, before it is split
// (A12, "alternative embodiment"). The serial number comes from rand.
func SignRoot(rand io.Reader, whole *threshold.WholeKey, name Name, alg threshold.Algorithm, v Validity) ([]byte, error) {
	serial, err := NewSerial(rand)
	if err != nil {
		return nil, err
	}
	tbs, err := RootTBS(name, whole.Public(), alg, v, serial)
	if err != nil {
		return nil, err
	}
	checked, err := CheckRoot(tbs, whole.Public(), alg)
	if err != nil {
		return nil, err
	}
	em, err := checked.EncodedMessage(envelope.Hash{}) // a root has no request
	if err != nil {
		return nil, err
	}
	sig, err := whole.SignEncoded(em)
	if err != nil {
		return nil, err
	}
	return checked.Assemble(sig)
}

// CheckRoot checks a TBSCertificate that RootTBS made for pub and readies it
// for signing: Checked gives the encoded message and assembles the certificate.
func CheckRoot(tbs []byte, pub *threshold.PublicKey, alg threshold.Algorithm) (*Checked, error) {
	t, err := checkRootTBS(tbs, pub)
	if err != nil {
		return nil, err
	}
	if want, err := AlgorithmIdentifier(alg); err != nil || !bytes.Equal(want, t.Algorithm) {
		return nil, fmt.Errorf("%w: the root does not say %s", ErrAlgorithm, alg)
	}
	r := &root{tbs: t}
	return newChecked(tbs, alg, pub, "", &content{issuer: r, view: func(v *View) { r.view(v) }})
}

// checkRootTBS makes the TBSCertificate again from its own parts: what is not
// equal to what this system makes is refused, whatever it is.
func checkRootTBS(der []byte, pub *threshold.PublicKey) (*TBS, error) {
	t, err := ParseTBS(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRoot, err)
	}
	if name, err := parseName(t.Subject); err != nil || len(name) == 0 {
		return nil, fmt.Errorf("%w: bad name", ErrRoot)
	}
	for alg := range signatureOIDs {
		again, err := rootTBS(t.Subject, pub, alg, Validity{t.NotBefore, t.NotAfter}, t.Serial)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRoot, err)
		}
		if bytes.Equal(again, der) {
			return t, nil
		}
	}
	return nil, fmt.Errorf("%w: it is not a self-signed root for this key as this system makes them", ErrRoot)
}

// VerifyRoot checks a whole root certificate in DER as devices do before they
// accept a key from the lead: that it is what RootTBS makes for pub, and signed
// by pub itself.
func VerifyRoot(der []byte, pub *threshold.PublicKey) error {
	r, err := readRoot(der, pub)
	if err != nil {
		return err
	}
	_, err = checkRootTBS(r.x509.RawTBSCertificate, pub)
	return err
}

// root is a key's own certificate.
type root struct {
	tbs   *TBS
	keyID []byte
	x509  *x509.Certificate // nil for a root that is still to sign itself
}

// parseRoot reads the root of a key in the ledger.
func parseRoot(der []byte, key *ledger.Key) (*root, error) {
	if len(der) == 0 {
		return nil, fmt.Errorf("%w: key %q has none", ErrRoot, key.ID)
	}
	return readRoot(der, &key.Public)
}

// readRoot checks what issuing relies on: a self-signed authority for this very
// key, with a key identifier.
func readRoot(der []byte, pub *threshold.PublicKey) (*root, error) {
	bad := func(why string) (*root, error) { return nil, fmt.Errorf("%w: %s", ErrRoot, why) }
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return bad(err.Error())
	}
	t, err := ParseTBS(c.RawTBSCertificate)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRoot, err)
	}
	spki, err := SPKI(pub)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRoot, err)
	}
	f, known, err := readExtensions(t.Extensions)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRoot, err)
	}
	for _, e := range t.Extensions {
		if e.Critical && !known(e.ID) {
			return bad("unknown critical extension " + ExtensionLabel(e.ID))
		}
	}
	switch {
	case !bytes.Equal(t.SPKI, spki):
		return bad("it is for another key")
	case !bytes.Equal(t.Subject, t.Issuer):
		return bad("it is not self-signed")
	case f.constraints == nil || !f.constraints.ca || f.keyUsage&KeyUsageCertSign == 0:
		return bad("it is not an authority's")
	case len(f.subjectKey) == 0:
		return bad("it has no subject key identifier")
	}
	if err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRoot, err)
	}
	return &root{tbs: t, keyID: f.subjectKey, x509: c}, nil
}

// saltFor derives the PSS salt of a request: the hash, by the algorithm's own
// hash function, of a domain and the request's digest. Nobody chooses it, and
// all devices find the same one (design §5).
func saltFor(alg threshold.Algorithm, request envelope.Hash) []byte {
	h := alg.Hash().New()
	h.Write([]byte("privyseal/v1 document: PSS salt\x00"))
	h.Write(request[:])
	return h.Sum(nil)
}

package virtual

import (
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"time"
)

// Root is the maker of virtual cards: the certificate authority at the end of
// their attestations.
type Root struct {
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// validity is how long a maker's certificates last: cards carry no clock and
// their attestations expire with the maker's root.
const validity = 20 * 365 * 24 * time.Hour

// NewRoot founds a maker. Its certificates are valid from a day before now.
func NewRoot(rand io.Reader, now time.Time) (*Root, error) {
	k, err := generateKey(rand, P256)
	if err != nil {
		return nil, err
	}
	key := k.(*ecdsa.PrivateKey)
	number, err := certificateNumber(rand)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          number,
		Subject:               pkix.Name{CommonName: fmt.Sprintf("Virtual PIV Root CA %x", number.Bytes()[:4])},
		NotBefore:             now.Add(-24 * time.Hour).UTC().Truncate(time.Second),
		NotAfter:              now.Add(validity).UTC().Truncate(time.Second),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLen:            1,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("virtual: making a root certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Root{Certificate: cert, key: key}, nil
}

// CertificatePEM returns the root certificate, for those who are to trust it.
func (r *Root) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate.Raw})
}

// KeyPEM returns the root's private key in PKCS#8.
func (r *Root) KeyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(r.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ParseRoot reads what CertificatePEM and KeyPEM wrote.
func ParseRoot(certificate, key []byte) (*Root, error) {
	cb, _ := pem.Decode(certificate)
	kb, _ := pem.Decode(key)
	if cb == nil || kb == nil {
		return nil, errors.New("virtual: root certificate or key is not PEM")
	}
	cert, err := x509.ParseCertificate(cb.Bytes)
	if err != nil {
		return nil, fmt.Errorf("virtual: root certificate: %w", err)
	}
	k, err := x509.ParsePKCS8PrivateKey(kb.Bytes)
	if err != nil {
		return nil, fmt.Errorf("virtual: root key: %w", err)
	}
	ec, ok := k.(*ecdsa.PrivateKey)
	if !ok || !ec.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("virtual: root key and certificate do not belong together")
	}
	return &Root{Certificate: cert, key: ec}, nil
}

// Manufacture makes the state of a factory-fresh card: PIN, PUK and management
// key at their defaults, no keys but the attestation key in slot F9 with a
// certificate from the root. Serial numbers are the caller's to keep apart.
func (r *Root) Manufacture(rand io.Reader, p Profile, serial uint32) (*State, error) {
	k, err := generateKey(rand, P256)
	if err != nil {
		return nil, err
	}
	key := k.(*ecdsa.PrivateKey)
	number, err := certificateNumber(rand)
	if err != nil {
		return nil, err
	}
	v := p.Firmware
	template := &x509.Certificate{
		SerialNumber:          number,
		Subject:               pkix.Name{CommonName: "Virtual PIV Attestation"},
		NotBefore:             r.Certificate.NotBefore,
		NotAfter:              r.Certificate.NotAfter,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
		ExtraExtensions:       []pkix.Extension{{Id: oidFirmware, Value: []byte{v.Major, v.Minor, v.Patch}}},
	}
	der, err := x509.CreateCertificate(rand, template, r.Certificate, key.Public(), r.key)
	if err != nil {
		return nil, fmt.Errorf("virtual: certifying an attestation key: %w", err)
	}
	attestation, err := newKey(P256, key, PINNever, TouchNever, OriginGenerated)
	if err != nil {
		return nil, err
	}
	s := &State{
		Encoding: stateEncoding,
		Profile:  p.Name,
		Serial:   serial,
		Keys:     map[string]*Key{slotName(slotAttestation): attestation},
		Objects:  map[string][]byte{objectName(objectAttestation): certificateObject(der)},
	}
	if err := s.reset(rand, p); err != nil {
		return nil, err
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	return s, nil
}

package virtual

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
)

// Extensions of an attestation certificate, under Yubico's arc
// (https://developers.yubico.com/PIV/Introduction/PIV_attestation.html).
var (
	oidFirmware   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 3}
	oidSerial     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 7}
	oidPolicy     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 8}
	oidFormFactor = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 9}
)

// attest is the YubiKey's ATTEST: a certificate, made by the card for the key
// in slot P1, that says that the key was generated in this card and what its
// policies are. It is valid as long as the card's attestation certificate, so
// that the card needs no clock.
func (c *Card) attest(cmd command) ([]byte, uint16) {
	if !keySlot(cmd.p1) || cmd.p2 != 0 || len(cmd.data) != 0 {
		return nil, swWrongParameters
	}
	k, private, sw := c.load(cmd.p1)
	if sw != swOK || k.Origin != OriginGenerated {
		return nil, swWrongData // the YubiKey's answer for "nothing to attest"
	}
	_, issuerKey, sw := c.load(slotAttestation)
	if sw != swOK {
		return nil, swReferenceNotFound
	}
	signer, ok := issuerKey.(crypto.Signer)
	if !ok {
		return nil, swConditionsNotMet // somebody imported an X25519 key there
	}
	issuer, sw := c.attestationCertificate()
	if sw != swOK {
		return nil, sw
	}
	public, err := publicOf(private)
	if err != nil {
		return nil, swMemoryFailure
	}
	if k.Algorithm == X25519 {
		// crypto/x509 makes no certificates for X25519 keys. A YubiKey does.
		return nil, swFunctionNotSupported
	}
	der, err := c.attestation(issuer, signer, cmd.p1, k, public)
	if err != nil {
		return nil, swMemoryFailure
	}
	return der, swOK
}

func (c *Card) attestation(issuer *x509.Certificate, signer crypto.Signer, slot byte, k *Key, public crypto.PublicKey) ([]byte, error) {
	serial, err := asn1.Marshal(int64(c.state.Serial))
	if err != nil {
		return nil, err
	}
	number, err := certificateNumber(c.rand)
	if err != nil {
		return nil, err
	}
	v := c.profile.Firmware
	template := &x509.Certificate{
		SerialNumber: number,
		Subject:      pkix.Name{CommonName: fmt.Sprintf("YubiKey PIV Attestation %02x", slot)},
		NotBefore:    issuer.NotBefore,
		NotAfter:     issuer.NotAfter,
		ExtraExtensions: []pkix.Extension{
			{Id: oidFirmware, Value: []byte{v.Major, v.Minor, v.Patch}},
			{Id: oidSerial, Value: serial},
			{Id: oidPolicy, Value: []byte{k.PIN, k.Touch}},
			{Id: oidFormFactor, Value: []byte{c.profile.FormFactor}},
		},
	}
	return x509.CreateCertificate(c.rand, template, issuer, public, signer)
}

// attestationCertificate reads the certificate of slot F9.
func (c *Card) attestationCertificate() (*x509.Certificate, uint16) {
	fields, err := readTLVs(c.state.Objects[objectName(objectAttestation)])
	if err != nil || fields[tagCertificate] == nil {
		return nil, swReferenceNotFound
	}
	cert, err := x509.ParseCertificate(fields[tagCertificate])
	if err != nil {
		return nil, swReferenceNotFound
	}
	return cert, swOK
}

const tagCertificate = 0x70

// certificateObject wraps a certificate for storage (SP 800-73-4 Part 1,
// appendix A, table 10): uncompressed, no error detection code.
func certificateObject(der []byte) []byte {
	var out []byte
	out = append(out, tlv(tagCertificate, der)...)
	out = append(out, tlv(0x71, []byte{0})...)
	return append(out, tlv(0xfe)...)
}

// certificateNumber draws a positive serial number of 16 bytes.
func certificateNumber(rand io.Reader) (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, fmt.Errorf("virtual: reading entropy: %w", err)
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b), nil
}

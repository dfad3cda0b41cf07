// Package attest checks what a card's manufacturer says of a key: that it was
// made in this card, cannot leave it, and is used only with PIN and touch as
// stated. It is pure: certificates, roots and time are arguments, and it does
// not need a card or PC/SC.
//
// The format is Yubico's: a card with an attestation key in slot F9, certified
// by its maker, certifies each key it made with four private extensions
// (https://developers.yubico.com/PIV/Introduction/PIV_attestation.html).
// Nobody's roots are built in.
package attest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Attestation is what a slot certificate states.
type Attestation struct {
	Serial      uint32           // the card's serial number
	Version     Version          // its firmware
	PINPolicy   PINPolicy        // when the key wants the PIN
	TouchPolicy TouchPolicy      // when the key wants a touch
	Slot        byte             // key reference: 0x9a, 0x9c, 0x9d, 0x9e, or retired 0x82 to 0x95
	PublicKey   *ecdsa.PublicKey // on P-256
	Formfactor  byte             // Yubico's code; 0 if the card does not say
}

// Version is a firmware version.
type Version struct{ Major, Minor, Patch byte }

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// PINPolicy says when a key wants the PIN, in Yubico's numbers.
type PINPolicy byte

const (
	PINNever       PINPolicy = 1
	PINOnce        PINPolicy = 2 // once in a session
	PINAlways      PINPolicy = 3 // before each use
	PINMatchOnce   PINPolicy = 4 // fingerprint or PIN, once
	PINMatchAlways PINPolicy = 5 // fingerprint or PIN, before each use
)

func (p PINPolicy) String() string {
	switch p {
	case PINNever:
		return "never"
	case PINOnce:
		return "once"
	case PINAlways:
		return "always"
	case PINMatchOnce:
		return "match once"
	case PINMatchAlways:
		return "match always"
	}
	return fmt.Sprintf("unknown(%d)", byte(p))
}

// TouchPolicy says when a key wants a touch, in Yubico's numbers.
type TouchPolicy byte

const (
	TouchNever  TouchPolicy = 1
	TouchAlways TouchPolicy = 2
	TouchCached TouchPolicy = 3 // one touch lasts 15 s
)

func (p TouchPolicy) String() string {
	switch p {
	case TouchNever:
		return "never"
	case TouchAlways:
		return "always"
	case TouchCached:
		return "cached"
	}
	return fmt.Sprintf("unknown(%d)", byte(p))
}

var (
	oidVersion    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 3}
	oidSerial     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 7}
	oidPolicy     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 8}
	oidFormfactor = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 9}
)

// subjectPrefix comes before the slot in a slot certificate's common name.
const subjectPrefix = "YubiKey PIV Attestation "

// Verify checks a card's attestation of a key: slotCert is signed by the card's
// own certificate (slot F9), that one leads to roots, and both are valid at
// now.
//
// Roots are the certificates of the makers whose cards are allowed; a nil pool
// is an error, not the system's roots. Makers with certificates between root
// and card put those into roots. The card's certificate must say that it is a
// CA: those of the first YubiKeys 4 do not and are refused, because a slot
// certificate does not say it either and must never certify.
func Verify(roots *x509.CertPool, slotCert, intermediate *x509.Certificate, now time.Time) (*Attestation, error) {
	if roots == nil {
		return nil, errors.New("attestation: no manufacturer's root is configured")
	}
	if slotCert == nil || intermediate == nil {
		return nil, errors.New("attestation: certificate missing")
	}
	// The signature first: its error tells of a certificate of another card.
	if err := slotCert.CheckSignatureFrom(intermediate); err != nil {
		return nil, fmt.Errorf("attestation: the key's certificate is not of this card: %w", err)
	}
	between := x509.NewCertPool()
	between.AddCert(intermediate)
	chains, err := slotCert.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: between,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // the cards set none
	})
	if err != nil {
		return nil, fmt.Errorf("attestation: no approved manufacturer: %w", err)
	}
	through := false
	for _, c := range chains {
		through = through || len(c) > 1 && c[1].Equal(intermediate)
	}
	if !through {
		return nil, errors.New("attestation: the chain does not pass through the card's certificate")
	}
	return Parse(slotCert)
}

// Parse reads the statements of a slot certificate WITHOUT checking who made
// them. Use Verify for anything that is trusted.
func Parse(cert *x509.Certificate) (*Attestation, error) {
	a := new(Attestation)
	if cert.IsCA {
		return nil, errors.New("attestation: the key's certificate is a CA's")
	}
	pub, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, fmt.Errorf("attestation: the key is %T, not on P-256", cert.PublicKey)
	}
	a.PublicKey = pub
	var err error
	if a.Slot, err = parseSlot(cert.Subject.CommonName); err != nil {
		return nil, err
	}
	// x509.ParseCertificate refuses duplicate extensions.
	var version, serial, policy bool
	for _, e := range cert.Extensions {
		switch {
		case e.Id.Equal(oidVersion):
			if len(e.Value) != 3 {
				return nil, fmt.Errorf("attestation: version of %d bytes, not 3", len(e.Value))
			}
			a.Version, version = Version{e.Value[0], e.Value[1], e.Value[2]}, true
		case e.Id.Equal(oidSerial):
			var n int64
			if rest, err := asn1.Unmarshal(e.Value, &n); err != nil || len(rest) != 0 || n < 0 || n > math.MaxUint32 {
				return nil, errors.New("attestation: malformed serial number")
			}
			a.Serial, serial = uint32(n), true
		case e.Id.Equal(oidPolicy):
			if len(e.Value) != 2 {
				return nil, fmt.Errorf("attestation: key policy of %d bytes, not 2", len(e.Value))
			}
			a.PINPolicy, a.TouchPolicy, policy = PINPolicy(e.Value[0]), TouchPolicy(e.Value[1]), true
			if a.PINPolicy < PINNever || a.PINPolicy > PINMatchAlways {
				return nil, fmt.Errorf("attestation: unknown PIN policy %d", e.Value[0])
			}
			if a.TouchPolicy < TouchNever || a.TouchPolicy > TouchCached {
				return nil, fmt.Errorf("attestation: unknown touch policy %d", e.Value[1])
			}
		case e.Id.Equal(oidFormfactor):
			if len(e.Value) != 1 {
				return nil, fmt.Errorf("attestation: form factor of %d bytes, not 1", len(e.Value))
			}
			a.Formfactor = e.Value[0]
		}
	}
	// Left out is not zero: without these there is no statement.
	switch {
	case !version:
		return nil, errors.New("attestation: no firmware version")
	case !serial:
		return nil, errors.New("attestation: no serial number")
	case !policy:
		return nil, errors.New("attestation: no key policy")
	}
	return a, nil
}

func parseSlot(commonName string) (byte, error) {
	hex, ok := strings.CutPrefix(commonName, subjectPrefix)
	n, err := strconv.ParseUint(hex, 16, 8)
	if !ok || err != nil || len(hex) != 2 {
		return 0, fmt.Errorf("attestation: the subject %q names no slot", commonName)
	}
	slot := byte(n)
	switch {
	case slot == 0x9a, slot >= 0x9c && slot <= 0x9e, slot >= 0x82 && slot <= 0x95:
		return slot, nil
	}
	return 0, fmt.Errorf("attestation: unknown slot %02x", slot)
}

// CheckPair checks that two verified attestations are the two keys of one
// officer's card: 9C with the PIN before each signature, 9D with the PIN at
// least once, same card.
func CheckPair(sign, agree *Attestation) error {
	switch {
	case sign.Slot != 0x9c:
		return fmt.Errorf("attestation: the signature key is in slot %02X, not 9C", sign.Slot)
	case agree.Slot != 0x9d:
		return fmt.Errorf("attestation: the agreement key is in slot %02X, not 9D", agree.Slot)
	case sign.Serial != agree.Serial:
		return fmt.Errorf("attestation: two cards, %d and %d", sign.Serial, agree.Serial)
	case sign.Version != agree.Version:
		return fmt.Errorf("attestation: two firmware versions, %v and %v, on one card", sign.Version, agree.Version)
	case sign.PINPolicy != PINAlways && sign.PINPolicy != PINMatchAlways:
		return fmt.Errorf("attestation: the signature key wants the PIN %v, not always", sign.PINPolicy)
	case agree.PINPolicy == PINNever:
		return errors.New("attestation: the agreement key wants no PIN")
	case sign.PublicKey.Equal(agree.PublicKey):
		return errors.New("attestation: one key in two slots")
	}
	return nil
}

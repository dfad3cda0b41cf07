package card

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/go-piv/piv-go/v2/piv"
	"github.com/privyseal/privyseal/firmware/attest"
)

// Enrolment says how a card is prepared for an officer.
type Enrolment struct {
	ManagementKey []byte             // 16, 24 or 32 bytes, as the card has it
	Touch         attest.TouchPolicy // of the signature key; 0 means never
	Overwrite     bool               // replace keys that are there; what was sealed to them is lost
	Name          string             // for the certificates on the card; may be empty
	Now           time.Time          // start of their validity
}

// Enrolled is what a prepared card is registered with. Certificates are not yet
// verified.
type Enrolled struct {
	Serial       uint32
	Version      Version
	Sign         *ecdsa.PublicKey
	Agree        *ecdh.PublicKey
	AttestSign   *x509.Certificate // attestation of 9C
	AttestAgree  *x509.Certificate // attestation of 9D
	Intermediate *x509.Certificate // the card's own (F9)
}

// placeholderValidity is that of the certificates Enrol writes. They carry no
// trust; a short life would only trouble other programs.
const placeholderValidity = 20 * 365 * 24 * time.Hour

// Enrol prepares a card: it makes a P-256 key in 9C (PIN always, touch as
// asked) and one in 9D (PIN once, touch never), puts a certificate beside each
// and returns the public keys with their attestations. It leaves PIN, PUK and
// management key alone: see ChangePIN.
//
// The certificates are placeholders, signed by a key that is thrown away, for
// programs that do not see a key without one.
//
// A key or certificate that is there gives a *KeyExistsError, before anything
// is changed, unless Overwrite is set. If the card goes away half-way, it holds
// one new key, and Enrol is repeated with Overwrite.
func (c *Card) Enrol(ctx context.Context, e Enrolment) (*Enrolled, error) {
	if e.Now.IsZero() {
		return nil, errors.New("enrolment needs the time")
	}
	touch := piv.TouchPolicyNever
	switch e.Touch {
	case 0, attest.TouchNever:
	case attest.TouchAlways:
		touch = piv.TouchPolicyAlways
	case attest.TouchCached:
		touch = piv.TouchPolicyCached
	default:
		return nil, fmt.Errorf("unknown touch policy %d", e.Touch)
	}
	e.ManagementKey = append([]byte(nil), e.ManagementKey...)
	if err := c.take(ctx); err != nil {
		return nil, err
	}
	defer c.give()
	if !e.Overwrite {
		for _, slot := range []Slot{SlotSign, SlotAgree} {
			if _, err := exchange(ctx, c, func(yk *piv.YubiKey) (struct{}, error) {
				return struct{}{}, c.mustBeEmpty(yk, slot)
			}); err != nil {
				return nil, err
			}
		}
	}
	out := &Enrolled{Serial: c.serial, Version: c.version}
	sign, err := c.generate(ctx, e, SlotSign, piv.Key{Algorithm: piv.AlgorithmEC256, PINPolicy: piv.PINPolicyAlways, TouchPolicy: touch})
	if err != nil {
		return nil, err
	}
	agree, err := c.generate(ctx, e, SlotAgree, piv.Key{Algorithm: piv.AlgorithmEC256, PINPolicy: piv.PINPolicyOnce, TouchPolicy: piv.TouchPolicyNever})
	if err != nil {
		return nil, err
	}
	out.Sign = sign.public
	if out.Agree, err = agree.public.ECDH(); err != nil {
		return nil, err
	}
	out.AttestSign, out.AttestAgree, out.Intermediate = sign.attested.slot, agree.attested.slot, sign.attested.card
	return out, nil
}

// mustBeEmpty refuses a slot with a key or a certificate. A slot that cannot be
// read counts as full.
func (c *Card) mustBeEmpty(yk *piv.YubiKey, slot Slot) error {
	if err := c.same(yk); err != nil {
		return err
	}
	_, err := c.readKey(yk, slot)
	if !errors.Is(err, ErrNoKey(slot)) {
		if fatal(err) {
			return err
		}
		return &KeyExistsError{c.serial, slot}
	}
	// Before version 5.3 an imported key shows only by its certificate.
	_, err = yk.Certificate(slot.piv())
	switch {
	case err == nil:
		return &KeyExistsError{c.serial, slot}
	case absent(err):
		return nil
	}
	return c.suspect(yk, err)
}

// made is a new key.
type made struct {
	public   *ecdsa.PublicKey
	attested attested
}

// generate makes a key, its certificate and its attestation, each an exchange
// of its own: the card computes for a while.
func (c *Card) generate(ctx context.Context, e Enrolment, slot Slot, policy piv.Key) (made, error) {
	m, err := exchange(ctx, c, func(yk *piv.YubiKey) (made, error) {
		if err := c.same(yk); err != nil {
			return made{}, err
		}
		pub, err := yk.GenerateKey(e.ManagementKey, slot.piv(), policy)
		if err != nil {
			return made{}, c.managementRefused(yk, err)
		}
		ec, ok := pub.(*ecdsa.PublicKey)
		if !ok || ec.Curve != elliptic.P256() {
			return made{}, &KeyTypeError{c.serial, slot, fmt.Sprintf("%T", pub)}
		}
		return made{public: ec}, nil
	})
	if err != nil {
		return m, fmt.Errorf("making the key in slot %v: %w", slot, err)
	}
	cert, err := placeholder(e, c.serial, slot, m.public)
	if err != nil {
		return m, fmt.Errorf("making a certificate for slot %v: %w", slot, err)
	}
	if _, err := exchange(ctx, c, func(yk *piv.YubiKey) (struct{}, error) {
		return struct{}{}, yk.SetCertificate(e.ManagementKey, slot.piv(), cert)
	}); err != nil {
		return m, fmt.Errorf("writing the certificate of slot %v: %w", slot, err)
	}
	m.attested, err = exchange(ctx, c, func(yk *piv.YubiKey) (attested, error) { return c.attest(yk, slot) })
	if err != nil {
		return m, err
	}
	if !m.public.Equal(m.attested.slot.PublicKey) {
		return m, fmt.Errorf("%w: it attests another key in slot %v than it made", ErrSwapped, slot)
	}
	return m, nil
}

// managementRefused tells a wrong management key from other refusals.
func (c *Card) managementRefused(yk *piv.YubiKey, err error) error {
	text := err.Error()
	switch sw := statusWord(err); {
	case strings.Contains(text, "invalid management key length"), strings.Contains(text, "challenge failed"),
		strings.Contains(text, "authenticating with management key") && (sw == swSecurityStatus || sw == swWrongData || sw&0xff00 == swVerifyFailed):
		return fmt.Errorf("%w: %w", ErrManagementKey, err)
	}
	return c.suspect(yk, err)
}

// placeholder makes a certificate that nobody can trust: its issuer's key is
// thrown away.
func placeholder(e Enrolment, serial uint32, slot Slot, pub *ecdsa.PublicKey) (*x509.Certificate, error) {
	issuer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	name := e.Name
	if name == "" {
		name = fmt.Sprintf("card %d", serial)
	}
	usage := x509.KeyUsageDigitalSignature
	if slot == SlotAgree {
		usage = x509.KeyUsageKeyAgreement
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(int64(serial)<<8 | int64(slot)),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    e.Now,
		NotAfter:     e.Now.Add(placeholderValidity),
		KeyUsage:     usage,
	}
	parent := &x509.Certificate{Subject: pkix.Name{CommonName: "Placeholder without authority"}}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, issuer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// ChangePIN replaces the PIN. Both slices are wiped. A wrong old PIN is a
// *PINError and costs a try.
func (c *Card) ChangePIN(ctx context.Context, oldPIN, newPIN []byte) error {
	return c.changePIN(ctx, oldPIN, newPIN, false)
}

// Unblock sets a new PIN with the PUK. Both slices are wiped. A wrong PUK is a
// *PINError with PUK set and costs one of the PUK's tries; after the last one
// the error is ErrPUKBlocked.
func (c *Card) Unblock(ctx context.Context, puk, newPIN []byte) error {
	return c.changePIN(ctx, puk, newPIN, true)
}

func (c *Card) changePIN(ctx context.Context, auth, pin []byte, puk bool) error {
	if len(pin) < minPIN || len(pin) > maxPIN || len(auth) < minPIN || len(auth) > maxPIN {
		clear(auth)
		clear(pin)
		return ErrPINLength
	}
	if err := c.take(ctx); err != nil {
		clear(auth)
		clear(pin)
		return err
	}
	defer c.give()
	// Copies: an abandoned call may outlive the caller's slices.
	a, p := append([]byte(nil), auth...), append([]byte(nil), pin...)
	clear(auth)
	clear(pin)
	_, err := exchange(ctx, c, func(yk *piv.YubiKey) (struct{}, error) {
		defer clear(a)
		defer clear(p)
		if err := c.same(yk); err != nil {
			return struct{}{}, err
		}
		var err error
		if puk {
			err = yk.Unblock(string(a), string(p))
		} else {
			err = yk.SetPIN(string(a), string(p))
		}
		if err != nil {
			return struct{}{}, c.pinRefused(yk, a, puk, err)
		}
		c.refused = [32]byte{}
		return struct{}{}, nil
	})
	return err
}

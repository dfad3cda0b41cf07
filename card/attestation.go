package card

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/go-piv/piv-go/v2/piv"
	"github.com/privyseal/privyseal/firmware/attest"
)

// Attest has the card certify the key in a slot. It returns the certificate
// made for the slot and the card's own certificate (slot F9), made by its
// manufacturer. Nothing is verified here; see VerifyAttestation. A key that was
// imported cannot be attested and gives ErrNoKey.
func (c *Card) Attest(ctx context.Context, slot Slot) (slotCert, intermediate *x509.Certificate, err error) {
	if err := c.take(ctx); err != nil {
		return nil, nil, err
	}
	defer c.give()
	pair, err := exchange(ctx, c, func(yk *piv.YubiKey) (attested, error) { return c.attest(yk, slot) })
	return pair.slot, pair.card, err
}

// attested are the two certificates of an attestation.
type attested struct{ slot, card *x509.Certificate }

func (c *Card) attest(yk *piv.YubiKey, slot Slot) (attested, error) {
	var a attested
	var err error
	if err = c.same(yk); err != nil {
		return a, err
	}
	if a.slot, err = yk.Attest(slot.piv()); err != nil {
		err = c.suspect(yk, err)
		if !errors.Is(err, ErrSwapped) && absent(err) {
			return a, &NoKeyError{c.serial, slot}
		}
		return a, fmt.Errorf("attesting slot %v: %w", slot, err)
	}
	if a.card, err = yk.AttestationCertificate(); err != nil {
		return a, fmt.Errorf("reading the card's certificate: %w", c.suspect(yk, err))
	}
	return a, nil
}

// VerifyAttestation checks an attestation against the manufacturers' roots that
// are allowed. It is attest.Verify.
func VerifyAttestation(roots *x509.CertPool, slotCert, intermediate *x509.Certificate, now time.Time) (*attest.Attestation, error) {
	return attest.Verify(roots, slotCert, intermediate, now)
}

package ceremony

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// VerifiedOpen is an opening whose signature is that of the administrator's
// card, and whose card is the one that the plan names.
type VerifiedOpen struct {
	open   Open
	digest envelope.Hash
	raw    []byte
	desk   *ecdsa.PublicKey
	agree  *ecdh.PublicKey
	admin  *ecdsa.PublicKey
}

// Digest identifies the opening.
func (o *VerifiedOpen) Digest() envelope.Hash { return o.digest }

// Plan is what was reviewed.
func (o *VerifiedOpen) Plan() *Plan { return &o.open.Plan }

// Attempt counts from 1.
func (o *VerifiedOpen) Attempt() uint64 { return o.open.Attempt }

// Desk is the signature key that speaks for the administrator.
func (o *VerifiedOpen) Desk() *ecdsa.PublicKey { return o.desk }

// DeskAgree is the key that answers are sealed to.
func (o *VerifiedOpen) DeskAgree() *ecdh.PublicKey { return o.agree }

// NotAfter is when the administrator's word ends.
func (o *VerifiedOpen) NotAfter() int64 { return o.open.NotAfter }

// VerifyOpen checks an opening: the plan holds together, the administrator's
// card is the plan's and its attestation chains to one of the plan's roots,
// and the time is within its life.
func VerifyOpen(raw []byte, now int64) (*VerifiedOpen, error) {
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("ceremony: opening: %w", err)
	}
	// The key that signs is inside what it signs; what makes it the
	// administrator's is the attestation of the card that the plan names.
	var claimed Open
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &claimed); err != nil {
		return nil, fmt.Errorf("ceremony: opening: %w", err)
	}
	admin, err := envelope.ParseSigningKey(claimed.Administrator.Sign)
	if err != nil {
		return nil, fmt.Errorf("ceremony: administrator's card: %w", err)
	}
	v, err := u.Verify(admin)
	if err != nil {
		return nil, fmt.Errorf("ceremony: opening: %w", err)
	}
	o := &VerifiedOpen{digest: v.Digest(), raw: raw, admin: admin}
	if err := envelope.Decode(v, TypeOpen, MessageVersion, &o.open); err != nil {
		return nil, fmt.Errorf("ceremony: opening: %w", err)
	}
	p := &o.open.Plan
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if o.open.Attempt == 0 {
		return nil, errors.New("ceremony: opening: attempts count from 1")
	}
	if life := o.open.NotAfter - o.open.NotBefore; life <= 0 || life > int64(p.Hours)*3600 {
		return nil, fmt.Errorf("ceremony: opening holds for %d s, the plan allows %d h", life, p.Hours)
	}
	if err := o.Live(now); err != nil {
		return nil, err
	}
	person := p.person(p.Administrator)
	if !slices.Contains(person.Cards, o.open.Administrator.Serial) {
		return nil, fmt.Errorf("ceremony: card %d is not the administrator's", o.open.Administrator.Serial)
	}
	if err := verifyCard(p, &o.open.Administrator, now); err != nil {
		return nil, &RosterError{Who: "person " + p.Administrator, Err: err}
	}
	if o.desk, err = envelope.ParseSigningKey(o.open.DeskSign); err != nil {
		return nil, fmt.Errorf("ceremony: desk's signature key: %w", err)
	}
	if o.agree, err = envelope.ParseAgreementKey(o.open.DeskAgree); err != nil {
		return nil, fmt.Errorf("ceremony: desk's agreement key: %w", err)
	}
	return o, nil
}

// reopen verifies an opening that was in force when this device accepted it,
// whatever the time is now.
func reopen(raw []byte) (*VerifiedOpen, error) {
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, err
	}
	return VerifyOpen(raw, u.Header().Created)
}

// Live refuses an opening before and after its time.
func (o *VerifiedOpen) Live(now int64) error {
	if now < o.open.NotBefore-int64(clockSkew/time.Second) {
		return fmt.Errorf("ceremony: the opening holds from %s; check this device's clock",
			time.Unix(o.open.NotBefore, 0).UTC().Format(time.RFC3339))
	}
	if now >= o.open.NotAfter {
		return ErrExpired
	}
	return nil
}

package main

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/card"
	ceremonydesk "github.com/privyseal/privyseal/cmd/internal/desk"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/cmd/internal/term/cardpin"
	"github.com/privyseal/privyseal/firmware/attest"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// room is where the ceremony's people put their cards into the readers, one
// after the other.
type room struct {
	app   *app
	plan  *ceremony.Plan
	entry term.Entry
}

// seat is a card in a reader.
type seat struct {
	*card.Signer
	agree *card.Agreement
	card  ledger.Card
}

func (s *seat) Agree() *ecdh.PublicKey { return s.agree.PublicKey() }
func (s *seat) Describe() ledger.Card  { return s.card }

var _ ceremonydesk.Card = (*seat)(nil)
var _ crypto.Signer = (*seat)(nil)

// Use implements ceremonydesk.Cards: it asks for the card, its owner types the PIN
// once, and the card is reset at the end.
func (r *room) Use(ctx context.Context, _, name string, serial uint32, why string, with func(ceremonydesk.Card) error) error {
	return r.open(ctx, name, serial, why, func(s *seat) error { return with(s) })
}

func (r *room) open(ctx context.Context, name string, serial uint32, why string, with func(*seat) error) (err error) {
	pin, forget := card.Batch(cardpin.Source(r.entry, fmt.Sprintf("%s: %s", name, why)))
	defer forget()
	o := card.Options{PIN: pin, Touch: func(card.Prompt) { r.app.tell("%s: touch card %d", name, serial) }}
	c, err := card.Open(ctx, serial, o)
	var missing *card.NotFoundError
	if errors.As(err, &missing) || errors.Is(err, card.ErrNoReader) {
		r.app.tell("%s, insert card %d (%s)", name, serial, why)
		wait, cancel := context.WithTimeout(ctx, insertPatience)
		defer cancel()
		if _, err := card.Wait(wait, serial); err != nil {
			return fmt.Errorf("card %d of %s: %w", serial, name, err)
		}
		c, err = card.Open(ctx, serial, o)
	}
	if err != nil {
		return fmt.Errorf("card %d of %s: %w", serial, name, err)
	}
	defer func() {
		if e := c.Close(); err == nil {
			err = e
		}
	}()
	s, err := r.seat(ctx, c)
	if err != nil {
		return fmt.Errorf("card %d of %s: %w", serial, name, err)
	}
	return with(s)
}

// seat reads a card's keys and its own statements of them.
func (r *room) seat(ctx context.Context, c *card.Card) (*seat, error) {
	sign, err := c.Signer(ctx)
	if err != nil {
		return nil, err
	}
	agree, err := c.Agreement(ctx)
	if err != nil {
		return nil, err
	}
	attestSign, inter, err := c.Attest(ctx, card.SlotSign)
	if err != nil {
		return nil, err
	}
	attestAgree, _, err := c.Attest(ctx, card.SlotAgree)
	if err != nil {
		return nil, err
	}
	s := &seat{Signer: sign, agree: agree, card: ledger.Card{
		Serial: c.Serial(), AttestSign: attestSign.Raw, AttestAgree: attestAgree.Raw, Intermediate: inter.Raw,
	}}
	if s.card.Sign, err = x509.MarshalPKIXPublicKey(sign.Public()); err != nil {
		return nil, err
	}
	if s.card.Agree, err = x509.MarshalPKIXPublicKey(agree.PublicKey()); err != nil {
		return nil, err
	}
	s.card.Model, err = r.model(attestSign, inter)
	return s, err
}

// model is the approved model whose root a card's attestation chains to.
func (r *room) model(slot, inter *x509.Certificate) (string, error) {
	for _, m := range r.plan.Models {
		if m.Kind != ledger.ModelCard {
			continue
		}
		root, err := x509.ParseCertificate(m.Root)
		if err != nil {
			return "", err
		}
		pool := x509.NewCertPool()
		pool.AddCert(root)
		if _, err := attest.Verify(pool, slot, inter, r.app.now()); err == nil {
			return m.Model, nil
		}
	}
	return "", term.WithHint(errors.New("its attestation leads to no manufacturer in the ceremony file"), "use a card of an approved model, or add its manufacturer and have the file reviewed again")
}

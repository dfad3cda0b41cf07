// Package desk conducts an initialisation ceremony: it relays what devices say
// to each other, has the administrator's and the officers' cards sign, and
// keeps a transcript from which a ceremony that was interrupted goes on.
//
// The desk is trusted with nothing but the administrator's word for some
// hours. Shares and seeds pass through it sealed from device to device;
// devices check each other's messages themselves and sign only the genesis
// that they computed.
package desk

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// Sites carries frames to devices and hands the finished system to servers.
type Sites interface {
	// Relay hands a frame to a device and returns its answer.
	Relay(ctx context.Context, device string, frame []byte) ([]byte, error)
}

// Card is a card in a reader whose owner is present.
type Card interface {
	crypto.Signer // slot 9C
	Agree() *ecdh.PublicKey
	Describe() ledger.Card // keys and attestations
}

// Cards asks for people's cards, one after the other.
type Cards interface {
	// Use calls with with the person's card in the reader.
	Use(ctx context.Context, person, name string, serial uint32, why string, with func(Card) error) error
}

// Config is what a ceremony needs.
type Config struct {
	Plan ceremony.Plan
	// Attempt, if not zero, is the number from which attempts count: a desk
	// that lost its directory begins above the number that devices remember.
	Attempt uint64
	Dir     string // for the transcript; made if missing
	Sites   Sites
	Cards   Cards
	Rand    io.Reader
	Now     func() time.Time
	// Say tells people what is going on, one line at a time.
	Say func(format string, args ...any)
}

// Result is a system that has been commissioned.
type Result struct {
	Bundle ledger.Bundle
	State  ledger.State
	record ceremony.Record
}

// desk is one run.
type desk struct {
	Config
	t       *transcript
	sign    *ecdsa.PrivateKey
	agree   *ecdh.PrivateKey
	opening []byte // raw
	open    *ceremony.VerifiedOpen
	roster  *ceremony.VerifiedRoster
	peers   map[string]*peer
}

// peer is a device as the desk knows it after its identity.
type peer struct {
	sign  *ecdsa.PublicKey
	agree *ecdh.PublicKey
}

// A RefusedError is a device's refusal.
type RefusedError struct {
	firmware.Refusal
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("device %s: %s", term.Clean(e.Device), term.Clean(e.Text))
}

// Run conducts the ceremony from wherever it stands: anew, or, when a genesis
// was signed by everybody, from its commitment on.
func Run(ctx context.Context, c Config) (*Result, error) {
	if err := c.Plan.Validate(); err != nil {
		return nil, err
	}
	t, err := openTranscript(c.Dir)
	if err != nil {
		return nil, err
	}
	d := &desk{Config: c, t: t, peers: map[string]*peer{}}
	if t.state.File != c.Plan.File && t.state.Attempt > 0 {
		return nil, errors.New("the directory belongs to a ceremony with another file; choose another directory")
	}
	t.state.File = c.Plan.File
	if len(t.state.Bundle) == 0 {
		if err := d.deal(ctx); err != nil {
			return nil, err
		}
	}
	return d.commit(ctx)
}

// deal is stages 1 to 3. When it returns, every device has signed the genesis.
func (d *desk) deal(ctx context.Context) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	committed, err := d.introduce(ctx)
	if err != nil || committed {
		return err
	}
	if err := d.enrol(ctx); err != nil {
		return err
	}
	joined, err := d.join(ctx)
	if err != nil {
		return err
	}
	keys, err := d.keys(ctx, joined)
	if err != nil {
		return err
	}
	return d.prepare(ctx, keys)
}

// begin has the administrator's card open a new attempt. The attempt's number
// is durable before any device hears of it: a desk that dies here never uses a
// number twice.
func (d *desk) begin(ctx context.Context) error {
	d.t.state.Attempt = max(d.t.state.Attempt+1, d.Attempt)
	d.t.forget()
	var err error
	if d.sign, err = ecdsa.GenerateKey(elliptic.P256(), d.Rand); err != nil {
		return err
	}
	if d.agree, err = ecdh.P256().GenerateKey(d.Rand); err != nil {
		return err
	}
	if err := d.t.save(); err != nil {
		return err
	}
	signSPKI, err := x509.MarshalPKIXPublicKey(d.sign.Public())
	if err != nil {
		return err
	}
	agreeSPKI, err := x509.MarshalPKIXPublicKey(d.agree.PublicKey())
	if err != nil {
		return err
	}
	now := d.Now().Unix()
	var raw []byte
	err = d.admin(ctx, fmt.Sprintf("to open attempt %d of the ceremony", d.t.state.Attempt), func(card Card) error {
		open := ceremony.Open{
			Plan: d.Plan, Attempt: d.t.state.Attempt, Administrator: card.Describe(),
			DeskSign: signSPKI, DeskAgree: agreeSPKI,
			NotBefore: now, NotAfter: now + int64(d.Plan.Hours)*3600,
		}
		raw, err = d.signWith(card, ceremony.TypeOpen, open, open.NotAfter)
		return err
	})
	if err != nil {
		return err
	}
	if d.open, err = ceremony.VerifyOpen(raw, now); err != nil {
		return err
	}
	d.opening = raw
	if len(d.t.state.Bundle) == 0 { // else the record keeps the opening that led to it
		d.t.state.Open = raw
	}
	return d.t.save()
}

func (d *desk) admin(ctx context.Context, why string, with func(Card) error) error {
	for _, p := range d.Plan.Persons {
		if p.ID == d.Plan.Administrator {
			return d.Cards.Use(ctx, p.ID, p.Name, p.Cards[0], why, with)
		}
	}
	return fmt.Errorf("administrator %q is not in the plan", d.Plan.Administrator)
}

// signWith signs a message with a card.
func (d *desk) signWith(card Card, typ string, payload any, expires int64) ([]byte, error) {
	body, err := envelope.Marshal(payload)
	if err != nil {
		return nil, err
	}
	return envelope.Sign(d.Rand, card, envelope.Header{
		Type: typ, Version: ceremony.MessageVersion, Created: d.Now().Unix(), Expires: expires,
	}, body)
}

// ask sends a message of the desk to a device and decodes its answer. A
// refusal is an error.
func (d *desk) ask(ctx context.Context, device, typ string, payload any, want string, into any) ([]byte, error) {
	v, err := d.exchange(ctx, device, typ, payload)
	if err != nil {
		return nil, err
	}
	if err := envelope.Decode(v, want, ceremony.MessageVersion, into); err != nil {
		return nil, fmt.Errorf("device %s: %w", device, err)
	}
	return v.Raw(), nil
}

// exchange seals a message to a device, relays it, and verifies the answer
// with the device's key if the desk knows it by now. A first answer carries
// its own key; see introduce.
func (d *desk) exchange(ctx context.Context, device, typ string, payload any) (*envelope.Verified, error) {
	u, err := d.send(ctx, device, typ, payload)
	if err != nil {
		return nil, err
	}
	p := d.peers[device]
	if p == nil {
		return nil, fmt.Errorf("device %s has not introduced itself", device)
	}
	v, err := u.Verify(p.sign)
	if err != nil {
		return nil, fmt.Errorf("answer of device %s: %w", device, err)
	}
	return v, refused(u)
}

// send relays one message and returns the answer, not verified.
func (d *desk) send(ctx context.Context, device, typ string, payload any) (*envelope.Unverified, error) {
	body, err := envelope.Marshal(payload)
	if err != nil {
		return nil, err
	}
	now := d.Now().Unix()
	h := envelope.Header{Type: typ, Version: ceremony.MessageVersion, Created: now, Expires: now + 3600}
	if h.ID, err = envelope.NewID(d.Rand); err != nil {
		return nil, err
	}
	p := d.peers[device]
	if p != nil {
		id, err := envelope.KeyIDOf(p.agree)
		if err != nil {
			return nil, err
		}
		h.To = []envelope.KeyID{id}
	}
	frame, err := envelope.Sign(d.Rand, d.sign, h, body)
	if err != nil {
		return nil, err
	}
	if p != nil {
		if frame, err = envelope.Seal(d.Rand, frame, []*ecdh.PublicKey{p.agree}); err != nil {
			return nil, err
		}
	}
	answer, err := d.Sites.Relay(ctx, device, frame)
	if err != nil {
		return nil, fmt.Errorf("device %s cannot be reached: %w", device, err)
	}
	raw, err := envelope.Open(answer, d.agree)
	if err != nil {
		return nil, fmt.Errorf("answer of device %s: %w", device, err)
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("answer of device %s: %w", device, err)
	}
	if u.Header().Re != h.ID {
		return nil, fmt.Errorf("device %s answered another message", device)
	}
	return u, nil
}

// refused turns a refusal into an error.
func refused(u *envelope.Unverified) error {
	if u.Header().Type != firmware.TypeRefusal {
		return nil
	}
	e := &RefusedError{}
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &e.Refusal); err != nil {
		return err
	}
	return e
}

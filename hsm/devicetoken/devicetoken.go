// Package devicetoken is a token as a signing device's interpreter wants it: the
// keys under their labels, and a signer and an exchanger whose public halves
// are known while the token is locked.
package devicetoken

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/hsm"
)

// Labels of the keys in a device's token.
const (
	LabelSign     = "privyseal.sign"
	LabelAgree    = "privyseal.agree"
	LabelKEKToken = "privyseal.kek.token" // for shares that are used in the token
	LabelKEKHost  = "privyseal.kek.host"
)

// Token is a firmware.Token.
type Token struct {
	*hsm.Token
	locked atomic.Bool
}

// New wraps a token that is locked.
func New(t *hsm.Token) *Token {
	w := &Token{Token: t}
	w.locked.Store(true)
	return w
}

// Shares is the token with one of its two KEKs.
func (t *Token) Shares(inToken bool) share.Token {
	if inToken {
		return share.Bind[*hsm.Exponent](t.Token, LabelKEKToken)
	}
	return share.Bind[*hsm.Exponent](t.Token, LabelKEKHost)
}

// Unlock logs in, and makes sure that the key-encryption keys are still what
// they were made for: whoever had the PIN may have put others in their place,
// which would let shares out that never leave the token.
func (t *Token) Unlock(pin []byte) error {
	if err := t.Token.Unlock(hsm.PIN(pin)); err != nil {
		return err
	}
	if err := t.checkKEKs(); err != nil {
		return errors.Join(err, t.Token.Lock())
	}
	t.locked.Store(false)
	return nil
}

func (t *Token) checkKEKs() error {
	for label, want := range map[string]hsm.Use{LabelKEKToken: hsm.InToken, LabelKEKHost: hsm.InHost} {
		switch use, err := t.KEKUse(label); {
		case errors.Is(err, hsm.ErrNotFound) && want == hsm.InToken: // a token without unwrap templates has none
		case err != nil:
			return fmt.Errorf("key-encryption key %s: %w", label, err)
		case use != want:
			return fmt.Errorf("key-encryption key %s is not the one that was made for it: somebody with the PIN replaced it", label)
		}
	}
	return nil
}

// Lock counts the token as locked whatever the module answers.
func (t *Token) Lock() error {
	t.locked.Store(true)
	return t.Token.Lock()
}

// Locked reports whether the token is locked as far as this process knows.
func (t *Token) Locked() bool { return t.locked.Load() }

// GetObject is hsm's, with the interpreter's error for what is not there.
func (t *Token) GetObject(name string) (uint64, []byte, error) {
	v, data, err := t.Token.GetObject(name)
	return v, data, notFound(err)
}

// DeleteObject likewise.
func (t *Token) DeleteObject(name string) error { return notFound(t.Token.DeleteObject(name)) }

func notFound(err error) error {
	if errors.Is(err, hsm.ErrNotFound) {
		return fmt.Errorf("%w: %w", firmware.ErrNotFound, err)
	}
	return err
}

// Health says in a few words what the token says of itself.
func (t *Token) Health() string {
	h, err := t.Token.Health()
	switch {
	case err != nil:
		return "gone: " + err.Error()
	case h.PINLocked:
		return "PIN locked"
	case h.PINFinalTry:
		return "one PIN try left"
	case h.WriteProtected:
		return "write protected"
	}
	return firmware.HealthOK
}

// signer is the device's signature key: its public half is known from the
// device's identity, the private one is looked up in the token when it is
// first used, for a locked token shows nothing.
type signer struct {
	token *Token
	pub   *ecdsa.PublicKey
	key   crypto.Signer
}

func (s *signer) Public() crypto.PublicKey { return s.pub }

func (s *signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.key == nil {
		k, err := s.token.Signer(LabelSign)
		if err != nil {
			return nil, err
		}
		if !s.pub.Equal(k.Public()) {
			return nil, errors.New("the token's signature key is not the one in the device's identity")
		}
		s.key = k
	}
	return s.key.Sign(rand, digest, opts)
}

// exchanger is the device's agreement key, likewise.
type exchanger struct {
	token *Token
	pub   *ecdh.PublicKey
	key   ecdh.KeyExchanger
}

func (e *exchanger) PublicKey() *ecdh.PublicKey { return e.pub }
func (e *exchanger) Curve() ecdh.Curve          { return e.pub.Curve() }

func (e *exchanger) ECDH(remote *ecdh.PublicKey) ([]byte, error) {
	if e.key == nil {
		k, err := e.token.KeyExchanger(LabelAgree)
		if err != nil {
			return nil, err
		}
		if !e.pub.Equal(k.PublicKey()) {
			return nil, errors.New("the token's agreement key is not the one in the device's identity")
		}
		e.key = k
	}
	return e.key.ECDH(remote)
}

// Keys gives the device's keys by their public halves, SPKI in DER. The private
// ones are looked up when they are first used.
func (t *Token) Keys(signSPKI, agreeSPKI []byte) (crypto.Signer, ecdh.KeyExchanger, error) {
	sign, err := envelope.ParseSigningKey(signSPKI)
	if err != nil {
		return nil, nil, err
	}
	agree, err := envelope.ParseAgreementKey(agreeSPKI)
	if err != nil {
		return nil, nil, err
	}
	return &signer{token: t, pub: sign}, &exchanger{token: t, pub: agree}, nil
}

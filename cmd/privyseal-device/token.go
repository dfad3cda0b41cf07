package main

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/hsm"
)

// token is the device's token as the interpreter wants it.
type token struct {
	*hsm.Token
	locked atomic.Bool
}

func newToken(t *hsm.Token) *token {
	w := &token{Token: t}
	w.locked.Store(true)
	return w
}

func (t *token) Shares(inToken bool) share.Token {
	if inToken {
		return share.Bind[*hsm.Exponent](t.Token, labelKEKToken)
	}
	return share.Bind[*hsm.Exponent](t.Token, labelKEKHost)
}

func (t *token) Unlock(pin []byte) error {
	if err := t.Token.Unlock(hsm.PIN(pin)); err != nil {
		return err
	}
	t.locked.Store(false)
	return nil
}

// Lock counts the token as locked whatever the module answers.
func (t *token) Lock() error {
	t.locked.Store(true)
	return t.Token.Lock()
}

func (t *token) Locked() bool { return t.locked.Load() }

func (t *token) GetObject(name string) (uint64, []byte, error) {
	v, data, err := t.Token.GetObject(name)
	return v, data, notFound(err)
}

func (t *token) DeleteObject(name string) error { return notFound(t.Token.DeleteObject(name)) }

func notFound(err error) error {
	if errors.Is(err, hsm.ErrNotFound) {
		return fmt.Errorf("%w: %w", firmware.ErrNotFound, err)
	}
	return err
}

// Health says in a few words what the token says of itself.
func (t *token) Health() string {
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
	return "ok"
}

// signer is the device's signature key: its public half is known from the
// device's identity, the private one is looked up in the token when it is
// first used, for a locked token shows nothing.
type signer struct {
	token *token
	pub   *ecdsa.PublicKey
	key   crypto.Signer
}

func (s *signer) Public() crypto.PublicKey { return s.pub }

func (s *signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.key == nil {
		k, err := s.token.Signer(labelSign)
		if err != nil {
			return nil, err
		}
		if !s.pub.Equal(k.Public()) {
			return nil, errors.New("the token's signature key is not the one in identity.json")
		}
		s.key = k
	}
	return s.key.Sign(rand, digest, opts)
}

// exchanger is the device's agreement key, likewise.
type exchanger struct {
	token *token
	pub   *ecdh.PublicKey
	key   ecdh.KeyExchanger
}

func (e *exchanger) PublicKey() *ecdh.PublicKey { return e.pub }
func (e *exchanger) Curve() ecdh.Curve          { return e.pub.Curve() }

func (e *exchanger) ECDH(remote *ecdh.PublicKey) ([]byte, error) {
	if e.key == nil {
		k, err := e.token.KeyExchanger(labelAgree)
		if err != nil {
			return nil, err
		}
		if !e.pub.Equal(k.PublicKey()) {
			return nil, errors.New("the token's agreement key is not the one in identity.json")
		}
		e.key = k
	}
	return e.key.ECDH(remote)
}

func keysOf(t *token, id *identity) (*signer, *exchanger, error) {
	parse := func(spki []byte) (*ecdsa.PublicKey, error) {
		k, err := x509.ParsePKIXPublicKey(spki)
		if err != nil {
			return nil, err
		}
		pub, ok := k.(*ecdsa.PublicKey)
		if !ok {
			return nil, fmt.Errorf("%s: a %T where a P-256 key is expected", fileIdentity, k)
		}
		return pub, nil
	}
	sign, err := parse(id.Sign)
	if err != nil {
		return nil, nil, err
	}
	agree, err := parse(id.Agree)
	if err != nil {
		return nil, nil, err
	}
	pub, err := agree.ECDH()
	if err != nil {
		return nil, nil, err
	}
	return &signer{token: t, pub: sign}, &exchanger{token: t, pub: pub}, nil
}

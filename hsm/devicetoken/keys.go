package devicetoken

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"errors"
	"io"
	"sync/atomic"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/hsm"
)

// signer is the device's signature key: its public half is known from the
// device's identity, the private one is looked up in the token when it is
// first used, for a locked token shows nothing.
type signer struct {
	token *Token
	pub   *ecdsa.PublicKey
	key   atomic.Pointer[hsm.Signer] // survives Lock and Unlock
}

func (s *signer) Public() crypto.PublicKey { return s.pub }

func (s *signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	key := s.key.Load()
	if key == nil {
		k, err := s.token.Signer(LabelSign)
		if err != nil {
			return nil, err
		}
		if !s.pub.Equal(k.Public()) {
			return nil, errors.New("the token's signature key is not the one in the device's identity")
		}
		key = k
		s.key.Store(k) // two that look it up at once find the same
	}
	return key.Sign(rand, digest, opts)
}

// exchanger is the device's agreement key, likewise.
type exchanger struct {
	token *Token
	pub   *ecdh.PublicKey
	key   atomic.Pointer[hsm.KeyExchanger]
}

func (e *exchanger) PublicKey() *ecdh.PublicKey { return e.pub }
func (e *exchanger) Curve() ecdh.Curve          { return e.pub.Curve() }

func (e *exchanger) ECDH(remote *ecdh.PublicKey) ([]byte, error) {
	key := e.key.Load()
	if key == nil {
		k, err := e.token.KeyExchanger(LabelAgree)
		if err != nil {
			return nil, err
		}
		if !e.pub.Equal(k.PublicKey()) {
			return nil, errors.New("the token's agreement key is not the one in the device's identity")
		}
		key = k
		e.key.Store(k)
	}
	return key.ECDH(remote)
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

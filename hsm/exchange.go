package hsm

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// KeyExchanger is an ECDH P-256 key in the token, for HPKE and the like. It
// outlives Lock and Unlock: while the token is locked, ECDH returns ErrLocked.
type KeyExchanger struct {
	t     *Token
	label string
	pub   *ecdh.PublicKey
}

var _ ecdh.KeyExchanger = (*KeyExchanger)(nil)

// GenerateKeyExchanger makes an ECDH P-256 key in the token: sensitive, never
// extractable, for key agreement only. It returns ErrExists if the label is taken.
func (t *Token) GenerateKeyExchanger(label string) (*KeyExchanger, error) {
	if err := t.generateEC(label, roleExchanger); err != nil {
		return nil, err
	}
	return t.KeyExchanger(label)
}

// KeyExchanger finds an agreement key by label and tries it: a public half that
// does not belong to it is an error. The token must be unlocked.
// Errors: ErrNotFound, ErrExposedKey, ErrLocked.
func (t *Token) KeyExchanger(label string) (*KeyExchanger, error) {
	k := &KeyExchanger{t: t, label: label}
	err := t.do(func(s *session) error {
		h, err := s.key(roleExchanger, label)
		if err != nil {
			return err
		}
		pub, err := s.publicEC(h, label)
		if err != nil {
			return err
		}
		k.pub, err = pub.ECDH()
		return err
	})
	if err != nil {
		return nil, err
	}
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	want, err := peer.ECDH(k.pub)
	if err != nil {
		return nil, err
	}
	got, err := k.ECDH(peer.PublicKey())
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(got, want) {
		return nil, errors.New("hsm: the public half of agreement key \"" + label + "\" does not belong to it")
	}
	return k, nil
}

// PublicKey is the public half, also while the token is locked.
func (k *KeyExchanger) PublicKey() *ecdh.PublicKey { return k.pub }

// Curve is P-256.
func (k *KeyExchanger) Curve() ecdh.Curve { return ecdh.P256() }

// Label is the key's label in the token.
func (k *KeyExchanger) Label() string { return k.label }

// ECDH returns the 32-byte x coordinate of the shared point (CKM_ECDH1_DERIVE
// with CKD_NULL). The shared secret does enter the host: it is an intermediate
// of HPKE, not a key of the device.
func (k *KeyExchanger) ECDH(remote *ecdh.PublicKey) ([]byte, error) {
	if remote == nil || remote.Curve() != ecdh.P256() {
		return nil, fmt.Errorf("%w: the other public key is not on P-256", ErrArgument)
	}
	var secret []byte
	err := k.t.do(func(s *session) error {
		h, err := s.key(roleExchanger, k.label)
		if err != nil {
			return err
		}
		secret, err = s.deriveValue(pkcs11.CKM_ECDH1_DERIVE, h, remote.Bytes(), 32)
		return err
	})
	if err != nil {
		return nil, err
	}
	return secret, nil
}

// deriveValue derives a session secret of exactly n bytes, reads and destroys it.
func (s *session) deriveValue(mech uint, base object, public []byte, n int) (value []byte, err error) {
	c := s.t.c
	template := []*attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		attr(pkcs11.CKA_TOKEN, false),
		attr(pkcs11.CKA_SENSITIVE, false),
		attr(pkcs11.CKA_EXTRACTABLE, true),
		attr(pkcs11.CKA_VALUE_LEN, n),
	}
	err = s.use(func() (err error) {
		o, err := c.derive(s.h, mech, base, public, template)
		if err != nil {
			return err
		}
		v, err := c.attributes(s.h, o, pkcs11.CKA_VALUE)
		// An object that cannot be destroyed lives as long as the session,
		// which is closed on any error.
		if err2 := c.destroy(s.h, o); err == nil {
			err = err2
		}
		if err != nil {
			return err
		}
		value = v[0]
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(value) != n {
		return nil, fmt.Errorf("%w: token derived %d bytes where %d were asked for", ErrUnsupported, len(value), n)
	}
	return value, nil
}

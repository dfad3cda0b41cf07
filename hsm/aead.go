package hsm

import (
	"fmt"

	"github.com/miekg/pkcs11"
)

const (
	gcmNonce   = 12 // SoftHSM2 accepts any length, even none: enforced here
	gcmTag     = 16
	gcmTagBits = 8 * gcmTag
)

// AEAD is AES-256-GCM under a key in the token. It is like cipher.AEAD, but a
// token can fail, so Seal returns an error too.
type AEAD struct {
	t     *Token
	label string
}

// GenerateAEAD makes an AES-256 key in the token: sensitive, never extractable,
// for AES-GCM only. It returns ErrExists if the label is taken.
func (t *Token) GenerateAEAD(label string) (*AEAD, error) {
	err := t.generateAES(label, []*attribute{
		attr(pkcs11.CKA_ENCRYPT, true),
		attr(pkcs11.CKA_DECRYPT, true),
		attr(pkcs11.CKA_WRAP, false),
		attr(pkcs11.CKA_UNWRAP, false),
		attr(pkcs11.CKA_ALLOWED_MECHANISMS, attr(0, uint(pkcs11.CKM_AES_GCM)).Value),
	}, nil)
	if err != nil {
		return nil, err
	}
	return t.AEAD(label)
}

// AEAD finds an AES-GCM key by label. The token must be unlocked.
// Errors: ErrNotFound, ErrExposedKey, ErrLocked.
func (t *Token) AEAD(label string) (*AEAD, error) {
	err := t.do(func(s *session) error {
		_, err := s.key(roleAEAD, label)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &AEAD{t, label}, nil
}

// NonceSize is 12.
func (a *AEAD) NonceSize() int { return gcmNonce }

// Overhead is 16, the length of the tag.
func (a *AEAD) Overhead() int { return gcmTag }

// Seal returns ciphertext || tag. The nonce has 12 bytes and must never be
// used twice with this key.
func (a *AEAD) Seal(nonce, plaintext, aad []byte) ([]byte, error) {
	if err := checkGCM(nonce, len(plaintext)+len(aad)); err != nil {
		return nil, err
	}
	return a.run(func(s *session, h object) ([]byte, error) {
		return s.t.c.encryptGCM(s.h, h, nonce, aad, plaintext)
	})
}

// Open returns the plaintext, or ErrAuthentication.
func (a *AEAD) Open(nonce, ciphertext, aad []byte) ([]byte, error) {
	if err := checkGCM(nonce, len(ciphertext)+len(aad)); err != nil {
		return nil, err
	}
	if len(ciphertext) < gcmTag {
		return nil, fmt.Errorf("%w: ciphertext has %d bytes, the tag alone has %d", ErrAuthentication, len(ciphertext), gcmTag)
	}
	return a.run(func(s *session, h object) ([]byte, error) {
		return s.t.c.decryptGCM(s.h, h, nonce, aad, ciphertext)
	})
}

func (a *AEAD) run(f func(*session, object) ([]byte, error)) (out []byte, err error) {
	err = a.t.do(func(s *session) error {
		h, err := s.key(roleAEAD, a.label)
		if err != nil {
			return err
		}
		return s.use(func() error {
			out, err = f(s, h)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func checkGCM(nonce []byte, size int) error {
	if len(nonce) != gcmNonce {
		return fmt.Errorf("%w: nonce has %d bytes, AES-GCM here takes %d", ErrArgument, len(nonce), gcmNonce)
	}
	if size > maxAEAD {
		return fmt.Errorf("%w: message of %d bytes, at most %d", ErrArgument, size, maxAEAD)
	}
	return nil
}

package hsm

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/miekg/pkcs11"
)

// Signer is an ECDSA P-256 key in the token. It outlives Lock and Unlock:
// while the token is locked, Sign returns ErrLocked.
type Signer struct {
	t     *Token
	label string
	pub   *ecdsa.PublicKey
}

var _ crypto.Signer = (*Signer)(nil)

// GenerateSigner makes an ECDSA P-256 key in the token: sensitive, never
// extractable, signing only. It returns ErrExists if the label is taken.
func (t *Token) GenerateSigner(label string) (*Signer, error) {
	if err := t.generateEC(label, roleSigner); err != nil {
		return nil, err
	}
	return t.Signer(label)
}

// Signer finds a signature key by label. The token must be unlocked.
// Errors: ErrNotFound, ErrExposedKey, ErrLocked.
func (t *Token) Signer(label string) (*Signer, error) {
	k := &Signer{t: t, label: label}
	err := t.do(func(s *session) error {
		h, err := s.key(roleSigner, label)
		if err != nil {
			return err
		}
		k.pub, err = s.publicEC(h, label)
		return err
	})
	if err != nil {
		return nil, err
	}
	return k, nil
}

// Public is the *ecdsa.PublicKey, also while the token is locked.
func (k *Signer) Public() crypto.PublicKey { return k.pub }

// Label is the key's label in the token.
func (k *Signer) Label() string { return k.label }

// Sign signs a digest of SHA-256, SHA-384 or SHA-512, whose length must be that
// of opts.HashFunc(); its leftmost 256 bits are signed (FIPS 186-5 section
// 6.4.1). The result is the ASN.1 Ecdsa-Sig-Value of RFC 3279. The random source
// is the token's; the argument is ignored. The signature is verified before it
// is returned: a public half that was exchanged, or a faulty token, must not
// speak for the device.
func (k *Signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	switch h := opts.HashFunc(); h {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512:
		if len(digest) != h.Size() {
			return nil, fmt.Errorf("%w: digest has %d bytes, %v has %d", ErrArgument, len(digest), h, h.Size())
		}
	default:
		return nil, fmt.Errorf("%w: digest of %v; sign a digest of SHA-256, SHA-384 or SHA-512", ErrArgument, opts.HashFunc())
	}
	digest = digest[:32]
	var raw []byte
	err := k.t.do(func(s *session) error {
		h, err := s.key(roleSigner, k.label)
		if err != nil {
			return err
		}
		return s.use(func() error {
			raw, err = k.t.c.sign(s.h, pkcs11.CKM_ECDSA, h, digest)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	if len(raw) != 64 {
		return nil, fmt.Errorf("hsm: token returned an ECDSA signature of %d bytes, 64 expected", len(raw))
	}
	sig, err := asn1.Marshal(struct{ R, S *big.Int }{
		new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
	if err != nil {
		return nil, err
	}
	if !ecdsa.VerifyASN1(k.pub, digest, sig) {
		return nil, errors.New("hsm: token returned a wrong signature; its public key was exchanged or it is faulty")
	}
	return sig, nil
}

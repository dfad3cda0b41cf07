package hsm

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// Use says where a key-encryption key releases exponents to.
type Use int

const (
	// InToken: what the KEK unwraps is a private key that never leaves the
	// token. The KEK carries an unwrap template that says so, and the token
	// enforces it: not even a holder of the PIN can unwrap an exponent as
	// something readable. RevealExponent returns ErrConfined.
	InToken Use = 1 + iota
	// InHost: exponents may also be revealed to the host.
	InHost
)

// GenerateKEK makes an AES-256 key-encryption key for AES-KWP (RFC 5649) in the
// token: sensitive, never extractable, not modifiable; it wraps and unwraps and
// does nothing else. It returns ErrExists if the label is taken, and
// ErrUnsupported if the token has no unwrap templates and use is InToken.
func (t *Token) GenerateKEK(label string, use Use) error {
	purpose := []*attribute{
		attr(pkcs11.CKA_ENCRYPT, false),
		attr(pkcs11.CKA_DECRYPT, false),
		attr(pkcs11.CKA_WRAP, true),
		attr(pkcs11.CKA_UNWRAP, true),
		attr(pkcs11.CKA_ALLOWED_MECHANISMS, attr(0, uint(pkcs11.CKM_AES_KEY_WRAP_PAD)).Value),
	}
	switch use {
	case InHost:
		return t.generateAES(label, purpose, nil)
	case InToken:
		return t.generateConfined(label, purpose)
	}
	return fmt.Errorf("%w: use %d of a key-encryption key", ErrArgument, use)
}

// generateConfined makes an InToken KEK and makes sure that the token heeds its
// unwrap template; one that does not would give a false sense of security.
func (t *Token) generateConfined(label string, purpose []*attribute) error {
	err := t.generateAES(label, purpose, confinement())
	switch code(err) {
	case pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID, pkcs11.CKR_TEMPLATE_INCONSISTENT:
		return fmt.Errorf("%w: no unwrap templates: %w", ErrUnsupported, err)
	}
	if err != nil {
		return err
	}
	// A crash here leaves a key that KEKUse tells from a confining one.
	use, err := t.KEKUse(label)
	if err == nil && use != InToken {
		err = fmt.Errorf("%w: it ignores unwrap templates", ErrUnsupported)
	}
	if err != nil {
		return errors.Join(err, t.Destroy(label))
	}
	return nil
}

// KEKUse finds out by trying what a key-encryption key is for: it wraps a
// number that is no secret and asks for it back. A device that relies on
// confinement asks at every start, for whoever has the PIN may have put another
// key in the place of its own.
func (t *Token) KEKUse(kek string) (Use, error) {
	n := bytes.Repeat([]byte{0xff}, minModulusBits/8)
	wrapped, err := t.WrapExponent(kek, n, []byte{1, 0, 1})
	if err != nil {
		return 0, err
	}
	switch _, err := t.RevealExponent(kek, n, wrapped); {
	case errors.Is(err, ErrConfined):
		return InToken, nil
	case err != nil:
		return 0, err
	}
	return InHost, nil
}

// confinement is the unwrap template of an InToken KEK. Class and type belong
// to it: unwrapped as a generic secret, the PKCS#8 bytes could be derived from.
func confinement() []*attribute {
	return []*attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_DH),
		attr(pkcs11.CKA_SENSITIVE, true),
		attr(pkcs11.CKA_EXTRACTABLE, false),
	}
}

// generateAES makes an AES-256 key with the given purposes; inner, if any, is
// its CKA_UNWRAP_TEMPLATE.
func (t *Token) generateAES(label string, purpose, inner []*attribute) error {
	if err := checkName("key label", label); err != nil {
		return err
	}
	template := append([]*attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		attr(pkcs11.CKA_VALUE_LEN, 32),
		attr(pkcs11.CKA_TOKEN, true),
		attr(pkcs11.CKA_PRIVATE, true),
		attr(pkcs11.CKA_LABEL, label),
		attr(pkcs11.CKA_SENSITIVE, true),
		attr(pkcs11.CKA_EXTRACTABLE, false),
		attr(pkcs11.CKA_MODIFIABLE, false),
		// SoftHSM2 allows by default what is not denied.
		attr(pkcs11.CKA_SIGN, false),
		attr(pkcs11.CKA_VERIFY, false),
		attr(pkcs11.CKA_DERIVE, false),
	}, purpose...)
	generate := func(template []*attribute) error {
		return t.do(func(s *session) error {
			return s.alone(func() error {
				if err := s.vacant(label); err != nil {
					return err
				}
				_, err := t.c.generateKey(s.h, pkcs11.CKM_AES_KEY_GEN, template)
				return err
			})
		})
	}
	if inner == nil {
		return generate(template)
	}
	return withTemplate(template, pkcs11.CKA_UNWRAP_TEMPLATE, inner, generate)
}

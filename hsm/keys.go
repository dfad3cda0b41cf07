package hsm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// role is what a key is for. Each role is told from the others by attributes
// fixed at generation, so that no label can turn an agreement key into a signer.
type role string

const (
	roleSigner    role = "signature key"
	roleExchanger role = "agreement key"
	roleAEAD      role = "AEAD key"
	roleKEK       role = "key-encryption key"
)

type keyName struct {
	role  role
	label string
}

func attr(typ uint, value any) *attribute { return pkcs11.NewAttribute(typ, value) }

// secretOf selects the private or secret key of a role.
func secretOf(n keyName) []*attribute {
	t := []*attribute{attr(pkcs11.CKA_LABEL, n.label), attr(pkcs11.CKA_TOKEN, true)}
	switch n.role {
	case roleSigner:
		return append(t, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
			attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC), attr(pkcs11.CKA_SIGN, true))
	case roleExchanger:
		return append(t, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
			attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC), attr(pkcs11.CKA_DERIVE, true))
	case roleAEAD:
		return append(t, attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
			attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES), attr(pkcs11.CKA_DECRYPT, true))
	default:
		return append(t, attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
			attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES), attr(pkcs11.CKA_UNWRAP, true))
	}
}

func (t *Token) forget() {
	t.keyMu.Lock()
	clear(t.keys)
	t.keyMu.Unlock()
}

// key finds the secret half of a key, once for each unlock: a search reads
// every object of the token. A key that was not made in the token, or that may
// leave it, is refused: whoever knows the PIN could have put it there.
func (s *session) key(r role, label string) (object, error) {
	n := keyName{r, label}
	s.t.keyMu.Lock()
	h, ok := s.t.keys[n]
	s.t.keyMu.Unlock()
	if ok {
		return h, nil
	}
	err := s.alone(func() error {
		found, err := s.find(secretOf(n))
		if err != nil {
			return err
		}
		switch len(found) {
		case 0:
			return fmt.Errorf("%w: %s %q", ErrNotFound, r, label)
		case 1:
			h = found[0]
			return s.confined(h, n)
		}
		return fmt.Errorf("%w: %d keys are labelled %q as %s", ErrExposedKey, len(found), label, r)
	})
	if err != nil {
		return 0, err
	}
	s.t.keyMu.Lock()
	s.t.keys[n] = h
	s.t.keyMu.Unlock()
	return h, nil
}

// confined checks that a key was generated in the token and never could leave.
func (s *session) confined(h object, n keyName) error {
	v, err := s.t.c.attributes(s.h, h, pkcs11.CKA_LOCAL, pkcs11.CKA_ALWAYS_SENSITIVE, pkcs11.CKA_NEVER_EXTRACTABLE)
	if err != nil {
		return err
	}
	for _, b := range v {
		if !isTrue(b) {
			return fmt.Errorf("%w: %s %q", ErrExposedKey, n.role, n.label)
		}
	}
	return nil
}

func isTrue(b []byte) bool { return len(b) == 1 && b[0] == 1 }

// keyClasses are the classes of keys, secrets first.
var keyClasses = []uint{pkcs11.CKO_SECRET_KEY, pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY}

// findKeys returns all keys with a label. It needs the store to itself.
func (s *session) findKeys(label string) (all []object, err error) {
	for _, class := range keyClasses {
		found, err := s.find([]*attribute{
			attr(pkcs11.CKA_CLASS, class), attr(pkcs11.CKA_LABEL, label), attr(pkcs11.CKA_TOKEN, true)})
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// vacant returns ErrExists if a key has the label. It needs the store to itself.
func (s *session) vacant(label string) error {
	found, err := s.findKeys(label)
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("%w: a key labelled %q", ErrExists, label)
	}
	return err
}

// oidP256 is prime256v1, CKA_EC_PARAMS of P-256 (RFC 5480 section 2.1.1.1).
var oidP256 = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}

// generateEC makes a P-256 key pair in the token: sensitive, never extractable,
// not modifiable, for one purpose only.
func (t *Token) generateEC(label string, r role) error {
	if err := checkName("key label", label); err != nil {
		return err
	}
	id := make([]byte, 16)
	rand.Read(id)
	signs := r == roleSigner
	public := []*attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
		attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
		attr(pkcs11.CKA_TOKEN, true),
		attr(pkcs11.CKA_PRIVATE, false),
		attr(pkcs11.CKA_LABEL, label),
		attr(pkcs11.CKA_ID, id),
		attr(pkcs11.CKA_EC_PARAMS, oidP256),
		attr(pkcs11.CKA_VERIFY, signs),
		attr(pkcs11.CKA_ENCRYPT, false),
		attr(pkcs11.CKA_WRAP, false),
		attr(pkcs11.CKA_MODIFIABLE, false),
	}
	private := []*attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
		attr(pkcs11.CKA_TOKEN, true),
		attr(pkcs11.CKA_PRIVATE, true),
		attr(pkcs11.CKA_LABEL, label),
		attr(pkcs11.CKA_ID, id),
		attr(pkcs11.CKA_SENSITIVE, true),
		attr(pkcs11.CKA_EXTRACTABLE, false),
		attr(pkcs11.CKA_MODIFIABLE, false),
		attr(pkcs11.CKA_SIGN, signs),
		attr(pkcs11.CKA_DERIVE, !signs),
		attr(pkcs11.CKA_SIGN_RECOVER, false),
		attr(pkcs11.CKA_DECRYPT, false),
		attr(pkcs11.CKA_UNWRAP, false),
	}
	return t.do(func(s *session) error {
		return s.alone(func() error {
			if err := s.vacant(label); err != nil {
				return err
			}
			_, _, err := t.c.generateKeyPair(s.h, pkcs11.CKM_EC_KEY_PAIR_GEN, public, private)
			return err
		})
	})
}

// publicEC reads the public half that belongs to a private key.
func (s *session) publicEC(private object, label string) (pub *ecdsa.PublicKey, err error) {
	err = s.alone(func() error {
		id, err := s.t.c.attributes(s.h, private, pkcs11.CKA_ID)
		if err != nil {
			return err
		}
		found, err := s.find([]*attribute{
			attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
			attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
			attr(pkcs11.CKA_LABEL, label),
			attr(pkcs11.CKA_ID, id[0]),
		})
		if err != nil {
			return err
		}
		if len(found) != 1 {
			return fmt.Errorf("%w: public half of %q (%d candidates)", ErrNotFound, label, len(found))
		}
		point, err := s.t.c.attributes(s.h, found[0], pkcs11.CKA_EC_POINT)
		if err != nil {
			return err
		}
		pub, err = parsePoint(point[0])
		return err
	})
	return pub, err
}

// parsePoint reads CKA_EC_POINT: the uncompressed point inside an OCTET STRING
// (PKCS#11 v2.40 current mechanisms, section 2.3.3), or bare as some tokens
// give it. Their lengths, 67 and 65 bytes, tell them apart.
func parsePoint(b []byte) (*ecdsa.PublicKey, error) {
	if len(b) != 65 {
		var point []byte
		rest, err := asn1.Unmarshal(b, &point)
		if err != nil || len(rest) > 0 {
			return nil, errors.New("hsm: CKA_EC_POINT is neither a point nor an OCTET STRING")
		}
		b = point
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), b)
	if err != nil {
		return nil, fmt.Errorf("hsm: CKA_EC_POINT: %w", err)
	}
	return pub, nil
}

// Destroy destroys all keys with a label, public halves too.
// It returns ErrNotFound if there was none.
func (t *Token) Destroy(label string) error {
	if err := checkName("key label", label); err != nil {
		return err
	}
	return t.do(func(s *session) error {
		return s.alone(func() error {
			t.forget()
			found, err := s.findKeys(label)
			if err != nil {
				return err
			}
			if len(found) == 0 {
				return fmt.Errorf("%w: key %q", ErrNotFound, label)
			}
			for _, h := range found {
				if err := t.c.destroy(s.h, h); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// DestroyAll destroys every key and data object of the token that the user may
// destroy, secrets first. A crash or a Lock half-way leaves the rest: call it
// again.
func (t *Token) DestroyAll() error {
	return t.do(func(s *session) error {
		return s.alone(func() error {
			t.forget()
			var failed []error
			for _, class := range []uint{pkcs11.CKO_SECRET_KEY, pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_DATA,
				pkcs11.CKO_PUBLIC_KEY, pkcs11.CKO_CERTIFICATE} {
				found, err := s.find([]*attribute{attr(pkcs11.CKA_CLASS, class), attr(pkcs11.CKA_TOKEN, true)})
				if err != nil {
					failed = append(failed, err)
					continue
				}
				for _, h := range found {
					if err := s.open(); err != nil {
						return err
					}
					// One that refuses must not save the others.
					if err := t.c.destroy(s.h, h); err != nil {
						failed = append(failed, err)
					}
				}
			}
			return errors.Join(failed...)
		})
	})
}

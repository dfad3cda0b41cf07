package hsm

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"sync"

	"github.com/miekg/pkcs11"
)

// generator is the base of the Diffie-Hellman keys that exponents pose as. It
// is never used: a derivation takes the base from its argument.
var generator = []byte{2}

func checkModulus(n []byte) error {
	bits := new(big.Int).SetBytes(n).BitLen()
	switch {
	case bits != 8*len(n):
		return fmt.Errorf("%w: modulus of %d bits in %d bytes; give it without leading zero bits", ErrArgument, bits, len(n))
	case checkLength(bits) != nil:
		return checkLength(bits)
	case n[len(n)-1]&1 == 0:
		return fmt.Errorf("%w: modulus is even", ErrArgument)
	}
	return nil
}

func checkLength(bits int) error {
	if bits < minModulusBits || bits > maxModulusBits {
		return fmt.Errorf("%w: modulus of %d bits, %d to %d are supported", ErrArgument, bits, minModulusBits, maxModulusBits)
	}
	return nil
}

// WrapExponent encrypts the exponent d for the modulus n under a KEK:
// AES-KWP of the PKCS#8 encoding of a Diffie-Hellman private key with prime n,
// base 2 and value d. d is big-endian, not zero, at most 2·|n| bytes; its
// leading zeros are not kept. The exponent is in the token for the moment of
// wrapping only. Nothing authenticates n or the purpose beyond UnwrapExponent's
// own check of n: seal the result with those facts as additional data.
func (t *Token) WrapExponent(kek string, n, d []byte) (wrapped []byte, err error) {
	if err := checkModulus(n); err != nil {
		return nil, err
	}
	value := bytes.TrimLeft(d, "\x00")
	if len(value) == 0 || len(value) > maxExponentFactor*len(n) {
		return nil, fmt.Errorf("%w: exponent of %d bytes for a modulus of %d", ErrArgument, len(value), len(n))
	}
	template := []*attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_DH),
		attr(pkcs11.CKA_TOKEN, false),
		attr(pkcs11.CKA_PRIVATE, true),
		attr(pkcs11.CKA_SENSITIVE, true),
		attr(pkcs11.CKA_EXTRACTABLE, true),
		attr(pkcs11.CKA_PRIME, n),
		attr(pkcs11.CKA_BASE, generator),
		attr(pkcs11.CKA_VALUE, value),
	}
	err = t.do(func(s *session) error {
		k, err := s.key(roleKEK, kek)
		if err != nil {
			return err
		}
		return s.use(func() error {
			o, err := t.c.create(s.h, template)
			if err != nil {
				return err
			}
			wrapped, err = t.c.wrap(s.h, pkcs11.CKM_AES_KEY_WRAP_PAD, k, o)
			return errors.Join(err, t.c.destroy(s.h, o))
		})
	})
	if err != nil {
		return nil, err
	}
	return wrapped, nil
}

func unwrapTemplate(extractable bool) []*attribute {
	return []*attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_DH),
		attr(pkcs11.CKA_TOKEN, false),
		attr(pkcs11.CKA_PRIVATE, true),
		attr(pkcs11.CKA_SENSITIVE, !extractable),
		attr(pkcs11.CKA_EXTRACTABLE, extractable),
		attr(pkcs11.CKA_DERIVE, !extractable),
	}
}

// unwrapFor unwraps an exponent and checks that it is for the modulus n: under
// another modulus of an attacker's choice its results would reveal it.
func (s *session) unwrapFor(kek string, n, wrapped []byte, extractable bool) (o object, err error) {
	if err := checkModulus(n); err != nil {
		return 0, err
	}
	if len(wrapped) == 0 || len(wrapped) > maxWrapped {
		return 0, fmt.Errorf("%w: wrapped exponent of %d bytes", ErrAuthentication, len(wrapped))
	}
	k, err := s.key(roleKEK, kek)
	if err != nil {
		return 0, err
	}
	c := s.t.c
	err = s.use(func() error {
		o, err = c.unwrap(s.h, pkcs11.CKM_AES_KEY_WRAP_PAD, k, wrapped, unwrapTemplate(extractable))
		if err != nil {
			if code(err) == pkcs11.CKR_TEMPLATE_INCONSISTENT && extractable {
				return fmt.Errorf("%w: %w", ErrConfined, err)
			}
			return err
		}
		err := s.checkUnwrapped(o, n, extractable)
		if err != nil {
			err = errors.Join(err, c.destroy(s.h, o))
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return o, nil
}

func (s *session) checkUnwrapped(o object, n []byte, extractable bool) error {
	v, err := s.t.c.attributes(s.h, o, pkcs11.CKA_PRIME, pkcs11.CKA_SENSITIVE, pkcs11.CKA_EXTRACTABLE)
	if err != nil {
		return err
	}
	if !bytes.Equal(bytes.TrimLeft(v[0], "\x00"), n) {
		return ErrWrongModulus
	}
	if !extractable && (!isTrue(v[1]) || isTrue(v[2])) {
		return fmt.Errorf("%w: the token unwrapped an exponent that can be read", ErrExposedKey)
	}
	return nil
}

// Exponent is an exponent d inside the token, for one modulus. It keeps a
// session of its own and dies at Close and at Lock. Its methods may be called
// from several goroutines; they take turns.
type Exponent struct {
	t          *Token
	n          *big.Int
	size       int // |n| in bytes
	generation uint64

	mu     sync.Mutex
	s      session
	key    object
	closed bool
}

// UnwrapExponent puts a wrapped exponent to work inside the token: a session
// object that is sensitive and not extractable. n is big-endian without leading
// zeros and must be the modulus that it was wrapped for (ErrWrongModulus). A
// wrapped exponent that is not authentic gives ErrAuthentication. The caller
// closes the Exponent.
func (t *Token) UnwrapExponent(kek string, n, wrapped []byte) (*Exponent, error) {
	if t.exponents.Add(1) > maxExponents {
		t.exponents.Add(-1)
		return nil, fmt.Errorf("%w: %d exponents are open; close some", ErrBusy, maxExponents)
	}
	e, err := t.unwrapExponent(kek, n, wrapped)
	if err != nil {
		t.exponents.Add(-1)
		return nil, err
	}
	return e, nil
}

func (t *Token) unwrapExponent(kek string, n, wrapped []byte) (e *Exponent, err error) {
	if err := t.enter(); err != nil {
		return nil, err
	}
	defer func() {
		if err = t.leave(err); err != nil {
			e = nil // Lock is about to close its session
		}
	}()
	h, err := t.c.openSession(t.slot)
	if err != nil {
		return nil, err
	}
	e = &Exponent{t: t, n: new(big.Int).SetBytes(n), size: len(n), generation: t.generation, s: session{t, h}}
	if e.key, err = e.s.unwrapFor(kek, n, wrapped, false); err != nil {
		return nil, errors.Join(err, t.end(h))
	}
	t.idleMu.Lock()
	t.live[e] = true
	t.idleMu.Unlock()
	return e, nil
}

// Exp returns x^d mod N, exactly |N| bytes, for 1 < x < N−1 given in |N| bytes.
// A token refuses 0, 1 and N−1 as Diffie-Hellman public values, and no encoded
// message is one of them (NIST SP 800-56A section 5.6.2.3.1). The result is the
// token's word: verify the signature it becomes part of.
func (e *Exponent) Exp(x []byte) (y []byte, err error) {
	v := new(big.Int).SetBytes(x)
	if len(x) != e.size || v.Cmp(big.NewInt(1)) <= 0 || v.Cmp(new(big.Int).Sub(e.n, big.NewInt(1))) >= 0 {
		return nil, fmt.Errorf("%w: base of an exponentiation must have %d bytes and lie between 1 and N−1", ErrArgument, e.size)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	err = e.run(func() (err error) {
		e.t.power <- struct{}{}
		defer func() { <-e.t.power }()
		if err := e.s.open(); err != nil {
			return err // waited for a processor while Lock came
		}
		// A session object goes on answering after its token has been deleted.
		// The probe costs a hundredth of what follows.
		if _, err := e.t.health(); err != nil {
			return err
		}
		y, err = e.s.deriveValue(pkcs11.CKM_DH_PKCS_DERIVE, e.key, x, e.size)
		return err
	})
	if err != nil {
		return nil, err
	}
	return y, nil
}

// run passes the gate and makes sure that the session is still this Exponent's:
// handles are reused after Lock. It needs e.mu.
func (e *Exponent) run(f func() error) (err error) {
	if e.closed {
		return ErrClosed
	}
	if err := e.t.enter(); err != nil {
		return err
	}
	defer func() { err = e.t.leave(err) }()
	if e.generation != e.t.generation {
		return ErrLocked
	}
	return f()
}

// Close destroys the exponent in the token and ends its session. If the token
// was locked meanwhile, that has been done already.
func (e *Exponent) Close() error {
	// Held to the end: a second Close must not meet the session, which may be
	// another's by then.
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrClosed
	}
	err := e.run(func() error {
		e.t.idleMu.Lock()
		delete(e.t.live, e)
		e.t.idleMu.Unlock()
		return errors.Join(
			e.s.use(func() error { return e.t.c.destroy(e.s.h, e.key) }),
			e.t.end(e.s.h))
	})
	e.closed = true
	e.t.exponents.Add(-1)
	if errors.Is(err, ErrLocked) || errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}

// RevealExponent unwraps an exponent for use in the host: big-endian, padded
// with leading zeros to |n| bytes (longer only if the exponent is). The caller
// wipes it. A KEK made for use in the token gives ErrConfined.
func (t *Token) RevealExponent(kek string, n, wrapped []byte) (d []byte, err error) {
	err = t.do(func(s *session) error {
		o, err := s.unwrapFor(kek, n, wrapped, true)
		if err != nil {
			return err
		}
		return s.use(func() error {
			v, err := t.c.attributes(s.h, o, pkcs11.CKA_VALUE)
			if err = errors.Join(err, t.c.destroy(s.h, o)); err != nil {
				return err
			}
			value := bytes.TrimLeft(v[0], "\x00")
			d = make([]byte, max(len(n), len(value)))
			copy(d[len(d)-len(value):], value)
			clear(v[0])
			return nil
		})
	})
	if err != nil {
		clear(d)
		return nil, err
	}
	return d, nil
}

package hsm

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"
)

// Capabilities is what the token's mechanism list promises. A promise about
// exponents in the token is not enough: see SelfTest.
type Capabilities struct {
	Vendor      string // from the vendor table
	ECDSA       bool   // CKM_ECDSA and key generation: Signer
	ECDH        bool   // CKM_ECDH1_DERIVE and key generation: KeyExchanger
	GCM         bool   // CKM_AES_GCM and key generation: AEAD
	KWP         bool   // CKM_AES_KEY_WRAP_PAD both ways: KEK
	DHDerive    bool   // CKM_DH_PKCS_DERIVE: perhaps Exponent
	DHMinBits   int    // modulus sizes for CKM_DH_PKCS_DERIVE
	DHMaxBits   int
	DataObjects bool // from the vendor table

	// LockedDestroy: public data objects can be destroyed while the token is
	// locked. It is found out by trying when the token is locked, and
	// remembered: before that it is false.
	LockedDestroy bool
}

// Capabilities reads the mechanism list, locked or not. If the token is locked,
// the first call also stores and destroys a small public data object.
func (t *Token) Capabilities() (Capabilities, error) {
	t.gate.RLock()
	defer t.gate.RUnlock()
	if t.closed {
		return Capabilities{}, ErrClosed
	}
	m, err := t.c.mechanisms(t.slot)
	if err != nil {
		return Capabilities{}, t.explain(err)
	}
	t.probeOnce()
	has := func(mech uint, flags uint) bool {
		info, ok := m[mech]
		return ok && info.Flags&flags == flags
	}
	return Capabilities{
		Vendor:      t.vendor.label,
		ECDSA:       has(pkcs11.CKM_ECDSA, pkcs11.CKF_SIGN) && has(pkcs11.CKM_EC_KEY_PAIR_GEN, 0),
		ECDH:        has(pkcs11.CKM_ECDH1_DERIVE, pkcs11.CKF_DERIVE) && has(pkcs11.CKM_EC_KEY_PAIR_GEN, 0),
		GCM:         has(pkcs11.CKM_AES_GCM, pkcs11.CKF_ENCRYPT|pkcs11.CKF_DECRYPT) && has(pkcs11.CKM_AES_KEY_GEN, 0),
		KWP:         has(pkcs11.CKM_AES_KEY_WRAP_PAD, pkcs11.CKF_WRAP|pkcs11.CKF_UNWRAP) && has(pkcs11.CKM_AES_KEY_GEN, 0),
		DHDerive:    has(pkcs11.CKM_DH_PKCS_DERIVE, pkcs11.CKF_DERIVE),
		DHMinBits:   int(m[pkcs11.CKM_DH_PKCS_DERIVE].MinKeySize),
		DHMaxBits:   int(m[pkcs11.CKM_DH_PKCS_DERIVE].MaxKeySize),
		DataObjects: !t.vendor.noDataObjects,

		LockedDestroy: t.lockedDestroy.Load() == probedYes,
	}, nil
}

// SelfTest decides whether exponents can be used inside the token for moduli
// of the given length, by the way that shares take: wrap under the KEK, unwrap,
// exponentiate, compare with math/big. It tries odd and even exponents, one
// longer than the modulus, and a result with leading zeros, which careless
// tokens cut off. The modulus is a random odd number: a token that insists on
// known groups or on primes fails, as it would with a real share. nil means
// yes; errors.Is(err, ErrUnsupported) means no, use the shares in the host.
// The token must be unlocked.
func (t *Token) SelfTest(kek string, bits int) error {
	if bits%8 != 0 {
		return fmt.Errorf("%w: %d bits are not whole bytes", ErrArgument, bits)
	}
	n := make([]byte, bits/8)
	if err := checkLength(bits); err != nil {
		return err
	}
	rand.Read(n)
	n[0] |= 0x80
	n[len(n)-1] |= 1
	random := func(size int, low byte) []byte {
		b := make([]byte, size)
		rand.Read(b)
		b[0] |= 1
		b[size-1] = b[size-1]&^1 | low
		return b
	}
	base := random(len(n), 0)
	base[0] &= 0x7f // below N
	three := append(make([]byte, len(n)-1), 3)
	for _, c := range []struct {
		what string
		d, x []byte
	}{
		{"odd exponent", random(len(n), 1), base},
		{"even exponent", random(len(n), 0), base},
		{"short exponent", random(16, 1), base},
		{"long exponent", random(len(n)+16, 1), base},
		{"leading zeros", []byte{2}, three},
	} {
		if err := t.tryExponent(kek, n, c.d, c.x); err != nil {
			if errors.Is(err, ErrLocked) || errors.Is(err, ErrTokenGone) || errors.Is(err, ErrNotFound) || errors.Is(err, ErrClosed) {
				return err // says nothing about the token's abilities
			}
			return fmt.Errorf("%w: exponentiation inside the token, %d bits, %s: %w", ErrUnsupported, bits, c.what, err)
		}
	}
	return nil
}

func (t *Token) tryExponent(kek string, n, d, x []byte) (err error) {
	wrapped, err := t.WrapExponent(kek, n, d)
	if err != nil {
		return err
	}
	e, err := t.UnwrapExponent(kek, n, wrapped)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	got, err := e.Exp(x)
	if err != nil {
		return err
	}
	want := make([]byte, len(n))
	num := func(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
	new(big.Int).Exp(num(x), num(d), num(n)).FillBytes(want)
	if !bytes.Equal(got, want) {
		return errors.New("the result is wrong")
	}
	return nil
}

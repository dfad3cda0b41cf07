package card

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"io"

	"github.com/go-piv/piv-go/v2/piv"
	"github.com/privyseal/privyseal/firmware/attest"
)

// slotKey is what a card tells of a key.
type slotKey struct {
	slot   Slot
	public *ecdsa.PublicKey
	touch  bool
}

// readKey reads the public key of a slot and whether it wants a touch.
func (c *Card) readKey(yk *piv.YubiKey, slot Slot) (slotKey, error) {
	k := slotKey{slot: slot}
	var pub crypto.PublicKey
	if v := c.version; v.Major > 5 || v.Major == 5 && v.Minor >= 3 {
		// GET METADATA, a Yubico command since 5.3, knows imported keys, too.
		info, err := yk.KeyInfo(slot.piv())
		if err != nil {
			return k, c.noKey(yk, slot, err)
		}
		pub, k.touch = info.PublicKey, info.TouchPolicy != piv.TouchPolicyNever
	} else {
		cert, err := yk.Attest(slot.piv())
		if err != nil {
			return k, c.noKey(yk, slot, err)
		}
		pub = cert.PublicKey
		if a, err := attest.Parse(cert); err == nil {
			k.touch = a.TouchPolicy != attest.TouchNever
		}
	}
	ec, ok := pub.(*ecdsa.PublicKey)
	if !ok || ec.Curve != elliptic.P256() {
		return k, &KeyTypeError{c.serial, slot, fmt.Sprintf("%T", pub)}
	}
	if _, err := ec.ECDH(); err != nil { // not on the curve
		return k, &KeyTypeError{c.serial, slot, err.Error()}
	}
	k.public = ec
	return k, nil
}

func (c *Card) noKey(yk *piv.YubiKey, slot Slot, err error) error {
	err = c.suspect(yk, err)
	if !errors.Is(err, ErrSwapped) && absent(err) {
		return &NoKeyError{c.serial, slot}
	}
	return fmt.Errorf("reading the key in slot %v: %w", slot, err)
}

// key reads a slot's key in this goroutine's turn.
func (c *Card) key(ctx context.Context, slot Slot) (slotKey, error) {
	if err := c.take(ctx); err != nil {
		return slotKey{}, err
	}
	defer c.give()
	return exchange(ctx, c, func(yk *piv.YubiKey) (slotKey, error) { return c.readKey(yk, slot) })
}

// authorize asks the person for the PIN, if the card wants one: always for
// always, else only if the PIN is not verified yet. The caller has its turn. It
// returns nil if no PIN is wanted.
func (c *Card) authorize(ctx context.Context, k slotKey, always bool) ([]byte, error) {
	left, err := exchange(ctx, c, func(yk *piv.YubiKey) (int, error) {
		if err := c.same(yk); err != nil {
			return 0, err
		}
		left, err := yk.Retries()
		if err = classify(err); fatal(err) {
			return 0, err
		} else if err != nil {
			// piv-go's error for "no PIN needed", or a card that does not say.
			return unknownRetries, nil
		}
		return left, nil
	})
	if err != nil {
		return nil, err
	}
	if left == 0 {
		return nil, fmt.Errorf("card %d: %w", c.serial, ErrPINBlocked)
	}
	if left == unknownRetries && !always {
		return nil, nil
	}
	return c.askPIN(ctx, Prompt{Serial: c.serial, Reader: c.reader, Slot: k.slot, Retries: left, Touch: k.touch})
}

// withPIN is exchange for an f that wipes pin: if f never runs, it is wiped
// here.
func withPIN(ctx context.Context, c *Card, pin []byte, f func(*piv.YubiKey) ([]byte, error)) ([]byte, error) {
	out, err := exchange(ctx, c, f)
	if errors.As(err, new(*notStarted)) {
		clear(pin)
	}
	return out, err
}

// use verifies the PIN, if there is one, tells about the touch and runs f on
// the slot's key.
func (c *Card) use(yk *piv.YubiKey, k slotKey, pin []byte, f func(*piv.ECDSAPrivateKey) ([]byte, error)) ([]byte, error) {
	if pin != nil {
		if err := c.verify(yk, pin); err != nil {
			return nil, err
		}
	} else if err := c.same(yk); err != nil {
		return nil, err
	}
	// PINPolicyNever keeps piv-go from asking for the PIN itself.
	priv, err := yk.PrivateKey(k.slot.piv(), k.public, piv.KeyAuth{PINPolicy: piv.PINPolicyNever})
	if err != nil {
		return nil, err
	}
	ec, ok := priv.(*piv.ECDSAPrivateKey)
	if !ok {
		return nil, &KeyTypeError{c.serial, k.slot, fmt.Sprintf("%T", priv)}
	}
	if k.touch && c.opts.Touch != nil {
		c.opts.Touch(Prompt{Serial: c.serial, Reader: c.reader, Slot: k.slot, Touch: true})
	}
	out, err := f(ec)
	switch {
	case err == nil:
		return out, nil
	case statusWord(err) == swSecurityStatus && k.touch:
		return nil, fmt.Errorf("card %d: %w", c.serial, ErrTouch)
	}
	return nil, c.suspect(yk, err)
}

// Signer is the key in slot 9C. It implements crypto.Signer for SHA-256.
type Signer struct {
	c   *Card
	ctx context.Context
	key slotKey
}

var _ crypto.Signer = (*Signer)(nil)

// Signer returns the signature key. ctx bounds reading it and every signature
// made with it.
func (c *Card) Signer(ctx context.Context) (*Signer, error) {
	k, err := c.key(ctx, SlotSign)
	if err != nil {
		return nil, err
	}
	return &Signer{c, ctx, k}, nil
}

// Public returns the *ecdsa.PublicKey.
func (s *Signer) Public() crypto.PublicKey { return s.key.public }

// Card returns the card that the key is in.
func (s *Signer) Card() *Card { return s.c }

// Sign signs a SHA-256 digest; the PIN is asked for, sent anew each time. The
// signature is ASN.1 DER, verified before it is returned. rand is not used: the
// card has its own.
//
// Errors: *PINError, ErrPINBlocked, ErrPINLength, ErrTouch, ErrRemoved,
// ErrSwapped, ErrTimeout, ErrClosed and the PIN source's.
func (s *Signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts == nil || opts.HashFunc() != crypto.SHA256 || len(digest) != crypto.SHA256.Size() {
		return nil, errors.New("card signs SHA-256 digests of 32 bytes only")
	}
	c := s.c
	if err := c.take(s.ctx); err != nil {
		return nil, err
	}
	defer c.give()
	pin, err := c.authorize(s.ctx, s.key, true)
	if err != nil {
		return nil, err
	}
	digest = append([]byte(nil), digest...) // an abandoned call may outlive the caller's slice
	return withPIN(s.ctx, c, pin, func(yk *piv.YubiKey) ([]byte, error) {
		sig, err := c.use(yk, s.key, pin, func(k *piv.ECDSAPrivateKey) ([]byte, error) {
			return k.Sign(nil, digest, crypto.SHA256)
		})
		if err != nil {
			return nil, err
		}
		if !ecdsa.VerifyASN1(s.key.public, digest, sig) {
			return nil, fmt.Errorf("%w: the signature does not verify under the key of card %d", ErrSwapped, c.serial)
		}
		return sig, nil
	})
}

// Agreement is the key in slot 9D. It implements ecdh.KeyExchanger on P-256.
type Agreement struct {
	c      *Card
	ctx    context.Context
	key    slotKey
	public *ecdh.PublicKey
}

var _ ecdh.KeyExchanger = (*Agreement)(nil)

// Agreement returns the key agreement key. ctx bounds reading it and every
// agreement made with it.
func (c *Card) Agreement(ctx context.Context) (*Agreement, error) {
	k, err := c.key(ctx, SlotAgree)
	if err != nil {
		return nil, err
	}
	pub, err := k.public.ECDH()
	if err != nil {
		return nil, &KeyTypeError{c.serial, SlotAgree, err.Error()}
	}
	return &Agreement{c, ctx, k, pub}, nil
}

// PublicKey returns the card's public key.
func (a *Agreement) PublicKey() *ecdh.PublicKey { return a.public }

// Curve returns P-256.
func (a *Agreement) Curve() ecdh.Curve { return ecdh.P256() }

// Card returns the card that the key is in.
func (a *Agreement) Card() *Card { return a.c }

// ECDH returns the shared secret with a peer, 32 bytes: the x coordinate. The
// PIN is asked for once while the Card is open. The secret cannot be checked as
// a signature can; the card is checked before and after.
//
// Errors: as of Signer.Sign.
func (a *Agreement) ECDH(peer *ecdh.PublicKey) ([]byte, error) {
	if peer == nil || peer.Curve() != ecdh.P256() {
		return nil, errors.New("card agrees with P-256 keys only")
	}
	c := a.c
	if err := c.take(a.ctx); err != nil {
		return nil, err
	}
	defer c.give()
	pin, err := c.authorize(a.ctx, a.key, false)
	if err != nil {
		return nil, err
	}
	return withPIN(a.ctx, c, pin, func(yk *piv.YubiKey) ([]byte, error) {
		secret, err := c.use(yk, a.key, pin, func(k *piv.ECDSAPrivateKey) ([]byte, error) {
			return k.ECDH(peer)
		})
		if err != nil {
			return nil, err
		}
		if err := c.same(yk); err != nil {
			clear(secret)
			return nil, err
		}
		if len(secret) != 32 {
			clear(secret)
			return nil, fmt.Errorf("card %d: the shared secret has %d bytes, not 32", c.serial, len(secret))
		}
		return secret, nil
	})
}

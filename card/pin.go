package card

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/go-piv/piv-go/v2/piv"
)

// Slot is one of the two slots of an officer's card (SP 800-73-4 part 1, 3.3).
type Slot byte

const (
	SlotSign  Slot = 0x9c // digital signature: PIN before each signature
	SlotAgree Slot = 0x9d // key management: PIN once
)

func (s Slot) String() string { return fmt.Sprintf("%02X", byte(s)) }

func (s Slot) piv() piv.Slot {
	if s == SlotAgree {
		return piv.SlotKeyManagement
	}
	return piv.SlotSignature
}

// Prompt tells the person what the card wants and why.
type Prompt struct {
	Serial  uint32
	Reader  string
	Slot    Slot
	Retries int  // tries left before the PIN is blocked, or -1 if not known
	Touch   bool // the card will want a touch
}

// PINSource gives the PIN of a card, 6 to 8 bytes. The card wipes the slice, so
// a source that keeps the PIN returns a copy. The source must return when ctx
// is done. Its error is returned, wrapped, by the operation that asked.
type PINSource func(ctx context.Context, p Prompt) ([]byte, error)

// verify sends the PIN, once. The serial number is compared just before, so
// that the PIN of one card is not given to another.
func (c *Card) verify(yk *piv.YubiKey, pin []byte) error {
	defer clear(pin)
	if err := c.checkPIN(pin); err != nil {
		return err
	}
	if err := c.same(yk); err != nil {
		return err
	}
	err := yk.VerifyPIN(string(pin))
	if err == nil {
		c.refused = [32]byte{}
		return nil
	}
	return c.pinRefused(yk, pin, false, err)
}

// checkPIN refuses what must not be sent: a length that no card has, and the
// PIN that this card has just refused.
func (c *Card) checkPIN(pin []byte) error {
	if len(pin) < minPIN || len(pin) > maxPIN {
		return ErrPINLength
	}
	if c.refused == sha256.Sum256(pin) {
		if c.retries == 0 {
			return fmt.Errorf("card %d: %w", c.serial, ErrPINBlocked)
		}
		return fmt.Errorf("not sent again: %w", &PINError{Serial: c.serial, Retries: c.retries})
	}
	return nil
}

// pinRefused turns the card's answer to a wrong PIN or PUK into a PINError,
// ErrPINBlocked, ErrPUKBlocked or what else went wrong.
func (c *Card) pinRefused(yk *piv.YubiKey, pin []byte, puk bool, err error) error {
	var auth piv.AuthErr
	if !errors.As(err, &auth) {
		return c.suspect(yk, fmt.Errorf("verifying the PIN: %w", err))
	}
	left := auth.Retries
	if statusWord(err) == swVerifyFailed { // this card does not say
		left = unknownRetries
		if !puk {
			left = retriesLeft(yk)
		}
	}
	switch {
	case puk && left == 0:
		return fmt.Errorf("card %d: %w", c.serial, ErrPUKBlocked)
	case puk:
		return &PINError{Serial: c.serial, Retries: left, PUK: true}
	}
	c.refused, c.retries = sha256.Sum256(pin), left
	if left == 0 {
		return fmt.Errorf("card %d: %w", c.serial, ErrPINBlocked)
	}
	return &PINError{Serial: c.serial, Retries: left}
}

// retriesLeft asks the card, without a PIN. A card whose PIN is verified does
// not tell.
func retriesLeft(yk *piv.YubiKey) int {
	n, err := yk.Retries()
	if err != nil {
		return unknownRetries
	}
	return n
}

// Batch wraps a source for a batch of signatures: the person is asked once for
// each card, and again only after forget. A caller whose operation fails with a
// PINError or with ErrPINBlocked calls forget; even if it does not, the Card
// refuses to send the same wrong PIN twice.
func Batch(source PINSource) (batch PINSource, forget func()) {
	var mu sync.Mutex
	pins := make(map[uint32][]byte)
	wipe := func() {
		for serial, pin := range pins {
			clear(pin)
			delete(pins, serial)
		}
	}
	batch = func(ctx context.Context, p Prompt) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		pin, ok := pins[p.Serial]
		if !ok {
			var err error
			if pin, err = source(ctx, p); err != nil {
				return nil, err
			}
			pins[p.Serial] = pin
		}
		return append([]byte(nil), pin...), nil
	}
	forget = func() {
		mu.Lock()
		defer mu.Unlock()
		wipe()
	}
	return batch, forget
}

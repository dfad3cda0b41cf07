package share

import (
	"encoding/base32"
	"fmt"
	"io"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// pinLength is 32 random bytes in base32 without padding: within every token's
// limits (SoftHSM2 takes 4 to 255 bytes), printable, and with 256 bits nothing
// to guess, so a stored check value gives nothing away.
const pinLength = 52

// The domains keep a PIN's check value and an officers' key's apart.
const (
	pinCheckDomain = "privyseal pin check v1"
	keyCheckDomain = "privyseal officers' key check v1"
)

var pinEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewPIN returns a random PIN for a token: 52 characters A–Z, 2–7.
func NewPIN(rand io.Reader) (threshold.Secret, error) {
	var b [32]byte
	defer clear(b[:])
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return threshold.Secret{}, fmt.Errorf("share: new PIN: %w", err)
	}
	pin := make([]byte, pinLength)
	pinEncoding.Encode(pin, b[:])
	return threshold.NewSecret(pin), nil
}

// PINCheck is what a device keeps of its PIN, to recognise it when the
// officers' pieces are joined: a wrong one is never tried on the token, which
// would lock itself after a few.
func PINCheck(pin threshold.Secret) envelope.Hash {
	return envelope.HashOf(pinCheckDomain, pin.Reveal())
}

// RecoverPIN joins l of the given pieces to the PIN with this check value; see
// Recover for wrong and the errors. The caller wipes the PIN.
func RecoverPIN(check envelope.Hash, l int, pieces []Piece) (pin threshold.Secret, wrong []uint64, err error) {
	return Recover(pieces, l, func(s []byte) bool { return envelope.HashOf(pinCheckDomain, s) == check })
}

package devicetoken

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/hsm"
)

// ErrKeysLeft: the token is locked and no PIN was kept. The shares are gone,
// but the key-encryption keys are left, and with them any share that an older
// device stored as a private object. Destroy them after the next unlock.
var ErrKeysLeft = errors.New("devicetoken: the key-encryption keys are left until the token is unlocked")

// The order matters to a crash in between: a token with the second key alone
// still opens, so that the destruction can be finished.
var destroyedKeys = []string{LabelKEKToken, LabelKEKHost}

// KeepPIN has the PIN of the next Unlock or SetPIN kept in memory, for Destroy
// and for nothing else; a PIN that was used before is not known any more. It is
// kept until Destroy succeeds or finds it wrong, until KeepPIN(false, nil) or
// Close. The room for it is taken from m at once: the error is m's.
//
// Why a PIN may be kept at all: destroying a key takes a login, and the second
// limit passes when the token has long been locked and nobody answers. Who
// takes the device is assumed to know the PIN in any case, and a share cannot
// be opened without the officers' pieces. Even so it is kept only where the
// ledger asks for destruction, and in memory that is never swapped or dumped.
func (t *Token) KeepPIN(keep bool, m share.Memory) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if keep == (t.kept != nil) {
		return nil
	}
	if !keep {
		t.kept.free()
		t.kept = nil
		return nil
	}
	room, err := m.Alloc(hsm.MaxPIN)
	if err != nil {
		return fmt.Errorf("no room to keep the token's PIN: %w", err)
	}
	t.kept = &keptPIN{memory: m, room: room}
	return nil
}

// PINKept reports whether Destroy could destroy the keys of a locked token.
func (t *Token) PINKept() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kept.pin() != nil
}

// SetPIN changes the PIN, and with it the one that is kept.
func (t *Token) SetPIN(old, new hsm.PIN) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.Token.SetPIN(old, new); err != nil {
		return err
	}
	t.kept.set(new)
	return nil
}

// Close locks and closes the token, and forgets the PIN.
func (t *Token) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept.free()
	t.kept = nil
	return t.Token.Close()
}

// Destroy destroys the named objects and both key-encryption keys, and looks
// whether they are gone. It works locked or unlocked and leaves the token as it
// was, but ends all exponents in it; what is gone already is no error. The
// device's own keys remain, so that it can still say who it is. Copies of a
// SoftHSM2 directory are out of its reach.
//
// Shares go first, without a login. Then the keys, for which the token must be
// unlocked or the PIN kept; otherwise the error is ErrKeysLeft. Every other
// error says what is left too; then call it again.
func (t *Token) Destroy(objects []string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	public := t.Token.DestroyPublicObjects(objects...)
	// Once more, for private copies.
	rest := t.Token.DestroyWithPIN(t.kept.pin(), destroyedKeys, objects)
	var wrong *hsm.PINError
	switch {
	case rest == nil:
		t.kept.clear()
		// The private pass saw the public copies too, and found nothing.
		return nil
	case errors.Is(rest, hsm.ErrLocked):
		rest = ErrKeysLeft
	case errors.As(rest, &wrong):
		// Trying it again would cost the tries that the officers need.
		t.kept.clear()
		rest = fmt.Errorf("%w: the PIN that was kept: %w", ErrKeysLeft, rest)
	}
	return errors.Join(public, rest)
}

const redactedPIN = "devicetoken.keptPIN(redacted)"

// keptPIN is a PIN in locked memory. A nil *keptPIN keeps nothing.
type keptPIN struct {
	memory share.Memory
	room   []byte
	size   int
}

func (k *keptPIN) set(pin []byte) {
	if k == nil {
		return
	}
	k.clear()
	k.size = copy(k.room, pin)
}

// pin is nil if there is none.
func (k *keptPIN) pin() hsm.PIN {
	if k == nil || k.size == 0 {
		return nil
	}
	return hsm.PIN(k.room[:k.size])
}

func (k *keptPIN) clear() {
	if k != nil {
		clear(k.room)
		k.size = 0
	}
}

func (k *keptPIN) free() {
	if k != nil {
		k.clear()
		k.memory.Free(k.room)
		k.room = nil
	}
}

func (t *Token) redacted() string { return fmt.Sprintf("devicetoken.Token(%q)", t.Label()) }

// Format writes the token's label for every verb: fmt would otherwise look into
// its fields.
func (t *Token) Format(f fmt.State, _ rune) { io.WriteString(f, t.redacted()) }

func (t *Token) String() string               { return t.redacted() }
func (t *Token) GoString() string             { return t.redacted() }
func (t *Token) MarshalText() ([]byte, error) { return []byte(t.redacted()), nil }
func (t *Token) LogValue() slog.Value         { return slog.StringValue(t.redacted()) }

func (keptPIN) String() string               { return redactedPIN }
func (keptPIN) GoString() string             { return redactedPIN }
func (keptPIN) Format(f fmt.State, _ rune)   { io.WriteString(f, redactedPIN) }
func (keptPIN) MarshalText() ([]byte, error) { return []byte(redactedPIN), nil }
func (keptPIN) LogValue() slog.Value         { return slog.StringValue(redactedPIN) }

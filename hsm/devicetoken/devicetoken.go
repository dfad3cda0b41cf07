// Package devicetoken is a token as a signing device's interpreter wants it: the
// keys under their labels, and a signer and an exchanger whose public halves
// are known while the token is locked.
package devicetoken

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/hsm"
)

// Labels of the keys in a device's token.
const (
	LabelSign     = "privyseal.sign"
	LabelAgree    = "privyseal.agree"
	LabelKEKToken = "privyseal.kek.token" // for shares that are used in the token
	LabelKEKHost  = "privyseal.kek.host"
)

// Token is a firmware.Token. It is safe for concurrent use.
type Token struct {
	*hsm.Token

	// login is the unlock in which the key-encryption keys were found in order;
	// until then the token counts as locked.
	login atomic.Uint64

	// mu keeps what needs a PIN apart. Lock does not take it: nothing that
	// takes long may keep a lock-down waiting.
	mu   sync.Mutex
	kept *keptPIN // nil unless KeepPIN asked for it
}

// New wraps a token that is locked.
func New(t *hsm.Token) *Token { return &Token{Token: t} }

// Shares is the token with one of its two KEKs.
func (t *Token) Shares(inToken bool) share.Token {
	if inToken {
		return share.Bind[*hsm.Exponent](t.Token, LabelKEKToken)
	}
	return share.Bind[*hsm.Exponent](t.Token, LabelKEKHost)
}

// Unlock logs in, and makes sure that the key-encryption keys are still what
// they were made for: whoever had the PIN may have put others in their place,
// which would let shares out that never leave the token. A token whose keys
// Destroy destroyed opens too: it can still sign and be talked to. A Lock that
// comes meanwhile wins.
func (t *Token) Unlock(pin []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.Token.Unlock(hsm.PIN(pin)); err != nil {
		return err
	}
	n, unlocked := t.Token.Login()
	if !unlocked {
		return hsm.ErrLocked
	}
	if err := t.checkKEKs(); err != nil {
		return errors.Join(err, t.Token.Lock())
	}
	t.kept.set(pin)
	t.login.Store(n)
	if t.Locked() {
		return hsm.ErrLocked
	}
	return nil
}

func (t *Token) checkKEKs() error {
	inToken, err := t.checkKEK(LabelKEKToken, hsm.InToken)
	if err != nil {
		return err
	}
	inHost, err := t.checkKEK(LabelKEKHost, hsm.InHost)
	if err != nil {
		return err
	}
	// A token without unwrap templates has the second only, one that Destroy
	// is done with has neither.
	if inToken && !inHost {
		return fmt.Errorf("key-encryption key %s: %w", LabelKEKHost, hsm.ErrNotFound)
	}
	return nil
}

// checkKEK reports whether there is a key of that label; if so, it is for that
// use.
func (t *Token) checkKEK(label string, want hsm.Use) (bool, error) {
	switch use, err := t.KEKUse(label); {
	case errors.Is(err, hsm.ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("key-encryption key %s: %w", label, err)
	case use != want:
		return false, fmt.Errorf("key-encryption key %s is not the one that was made for it: somebody with the PIN replaced it", label)
	}
	return true, nil
}

// Locked reports whether the token is locked as far as this process knows,
// whatever the module answered to the lock. It never waits: from the moment
// Lock is called it says yes.
func (t *Token) Locked() bool {
	n, unlocked := t.Token.Login()
	return !unlocked || n != t.login.Load()
}

// isShare tells shares from what only the device may know. A share is sealed
// with the officers' key, of which each officer holds a piece, over the token's
// key-encryption key. Its ciphertext is a public object, so that a token that
// nobody can unlock any more can still destroy it. That costs nothing: whoever
// reaches the token without the PIN may delete the token's directory anyway,
// and what he reads he cannot open. Nor does what he puts in its place pass for
// a share: the officers' key authenticates it.
func isShare(name string) bool { return strings.HasPrefix(name, ceremony.ShareObject("")) }

// PutObject stores shares as public objects and all others as private ones.
// A share that an older device stored privately is replaced by a public one.
func (t *Token) PutObject(name string, version uint64, data []byte) error {
	if isShare(name) {
		return t.Token.PutPublicObject(name, version, data)
	}
	return t.Token.PutObject(name, version, data)
}

// GetObject is hsm's, with the interpreter's error for what is not there. It
// finds shares of either kind; other objects must be private: a PIN to come,
// put there by somebody without the PIN, must not be taken for the device's.
func (t *Token) GetObject(name string) (uint64, []byte, error) {
	get := t.Token.GetPrivateObject
	if isShare(name) {
		get = t.Token.GetObject
	}
	v, data, err := get(name)
	return v, data, notFound(err)
}

// DeleteObject likewise.
func (t *Token) DeleteObject(name string) error { return notFound(t.Token.DeleteObject(name)) }

func notFound(err error) error {
	if errors.Is(err, hsm.ErrNotFound) {
		return fmt.Errorf("%w: %w", firmware.ErrNotFound, err)
	}
	return err
}

// Health says in a few words what the token says of itself.
func (t *Token) Health() string {
	h, err := t.Token.Health()
	switch {
	case err != nil:
		return "gone: " + err.Error()
	case h.PINLocked:
		return "PIN locked"
	case h.PINFinalTry:
		return "one PIN try left"
	case h.WriteProtected:
		return "write protected"
	}
	return firmware.HealthOK
}

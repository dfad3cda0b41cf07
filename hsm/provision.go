package hsm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/miekg/pkcs11"

	softhsmconfig "github.com/privyseal/privyseal/softhsm-config"
)

// InitToken initialises the first uninitialised token of the module, gives it
// the label and both PINs, and returns its serial number. SoftHSM2 always
// offers one more uninitialised token. It returns ErrExists if a token of that
// label is there already: nothing is ever initialised twice.
//
// A crash before the user PIN is set leaves a token with that label, which
// Unlock answers with ErrNoPIN; remove it with its directory.
func InitToken(cfg Config, soPIN, pin PIN) (serial string, err error) {
	if err := errors.Join(cfg.check(), soPIN.check(), pin.check()); err != nil {
		return "", err
	}
	if cfg.TokenLabel == "" || cfg.TokenSerial != "" {
		return "", fmt.Errorf("%w: a new token needs a label, and makes its own serial number", ErrArgument)
	}
	m, err := acquire(cfg.module())
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, m.release()) }()
	listing.Lock()
	defer listing.Unlock()
	c := &cryptoki{m.ctx, cfg.Trace}
	switch _, err := lookup(c, cfg); {
	case err == nil || errors.Is(err, ErrTokenAmbiguous):
		return "", fmt.Errorf("%w: token %q", ErrExists, cfg.TokenLabel)
	case !errors.Is(err, ErrTokenNotFound):
		return "", err
	}
	all, err := slots(c)
	if err != nil {
		return "", err
	}
	for _, s := range all {
		if s.info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			return initSlot(c, s.id, cfg.TokenLabel, soPIN, pin)
		}
	}
	return "", fmt.Errorf("%w: no uninitialised token to make %q of", ErrTokenNotFound, cfg.TokenLabel)
}

func initSlot(c *cryptoki, slot uint, label string, soPIN, pin PIN) (string, error) {
	if err := c.initToken(slot, soPIN, label); err != nil {
		return "", err
	}
	h, err := c.openSession(slot)
	if err != nil {
		return "", err
	}
	defer c.closeAllSessions(slot)
	if err := c.login(h, pkcs11.CKU_SO, soPIN); err != nil {
		return "", err
	}
	if err := errors.Join(c.initPIN(h, pin), c.logout(h)); err != nil {
		return "", err
	}
	info, err := c.tokenInfo(slot)
	if err != nil {
		return "", err
	}
	return info.SerialNumber, nil
}

// SoftHSMConfig is the SoftHSM2 configuration for a token directory, an
// absolute path.
func SoftHSMConfig(dir string) ([]byte, error) { return softhsmconfig.Render(dir) }

// UseSoftHSM makes dir the home of this process's SoftHSM2: dir/tokens for the
// tokens and dir/softhsm2.conf, which SOFTHSM2_CONF then names. It creates what
// is missing, readable by the owner only, and must come before the first Open
// or InitToken, for the module reads the variable when it is initialised.
func UseSoftHSM(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	tokens := filepath.Join(dir, "tokens")
	conf, err := SoftHSMConfig(tokens)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(tokens, 0o700); err != nil {
		return err
	}
	path := filepath.Join(dir, "softhsm2.conf")
	// Written aside and renamed: a crash leaves the old file or the new one.
	if err := os.WriteFile(path+".new", conf, 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return os.Setenv("SOFTHSM2_CONF", path)
}

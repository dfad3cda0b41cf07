package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/devicetoken"
)

// selfTestBits are the modulus lengths with which the token is tried: the
// shortest and the longest that a key may have. A token that fails one is used
// for wrapping only, and the exponentiation is done in the host.
var selfTestBits = []int{2048, 4096}

func newInit() *cobra.Command {
	var c config
	var dir string
	cmd := &cobra.Command{
		Use:   "init --dir DIR --id ID --serial NUMBER --model MODEL --link ADDRESS",
		Short: "Make a device: its token, its keys, its directory",
		Long: `Make a device in a new directory: a token with a random PIN, the device's
signature and agreement keys and its key-encryption keys inside the token, and
a boot key beside it. Nothing existing is overwritten.

The PIN lies in the directory until the ceremony splits it among the officers.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			id, err := initialise(dir, &c)
			if err != nil {
				return err
			}
			return term.PrintJSON(cmd.OutOrStdout(), id)
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "", "the device's directory, made anew")
	f.StringVar(&c.ID, "id", "", "permanent id")
	f.StringVar(&c.Serial, "serial", "", "serial number")
	f.StringVar(&c.Model, "model", "", "model, as the manufacturer names it")
	f.StringVar(&c.Link, "link", "", "its message server: unix:PATH or tls:HOST:PORT")
	f.StringSliceVar(&c.Pins, "pin", nil, "SHA-256 of the server's transport key (tls only)")
	f.StringVar(&c.Module, "module", "", "PKCS#11 module (default: SoftHSM2, with its tokens in DIR)")
	f.StringVar(&c.Token, "token", "", "label of the token (default: privyseal-ID)")
	for _, name := range []string{"dir", "id", "serial", "model", "link"} {
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}

func initialise(dir string, c *config) (*identity, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if err := c.checkLink(); err != nil {
		return nil, err
	}
	if c.Module == "" {
		c.Module, c.SoftHSM = hsm.DefaultModule(), true
	}
	if c.Token == "" {
		c.Token = "privyseal-" + c.ID
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, fileConfig)); err == nil {
		return nil, term.WithHint(fmt.Errorf("%s holds a device already", dir), "choose another directory, or destroy that device with 'privyseal-device reset'")
	}
	pin, err := share.NewPIN(rand.Reader)
	if err != nil {
		return nil, err
	}
	defer pin.Wipe()
	soPIN, err := share.NewPIN(rand.Reader)
	if err != nil {
		return nil, err
	}
	defer soPIN.Wipe() // nobody needs it again: a token whose PIN is lost is made anew
	// The PIN comes first: a crash after this line leaves a directory without
	// device.json, which init refuses to take for a device.
	if err := atomicfile.Create(filepath.Join(dir, filePIN), pin.Reveal(), 0o600); err != nil {
		return nil, term.WithHint(err, "an earlier init was interrupted: remove the directory and begin again")
	}
	if c.SoftHSM {
		if err := hsm.UseSoftHSM(dir); err != nil {
			return nil, err
		}
	}
	if _, err := hsm.InitToken(hsm.Config{Module: c.Module, TokenLabel: c.Token}, hsm.PIN(soPIN.Reveal()), hsm.PIN(pin.Reveal())); err != nil {
		return nil, err
	}
	tok, err := hsm.Open(hsm.Config{Module: c.Module, TokenLabel: c.Token})
	if err != nil {
		return nil, err
	}
	defer tok.Close()
	if err := tok.Unlock(hsm.PIN(pin.Reveal())); err != nil {
		return nil, err
	}
	id, err := makeKeys(tok, dir, c)
	if err != nil {
		return nil, err
	}
	if err := createJSON(filepath.Join(dir, fileIdentity), id); err != nil {
		return nil, err
	}
	return id, createJSON(filepath.Join(dir, fileConfig), c) // last: it makes the directory a device's
}

func makeKeys(tok *hsm.Token, dir string, c *config) (*identity, error) {
	id := &identity{ID: c.ID, Serial: c.Serial, Model: c.Model}
	sign, err := tok.GenerateSigner(devicetoken.LabelSign)
	if err != nil {
		return nil, err
	}
	agree, err := tok.GenerateKeyExchanger(devicetoken.LabelAgree)
	if err != nil {
		return nil, err
	}
	if err := tok.GenerateKEK(devicetoken.LabelKEKHost, hsm.InHost); err != nil {
		return nil, err
	}
	switch err := tok.GenerateKEK(devicetoken.LabelKEKToken, hsm.InToken); {
	case errors.Is(err, hsm.ErrUnsupported):
	case err != nil:
		return nil, err
	default:
		id.InToken = true
		for _, bits := range selfTestBits {
			if err := tok.SelfTest(devicetoken.LabelKEKToken, bits); errors.Is(err, hsm.ErrUnsupported) {
				id.InToken = false
			} else if err != nil {
				return nil, fmt.Errorf("self-test of exponentiation in the token, %d bits: %w", bits, err)
			}
		}
	}
	boot, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(boot)
	if err != nil {
		return nil, err
	}
	if err := atomicfile.Create(filepath.Join(dir, fileBootKey), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	for _, k := range []struct {
		into *[]byte
		pub  any
	}{{&id.Sign, sign.Public()}, {&id.Agree, agree.PublicKey()}, {&id.Boot, boot.Public()}} {
		if *k.into, err = x509.MarshalPKIXPublicKey(k.pub); err != nil {
			return nil, err
		}
	}
	id.SignID = envelope.KeyIDOfSPKI(id.Sign)
	return id, nil
}

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/hsm"
)

// Files of a device's directory.
const (
	fileConfig    = "device.json"
	fileIdentity  = "identity.json"
	fileBootKey   = "boot.key"
	fileSignCert  = "sign-cert.pem"
	fileAgreeCert = "agree-cert.pem"
	fileJournal   = "journal"
	fileSeen      = "seen" // what the device knows of those that it beats for
	// filePIN holds the token's PIN from the factory until the ceremony, and
	// for good where the ledger lets the device be unattended. Its officers
	// hold the PIN in pieces from then on, and the file is gone.
	filePIN = "transport-pin"
)

// config is device.json. It holds nothing secret.
type config struct {
	ID      string   `json:"id"`
	Serial  string   `json:"serial"`
	Model   string   `json:"model"`
	Link    string   `json:"link"`           // unix:PATH or tls:HOST:PORT
	Pins    []string `json:"pins,omitempty"` // of the server's transport key; tls only
	Module  string   `json:"module"`
	Token   string   `json:"token"` // label
	SoftHSM bool     `json:"softhsm"`
}

// identity is identity.json, what a device may show anybody.
type identity struct {
	ID      string         `json:"id"`
	Serial  string         `json:"serial"`
	Model   string         `json:"model"`
	Sign    []byte         `json:"sign"`  // SPKI, DER
	Agree   []byte         `json:"agree"` // SPKI, DER
	Boot    []byte         `json:"boot"`  // SPKI, DER
	SignID  envelope.KeyID `json:"sign_id"`
	InToken bool           `json:"in_token"` // the self-test's verdict
}

var validID = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

func (c *config) validate() error {
	if !validID.MatchString(c.ID) {
		return term.WithHint(fmt.Errorf("device id %q is not usable", c.ID), "use 1 to 32 lower-case letters, digits and hyphens")
	}
	if c.Serial == "" || c.Model == "" {
		return errors.New("a device has a serial number and a model")
	}
	return nil
}

// checkLink refuses an address that could never be dialled, before a token is
// made that cannot be made again.
func (c *config) checkLink() error {
	if err := link.CheckDial(c.Link); err != nil {
		return command.Misused(term.WithHint(fmt.Errorf("--link: %w", err), "write it as unix:PATH or tls:HOST:PORT"))
	}
	if strings.HasPrefix(c.Link, "tls:") && len(c.Pins) == 0 {
		return command.Usage("a tls link needs the pin of the server's transport key", "name it with --pin: the field tls in what 'privyseal-server init' printed")
	}
	for _, p := range c.Pins {
		if _, err := pinned.ParsePin(p); err != nil {
			return command.Misused(term.WithHint(fmt.Errorf("--pin: %w", err), "it is the field tls in what 'privyseal-server init' printed"))
		}
	}
	return nil
}

func load(dir string) (*config, *identity, error) {
	var c config
	if err := readJSON(filepath.Join(dir, fileConfig), &c); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, term.WithHint(fmt.Errorf("%s is not a device's directory", dir), "make one with 'privyseal-device init --dir "+dir+"'")
		}
		return nil, nil, err
	}
	if err := c.validate(); err != nil {
		return nil, nil, err
	}
	var id identity
	if err := readJSON(filepath.Join(dir, fileIdentity), &id); err != nil {
		return nil, nil, err
	}
	return &c, &id, nil
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func createJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Create(path, append(data, '\n'), 0o600)
}

// openToken prepares the module and finds the token, still locked.
func openToken(dir string, c *config) (*hsm.Token, error) {
	if c.SoftHSM {
		if err := hsm.UseSoftHSM(dir); err != nil {
			return nil, err
		}
	}
	return hsm.Open(hsm.Config{Module: c.Module, TokenLabel: c.Token})
}

// readChain reads a PEM chain, leaf first; a missing file is no chain.
func readChain(path string) ([][]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			return out, nil
		}
		if b.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s: a %q where certificates are expected", path, b.Type)
		}
		out = append(out, b.Bytes)
	}
}

func readBootKey(dir string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(filepath.Join(dir, fileBootKey))
	if err != nil {
		return nil, err
	}
	b, _ := pem.Decode(data)
	if b == nil {
		return nil, fmt.Errorf("%s: not PEM", fileBootKey)
	}
	k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", fileBootKey, err)
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%s: not a P-256 key", fileBootKey)
	}
	return key, nil
}

// firmwareHash is the SHA-256 of the running binary: of the file that the
// kernel executes, not of what now lies at its path (A8).
func firmwareHash() (envelope.Hash, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return envelope.Hash{}, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return envelope.Hash{}, err
	}
	return envelope.Hash(h.Sum(nil)), nil
}

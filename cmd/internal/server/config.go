package server

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// Files of a server's directory.
const (
	fileConfig      = "server.json"
	fileIdentity    = "identity.json"
	fileSign        = "sign.key"
	fileAgree       = "agree.key"
	fileTLS         = "tls.key"
	fileSystem      = "system.journal"
	fileStore       = "queue.db"
	fileAudit       = "audit.log"
	fileRules       = "rules.json"
	fileTaskNumbers = "task-numbers"
	fileIllegal     = "illegal-tasks.cbor"
	dirRequests     = "requests"
	dirInbox        = "inbox"
	dirIssued       = "issued"
)

// Config is server.json. It holds nothing secret.
type Config struct {
	ID    string   `json:"id"`
	Name  string   `json:"name"`
	HTTPS string   `json:"https"` // host:port where people and programs reach it
	Route string   `json:"route"` // host:port where other sites reach it; empty: it only dials out
	Links []string `json:"links"` // unix:PATH or tls:HOST:PORT, where its devices and heartbeat sources dial in
	// Where to listen, if not at the addresses that others are told.
	ListenHTTPS string `json:"listen_https,omitempty"`
	ListenRoute string `json:"listen_route,omitempty"`
	// DevicePins are the transport keys that devices may have on tls links. With
	// none any key may dial: messages are sealed and signed anyway, but whoever
	// dials in a device's name keeps it out.
	DevicePins []string `json:"device_pins,omitempty"`
	// SourcePins are those of heartbeat sources. Where one of the two lists has a
	// pin, a key has to be in the list for its role.
	SourcePins []string `json:"source_pins,omitempty"`
	// Outputs are codes of enterprises with authorities in two layers whose
	// independent output interface this server is: it verifies and keeps what their
	// combiners make, whatever the task distributor does.
	Outputs []uint64 `json:"outputs,omitempty"`
}

// ErrExists means that a directory holds a server already.
var ErrExists = errors.New("the directory holds a server already")

var validID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

func (c *Config) validate() error {
	if !validID.MatchString(c.ID) {
		return fmt.Errorf("server id %q: use 1 to 32 lower-case letters, digits and hyphens", c.ID)
	}
	if c.Name == "" {
		return errors.New("a server has a name for people")
	}
	if _, _, err := net.SplitHostPort(c.HTTPS); err != nil {
		return fmt.Errorf("https: %w", err)
	}
	if c.Route != "" {
		if _, _, err := net.SplitHostPort(c.Route); err != nil {
			return fmt.Errorf("route: %w", err)
		}
	}
	if len(c.Links) == 0 {
		return errors.New("a server has at least one address where its devices dial in")
	}
	if len(c.Outputs) > ledger.MaxEnterprises {
		return fmt.Errorf("outputs: %d enterprises, at most %d", len(c.Outputs), ledger.MaxEnterprises)
	}
	for i, code := range c.Outputs {
		if code < 1 || code > ledger.MaxEnterpriseCode || slices.Contains(c.Outputs[:i], code) {
			return fmt.Errorf("outputs: enterprise code %d: name each code from 1 to %d once", code, ledger.MaxEnterpriseCode)
		}
	}
	return nil
}

// keys are a server's private keys.
type keys struct {
	sign  *ecdsa.PrivateKey
	agree *ecdh.PrivateKey
	tls   tls.Certificate
}

// Init makes a server in dir: its keys, its configuration, and its public
// identity for the ceremony's file, which it returns. Nothing is overwritten.
func Init(dir string, c Config) (*ledger.Server, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, fileConfig)); err == nil {
		return nil, fmt.Errorf("%w: %s", ErrExists, dir)
	}
	for _, name := range []string{fileSign, fileAgree} {
		if err := makeKey(filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	k, err := loadKeys(dir) // makes the TLS key
	if err != nil {
		return nil, err
	}
	id, err := k.identity(&c)
	if err != nil {
		return nil, err
	}
	if err := writeJSON(filepath.Join(dir, fileIdentity), id); err != nil {
		return nil, err
	}
	return id, writeJSON(filepath.Join(dir, fileConfig), c) // last: it makes the directory a server's
}

// makeKey makes a P-256 key, unless an interrupted init made it.
func makeKey(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	err = atomicfile.Create(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func loadKey(path string) (*ecdsa.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: others may read it: such a key is in strange hands already", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b, _ := pem.Decode(data)
	if b == nil {
		return nil, fmt.Errorf("%s: not PEM", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%s: not a P-256 key", path)
	}
	return key, nil
}

func loadKeys(dir string) (*keys, error) {
	sign, err := loadKey(filepath.Join(dir, fileSign))
	if err != nil {
		return nil, err
	}
	a, err := loadKey(filepath.Join(dir, fileAgree))
	if err != nil {
		return nil, err
	}
	agree, err := a.ECDH()
	if err != nil {
		return nil, err
	}
	id, err := pinned.LoadIdentity(filepath.Join(dir, fileTLS))
	if err != nil {
		return nil, err
	}
	return &keys{sign, agree, id}, nil
}

// identity is what the ledger says of a server.
func (k *keys) identity(c *Config) (*ledger.Server, error) {
	pin, err := pinned.PinOfIdentity(k.tls)
	if err != nil {
		return nil, err
	}
	sign, err := x509.MarshalPKIXPublicKey(k.sign.Public())
	if err != nil {
		return nil, err
	}
	agree, err := x509.MarshalPKIXPublicKey(k.agree.PublicKey())
	if err != nil {
		return nil, err
	}
	return &ledger.Server{
		ID: c.ID, Name: c.Name, Sign: sign, Agree: agree, TLS: envelope.Hash(pin), URL: "https://" + c.HTTPS, Route: c.Route,
	}, nil
}

// LoadConfig reads server.json.
func LoadConfig(dir string) (*Config, error) {
	data, err := os.ReadFile(filepath.Join(dir, fileConfig))
	if err != nil {
		return nil, err
	}
	var c Config
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return nil, fmt.Errorf("%s: %w", fileConfig, err)
	}
	return &c, c.validate()
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(path, append(data, '\n'), 0o644)
}

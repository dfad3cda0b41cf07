package source

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
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// Files of a source's directory; see the package's documentation.
const (
	fileConfig       = "source.json"
	fileIdentity     = "identity.yaml"
	fileIdentityKey  = "identity.key"
	fileAgreeKey     = "agree.key"
	fileSequence     = "sequence.key"
	fileTLS          = "tls.key"
	fileSystem       = "system"
	fileLedger       = "ledger"
	fileTable        = "table"
	fileLock         = "lock"
	fileLive         = "live.json"
	fileRestore      = "restore.json"
	fileRestoreKey   = "restore.key"
	fileRestoreAsked = "request.json"
	dirBeat          = "beat"
	dirRevoked       = "revoked"
)

// Config is source.json. It holds nothing secret.
type Config struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Kind      string   `json:"kind"`   // ledger.SourceMessage, SourceSequence or SourceSatellite
	Server    string   `json:"server"` // id of its message server, as in the ledger
	Operators []string `json:"operators"`
	Link      string   `json:"link"`           // unix:PATH or tls:HOST:PORT
	Pins      []string `json:"pins,omitempty"` // of the server's transport key; tls only
	// Restored is when the keys came back from a backup, 0 if they never did.
	// No device is known then, and nothing that officers said before counts.
	Restored int64 `json:"restored,omitempty"`
}

var (
	// ErrExists: the directory holds a source already.
	ErrExists = errors.New("the directory holds a source already")
	// ErrNoSource: it holds none.
	ErrNoSource = errors.New("the directory holds no source")
	// ErrRunning: a process runs the source.
	ErrRunning = errors.New("the source runs already")
)

var validID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// fileSafe are ids of devices, which become names of files here.
var fileSafe = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func (c *Config) validate() error {
	kinds := []string{ledger.SourceMessage, ledger.SourceSequence, ledger.SourceSatellite}
	switch {
	case !validID.MatchString(c.ID):
		return fmt.Errorf("source id %q: use 1 to 32 lower-case letters, digits and hyphens", c.ID)
	case c.Name == "":
		return errors.New("a source has a name for people")
	case !slices.Contains(kinds, c.Kind):
		return fmt.Errorf("kind %q is none of %s", c.Kind, strings.Join(kinds, ", "))
	case !fileSafe.MatchString(c.Server):
		return fmt.Errorf("message server %q is not an id", c.Server)
	case len(c.Operators) == 0:
		return errors.New("a source has at least one operator, or nobody could silence it from afar")
	case c.Link == "":
		return errors.New("a source has the address of its message server")
	}
	if strings.HasPrefix(c.Link, "tls:") && len(c.Pins) == 0 {
		return term.WithHint(errors.New("a tls link needs the pin of the server's transport key"), "name it with --pin: the field tls in what 'privyseal-server init' printed")
	}
	for _, p := range c.Pins {
		if _, err := pinned.ParsePin(p); err != nil {
			return err
		}
	}
	return nil
}

// keys are a source's private keys, but for the beat key, which changes.
type keys struct {
	identity *ecdsa.PrivateKey
	agree    *ecdh.PrivateKey
	sequence []byte // 32 bytes, kind sequence only
	sign     []byte // SPKI of identity
	agreeDER []byte // SPKI of agree
}

func (*keys) String() string               { return "keys(redacted)" }
func (*keys) GoString() string             { return "keys(redacted)" }
func (k *keys) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// Init makes a source in dir: its keys, its configuration and its row for the
// ceremony's file, which it returns. system, if not zero, fixes the system
// that the source will serve; without it the first that its server shows is
// taken, if it lists the source. Nothing is overwritten; what an interrupted
// Init left is used.
func Init(dir string, c Config, system envelope.Hash, now int64) (*ledger.Source, error) {
	return initialise(realDisk(), dir, c, system, now)
}

func initialise(d *disk, dir string, c Config, system envelope.Hash, now int64) (*ledger.Source, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	for _, name := range []string{fileIdentityKey, fileAgreeKey} {
		if err := ensureKey(d, filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	if c.Kind == ledger.SourceSequence {
		secret := make([]byte, 32)
		if _, err := rand.Read(secret); err != nil {
			return nil, err
		}
		if err := ensure(d, filepath.Join(dir, fileSequence), secret); err != nil {
			return nil, err
		}
	}
	if strings.HasPrefix(c.Link, "tls:") {
		if _, err := pinned.LoadIdentity(filepath.Join(dir, fileTLS)); err != nil { // makes it
			return nil, err
		}
	}
	k, err := loadKeys(dir, c.Kind)
	if err != nil {
		return nil, err
	}
	if !system.IsZero() {
		if err := fixSystem(d, dir, system); err != nil {
			return nil, err
		}
	}
	src := c.source(k)
	if err := ensureBeatKey(d, dir, src, k, 1, now); err != nil {
		return nil, err
	}
	return src, finish(d, dir, c, src)
}

// finish writes what makes the directory a source's.
func finish(d *disk, dir string, c Config, src *ledger.Source) error {
	if err := d.write(filepath.Join(dir, fileIdentity), []byte(YAML(src)), 0o600); err != nil {
		return err
	}
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return d.create(filepath.Join(dir, fileConfig), append(data, '\n'), 0o600)
}

// makeDir makes the directory, or takes one that is empty or the rest of an
// interrupted attempt.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return term.WithHint(fmt.Errorf("others may look into %s", dir), "chmod 700 "+dir)
	}
	if _, err := os.Stat(filepath.Join(dir, fileConfig)); err == nil {
		return fmt.Errorf("%w: %s", ErrExists, dir)
	}
	for _, name := range []string{dirBeat, dirRevoked} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// ensure creates a file unless an interrupted attempt did.
func ensure(d *disk, path string, data []byte) error {
	if err := d.create(path, data, 0o600); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func ensureKey(d *disk, path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	data, err := encodeKey(key)
	if err != nil {
		return err
	}
	defer clear(data)
	return ensure(d, path, data)
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// readSecret reads a file that nobody else may read.
func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: others may read it: such a key is in strange hands already", path)
	}
	return readAtMost(f, path, maxFile)
}

func readAtMost(f *os.File, path string, n int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, n+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > n {
		return nil, fmt.Errorf("%s has more than %d bytes", path, n)
	}
	return data, nil
}

func loadKey(path string) (*ecdsa.PrivateKey, error) {
	data, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	key, err := decodeKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func decodeKey(data []byte) (*ecdsa.PrivateKey, error) {
	b, _ := pem.Decode(data)
	if b == nil {
		return nil, errors.New("not PEM")
	}
	defer clear(b.Bytes)
	k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("not a P-256 key")
	}
	return key, nil
}

func loadKeys(dir, kind string) (*keys, error) {
	k := new(keys)
	var err error
	if k.identity, err = loadKey(filepath.Join(dir, fileIdentityKey)); err != nil {
		return nil, err
	}
	a, err := loadKey(filepath.Join(dir, fileAgreeKey))
	if err != nil {
		return nil, err
	}
	if k.agree, err = a.ECDH(); err != nil {
		return nil, err
	}
	if kind == ledger.SourceSequence {
		path := filepath.Join(dir, fileSequence)
		if k.sequence, err = readSecret(path); err != nil {
			return nil, err
		}
		if len(k.sequence) != 32 {
			return nil, fmt.Errorf("%s has %d bytes, not 32", path, len(k.sequence))
		}
	}
	if k.sign, err = x509.MarshalPKIXPublicKey(k.identity.Public()); err != nil {
		return nil, err
	}
	k.agreeDER, err = x509.MarshalPKIXPublicKey(k.agree.PublicKey())
	return k, err
}

// source is what the ledger says of it.
func (c *Config) source(k *keys) *ledger.Source {
	return &ledger.Source{
		ID: c.ID, Name: c.Name, Kind: c.Kind, Server: c.Server, Sign: k.sign, Agree: k.agreeDER, Operators: slices.Clone(c.Operators),
	}
}

// LoadConfig reads source.json.
func LoadConfig(dir string) (*Config, error) {
	data, err := readSmall(filepath.Join(dir, fileConfig))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNoSource, dir)
	}
	if err != nil {
		return nil, err
	}
	var c Config
	if err := decodeJSON(data, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", fileConfig, err)
	}
	return &c, c.validate()
}

// Pin is that of the key with which a source dials its server over
// TLS, for the server's list.
func Pin(dir string) (pinned.Pin, error) {
	id, err := pinned.LoadIdentity(filepath.Join(dir, fileTLS))
	if err != nil {
		return pinned.Pin{}, err
	}
	return pinned.PinOfIdentity(id)
}

func transport(dir string, c *Config) (id *tls.Certificate, pins []pinned.Pin, err error) {
	if !strings.HasPrefix(c.Link, "tls:") {
		return nil, nil, nil
	}
	for _, p := range c.Pins {
		pin, err := pinned.ParsePin(p)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", fileConfig, err)
		}
		pins = append(pins, pin)
	}
	cert, err := pinned.LoadIdentity(filepath.Join(dir, fileTLS))
	return &cert, pins, err
}

func decodeJSON(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON value")
	}
	return nil
}

// YAML is a source's item of the list "sources" in a ceremony file, as
// desk.SourceYAML writes it: a source has no part in ceremonies, and links no
// more of the firmware than it runs.
func YAML(s *ledger.Source) string {
	q := func(v any) string {
		b, err := json.Marshal(v) // JSON's strings and lists are YAML's
		if err != nil {
			panic(err) // strings and bytes are always encoded
		}
		return string(b)
	}
	return fmt.Sprintf("  - id: %s\n    name: %s\n    kind: %s\n    server: %s\n    sign: %s\n    agree: %s\n    operators: %s\n",
		q(s.ID), q(s.Name), q(s.Kind), q(s.Server), q(s.Sign), q(s.Agree), q(s.Operators))
}

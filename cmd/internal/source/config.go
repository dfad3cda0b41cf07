package source

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
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
	// ErrRestoring: it is to hold one, when enough pieces are there.
	ErrRestoring = errors.New("a restoration has begun in the directory, and pieces are missing")
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
		if restoring(dir) {
			return nil, fmt.Errorf("%w: %s", ErrRestoring, dir)
		}
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

package source

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

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
	// Its first start would destroy the key that holders seal pieces to.
	if restoring(dir) {
		return nil, fmt.Errorf("%w: %s", ErrRestoring, dir)
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

// YAML is a source's item of the list "sources" in a ceremony file. Strings
// and lists are written as in JSON, which YAML reads: an id like "no" stays one.
func YAML(s *ledger.Source) string {
	q := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err) // strings and bytes are always encoded
		}
		return string(b)
	}
	return fmt.Sprintf("  - id: %s\n    name: %s\n    kind: %s\n    server: %s\n    sign: %s\n    agree: %s\n    operators: %s\n",
		q(s.ID), q(s.Name), q(s.Kind), q(s.Server), q(s.Sign), q(s.Agree), q(s.Operators))
}

package virtual

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Dir is a directory of cards: root.pem and root.key of their maker, and one
// state file a card, cards/SERIAL.json. One process at a time may use a card.
type Dir struct {
	path string
	root *Root
}

// OpenDir opens a directory of cards. It makes the directory and the maker's
// root if they are not there; now begins the root's validity then.
func OpenDir(path string, now time.Time) (*Dir, error) {
	if err := os.MkdirAll(filepath.Join(path, "cards"), 0o700); err != nil {
		return nil, fmt.Errorf("virtual: making a directory for cards: %w", err)
	}
	d := &Dir{path: path}
	key, err := os.ReadFile(d.keyPath())
	if errors.Is(err, fs.ErrNotExist) {
		root, err := NewRoot(rand.Reader, now)
		if err != nil {
			return nil, err
		}
		pem, err := root.KeyPEM()
		if err != nil {
			return nil, err
		}
		// The key goes last: where it is, the certificate is.
		if err := writeFile(d.RootPath(), root.CertificatePEM(), 0o644); err != nil {
			return nil, err
		}
		if err := writeFile(d.keyPath(), pem, 0o600); err != nil {
			return nil, err
		}
		d.root = root
		return d, nil
	}
	if err != nil {
		return nil, fmt.Errorf("virtual: reading the root key: %w", err)
	}
	cert, err := os.ReadFile(d.RootPath())
	if err != nil {
		return nil, fmt.Errorf("virtual: reading the root certificate: %w", err)
	}
	d.root, err = ParseRoot(cert, key)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func (d *Dir) keyPath() string { return filepath.Join(d.path, "root.key") }

func (d *Dir) cardPath(serial uint32) string {
	return filepath.Join(d.path, "cards", strconv.FormatUint(uint64(serial), 10)+".json")
}

// RootPath is the file of the root certificate, in PEM.
func (d *Dir) RootPath() string { return filepath.Join(d.path, "root.pem") }

// Serials lists the cards in ascending order.
func (d *Dir) Serials() ([]uint32, error) {
	entries, err := os.ReadDir(filepath.Join(d.path, "cards"))
	if err != nil {
		return nil, fmt.Errorf("virtual: listing cards: %w", err)
	}
	var serials []uint32
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			continue // a temporary file of a process that died
		}
		serials = append(serials, uint32(n))
	}
	slices.Sort(serials)
	return serials, nil
}

// Create makes a factory-fresh card. With serial 0 it gets a random one of
// eight digits. Personalise, if not nil, may change the state before it is
// stored: set a PIN, say.
func (d *Dir) Create(p Profile, serial uint32, personalise func(*State) error) (uint32, error) {
	if serial == 0 {
		var b [4]byte
		for {
			rand.Read(b[:])
			serial = 10_000_000 + binary.BigEndian.Uint32(b[:])%90_000_000
			if _, err := os.Lstat(d.cardPath(serial)); errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
	}
	if _, err := os.Lstat(d.cardPath(serial)); err == nil {
		return 0, fmt.Errorf("virtual: card %d is already there: %w", serial, fs.ErrExist)
	}
	s, err := d.root.Manufacture(rand.Reader, p, serial)
	if err != nil {
		return 0, err
	}
	if personalise != nil {
		if err := personalise(s); err != nil {
			return 0, err
		}
	}
	if err := d.Save(s); err != nil {
		return 0, err
	}
	return serial, nil
}

// Load reads a card's state.
func (d *Dir) Load(serial uint32) (*State, error) {
	b, err := os.ReadFile(d.cardPath(serial))
	if err != nil {
		return nil, fmt.Errorf("virtual: reading card %d: %w", serial, err)
	}
	s, err := DecodeState(b)
	if err != nil {
		return nil, fmt.Errorf("card %d: %w", serial, err)
	}
	if s.Serial != serial {
		return nil, fmt.Errorf("virtual: the file of card %d holds card %d", serial, s.Serial)
	}
	return s, nil
}

// Save stores a card's state: after it returned, a power cut loses nothing.
func (d *Dir) Save(s *State) error {
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return fmt.Errorf("virtual: encoding card %d: %w", s.Serial, err)
	}
	return writeFile(d.cardPath(s.Serial), append(b, '\n'), 0o600)
}

// Card powers a card whose changes are saved in the directory.
func (d *Dir) Card(serial uint32) (*Card, error) {
	s, err := d.Load(serial)
	if err != nil {
		return nil, err
	}
	return New(s, Config{Save: d.Save})
}

// writeFile replaces a file atomically and durably: a crash at any line leaves
// the old content or the new, and once it returns, the new.
func writeFile(path string, b []byte, mode os.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return fmt.Errorf("virtual: writing %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("virtual: writing %s: %w", path, err)
		}
	}()
	if err = f.Chmod(mode); err != nil {
		return err
	}
	if _, err = f.Write(b); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync() // else the rename itself may be lost
}

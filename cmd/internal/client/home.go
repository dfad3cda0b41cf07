package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// FileSystem is the file in a home directory that says which system it belongs
// to.
const FileSystem = "system.json"

// systemVersion is the version of that file.
const systemVersion = 1

// systemFile is system.json. It holds nothing secret, and nothing that is
// believed: the genesis is verified against its id at every start. The id
// itself is what the person was told at the ceremony.
type systemFile struct {
	Version int           `json:"version"`
	Name    string        `json:"name"` // for people
	System  envelope.Hash `json:"system"`
	Server  string        `json:"server"`  // id of this home's message server
	Bundle  []byte        `json:"bundle"`  // ledger.Bundle, CBOR
	Entries [][]byte      `json:"entries"` // ledger.SignedEntry, CBOR, in order
}

// System is a system that a home directory belongs to, verified.
type System struct {
	dir     string
	file    systemFile
	genesis ledger.State
	state   ledger.State
	size    int // octets of the entries
}

// Errors of a home directory.
var (
	// ErrNoSystem: the home belongs to no system yet.
	ErrNoSystem = errors.New("this home belongs to no system")
	// ErrOtherSystem: it belongs to another one.
	ErrOtherSystem = errors.New("this home belongs to another system")
)

// Verify checks a system as a server or a ceremony gives it: the bundle
// against the system's id, and every entry after it. server is the id of the
// message server that the home shall use.
func Verify(id envelope.Hash, server string, bundle []byte, entries [][]byte) (*System, error) {
	var b ledger.Bundle
	if err := envelope.Unmarshal(bundle, &b); err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	v, err := ledger.VerifyGenesisOf(id, b)
	if err != nil {
		return nil, err
	}
	s := &System{genesis: ledger.New(v)}
	s.state = s.genesis
	if _, ok := s.state.Server(server); !ok {
		return nil, fmt.Errorf("the system has no message server %q", server)
	}
	s.file = systemFile{Version: systemVersion, Name: s.state.Name(), System: id, Server: server, Bundle: bytes.Clone(bundle)}
	return s, s.extend(entries)
}

// extend folds the entries that are new. A chain that lacks or contradicts
// what is known already changes nothing: nobody brings a home back into a
// past, where an officer who left still is one.
func (s *System) extend(entries [][]byte) error {
	for i, raw := range s.file.Entries {
		if i >= len(entries) {
			return nil // the server is behind; it will be brought up to date by others
		}
		if !sameEntry(raw, entries[i]) {
			return differs(uint64(i) + 1)
		}
	}
	return s.fold(entries[len(s.file.Entries):])
}

func differs(position uint64) error {
	return fmt.Errorf("the server's ledger differs from this home's at position %d: one of them was forged or split; tell the administrators", position)
}

// fold adds the entries that follow. Those before one that is refused stay.
func (s *System) fold(entries [][]byte) error {
	for _, raw := range entries {
		var x ledger.SignedEntry
		if err := envelope.Unmarshal(raw, &x); err != nil {
			return fmt.Errorf("ledger entry %d: %w", s.state.Height()+1, err)
		}
		v, err := ledger.VerifyEntry(s.state, x)
		if err != nil {
			return err
		}
		if s.size+len(raw) > api.MaxLedger {
			return fmt.Errorf("the ledger has more than %d octets, and a home keeps no more", api.MaxLedger)
		}
		next, err := ledger.ApplyVerified(s.state, v)
		if err != nil {
			return err
		}
		s.state = next
		s.file.Entries, s.size = append(s.file.Entries, bytes.Clone(raw)), s.size+len(raw)
	}
	return nil
}

// sameEntry compares what was signed: one entry can have many signatures.
func sameEntry(a, b []byte) bool {
	var x, y ledger.SignedEntry
	return envelope.Unmarshal(a, &x) == nil && envelope.Unmarshal(b, &y) == nil && bytes.Equal(x.Entry, y.Entry)
}

// Open reads a home directory and verifies its genesis and ledger.
func Open(dir string) (*System, error) {
	path := filepath.Join(dir, FileSystem)
	data, err := readFile(path, maxHome)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, term.WithHint(fmt.Errorf("%w: %s is missing", ErrNoSystem, path),
			"join one: privyseal join --url URL --pin PIN --system ID")
	}
	if err != nil {
		return nil, err
	}
	var f systemFile
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if f.Version != systemVersion {
		return nil, fmt.Errorf("%s is of version %d, this program understands version %d", path, f.Version, systemVersion)
	}
	s, err := Verify(f.System, f.Server, f.Bundle, f.Entries)
	if err != nil {
		return nil, term.WithHint(fmt.Errorf("%s is refused: %w", path, err), "join the system again, with the id that the ceremony printed")
	}
	s.dir = dir
	return s, nil
}

// Save makes dir this system's home. A home of another system is left alone
// (ErrOtherSystem).
func (s *System) Save(dir string) error {
	old, err := Open(dir)
	switch {
	case err == nil && old.ID() != s.ID():
		return fmt.Errorf("%w: %s (%s)", ErrOtherSystem, old.state.Name(), old.ID())
	case err == nil:
		if err := s.extend(old.file.Entries); err != nil {
			return err
		}
	case !errors.Is(err, ErrNoSystem):
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s.dir = dir
	return s.write()
}

func (s *System) write() error {
	data, err := json.MarshalIndent(&s.file, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(s.dir, FileSystem), append(data, '\n'), 0o600)
}

// ID is the system's id.
func (s *System) ID() envelope.Hash { return s.file.System }

// State is the tables as this home knows them.
func (s *System) State() ledger.State { return s.state }

// Server is the home's message server, or the one named.
func (s *System) Server(id string) (ledger.Server, error) {
	if id == "" {
		id = s.file.Server
	}
	srv, ok := s.state.Server(id)
	if !ok {
		var ids []string
		for _, x := range s.state.Servers() {
			ids = append(ids, x.ID)
		}
		return ledger.Server{}, fmt.Errorf("there is no message server %q: name one of %s", id, strings.Join(ids, ", "))
	}
	return srv, nil
}

// Refresh takes newer entries of the ledger from a server and keeps them, also
// those that came before an error: the next time, with whatever server, goes on
// after them. Each page has its own time ([Conn.System]).
func (s *System) Refresh(ctx context.Context, c *Conn) error { return s.RefreshTelling(ctx, c, nil) }

// RefreshTelling is Refresh with somebody who hears how far it is.
func (s *System) RefreshTelling(ctx context.Context, c *Conn, progress func(string)) error {
	known := len(s.file.Entries)
	err := s.refresh(ctx, c, progress)
	if s.dir == "" || len(s.file.Entries) == known {
		return err
	}
	return errors.Join(err, s.write())
}

func (s *System) refresh(ctx context.Context, c *Conn, progress func(string)) error {
	for {
		page, err := c.System(ctx, s.state.Height(), false)
		if err != nil {
			return err
		}
		if err := s.take(page); err != nil {
			return err
		}
		if page.Height <= s.state.Height() {
			return nil
		}
		if progress != nil {
			progress(fmt.Sprintf("entry %d of %d", s.state.Height(), page.Height))
		}
	}
}

// take folds a page that follows what is known.
func (s *System) take(page *api.SystemPage) error {
	at := s.state.Height()
	if page.Height < at { // the server is behind; it will be brought up to date by others
		if head, _ := s.state.HashAt(page.Height); head != page.Head {
			return differs(page.Height)
		}
		return nil
	}
	if page.Prev != s.state.Head() {
		return differs(at)
	}
	return s.fold(page.System.Entries)
}

// readFile is os.ReadFile with a limit.
func readFile(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has %d octets, at most %d are read", path, info.Size(), limit)
	}
	return os.ReadFile(path)
}

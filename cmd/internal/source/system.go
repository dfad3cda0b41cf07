package source

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// ErrOtherSystem: the source serves another system, for good.
var ErrOtherSystem = errors.New("this source serves another system")

// fixSystem writes down which system the source serves. That is decided once.
func fixSystem(d *disk, dir string, id envelope.Hash) error {
	err := d.create(filepath.Join(dir, fileSystem), []byte(id.String()+"\n"), 0o600)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	have, err := fixedSystem(dir)
	if err != nil {
		return err
	}
	if have != id {
		return fmt.Errorf("%w: %s, not %s", ErrOtherSystem, have, id)
	}
	return nil
}

// fixedSystem is the system that the source serves, zero before it is fixed.
func fixedSystem(dir string) (envelope.Hash, error) {
	data, err := readSmall(filepath.Join(dir, fileSystem))
	if errors.Is(err, fs.ErrNotExist) {
		return envelope.Hash{}, nil
	}
	if err != nil {
		return envelope.Hash{}, err
	}
	id, err := envelope.ParseHash(string(bytes.TrimSpace(data)))
	if err != nil || id.IsZero() {
		return envelope.Hash{}, fmt.Errorf("%s: %q is not the id of a system", filepath.Join(dir, fileSystem), data)
	}
	return id, nil
}

// readLedger verifies the system as it was stored last; ok is false if none
// was.
func readLedger(dir string, known envelope.Hash, src *ledger.Source) (s ledger.State, sys *heartbeat.System, ok bool, err error) {
	path := filepath.Join(dir, fileLedger)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil, false, nil
	}
	if err != nil {
		return s, nil, false, err
	}
	defer f.Close()
	data, err := readAtMost(f, path, envelope.MaxMessage)
	if err != nil {
		return s, nil, false, err
	}
	sys = new(heartbeat.System)
	if err := envelope.Unmarshal(data, sys); err != nil {
		return s, nil, false, fmt.Errorf("%s: %w", path, err)
	}
	if s, err = heartbeat.VerifySystem(sys, known, src.ID, src.Sign, src.Agree); err != nil {
		return s, nil, false, fmt.Errorf("%s: %w", path, err)
	}
	return s, sys, true, nil
}

// System is the system as a source's directory has it.
func System(dir string) (ledger.State, error) {
	c, err := LoadConfig(dir)
	if err != nil {
		return ledger.State{}, err
	}
	k, err := loadKeys(dir, c.Kind)
	if err != nil {
		return ledger.State{}, err
	}
	return system(dir, c.source(k))
}

// ErrNoSystem: no message server has shown the source its system yet.
var ErrNoSystem = errors.New("the source has not seen its system yet")

func system(dir string, src *ledger.Source) (ledger.State, error) {
	known, err := fixedSystem(dir)
	if err != nil {
		return ledger.State{}, err
	}
	s, _, ok, err := readLedger(dir, known, src)
	if err == nil && !ok {
		err = ErrNoSystem
	}
	return s, err
}

// takeSystem takes what the message server says of the system. A ledger that
// does not go on from the known one is refused: nobody brings a source back
// into a past, and a fork is somebody's crime.
func (s *Source) takeSystem(frame []byte) error {
	state, sys, err := heartbeat.OpenSystem(frame, s.keys.agree, s.system, s.cfg.ID, s.keys.sign, s.keys.agreeDER)
	if err != nil {
		return err
	}
	if s.station != nil {
		was, ok := state.HashAt(s.state.Height())
		switch {
		case !ok:
			return fmt.Errorf("the message server's ledger ends at %d, this source has seen %d: it is an older copy", state.Height(), s.state.Height())
		case was != s.state.Head():
			return fmt.Errorf("the message server's ledger differs at position %d from what this source has seen: tell the administrators", s.state.Height())
		case state.Height() == s.state.Height():
			return nil // nothing new
		}
	}
	data, err := envelope.Marshal(sys)
	if err != nil {
		return err
	}
	if s.system.IsZero() {
		// From here on this is the source's system, whatever else is shown to
		// it. A crash after this line leaves it without a ledger, for which it
		// waits again.
		if err := fixSystem(s.disk, s.dir, state.System()); err != nil {
			return s.fatal(err)
		}
		s.system = state.System()
		s.log.Warn("this source serves a system for good from now on: compare its id with the ceremony's record",
			"system", state.System(), "name", state.Name())
	}
	if s.station == nil {
		return s.begin(state, data)
	}
	if err := s.disk.write(filepath.Join(s.dir, fileLedger), data, 0o600); err != nil {
		return s.fatal(err)
	}
	if err := s.station.SetLedger(state); err != nil {
		return s.fatal(err)
	}
	s.state = state
	s.log.Info("the ledger has grown", "height", state.Height())
	return nil
}

package source

import (
	"bytes"
	"context"
	"crypto/rand"
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

// pageFile is where the page of the ledger is kept that follows a position; the
// bundle, with what came with it, is in fileLedger. Pages are written once: a
// ledger that grows for years is not written anew with every entry.
func pageFile(dir string, after uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%s.%d", fileLedger, after))
}

// readLedger verifies the system as it was stored; ok is false if none was. A
// page that is missing ends it: what follows is asked for again.
func readLedger(dir string, known envelope.Hash, src *ledger.Source) (s ledger.State, ok bool, err error) {
	path := filepath.Join(dir, fileLedger)
	page, err := readPage(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, nil
	}
	if err == nil {
		s, err = heartbeat.VerifyBundle(page.Bundle, known, self(src))
	}
	if err == nil {
		s, err = page.Fold(s)
	}
	for err == nil {
		at := s.Height()
		path = pageFile(dir, at)
		if page, err = readPage(path); errors.Is(err, fs.ErrNotExist) {
			return s, true, nil
		}
		if err == nil {
			s, err = page.Fold(s)
		}
		if err == nil && s.Height() == at {
			err = errors.New("an empty page")
		}
	}
	return s, false, fmt.Errorf("%s: %w", path, err)
}

func readPage(path string) (*heartbeat.System, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := readAtMost(f, path, envelope.MaxMessage)
	if err != nil {
		return nil, err
	}
	page := new(heartbeat.System)
	return page, envelope.Unmarshal(data, page)
}

func self(src *ledger.Source) heartbeat.Self {
	return heartbeat.Self{ID: src.ID, Sign: src.Sign, Agree: src.Agree}
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
	s, ok, err := readLedger(dir, known, src)
	if err == nil && !ok {
		err = ErrNoSystem
	}
	return s, err
}

// takeSystem takes a page of what the message server says of the system, and
// asks for the next one. A ledger that does not go on from the known one is
// refused: nobody brings a source back into a past, and a fork is somebody's
// crime. What a page brought stays, whatever becomes of the next one.
func (s *Source) takeSystem(ctx context.Context, frame []byte) error {
	at := s.state.Height()
	state, page, err := heartbeat.OpenSystem(frame, s.keys.agree, s.state, s.system, self(s.row))
	if errors.Is(err, heartbeat.ErrNoBundle) {
		s.lacks = true
		return s.ask(ctx)
	}
	if err != nil {
		return err
	}
	if err := s.keepSystem(state, page, at); err != nil {
		return err
	}
	if s.lacks = page.Height > state.Height(); !s.lacks {
		return nil
	}
	return s.ask(ctx)
}

// keepSystem stores a page and puts its entries in force.
func (s *Source) keepSystem(state ledger.State, page *heartbeat.System, at uint64) error {
	if s.station != nil && state.Height() == at {
		return nil // nothing new
	}
	if s.station != nil {
		page.Bundle = nil
	}
	// Those that were known came again: a page that is kept begins where the one
	// before ends.
	page.Entries, page.After = page.Entries[at-page.After:], at
	data, err := envelope.Marshal(page)
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
	if err := s.disk.write(pageFile(s.dir, at), data, 0o600); err != nil {
		return s.fatal(err)
	}
	if err := s.station.SetLedger(state); err != nil {
		return s.fatal(err)
	}
	s.state = state
	s.log.Info("the ledger has grown", "height", state.Height())
	return nil
}

// ask asks the message server for the page that follows, once in a while: one
// that brings nothing is not asked at the speed of the link.
func (s *Source) ask(ctx context.Context) error {
	at, now := s.state.Height(), s.o.Clock()
	if s.up == nil || s.asked && s.askedFor == at && now-s.askedAt < int64(askAgain) {
		return nil
	}
	frame, err := heartbeat.SignAsk(rand.Reader, s.keys.identity, s.system, heartbeat.SystemAsk{After: at, Bundle: s.station == nil}, s.o.Now())
	if err != nil {
		return err
	}
	s.asked, s.askedFor, s.askedAt = true, at, now
	return s.up.Send(ctx, frame)
}

// askMore asks again for what a lost question or answer left out.
func (s *Source) askMore(ctx context.Context) error {
	if !s.lacks {
		return nil
	}
	return s.ask(ctx)
}

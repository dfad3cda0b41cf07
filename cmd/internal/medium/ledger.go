package medium

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"path"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// System is a system with its ledger. The ledger is written and verified page by
// page: a distributor, all of whose memory is locked, holds one at a time.
type System struct {
	Bundle []byte        // ledger.Bundle, encoded; proves itself
	Height uint64        // entries of the ledger
	Head   envelope.Hash // hash of the last, zero if there is none

	pages iter.Seq2[file, error] // nil: none
}

// systemFile is system.cbor. Nobody signs where the ledger ends: that finds a
// page that is missing at the end, or is of another medium. A ledger that is old
// is found by the people who compare the head.
type systemFile struct {
	Bundle []byte        `cbor:"1,keyasint"`
	Height uint64        `cbor:"2,keyasint"`
	Head   envelope.Hash `cbor:"3,keyasint"`
}

// page is a file of the ledger.
type page struct {
	After   uint64   `cbor:"1,keyasint"` // the position that the entries follow
	Entries [][]byte `cbor:"2,keyasint"` // ledger.SignedEntry, encoded, in order; at least one
}

// pageName is the name of the page with a number, from 1.
func pageName(n int) string { return path.Join(dirLedger, fmt.Sprintf("%04d%s", n, extPage)) }

// SystemOf is a system that a home has verified.
func SystemOf(bundle []byte, entries [][]byte) (System, error) {
	s := System{Bundle: bundle, Height: uint64(len(entries))}
	octets := 0
	for _, e := range entries {
		octets += len(e)
	}
	if octets > api.MaxLedger {
		return s, tooLong()
	}
	if len(entries) > 0 {
		var last ledger.SignedEntry
		if err := envelope.Unmarshal(entries[len(entries)-1], &last); err != nil {
			return s, fmt.Errorf("ledger entry %d: %w", len(entries), err)
		}
		s.Head = ledger.EntryHash(last.Entry)
	}
	s.pages = cut(entries, api.PageOctets)
	return s, nil
}

// cut makes pages of entries, of at most so many octets each.
func cut(entries [][]byte, octets int) iter.Seq2[file, error] {
	return func(yield func(file, error) bool) {
		rest, after := entries, uint64(0)
		for n := 1; len(rest) > 0; n++ {
			p := page{After: after, Entries: api.FirstOf(rest, octets)}
			raw, err := envelope.Marshal(&p)
			if !yield(file{pageName(n), raw}, err) || err != nil {
				return
			}
			after, rest = after+uint64(len(p.Entries)), rest[len(p.Entries):]
		}
	}
}

func tooLong() error { return fmt.Errorf("the ledger has more than %d octets", api.MaxLedger) }

// readPages reads the pages that a list names, each when its turn comes.
func readPages(dir string, pages []listed) iter.Seq2[file, error] {
	return func(yield func(file, error) bool) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			yield(file{}, err)
			return
		}
		defer root.Close()
		for _, l := range pages {
			data, err := l.read(root, listInvited, maxPage)
			if !yield(file{l.name, data}, err) || err != nil {
				return
			}
		}
	}
}

func decodeSystem(raw []byte) (*System, error) {
	var f systemFile
	if err := envelope.Unmarshal(raw, &f); err != nil {
		return nil, err
	}
	if f.Height == 0 && !f.Head.IsZero() {
		return nil, errors.New("names the last of no entries")
	}
	return &System{Bundle: f.Bundle, Height: f.Height, Head: f.Head}, nil
}

func decodePage(raw []byte) (*page, error) {
	var p page
	if err := envelope.Unmarshal(raw, &p); err != nil {
		return nil, err
	}
	if len(p.Entries) == 0 {
		return nil, errors.New("has no entries")
	}
	return &p, nil
}

// State verifies a system against its id, and every entry of its ledger, in
// order. progress, which may be nil, hears how far it is. What is wrong with a
// page is a *DamagedError that names it.
func (s *System) State(id envelope.Hash, progress func(string)) (ledger.State, error) {
	var b ledger.Bundle
	if err := envelope.Unmarshal(s.Bundle, &b); err != nil {
		return ledger.State{}, fmt.Errorf("genesis: %w", err)
	}
	v, err := ledger.VerifyGenesisOf(id, b)
	if err != nil {
		return ledger.State{}, err
	}
	f := folding{state: ledger.New(v), height: s.Height}
	pages := 0
	if s.pages != nil {
		for x, err := range s.pages {
			if err != nil {
				return ledger.State{}, err
			}
			if err := f.page(x.data); err != nil {
				return ledger.State{}, ofPage(x.name, err)
			}
			pages++
			if progress != nil {
				progress(fmt.Sprintf("entry %d of %d", f.state.Height(), s.Height))
			}
		}
	}
	switch {
	case f.state.Height() != s.Height:
		return ledger.State{}, &DamagedError{pageName(pages + 1), fmt.Errorf("is missing: the ledger has %d entries, and its pages end with entry %d", s.Height, f.state.Height())}
	case s.Height > 0 && f.state.Head() != s.Head:
		return ledger.State{}, &DamagedError{pageName(pages), fmt.Errorf("is of another ledger: it ends with entry %s, and %s says %s", f.state.Head(), fileSystem, s.Head)}
	}
	return f.state, nil
}

// folding is a ledger that is being verified.
type folding struct {
	state  ledger.State
	height uint64 // that it is to have at the end
	octets int
}

// page adds a page to the state.
func (f *folding) page(raw []byte) error {
	p, err := decodePage(raw)
	if err != nil {
		return err
	}
	at := f.state.Height()
	switch n := uint64(len(p.Entries)); {
	case p.After != at:
		return fmt.Errorf("is not the page that is due: it follows entry %d of the ledger, and the pages before it end with entry %d", p.After, at)
	case n > f.height-at: // at is at most height: the page before was no longer
		return fmt.Errorf("goes on to entry %d, and the ledger has %d", at+n, f.height)
	}
	for i, raw := range p.Entries {
		if f.octets += len(raw); f.octets > api.MaxLedger {
			return tooLong()
		}
		var x ledger.SignedEntry
		if err := envelope.Unmarshal(raw, &x); err != nil {
			return fmt.Errorf("entry %d: %w", at+uint64(i)+1, err)
		}
		e, err := ledger.VerifyEntry(f.state, x)
		if err != nil {
			return fmt.Errorf("entry %d: %w", at+uint64(i)+1, err)
		}
		if f.state, err = ledger.ApplyVerified(f.state, e); err != nil {
			return err
		}
	}
	return nil
}

// ofPage names the page that an error is of. An entry that the authority signed
// and this program does not know is no damage.
func ofPage(name string, err error) error {
	var kind *ledger.KindError
	if errors.As(err, &kind) {
		return term.WithHint(fmt.Errorf("%s: %w", name, err), "this program is older than the system: use the release of the message servers")
	}
	return &DamagedError{name, err}
}

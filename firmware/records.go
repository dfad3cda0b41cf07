package firmware

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// Kinds of records. A device's durable state is the fold of its records, and
// the chain of their hashes is its log: what the device did cannot be taken
// back or put in another order without changing the head it signs into every
// partial.
const (
	recPrepared     = "prepared"     // ceremony.Pending
	recCommissioned = "commissioned" // ledger.Bundle
	recAborted      = "aborted"      // nothing
	recUnlocked     = "unlocked"     // unlockedBody
	recLocked       = "locked"       // lockedBody
	recPartial      = "partial"      // partialBody
	recCheck        = "check"        // partialBody
	recRefused      = "refused"      // refusedBody
	recClosed       = "closed"       // closedBody
	recEntry        = "entry"        // ledger.SignedEntry
	recRegistered   = "registered"   // registeredBody
	recBeatKey      = "beat.key"     // beatKeyBody
	recSilence      = "silence"      // silenceBody
	recDestroyed    = "destroyed"    // silenceBody
	recSilenced     = "silenced"     // silencedBody
	recDealt        = "dealt"        // dealtBody
	recDropped      = "dropped"      // droppedBody
	recPowers       = "powers"       // workBody
	recCombined     = "combined"     // workBody
)

// Record is one entry of the journal.
type Record struct {
	Kind string        `cbor:"1,keyasint"`
	At   int64         `cbor:"2,keyasint"` // device time, unix seconds; never falls
	Prev envelope.Hash `cbor:"3,keyasint"` // of the record before, or zero
	Body []byte        `cbor:"4,keyasint"`
}

type partialBody struct {
	Request  envelope.Hash `cbor:"1,keyasint"`
	Key      string        `cbor:"2,keyasint"`
	Epoch    uint64        `cbor:"3,keyasint"`
	Share    string        `cbor:"4,keyasint"`
	Order    []uint64      `cbor:"5,keyasint"`
	Position uint64        `cbor:"6,keyasint"`
	Document envelope.Hash `cbor:"7,keyasint"` // of the bytes to be signed
	Y        envelope.Hash `cbor:"8,keyasint"` // of the partial; the partial itself is never stored
	Officers []string      `cbor:"9,keyasint"`
}

type refusedBody struct {
	Request envelope.Hash `cbor:"1,keyasint"`
	Code    string        `cbor:"2,keyasint"`
	Text    string        `cbor:"3,keyasint"`
}

type closedBody struct {
	Request envelope.Hash `cbor:"1,keyasint"`
	Expires int64         `cbor:"2,keyasint"`
}

type unlockedBody struct {
	Officers []string `cbor:"1,keyasint"` // empty: unattended, or the end of the ceremony
}

type lockedBody struct {
	Reason string `cbor:"1,keyasint"`
}

type registeredBody struct {
	Certificates [][]byte `cbor:"1,keyasint"`
}

type beatKeyBody struct {
	Source string `cbor:"1,keyasint"`
	Epoch  uint64 `cbor:"2,keyasint"`
}

type silenceBody struct {
	Total int64 `cbor:"1,keyasint"` // nanoseconds of powered time without a lease
}

type silencedBody struct {
	Device string `cbor:"1,keyasint"`
	At     int64  `cbor:"2,keyasint"` // unix seconds
}

// state is the fold of the records.
type state struct {
	head  envelope.Hash
	count uint64
	mark  int64 // the latest time any record was made

	pending *ceremony.Pending // prepared and not committed
	genesis []byte            // the bundle, raw
	ledger  ledger.State      // valid if genesis != nil

	pin    envelope.Hash          // check value of the split PIN; zero if unattended
	pieces []ceremony.SealedPiece // of shares and PIN, each sealed to an officer's card

	closed       map[envelope.Hash]int64 // request digest -> when the request expires
	certificates [][]byte

	epochs    map[string]uint64 // the latest beat key that was seen, by source
	silence   int64             // nanoseconds without a lease, when it was recorded last
	destroyed bool
	silenced  map[string]int64 // devices that this one was told to answer no more, and when last

	dealt    []dealtShare           // of authorities in two layers
	slots    uint64                 // places in the token that they ever had
	dealings map[envelope.Hash]bool // that the ledger has or had
	tasks    taskNumbers
}

func newState() *state { return &state{closed: map[envelope.Hash]int64{}} }

// clone is a copy that shares what body replaces and never writes to, so that
// a record that does not fold leaves nothing behind, and a long journal folds
// in a time that grows with its length.
func (s *state) clone() *state {
	c := *s
	return &c
}

// ErrRecords reports a journal that is not the chain it should be: damaged,
// cut in the middle, or joined from two.
var ErrRecords = errors.New("firmware: the device's records do not fit together")

// foldVerified applies one record that this device wrote itself. What came
// from outside was verified before the record was written; the genesis and
// the ledger's entries are verified again, since everything hangs on them.
func (s *state) foldVerified(raw []byte) (*state, error) {
	var r Record
	if err := envelope.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("%w: record %d: %w", ErrRecords, s.count+1, err)
	}
	if r.Prev != s.head {
		return nil, fmt.Errorf("%w: record %d does not follow the one before", ErrRecords, s.count+1)
	}
	if r.At < s.mark {
		return nil, fmt.Errorf("%w: time falls at record %d", ErrRecords, s.count+1)
	}
	n := s.clone()
	n.head, n.count, n.mark = recordHash(raw), s.count+1, r.At
	if err := n.body(&r); err != nil {
		return nil, fmt.Errorf("%w: record %d (%s): %w", ErrRecords, n.count, r.Kind, err)
	}
	return n, nil
}

func (s *state) body(r *Record) error {
	// A device is in one system for good, and commissioned only in the one that
	// it prepared.
	if (s.genesis != nil) != afterCommissioning(r.Kind) {
		return errors.New("out of place")
	}
	switch r.Kind {
	case recPrepared:
		s.pending = new(ceremony.Pending)
		return envelope.Unmarshal(r.Body, s.pending)
	case recAborted:
		s.pending = nil
		return nil
	case recCommissioned:
		var b ledger.Bundle
		if err := envelope.Unmarshal(r.Body, &b); err != nil {
			return err
		}
		if s.pending == nil || !bytes.Equal(s.pending.Genesis, b.Genesis) {
			return errors.New("not the genesis that the device prepared")
		}
		g, err := ledger.VerifyGenesis(b)
		if err != nil {
			return err
		}
		s.genesis, s.ledger = r.Body, ledger.New(g)
		s.pin, s.pieces, s.pending = s.pending.PIN, s.pending.Pieces, nil
		return nil
	case recEntry:
		var e ledger.SignedEntry
		if err := envelope.Unmarshal(r.Body, &e); err != nil {
			return err
		}
		v, err := ledger.VerifyEntry(s.ledger, e)
		if err != nil {
			return err
		}
		if s.ledger, err = ledger.ApplyVerified(s.ledger, v); err != nil {
			return err
		}
		return s.foldDealing(v.Entry())
	case recClosed:
		var c closedBody
		if err := envelope.Unmarshal(r.Body, &c); err != nil {
			return err
		}
		s.closed = maps.Clone(s.closed)
		s.forgetExpired()
		s.closed[c.Request] = c.Expires
		return nil
	case recRegistered:
		var c registeredBody
		if err := envelope.Unmarshal(r.Body, &c); err != nil {
			return err
		}
		s.certificates = append(slices.Clip(s.certificates), c.Certificates...)
		return nil
	case recBeatKey:
		var k beatKeyBody
		if err := envelope.Unmarshal(r.Body, &k); err != nil {
			return err
		}
		s.epochs = maps.Clone(s.epochs)
		if s.epochs == nil {
			s.epochs = map[string]uint64{}
		}
		s.epochs[k.Source] = max(s.epochs[k.Source], k.Epoch)
		return nil
	case recSilence, recDestroyed:
		var n silenceBody
		if err := envelope.Unmarshal(r.Body, &n); err != nil {
			return err
		}
		s.silence, s.destroyed = n.Total, s.destroyed || r.Kind == recDestroyed
		return nil
	case recSilenced:
		var x silencedBody
		if err := envelope.Unmarshal(r.Body, &x); err != nil {
			return err
		}
		s.silenced = maps.Clone(s.silenced)
		if s.silenced == nil {
			s.silenced = map[string]int64{}
		}
		s.silenced[x.Device] = x.At
		return nil
	case recDealt, recDropped:
		return s.foldDealt(r)
	case recPowers, recCombined:
		var w workBody
		if err := envelope.Unmarshal(r.Body, &w); err != nil {
			return err
		}
		s.tasks = s.tasks.with(taskID{w.Enterprise, w.Distributor, w.Task}, takenTask{w.Request, w.Until}, s.mark)
		return nil
	case recUnlocked, recLocked, recPartial, recCheck, recRefused:
		return nil // history only
	default:
		return fmt.Errorf("unknown kind %q: written by a newer firmware?", r.Kind)
	}
}

func afterCommissioning(kind string) bool {
	switch kind {
	case recPrepared, recAborted, recCommissioned:
		return false
	}
	return true
}

// forgetExpired drops closed requests that have expired anyway: time never
// falls, so their expiry refuses them from now on.
func (s *state) forgetExpired() {
	maps.DeleteFunc(s.closed, func(_ envelope.Hash, expires int64) bool { return expires <= s.mark })
}

func recordHash(raw []byte) envelope.Hash { return envelope.HashOf("privyseal device record", raw) }

// draft collects the records of one step on a copy of the state, which
// becomes the state when the records are durable.
type draft struct {
	state   *state
	records [][]byte
	now     int64
}

func (d *draft) add(kind string, body any) error {
	var raw []byte
	var err error
	switch b := body.(type) {
	case []byte:
		raw = b
	case nil:
	default:
		if raw, err = envelope.Marshal(b); err != nil {
			return err
		}
	}
	rec, err := envelope.Marshal(Record{Kind: kind, At: d.now, Prev: d.state.head, Body: raw})
	if err != nil {
		return err
	}
	next, err := d.state.foldVerified(rec)
	if err != nil {
		return err
	}
	d.state, d.records = next, append(d.records, rec)
	return nil
}

// piecesFor lists the officers' sealed pieces of a share, or of the PIN.
func (s *state) piecesFor(purpose, shareID string) []ceremony.SealedPiece {
	out := []ceremony.SealedPiece{}
	for _, p := range s.pieces {
		if p.Purpose == purpose && p.Share == shareID {
			out = append(out, p)
		}
	}
	return out
}

package desk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// FileRecord is the signed ceremony record in a ceremony's directory. When it
// is there the ceremony is over.
const FileRecord = "record.cbor"

// Finished reports whether the ceremony in dir has its record.
func Finished(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, FileRecord))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Finish has the administrator's card sign the record of the ceremony, with
// the certificates that the system-wide authority gave to devices and
// officers, and keeps it.
func Finish(ctx context.Context, c Config, r *Result, certificates [][]byte) error {
	d := &desk{Config: c}
	rec := r.record
	rec.Certificates, rec.Finished = certificates, c.Now().Unix()
	return d.admin(ctx, "to sign the record of the ceremony", func(card Card) error {
		raw, err := d.signWith(card, ceremony.TypeRecord, rec, envelope.MaxTime)
		if err != nil {
			return err
		}
		if _, err := ReadRecord(raw); err != nil {
			return err
		}
		return atomicfile.Create(filepath.Join(c.Dir, FileRecord), raw, 0o644)
	})
}

// Record is a ceremony record that holds together: signed by the card that the
// genesis names as the administrator's, over the genesis that all devices
// signed, the opening and roster before it, a test signature by every subset
// of devices, and the certificates after it.
type Record struct {
	ceremony.Record
	State ledger.State
}

// ReadRecord verifies a record. Whether it is of the right system is for the
// reader to compare: its id is what the ceremony printed.
func ReadRecord(raw []byte) (*Record, error) {
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, err
	}
	var claimed ceremony.Record
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &claimed); err != nil {
		return nil, err
	}
	var b ledger.Bundle
	if err := envelope.Unmarshal(claimed.Bundle, &b); err != nil {
		return nil, err
	}
	g, err := ledger.VerifyGenesisOf(claimed.System, b)
	if err != nil {
		return nil, err
	}
	s := ledger.New(g)
	id, ok := s.Identity(g.Genesis().Ceremony.AdminKey)
	if !ok {
		return nil, errors.New("the genesis does not know its administrator's card")
	}
	v, err := u.Verify(id.SignKey)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	out := &Record{State: s}
	if err := envelope.Decode(v, ceremony.TypeRecord, ceremony.MessageVersion, &out.Record); err != nil {
		return nil, err
	}
	return out, out.verify()
}

// verify checks what the record says of how the genesis came about. A record
// made by a desk that lost its directory has no roster and no tests; it says
// so by leaving them out.
func (r *Record) verify() error {
	g := r.State.Genesis()
	if r.Plan.File != g.Ceremony.File {
		return errors.New("record: its plan is of another file than the genesis")
	}
	if r.Attempt != g.Ceremony.Attempt {
		return fmt.Errorf("record: of attempt %d, the genesis is of %d", r.Attempt, g.Ceremony.Attempt)
	}
	for _, der := range r.Certificates {
		if _, _, err := document.VerifyIdentity(r.State, der); err != nil {
			return fmt.Errorf("record: certificate: %w", err)
		}
	}
	if len(r.Roster) == 0 {
		if len(r.Tests) > 0 {
			return errors.New("record: test signatures without a roster")
		}
		return nil
	}
	o, err := ceremony.VerifyOpen(r.Open, g.Ceremony.NotBefore)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if !reflect.DeepEqual(*o.Plan(), r.Plan) {
		return errors.New("record: its plan is not the one that was opened")
	}
	roster, err := ceremony.VerifyRoster(o, r.Roster, g.Created)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	// As each device did before it signed.
	built := ceremony.BuildGenesis(roster, g.Keys, g.Created)
	own, err := built.Encode()
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if ledger.SystemID(own) != r.State.System() {
		return errors.New("record: its roster does not lead to its genesis")
	}
	want := 0
	for _, k := range g.Keys {
		want += len(k.Split().Subsets())
	}
	if len(r.Tests) != want {
		return fmt.Errorf("record: %d test signatures, %d subsets", len(r.Tests), want)
	}
	for _, t := range r.Tests {
		k, ok := r.State.Key(t.Key)
		if !ok {
			return fmt.Errorf("record: test signature of key %q, which the genesis does not know", t.Key)
		}
		subset, err := threshold.SubsetOf(t.Order...)
		if err != nil {
			return fmt.Errorf("record: %w", err)
		}
		if err := k.Split().Check(subset); err != nil {
			return fmt.Errorf("record: %w", err)
		}
		if err := threshold.VerifySignature(&k.Public, threshold.RS256, ceremony.TestDigest(roster.Digest(), k.ID, subset), t.Signature); err != nil {
			return fmt.Errorf("record: test of key %s by devices %v: %w", k.ID, t.Order, err)
		}
	}
	return nil
}

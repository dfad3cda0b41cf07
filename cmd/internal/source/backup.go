package source

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
)

// Domains of hashes and seals.
const (
	domainBackup = "privyseal source backup v1"
	domainPiece  = "privyseal source backup piece v1"
	domainCard   = "privyseal source piece to card v1"
	domainHand   = "privyseal source piece to restore v1"
	domainAsk    = "privyseal source restore request v1"
)

// fileVersion is the version of all files of a backup.
const fileVersion = 1

// secrets are what makes a source this source. The beat key is not among them:
// a restored source has a new one of a later epoch, so that the lost one's is
// worth nothing to devices that have heard it, and who has the identity key
// can certify any.
type secrets struct {
	Version  uint64 `cbor:"1,keyasint"`
	Identity []byte `cbor:"2,keyasint"` // scalar, 32 bytes
	Agree    []byte `cbor:"3,keyasint"` // scalar, 32 bytes
	Epoch    uint64 `cbor:"4,keyasint"` // of the beat key when the backup was made
	Sequence []byte `cbor:"5,keyasint,omitempty"`
}

func (s *secrets) wipe() {
	clear(s.Identity)
	clear(s.Agree)
	clear(s.Sequence)
}

// Manifest is the public part of a backup.
type Manifest struct {
	Version   uint64          `json:"version"`
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	Kind      string          `json:"kind"`
	Server    string          `json:"server"`
	Operators []string        `json:"operators"`
	Sign      []byte          `json:"sign"`  // SPKI
	Agree     []byte          `json:"agree"` // SPKI
	System    envelope.Hash   `json:"system"`
	Epoch     uint64          `json:"epoch"`
	Created   int64           `json:"created"`
	Threshold uint64          `json:"threshold"` // pieces that give it back
	Pieces    []ManifestPiece `json:"pieces"`
	// Check is a commitment to the secrets. They hold two keys of 256 bits:
	// there is nothing to be guessed by it.
	Check envelope.Hash `json:"check"`
}

// ManifestPiece says who holds a piece. Its check value names a wrong piece.
type ManifestPiece struct {
	Index  uint64          `json:"index"`
	Person string          `json:"person"`
	Name   string          `json:"name"`
	Card   uint32          `json:"card"` // serial
	Key    envelope.KeyID  `json:"key"`  // the card's 9D key
	File   string          `json:"file"`
	Check  envelope.Hash   `json:"check"`
	key    *ecdh.PublicKey // for sealing only
}

// Piece is the file of one piece, sealed to its holder's card. All but the
// sealed part is for people and bound by the seal.
type Piece struct {
	Version   uint64         `json:"version"`
	Source    string         `json:"source"`
	Name      string         `json:"name"` // of the source
	Backup    envelope.Hash  `json:"backup"`
	Index     uint64         `json:"index"`
	Threshold uint64         `json:"threshold"`
	Pieces    uint64         `json:"pieces"`
	Person    string         `json:"person"`
	Card      uint32         `json:"card"`
	Key       envelope.KeyID `json:"key"` // the card's 9D key
	Sealed    []byte         `json:"sealed"`
}

// info is what the seal of a piece binds.
func (p *Piece) info() []byte {
	h := envelope.HashOf(domainCard, []byte(p.Source), []byte(p.Name), p.Backup[:], number(p.Index), number(p.Threshold), number(p.Pieces),
		[]byte(p.Person), number(uint64(p.Card)), p.Key[:])
	return h[:]
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func pieceCheck(p share.Piece) envelope.Hash {
	return envelope.HashOf(domainPiece, number(p.Index), p.Value.Reveal())
}

// A Holder is a person who is to hold a piece of a backup, with the card that
// opens it; 0: his only one.
type Holder struct {
	Person string
	Card   uint32
}

// Backup splits a source's secrets, threshold of len(holders), and writes one
// sealed piece for each holder and the manifest into a new directory out.
func Backup(dir, out string, threshold int, holders []Holder, now int64) (*Manifest, error) {
	return backup(realDisk(), dir, out, threshold, holders, now)
}

func backup(d *disk, dir, out string, threshold int, holders []Holder, now int64) (*Manifest, error) {
	c, err := LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	k, err := loadKeys(dir, c.Kind)
	if err != nil {
		return nil, err
	}
	s, err := system(dir, c.source(k))
	if err != nil {
		return nil, err
	}
	m := &Manifest{
		Version: fileVersion, ID: c.ID, Name: c.Name, Kind: c.Kind, Server: c.Server, Operators: c.Operators,
		Sign: k.sign, Agree: k.agreeDER, System: s.System(), Created: now, Threshold: uint64(threshold),
	}
	if m.Epoch, err = lastEpoch(dir); err != nil {
		return nil, err
	}
	for i, h := range holders {
		p, err := holder(s, h, uint64(i+1))
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(m.Pieces, func(q ManifestPiece) bool { return q.Person == p.Person }) {
			return nil, fmt.Errorf("%s is to hold two pieces: that would be one piece less to steal", p.Person)
		}
		m.Pieces = append(m.Pieces, *p)
	}
	if threshold < 2 || threshold > len(m.Pieces) {
		return nil, fmt.Errorf("a threshold of %d with %d holders: at least 2 have to be needed, and as many holders as are needed", threshold, len(m.Pieces))
	}
	files, err := m.split(k)
	if err != nil {
		return nil, err
	}
	return m, m.save(d, out, files)
}

func holder(s ledger.State, h Holder, index uint64) (*ManifestPiece, error) {
	person, ok := s.Person(h.Person)
	if !ok {
		return nil, fmt.Errorf("the system knows no person %q", h.Person)
	}
	if h.Card == 0 && len(person.Cards) == 1 {
		h.Card = person.Cards[0].Serial
	}
	i := slices.IndexFunc(person.Cards, func(c ledger.Card) bool { return c.Serial == h.Card })
	switch {
	case len(person.Cards) == 0:
		return nil, fmt.Errorf("%s has no card to seal a piece to", person.Name)
	case h.Card == 0:
		return nil, fmt.Errorf("%s has %d cards: name one as %s:SERIAL", person.Name, len(person.Cards), person.ID)
	case i < 0:
		return nil, fmt.Errorf("%s has no card %d", person.Name, h.Card)
	}
	key, err := envelope.ParseAgreementKey(person.Cards[i].Agree)
	if err != nil {
		return nil, err
	}
	id, err := envelope.KeyIDOf(key)
	return &ManifestPiece{
		Index: index, Person: person.ID, Name: person.Name, Card: h.Card, Key: id,
		File: fmt.Sprintf("piece-%d-%s.json", index, person.ID), key: key,
	}, err
}

// split makes the pieces' files and the check values.
func (m *Manifest) split(k *keys) ([][]byte, error) {
	plain, err := m.secrets(k)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	m.Check = envelope.HashOf(domainBackup, plain)
	pieces, err := share.SplitSecret(rand.Reader, plain, int(m.Threshold), len(m.Pieces))
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, p := range pieces {
			p.Wipe()
		}
	}()
	// Any threshold of them give the secrets back if one choice does and all
	// lie on its polynomial.
	joined, wrong, err := share.Recover(pieces, int(m.Threshold), m.fits)
	joined.Wipe()
	if err != nil || len(wrong) > 0 {
		return nil, fmt.Errorf("the pieces do not fit together: %v, %w", wrong, err)
	}
	var files [][]byte
	for i, p := range pieces {
		h := &m.Pieces[i]
		h.Check = pieceCheck(p)
		f := Piece{
			Version: fileVersion, Source: m.ID, Name: m.Name, Backup: m.Check, Index: p.Index, Threshold: m.Threshold,
			Pieces: uint64(len(pieces)), Person: h.Person, Card: h.Card, Key: h.Key,
		}
		if f.Sealed, err = envelope.SealTo(h.key, f.info(), nil, p.Value.Reveal()); err != nil {
			return nil, err
		}
		data, err := json.MarshalIndent(f, "", "  ")
		if err != nil {
			return nil, err
		}
		files = append(files, append(data, '\n'))
	}
	return files, nil
}

func (m *Manifest) secrets(k *keys) ([]byte, error) {
	identity, err := k.identity.Bytes()
	if err != nil {
		return nil, err
	}
	s := secrets{Version: fileVersion, Identity: identity, Agree: k.agree.Bytes(), Epoch: m.Epoch, Sequence: slices.Clone(k.sequence)}
	defer s.wipe()
	return envelope.Marshal(s)
}

// fits reports whether these are the secrets that the backup was made of.
func (m *Manifest) fits(plain []byte) bool { return envelope.HashOf(domainBackup, plain) == m.Check }

// open takes the secrets apart and checks that they are the source's.
func (m *Manifest) open(plain []byte) (*keys, uint64, error) {
	var s secrets
	if err := envelope.Unmarshal(plain, &s); err != nil {
		return nil, 0, err
	}
	defer s.wipe()
	if s.Version != fileVersion {
		return nil, 0, fmt.Errorf("a backup of version %d, this program understands version %d", s.Version, fileVersion)
	}
	identity, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), s.Identity)
	if err != nil {
		return nil, 0, err
	}
	agree, err := ecdh.P256().NewPrivateKey(s.Agree)
	if err != nil {
		return nil, 0, err
	}
	k := &keys{identity: identity, agree: agree, sequence: slices.Clone(s.Sequence), sign: m.Sign, agreeDER: m.Agree}
	for _, x := range []struct {
		name string
		pub  any
		want []byte
	}{{"identity", identity.Public(), m.Sign}, {"agreement", agree.PublicKey(), m.Agree}} {
		got, err := envelope.KeyIDOf(x.pub)
		if err != nil {
			return nil, 0, err
		}
		if got != envelope.KeyIDOfSPKI(x.want) {
			return nil, 0, fmt.Errorf("the %s key in the backup is not the one that its manifest names", x.name)
		}
	}
	if (m.Kind == ledger.SourceSequence) != (len(k.sequence) == 32) {
		return nil, 0, errors.New("the backup's secret of a sequence does not fit the source's kind")
	}
	return k, s.Epoch, nil
}

// save writes the pieces, and the manifest last: a directory without one is
// the rest of an interrupted backup.
func (m *Manifest) save(d *disk, out string, files [][]byte) error {
	if err := os.Mkdir(out, 0o700); err != nil {
		return err
	}
	for i, data := range files {
		if err := d.create(filepath.Join(out, m.Pieces[i].File), data, 0o600); err != nil {
			return err
		}
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return d.create(filepath.Join(out, FileManifest), append(data, '\n'), 0o600)
}

// FileManifest is the name of a backup's manifest.
const FileManifest = "manifest.json"

// ReadManifest reads a manifest.
func ReadManifest(path string) (*Manifest, error) {
	data, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	m := new(Manifest)
	if err := decodeJSON(data, m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

func (m *Manifest) validate() error {
	n := uint64(len(m.Pieces))
	switch {
	case m.Version != fileVersion:
		return fmt.Errorf("a manifest of version %d, this program understands version %d", m.Version, fileVersion)
	case m.Threshold < share.MinThreshold || m.Threshold > n || n > share.MaxPieces:
		return fmt.Errorf("%d of %d pieces: no such backup is made", m.Threshold, n)
	case m.Created < 0 || m.Created > envelope.MaxTime:
		return errors.New("made at no time")
	case m.System.IsZero() || m.Check.IsZero() || m.Epoch == 0 || m.Epoch > maxEpoch:
		return errors.New("not the manifest of a backup")
	}
	for i, p := range m.Pieces {
		if p.Index != uint64(i+1) {
			return fmt.Errorf("piece %d stands where piece %d is expected", p.Index, i+1)
		}
	}
	return nil
}

// ReadPiece reads the file of a piece.
func ReadPiece(path string) (*Piece, error) {
	data, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	p := new(Piece)
	if err := decodeJSON(data, p); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if p.Version != fileVersion || p.Index == 0 || p.Index > share.MaxPieces {
		return nil, fmt.Errorf("%s is no piece of a backup that this program understands", path)
	}
	return p, nil
}

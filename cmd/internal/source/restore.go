package source

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Request asks the holders of a backup's pieces for them. It is not signed:
// holders compare its Fingerprint with the screen of whoever restores, by
// voice.
type Request struct {
	Version uint64        `json:"version"`
	Source  string        `json:"source"`
	Name    string        `json:"name"`
	Backup  envelope.Hash `json:"backup"`
	Public  []byte        `json:"public"` // one-time key, uncompressed P-256 point
	Created int64         `json:"created"`
}

func (r *Request) digest() envelope.Hash {
	return envelope.HashOf(domainAsk, []byte(r.Source), []byte(r.Name), r.Backup[:], r.Public, number(uint64(r.Created)))
}

// Fingerprint is what holders compare before they hand a piece over: 80 bits
// of the request's hash. Whoever wanted another request of the same
// fingerprint would have to try 2⁸⁰ keys.
func (r *Request) Fingerprint() string {
	h := r.digest()
	s := hex.EncodeToString(h[:10])
	var groups []string
	for i := 0; i < len(s); i += 4 {
		groups = append(groups, s[i:i+4])
	}
	return strings.Join(groups, " ")
}

// Answer is a piece on its way to whoever restores.
type Answer struct {
	Version uint64        `json:"version"`
	Source  string        `json:"source"`
	Backup  envelope.Hash `json:"backup"`
	Index   uint64        `json:"index"`
	Person  string        `json:"person"`
	Request envelope.Hash `json:"request"`
	Sealed  []byte        `json:"sealed"`
}

func (a *Answer) info() []byte {
	h := envelope.HashOf(domainHand, []byte(a.Source), a.Backup[:], number(a.Index), []byte(a.Person), a.Request[:])
	return h[:]
}

// ReadRequest reads a request.
func ReadRequest(path string) (*Request, error) {
	data, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	r := new(Request)
	if err := decodeJSON(data, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if r.Version != fileVersion {
		return nil, fmt.Errorf("%s is no request that this program understands", path)
	}
	if _, err := ecdh.P256().NewPublicKey(r.Public); err != nil {
		return nil, fmt.Errorf("%s: one-time key: %w", path, err)
	}
	return r, nil
}

// OpenPiece opens a piece with its holder's card (slot 9D). The caller wipes
// it.
func OpenPiece(card ecdh.KeyExchanger, p *Piece) (threshold.Secret, error) {
	id, err := envelope.KeyIDOf(card.PublicKey())
	if err != nil {
		return threshold.Secret{}, err
	}
	if id != p.Key {
		return threshold.Secret{}, fmt.Errorf("piece %d is sealed to card %d of %s, this is another", p.Index, p.Card, p.Person)
	}
	plain, err := envelope.OpenWith(card, p.info(), nil, p.Sealed)
	if err != nil {
		return threshold.Secret{}, fmt.Errorf("piece %d of %s: %w", p.Index, p.Person, err)
	}
	return threshold.NewSecret(plain), nil
}

// HandOver opens a piece with its holder's card and seals it to whoever
// restores. The holder has compared the request's fingerprint.
func HandOver(card ecdh.KeyExchanger, p *Piece, r *Request) (*Answer, error) {
	if p.Source != r.Source || p.Backup != r.Backup {
		return nil, fmt.Errorf("the request is for another backup: of source %s, made as %.16s, where the piece is of source %s, made as %.16s",
			r.Source, r.Backup.String(), p.Source, p.Backup.String())
	}
	to, err := ecdh.P256().NewPublicKey(r.Public)
	if err != nil {
		return nil, err
	}
	v, err := OpenPiece(card, p)
	if err != nil {
		return nil, err
	}
	defer v.Wipe()
	a := &Answer{Version: fileVersion, Source: p.Source, Backup: p.Backup, Index: p.Index, Person: p.Person, Request: r.digest()}
	a.Sealed, err = envelope.SealTo(to, a.info(), nil, v.Reveal())
	return a, err
}

// begun is restore.json: a restoration that waits for pieces.
type begun struct {
	Manifest Manifest `json:"manifest"`
	Link     string   `json:"link"`
	Pins     []string `json:"pins,omitempty"`
	Request  Request  `json:"request"`
}

// BeginRestore begins to restore a source into a new directory: it makes a
// one-time key and the request that the holders of pieces are to be given.
func BeginRestore(dir string, m *Manifest, linkTo string, pins []string, now int64) (*Request, error) {
	return beginRestore(realDisk(), dir, m, linkTo, pins, now)
}

func beginRestore(d *disk, dir string, m *Manifest, linkTo string, pins []string, now int64) (*Request, error) {
	c := m.config(linkTo, pins, now)
	if err := c.validate(); err != nil {
		return nil, err
	}
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	b := begun{
		Manifest: *m, Link: linkTo, Pins: pins,
		Request: Request{Version: fileVersion, Source: m.ID, Name: m.Name, Backup: m.Check, Public: key.PublicKey().Bytes(), Created: now},
	}
	secret := key.Bytes()
	defer clear(secret)
	// Nothing is overwritten: holders may have answered to the first key.
	if err := d.create(filepath.Join(dir, fileRestoreKey), secret, 0o600); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, term.WithHint(fmt.Errorf("a restoration has begun in %s", dir), "go on with 'privyseal-heartbeat restore --dir "+dir+" PIECE...', or take another directory")
		}
		return nil, err
	}
	for _, f := range []struct {
		name string
		v    any
	}{{fileRestoreAsked, b.Request}, {fileRestore, b}} {
		data, err := json.MarshalIndent(f.v, "", "  ")
		if err != nil {
			return nil, err
		}
		if err := d.create(filepath.Join(dir, f.name), append(data, '\n'), 0o600); err != nil {
			return nil, err
		}
	}
	return &b.Request, nil
}

// restoring reports whether a restoration has begun in dir and is not done.
func restoring(dir string) bool {
	_, begun := os.Stat(filepath.Join(dir, fileRestoreKey))
	_, done := os.Stat(filepath.Join(dir, fileConfig))
	return begun == nil && done != nil
}

func (m *Manifest) config(linkTo string, pins []string, now int64) Config {
	return Config{
		ID: m.ID, Name: m.Name, Kind: m.Kind, Server: m.Server, Operators: m.Operators, Link: linkTo, Pins: pins, Restored: now,
	}
}

// Restore joins the pieces that holders handed over and makes the source. It
// has a new beat key: of the backup's epoch and a million, or of the time in
// seconds if that is more, so that a source that is restored twice from one
// backup has two. Devices that heard it hear the lost one no more.
//
// No device is known to it. Its beats begin when officers have opened the
// device anew, since whom the lost source had silenced is lost with it.
func Restore(dir string, answers []string, now int64) (*ledger.Source, uint64, error) {
	return restore(realDisk(), dir, answers, now)
}

func restore(d *disk, dir string, answers []string, now int64) (*ledger.Source, uint64, error) {
	fail := func(err error) (*ledger.Source, uint64, error) { return nil, 0, err }
	if _, err := os.Stat(filepath.Join(dir, fileConfig)); err == nil {
		return fail(fmt.Errorf("%w: %s", ErrExists, dir))
	}
	b, key, err := readBegun(dir)
	if err != nil {
		return fail(err)
	}
	m := &b.Manifest
	pieces, err := b.read(key, answers)
	defer func() {
		for _, p := range pieces {
			p.Wipe()
		}
	}()
	if err != nil {
		return fail(err)
	}
	plain, wrong, err := share.Recover(pieces, int(m.Threshold), m.fits)
	defer plain.Wipe()
	if err != nil || len(wrong) > 0 {
		// Each piece fits its check value, so the manifest contradicts itself.
		return fail(fmt.Errorf("the pieces are those that the manifest lists and do not give what it commits to: it was altered (%v, %w)", wrong, err))
	}
	k, epoch, err := m.open(plain.Reveal())
	if err != nil {
		return fail(err)
	}
	// A clock that was lost with the machine's battery must not make what
	// officers said before the backup count again.
	now = max(now, m.Created+1)
	c := m.config(b.Link, b.Pins, now)
	src := c.source(k)
	if err := k.save(d, dir); err != nil {
		return fail(err)
	}
	if strings.HasPrefix(c.Link, "tls:") {
		if _, err := pinned.LoadIdentity(filepath.Join(dir, fileTLS)); err != nil {
			return fail(err)
		}
	}
	if err := fixSystem(d, dir, m.System); err != nil {
		return fail(err)
	}
	if err := ensureBeatKey(d, dir, src, k, max(epoch+epochJump, uint64(now)), now); err != nil {
		return fail(err)
	}
	if epoch, err = lastEpoch(dir); err != nil {
		return fail(err)
	}
	if err := finish(d, dir, c, src); err != nil {
		return fail(err)
	}
	// It is a source from here on. A crash leaves the one-time key, which the
	// next start destroys.
	if err := d.destroy(filepath.Join(dir, fileRestoreKey)); err != nil {
		return fail(err)
	}
	for _, name := range []string{fileRestore, fileRestoreAsked} {
		if err := remove(filepath.Join(dir, name)); err != nil {
			return fail(err)
		}
	}
	return src, epoch, nil
}

func readBegun(dir string) (*begun, *ecdh.PrivateKey, error) {
	data, err := readSmall(filepath.Join(dir, fileRestore))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, term.WithHint(fmt.Errorf("no restoration has begun in %s", dir), "begin one with 'privyseal-heartbeat restore --begin'")
	}
	if err != nil {
		return nil, nil, err
	}
	b := new(begun)
	if err := decodeJSON(data, b); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", fileRestore, err)
	}
	if err := b.Manifest.validate(); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", fileRestore, err)
	}
	raw, err := readSecret(filepath.Join(dir, fileRestoreKey))
	if err != nil {
		return nil, nil, err
	}
	defer clear(raw)
	key, err := ecdh.P256().NewPrivateKey(raw)
	return b, key, err
}

// read opens the answers, and names each that is wrong.
func (b *begun) read(key *ecdh.PrivateKey, paths []string) ([]share.Piece, error) {
	var pieces []share.Piece
	var from []string
	for _, path := range paths {
		p, person, err := b.open(key, path)
		if err != nil {
			return pieces, fmt.Errorf("%s: %w", path, err)
		}
		if slices.ContainsFunc(pieces, func(q share.Piece) bool { return q.Index == p.Index }) {
			p.Wipe()
			return pieces, fmt.Errorf("%s: piece %d of %s was given twice", path, p.Index, person)
		}
		pieces, from = append(pieces, p), append(from, person)
	}
	m := &b.Manifest
	if uint64(len(pieces)) < m.Threshold {
		var others []string
		for _, p := range m.Pieces {
			if !slices.Contains(from, p.Person) {
				others = append(others, p.Person)
			}
		}
		return pieces, fmt.Errorf("%d of the %d pieces that are needed: ask %s", len(pieces), m.Threshold, strings.Join(others, ", "))
	}
	return pieces, nil
}

func (b *begun) open(key *ecdh.PrivateKey, path string) (p share.Piece, person string, err error) {
	data, err := readSmall(path)
	if err != nil {
		return p, "", err
	}
	var a Answer
	if err := decodeJSON(data, &a); err != nil {
		return p, "", term.WithHint(fmt.Errorf("this is no answer to the request: %w", err),
			"a holder makes one of his piece with 'privyseal heartbeat piece FILE --for "+fileRestoreAsked+"'")
	}
	m := &b.Manifest
	switch {
	case a.Version != fileVersion:
		return p, "", fmt.Errorf("of version %d, this program understands version %d", a.Version, fileVersion)
	case a.Source != m.ID:
		return p, "", fmt.Errorf("a piece of source %s, not of %s", a.Source, m.ID)
	case a.Backup != m.Check:
		return p, "", fmt.Errorf("the piece of %s is of another backup of %s", a.Person, m.ID)
	case a.Request != b.Request.digest():
		return p, "", fmt.Errorf("the piece of %s was handed over to another request: ask again with %s", a.Person, fileRestoreAsked)
	case a.Index == 0 || a.Index > uint64(len(m.Pieces)) || m.Pieces[a.Index-1].Person != a.Person:
		return p, "", fmt.Errorf("the manifest lists no piece %d of %s", a.Index, a.Person)
	}
	plain, err := envelope.OpenWith(key, a.info(), nil, a.Sealed)
	if err != nil {
		return p, "", fmt.Errorf("the piece of %s does not open: it was altered on the way (%w)", a.Person, err)
	}
	p = share.Piece{Index: a.Index, Value: threshold.NewSecret(plain)}
	if pieceCheck(p) != m.Pieces[a.Index-1].Check {
		p.Wipe()
		return share.Piece{}, "", fmt.Errorf("what %s handed over is not piece %d: another was sealed to that card", a.Person, a.Index)
	}
	return p, a.Person, nil
}

// save writes the keys of a restored source. What an interrupted attempt wrote
// is the same.
func (k *keys) save(d *disk, dir string) error {
	agree, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), k.agree.Bytes())
	if err != nil {
		return err
	}
	for name, key := range map[string]*ecdsa.PrivateKey{fileIdentityKey: k.identity, fileAgreeKey: agree} {
		data, err := encodeKey(key)
		if err != nil {
			return err
		}
		err = ensure(d, filepath.Join(dir, name), data)
		clear(data)
		if err != nil {
			return err
		}
	}
	if k.sequence == nil {
		return nil
	}
	return ensure(d, filepath.Join(dir, fileSequence), k.sequence)
}

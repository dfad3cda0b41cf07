// Package ledgertest makes a small, complete and valid system in memory for tests: five devices with their shares, ten officers (two a
// device), an administrator, a requester with two cards, an officer's second card, a program with a software key, and three split
// keys. All private keys are in software, fixed, and protect nothing.
//
//	device-1 … device-5   each with a message server server-1 … server-5
//	officer-1a, officer-1b … officer-5b   card serials 11, 12, 21, 22 … 52; officer-1a has a second, unregistered card 111
//	admin      card 90
//	requester  cards 91 and 92; not an officer
//	program    software key only
//	swa (ledger, additive, 4 of 5), certs (certificate, additive, 3 of 5), files (file, multiplicative, 3 of 5, safe primes)
//
// Every share has a quorum of 2, opened by 2 of 2 pieces. No device needs beats, unless [WithHeartbeat] says so. [WithDevices] makes more
// devices, and [System.Authority] enters authorities in two layers.
package ledgertest

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Ids of the test system.
const (
	KeyLedger       = "swa"
	KeyCertificates = "certs"
	KeyFiles        = "files"

	Administrator = "admin"
	Requester     = "requester"
	Program       = "program"

	// Devices is the number of devices; ids are "device-1" … "device-5".
	Devices = 5
)

// Epoch is when the test system was made: 2026-01-02 03:04:05 UTC. Officers' rows last ten years.
const Epoch = 1767323045

// System is a commissioned system with all its private keys.
type System struct {
	Genesis  ledger.Genesis
	Bundle   ledger.Bundle
	Verified *ledger.VerifiedGenesis
	// State after the genesis; tests fold on from it.
	State ledger.State
	// Now is a moment shortly after the ceremony, at which everything is valid.
	Now int64

	Devices map[string]*Device
	Persons map[string]*Person
	Servers map[string]*Pair
	// Sources are the heartbeat sources by id, if there are any.
	Sources map[string]*Pair
	Keys    map[string]*Key
}

// Pair is a signature and an agreement key.
type Pair struct {
	Sign  *ecdsa.PrivateKey
	Agree *ecdh.PrivateKey
}

// Device is a device's token.
type Device struct {
	ID string
	Pair
	Boot *ecdsa.PrivateKey
	// Shares by key id.
	Shares map[string]threshold.Share
}

// Card is a PIV card: Sign is slot 9C, Agree slot 9D.
type Card struct {
	Serial uint32
	Pair
}

// Person is someone with cards, the first of which is the registered one if he is an officer.
type Person struct {
	ID       string
	Cards    []*Card
	Software *ecdsa.PrivateKey
}

// Card is the person's first card.
func (p *Person) Card() *Card { return p.Cards[0] }

// Option changes the genesis before it is signed.
type Option func(*ledger.Genesis)

// New makes the test system. Everything but the randomness in signatures is the same at every call.
func New(t testing.TB, options ...Option) *System {
	t.Helper()
	s := Unsigned(t)
	for _, o := range options {
		o(&s.Genesis)
	}
	s.Commission(t)
	return s
}

// Unsigned makes the test system without signing its genesis: Bundle, Verified and State are zero.
func Unsigned(t testing.TB) *System {
	t.Helper()
	s := &System{
		Now:     Epoch + 3600,
		Devices: make(map[string]*Device), Persons: make(map[string]*Person), Servers: make(map[string]*Pair),
		Sources: make(map[string]*Pair),
		Keys:    splitKeys(t),
	}
	g := &s.Genesis
	*g = ledger.Genesis{
		Version: ledger.GenesisVersion, Name: "Test system", Created: Epoch, Firmware: sha256.Sum256([]byte("firmware")),
		UnattestedCards: true,
		Ceremony: ledger.Ceremony{
			File: sha256.Sum256([]byte("ceremony file")), Attempt: 1, Administrator: Administrator,
			Witnesses: []string{"Wilma Witness", "Walter Witness"}, NotBefore: Epoch - 600, NotAfter: Epoch + 7200, Vault: true,
		},
	}
	for i := 1; i <= Devices; i++ {
		s.addServer(t, fmt.Sprintf("server-%d", i), i)
		s.addDevice(t, fmt.Sprintf("device-%d", i), i)
		for j, letter := range []string{"a", "b"} {
			serials := []uint32{uint32(10*i + j + 1)}
			if i == 1 && j == 0 {
				serials = append(serials, 111)
			}
			id := fmt.Sprintf("officer-%d%s", i, letter)
			s.addPerson(t, id, "Officer "+fmt.Sprint(i)+letter, serials, false)
			g.Officers = append(g.Officers, ledger.Officer{
				Person: id, Card: serials[0], Device: fmt.Sprintf("device-%d", i), Class: ledger.ClassOfficer,
				Expires: Epoch + 10*365*86400, Keys: []string{KeyLedger, KeyCertificates, KeyFiles},
			})
		}
	}
	s.addPerson(t, Administrator, "Ada Administrator", []uint32{90}, false)
	s.addPerson(t, Requester, "Rita Requester", []uint32{91, 92}, false)
	s.addPerson(t, Program, "Build program", nil, true)
	g.Ceremony.AdminKey = KeyID(t, s.Persons[Administrator].Card().Sign)
	for _, id := range []string{KeyLedger, KeyCertificates, KeyFiles} {
		k := s.Keys[id].Ledger
		g.Keys = append(g.Keys, k)
		for _, h := range k.Holders {
			s.Devices[h.Device].Shares[id] = s.Keys[id].Shares[h.Index-1]
		}
	}
	return s
}

// Commission signs the genesis as it stands by everyone, verifies it and sets Bundle, Verified and State.
func (s *System) Commission(t testing.TB) {
	t.Helper()
	for _, x := range s.Genesis.Sources {
		p := NewPair(t, x.ID)
		s.Sources[x.ID] = &p
	}
	if err := s.addPrivate(); err != nil {
		t.Fatal(err)
	}
	raw, err := s.Genesis.Encode()
	if err != nil {
		t.Fatal(err)
	}
	s.Bundle = ledger.Bundle{Genesis: raw}
	signers := []*ecdsa.PrivateKey{s.Persons[Administrator].Card().Sign}
	for _, d := range s.Genesis.Devices {
		signers = append(signers, s.Devices[d.ID].Sign)
	}
	for _, k := range signers {
		sig, err := ledger.SignGenesis(rand.Reader, k, raw, s.Genesis.Created)
		if err != nil {
			t.Fatal(err)
		}
		s.Bundle.Signatures = append(s.Bundle.Signatures, sig)
	}
	s.Verified, err = ledger.VerifyGenesis(s.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	s.State = ledger.New(s.Verified)
}

// Officers are the two officers of a device.
func (s *System) Officers(device string) []*Person {
	var out []*Person
	for _, o := range s.Genesis.Officers {
		if o.Device == device {
			out = append(out, s.Persons[o.Person])
		}
	}
	return out
}

// Entry drafts and signs the entry that follows state.
func (s *System) Entry(t testing.TB, state ledger.State, kind string, body any, created int64) ledger.SignedEntry {
	t.Helper()
	raw, err := ledger.NewEntry(state, kind, body, created)
	if err != nil {
		t.Fatal(err)
	}
	return s.SignEntry(t, raw)
}

// SignEntry signs an encoded entry, whatever it says, with the whole SWA key.
func (s *System) SignEntry(t testing.TB, entry []byte) ledger.SignedEntry {
	t.Helper()
	return ledger.SignedEntry{Entry: entry, Algorithm: "RS256", Signature: s.Keys[KeyLedger].Sign(t, "RS256", ledger.ToBeSigned(entry))}
}

// SPKI encodes a public key.
func SPKI(t testing.TB, pub any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// KeyID is the id of a key.
func KeyID(t testing.TB, key *ecdsa.PrivateKey) envelope.KeyID {
	t.Helper()
	id, err := envelope.KeyIDOf(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// NewPair makes a pair of keys that depends on its name alone.
func NewPair(t testing.TB, name string) Pair {
	t.Helper()
	p, err := newPair(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newPair(name string) (p Pair, err error) {
	if p.Agree, err = ecdh.P256().NewPrivateKey(scalar(name + " agree")); err != nil {
		return Pair{}, err
	}
	p.Sign, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar(name+" sign"))
	return p, err
}

// NewSigner makes a signature key that depends on its name alone.
func NewSigner(t testing.TB, name string) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar(name))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func scalar(name string) []byte {
	h := sha256.Sum256([]byte("privyseal ledgertest " + name))
	return h[:]
}

func (s *System) addServer(t testing.TB, id string, i int) {
	p := NewPair(t, id)
	s.Servers[id] = &p
	s.Genesis.Servers = append(s.Genesis.Servers, ledger.Server{
		ID: id, Name: fmt.Sprintf("Site %d", i), Sign: SPKI(t, p.Sign.Public()), Agree: SPKI(t, p.Agree.Public()),
		TLS: sha256.Sum256([]byte(id)), URL: fmt.Sprintf("https://127.0.0.1:%d", 8440+i), Route: fmt.Sprintf("127.0.0.1:%d", 4220+i),
	})
}

func (s *System) addDevice(t testing.TB, id string, i int) {
	d := &Device{ID: id, Pair: NewPair(t, id), Boot: NewSigner(t, id+" boot"), Shares: make(map[string]threshold.Share)}
	s.Devices[id] = d
	s.Genesis.Devices = append(s.Genesis.Devices, ledger.Device{
		ID: id, Name: fmt.Sprintf("Seal %d", i), Serial: fmt.Sprintf("%08d", i), Model: "Software token", Server: fmt.Sprintf("server-%d", i),
		Sign: SPKI(t, d.Sign.Public()), Agree: SPKI(t, d.Agree.Public()), Boot: SPKI(t, d.Boot.Public()),
		Firmware: s.Genesis.Firmware, UnlockQuorum: 2,
	})
}

func (s *System) addPerson(t testing.TB, id, name string, serials []uint32, software bool) {
	p := &Person{ID: id}
	row := ledger.Person{ID: id, Name: name}
	for _, serial := range serials {
		c := &Card{Serial: serial, Pair: NewPair(t, fmt.Sprintf("card %d", serial))}
		p.Cards = append(p.Cards, c)
		row.Cards = append(row.Cards, ledger.Card{
			Serial: serial, Model: "Software card", Sign: SPKI(t, c.Sign.Public()), Agree: SPKI(t, c.Agree.Public()),
		})
	}
	if software {
		p.Software = NewSigner(t, id+" software")
		row.Software = SPKI(t, p.Software.Public())
	}
	s.Persons[id] = p
	s.Genesis.Persons = append(s.Genesis.Persons, row)
}

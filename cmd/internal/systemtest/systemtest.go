// Package systemtest is a commissioned system in one process, for tests: five
// signing devices, each the real interpreter in front of a real SoftHSM2 token,
// the keys of their five message servers, ten officers with cards, and people
// who ask. A real ceremony makes it.
//
// There is no network and no coordinator in it: the test speaks to each device
// as that device's message server does, and may say what no server would.
// Everything that ever went to or from a device is kept, as a thief of a
// message server's disk would find it.
package systemtest

import (
	"context"
	"crypto"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/desk"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/firmwaretest"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/devicetoken"
)

// Keys of the system. Certs, SWA and Pair are used in the token by the devices
// that can; a chain of three makes proofs, so Files is used in the host.
const (
	SWA   = "swa"   // family ledger, 4 of 5, parallel
	Certs = "certs" // family certificate, 3 of 5, parallel
	Files = "files" // family file, 3 of 5, sequential, safe primes
	Pair  = "pair"  // family file, 2 of 5, sequential; signs digests
)

// People besides the officers.
const (
	Administrator = "admin"
	Requester     = "rita"  // has two cards, is no officer
	Program       = "robot" // has a software key only
	// TwoCards is an officer of d1 with a second card, which is registered
	// nowhere.
	TwoCards = "officer-1a"
)

// Devices are the ids of the devices, in the order of their share indices.
var Devices = []string{"d1", "d2", "d3", "d4", "d5"}

// System is everyone and everything.
type System struct {
	State    ledger.State
	Bundle   ledger.Bundle
	Devices  map[string]*firmwaretest.Device
	Servers  map[string]ledgertest.Pair // by device: the keys of its message server
	Cards    map[uint32]*firmwaretest.Card
	People   map[string][]*firmwaretest.Card // by person
	Robot    crypto.Signer                   // Program's software key
	BootKeys map[string]crypto.Signer        // the devices' boot keys, from their disks

	// For systems with Beats.
	Sources map[string]*Source
	Hold    func(Carried) bool // takes a frame off the network if it says so
	Reports []Carried          // what devices told their servers unasked
	Dropped []error            // why sources answered nothing
	Stopped map[string]bool    // devices whose process stands still

	t       testing.TB
	queues  map[string][][]byte // what waits for devices that stand still
	entries [][]byte            // of the ledger
	shared  *shared
	configs map[string]firmware.Config
}

// shared is what copies of a System for several tests have in common.
type shared struct {
	mu     sync.Mutex
	real   bool // clocks are the machine's
	now    time.Time
	boot   int64 // nanoseconds
	up     int64
	wrong  map[string]time.Duration // by how much a wall clock is off
	taps   map[string]hsm.TraceFunc
	frames map[string][]Frame
}

// Frame is one message on a device's link and the device's answer.
type Frame struct {
	Sent, Answer []byte
}

// Option changes a system before its ceremony.
type Option func(*room)

// Only makes no other keys than these, besides the SWA: a ceremony is faster
// for it.
func Only(keys ...string) Option {
	return func(r *room) {
		r.plan.Keys = slices.DeleteFunc(r.plan.Keys, func(k ceremony.PlanKey) bool { return k.ID != SWA && !slices.Contains(keys, k.ID) })
	}
}

// DiesBeforeCommit kills a device in its ceremony when it is about to record
// that it is commissioned; then it starts again, and the ceremony is finished.
func DiesBeforeCommit(device string) Option {
	return func(r *room) {
		r.s.Devices[device].Break = func(raw []byte) (bool, error) {
			var rec firmware.Record
			r.s.check(envelope.Unmarshal(raw, &rec))
			if rec.Kind == "commissioned" {
				return false, firmwaretest.ErrJournal
			}
			return true, nil
		}
	}
}

// revive starts the devices that died, and reports whether there were any.
func (r *room) revive() (any bool) {
	for _, d := range r.s.Devices {
		if d.Dead() {
			d.Break, any = nil, true
			d.Restart(r.s.t)
		}
	}
	return any
}

// Tapped has f told of all that crosses a device's PKCS#11 boundary, the
// ceremony included.
func Tapped(device string, f hsm.TraceFunc) Option {
	return func(r *room) { r.s.Tap(device, f) }
}

// New conducts a ceremony and returns the system, all devices unlocked.
func New(t testing.TB, options ...Option) *System {
	t.Helper()
	s := newSystem(t)
	r := newRoom(s)
	for _, o := range options {
		o(r)
	}
	r.hold()
	return s
}

func newSystem(t testing.TB) *System {
	return &System{
		Devices: map[string]*firmwaretest.Device{}, Servers: map[string]ledgertest.Pair{}, Cards: map[uint32]*firmwaretest.Card{},
		People: map[string][]*firmwaretest.Card{}, BootKeys: map[string]crypto.Signer{}, t: t, configs: map[string]firmware.Config{}, Stopped: map[string]bool{},
		queues: map[string][][]byte{},
		shared: &shared{now: time.Unix(1_800_000_000, 0), taps: map[string]hsm.TraceFunc{}, wrong: map[string]time.Duration{}, frames: map[string][]Frame{}},
	}
}

// hold conducts the ceremony.
func (r *room) hold() {
	s, t := r.s, r.s.t
	t.Helper()
	config := desk.Config{
		Plan: r.plan, Dir: t.TempDir(), Sites: r, Cards: r, Rand: rand.Reader, Now: s.Now,
		Say: func(f string, a ...any) { r.said = append(r.said, fmt.Sprintf(f, a...)) },
	}
	result, err := desk.Run(context.Background(), config)
	if err != nil && r.revive() {
		result, err = desk.Run(context.Background(), config)
	}
	if err != nil {
		t.Fatalf("ceremony: %v\n%s", err, strings.Join(r.said, "\n"))
	}
	s.State, s.Bundle = result.State, result.Bundle
}

// Now is the time by every clock of the system.
func (s *System) Now() time.Time {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	if s.shared.real {
		return time.Now()
	}
	return s.shared.now
}

// Advance moves every clock, back if d is negative.
func (s *System) Advance(d time.Duration) {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	s.shared.now = s.shared.now.Add(d)
}

// Tap has f told of all that crosses a device's PKCS#11 boundary from now on;
// nil ends it.
func (s *System) Tap(device string, f hsm.TraceFunc) {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	s.shared.taps[device] = f
}

func (s *System) trace(device string) hsm.TraceFunc {
	return func(call string, in, out [][]byte) {
		s.shared.mu.Lock()
		f := s.shared.taps[device]
		s.shared.mu.Unlock()
		if f != nil {
			f(call, in, out)
		}
	}
}

// Frames returns every frame on a device's link since it was made.
func (s *System) Frames(device string) []Frame {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	return slices.Clone(s.shared.frames[device])
}

// relay hands a frame to a device, and keeps it.
func (s *System) relay(device string, frame []byte) ([]byte, error) {
	answer, err := s.Devices[device].Relay(frame)
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	s.shared.frames[device] = append(s.shared.frames[device], Frame{Sent: frame, Answer: answer})
	return answer, err
}

// Key returns a key of the ledger.
func (s *System) Key(id string) *ledger.Key {
	s.t.Helper()
	k, ok := s.State.Key(id)
	if !ok {
		s.t.Fatalf("no key %q", id)
	}
	return &k
}

// SignKey is a device's signature key in its token, for a device that is
// corrupt.
func (s *System) SignKey(device string) crypto.Signer {
	s.t.Helper()
	k, err := s.Devices[device].Token.Signer(devicetoken.LabelSign)
	s.check(err)
	return k
}

// config is what a device is, without its state.
func (s *System) config(device string) firmware.Config { return s.configs[device] }

// room is the ceremony.
type room struct {
	s    *System
	plan ceremony.Plan
	said []string
	// person adds somebody with some cards to the plan.
	person func(id, name string, cards int)
	maker  *firmwaretest.Maker
}

// newRoom is the room for the system of this package's comment.
func newRoom(s *System) *room {
	r := newRoomFor(s)
	for i, id := range Devices {
		r.device(i+1, id)
		for _, x := range []string{"a", "b"} {
			who := fmt.Sprintf("officer-%d%s", i+1, x)
			n := 1
			if who == TwoCards {
				n = 2
			}
			r.person(who, fmt.Sprintf("Officer %d%s", i+1, strings.ToUpper(x)), n)
			r.officer(who, id)
		}
	}
	r.keys()
	return r
}

// officer registers a person at a device.
func (r *room) officer(who, device string) {
	r.plan.Officers = append(r.plan.Officers, ceremony.PlanOfficer{
		Person: who, Card: r.s.People[who][0].Describe().Serial, Device: device, Class: ledger.ClassOfficer,
	})
}

// newRoomFor is a room with an administrator and requesters, and no devices.
func newRoomFor(s *System) *room {
	maker, cards := firmwaretest.NewMaker(s.t), firmwaretest.NewCardMaker(s.t)
	r := &room{s: s, maker: maker, plan: ceremony.Plan{
		Name: "Test system", File: envelope.HashOf("ceremony file of the test system"), Lead: Devices[0],
		Witnesses: []string{"Wilma", "Walter"}, Administrator: Administrator, Hours: 4, OfficerDays: 365,
		Models: []ledger.Model{
			{Kind: ledger.ModelDevice, Manufacturer: "M", Model: firmwaretest.Model, Root: maker.Root.Raw},
			{Kind: ledger.ModelCard, Manufacturer: "C", Model: firmwaretest.CardModel, Root: cards.Root.Raw},
		},
	}}
	serial := uint32(1000)
	person := func(id, name string, n int) {
		x := ceremony.PlanPerson{ID: id, Name: name}
		for range n {
			serial++
			c := cards.New(s.t, serial)
			s.Cards[serial], s.People[id] = c, append(s.People[id], c)
			x.Cards = append(x.Cards, serial)
		}
		r.plan.Persons = append(r.plan.Persons, x)
	}
	r.person = person
	person(Administrator, "Ada Administrator", 1)
	person(Requester, "Rita Requester", 2)
	robot := ledgertest.NewSigner(s.t, "robot")
	s.Robot = robot
	r.plan.Persons = append(r.plan.Persons, ceremony.PlanPerson{ID: Program, Name: "Build robot", Software: ledgertest.SPKI(s.t, robot.Public())})
	return r
}

// device adds a device with a message server of its own.
func (r *room) device(n int, id string) {
	s := r.s
	pair := ledgertest.NewPair(s.t, "server of "+id)
	s.Servers[id] = pair
	server := fmt.Sprintf("s%d", n)
	r.plan.Servers = append(r.plan.Servers, ledger.Server{
		ID: server, Name: "Server " + server, Sign: ledgertest.SPKI(s.t, pair.Sign.Public()), Agree: ledgertest.SPKI(s.t, pair.Agree.PublicKey()),
		TLS: envelope.HashOf("tls", []byte(id)), URL: "https://" + server + ".test", Route: server + ".test:4222",
	})
	use := "token"
	if n > 3 {
		use = "host"
	}
	r.place(id, server, use)
}

// place adds a device that hangs on a message server.
func (r *room) place(id, server, use string) {
	s := r.s
	s.Devices[id] = r.maker.NewTraced(s.t, id, s.Now, s.trace(id), func(c *firmware.Config) { s.BootKeys[id], s.configs[id] = c.Boot, *c })
	r.plan.Devices = append(r.plan.Devices, ceremony.PlanDevice{
		ID: id, Name: "Device " + id, Server: server, Model: firmwaretest.Model, Serial: "serial-" + id, Use: use, UnlockQuorum: 2,
	})
}

func (r *room) keys() {
	base := ceremony.PlanKey{
		Devices: Devices, Bits: 2048, Quorum: 2, Threshold: 2,
		Algorithms: []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
	}
	swa, certs, files, pair := base, base, base, base
	swa.ID, swa.Name, swa.Family, swa.Scheme, swa.T, swa.MaxDays = SWA, "System-wide authority", ledger.FamilyLedger, threshold.Additive, 4, 400
	swa.RootDays, certs.RootDays = 3650, 3650
	certs.ID, certs.Name, certs.Family, certs.Scheme, certs.T, certs.MaxDays = Certs, "Test root", ledger.FamilyCertificate, threshold.Additive, 3, 400
	files.ID, files.Name, files.Family, files.Scheme, files.T, files.SafePrimes = Files, "Releases", ledger.FamilyFile, threshold.Multiplicative, 3, true
	pair.ID, pair.Name, pair.Family, pair.Scheme, pair.T, pair.AllowDigest = Pair, "Nightly builds", ledger.FamilyFile, threshold.Multiplicative, 2, true
	r.plan.Keys = []ceremony.PlanKey{swa, certs, files, pair}
}

// Relay is the desk's way to a device.
func (r *room) Relay(_ context.Context, device string, frame []byte) ([]byte, error) {
	return r.s.relay(device, frame)
}

// Use hands the desk a card.
func (r *room) Use(_ context.Context, person, _ string, serial uint32, _ string, with func(desk.Card) error) error {
	c, ok := r.s.Cards[serial]
	if !ok {
		return fmt.Errorf("card %d of %s is not here", serial, person)
	}
	return with(c)
}

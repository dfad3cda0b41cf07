package soak

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/desk"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/firmwaretest"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Config is a fleet to be made.
type Config struct {
	Device string // the program privyseal-device
	Source string // the program privyseal-heartbeat; empty: the sources are in this process

	Devices int
	T       uint64 // devices that sign, of all
	InHost  int    // devices, the last ones, that use their shares in the host; the others do so in the token

	// Policy is that of all devices but the last Free ones, which need no beats.
	// A source's id begins with a letter for its kind: m for message, q for
	// sequence, t for satellite.
	Policy ledger.Heartbeat
	Free   int
}

const (
	bits     = 2048
	serverID = "s1"
	keySWA   = "swa"
	keyLoad  = "load" // the key of the load, T of all devices
	admin    = "admin"
	robot    = "robot" // who asks for signatures
	model    = "soak"
)

// Fleet is a commissioned system whose devices run.
type Fleet struct {
	Config
	t       testing.TB
	dir     string
	sockets string
	server  ledgertest.Pair
	robot   ledgertest.Pair
	cards   map[uint32]*firmwaretest.Card
	officer map[string][]*officer // by device
	devices []*Device
	sources map[string]*source
	procs   int // processors that this process used before

	state  ledger.State
	bundle ledger.Bundle
	key    ledger.Key

	mu    sync.Mutex
	fails []error
	fail  context.CancelCauseFunc
	ctx   context.Context // ends with the first failure
}

// officer is an officer of a device.
type officer struct {
	person string
	card   *firmwaretest.Card
}

// New makes devices and sources, starts them, conducts a ceremony and lets the
// sources beat. Close ends it all.
func New(ctx context.Context, t testing.TB, c Config) (*Fleet, error) {
	t.Helper()
	sockets, err := os.MkdirTemp("", "ps-") // a Unix socket's path has at most 107 octets
	if err != nil {
		return nil, err
	}
	f := &Fleet{
		Config: c, t: t, dir: t.TempDir(), sockets: sockets, server: ledgertest.NewPair(t, "soak server"), robot: ledgertest.NewPair(t, "soak robot"),
		cards: map[uint32]*firmwaretest.Card{}, officer: map[string][]*officer{}, sources: map[string]*source{},
	}
	f.ctx, f.fail = context.WithCancelCause(ctx)
	// So that a reader of a link does not wait for others of this process that
	// the kernel does not let run.
	f.procs = runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), 4*c.Devices))
	if err := f.begin(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *Fleet) begin() error {
	p := f.plan()
	for i := range f.Config.Devices {
		d, row, err := f.newDevice(i)
		if err != nil {
			return err
		}
		f.devices = append(f.devices, d)
		p.Devices = append(p.Devices, *row)
	}
	for _, id := range f.Policy.Sources {
		x, err := f.newSource(id)
		if err != nil {
			return err
		}
		f.sources[id] = x
		p.Sources = append(p.Sources, x.row)
	}
	f.people(p)
	f.keys(p)
	var said []string
	result, err := desk.Run(f.ctx, desk.Config{
		Plan: *p, Dir: filepath.Join(f.dir, "desk"), Sites: f, Cards: f, Rand: rand.Reader, Now: time.Now,
		Say: func(s string, a ...any) { said = append(said, fmt.Sprintf(s, a...)) },
	})
	if err != nil {
		return fmt.Errorf("ceremony: %w\n%s", err, strings.Join(said, "\n"))
	}
	f.state, f.bundle = result.State, result.Bundle
	f.key, _ = f.state.Key(keyLoad)
	for _, d := range f.devices {
		if err := d.commissioned(); err != nil {
			return err
		}
	}
	for _, x := range f.sources {
		if err := x.begin(); err != nil {
			return fmt.Errorf("source %s: %w", x.row.ID, err)
		}
	}
	for _, d := range f.devices {
		d.dialled = d.links.Load()
		d.ready.Store(true) // from now on challenges are answered
	}
	return nil
}

func (f *Fleet) plan() *ceremony.Plan {
	cards := firmwaretest.NewCardMaker(f.t)
	p := &ceremony.Plan{
		Name: "Soak", File: envelope.HashOf("ceremony file of the soak"), Lead: deviceID(0), Witnesses: []string{"Wilma"}, Administrator: admin,
		Hours: 4, OfficerDays: 30, Vault: true,
		Models: []ledger.Model{{Kind: ledger.ModelCard, Manufacturer: "C", Model: firmwaretest.CardModel, Root: cards.Root.Raw}},
		Servers: []ledger.Server{{
			ID: serverID, Name: "Server", Sign: ledgertest.SPKI(f.t, f.server.Sign.Public()), Agree: ledgertest.SPKI(f.t, f.server.Agree.PublicKey()),
			TLS: envelope.HashOf("tls"), URL: "https://server.test", Route: "server.test:4222",
		}},
	}
	add := func(id string) *firmwaretest.Card {
		serial := uint32(1000 + len(f.cards))
		f.cards[serial] = cards.New(f.t, serial)
		p.Persons = append(p.Persons, ceremony.PlanPerson{ID: id, Name: "Person " + id, Cards: []uint32{serial}})
		return f.cards[serial]
	}
	add(admin)
	for i := range f.Config.Devices {
		for _, x := range []string{"a", "b"} {
			id := deviceID(i) + x
			f.officer[deviceID(i)] = append(f.officer[deviceID(i)], &officer{id, add(id)})
		}
	}
	p.Persons = append(p.Persons, ceremony.PlanPerson{ID: robot, Name: "Robot", Software: ledgertest.SPKI(f.t, f.robot.Sign.Public())})
	return p
}

func (f *Fleet) people(p *ceremony.Plan) {
	for id, officers := range f.officer {
		for _, o := range officers {
			p.Officers = append(p.Officers, ceremony.PlanOfficer{Person: o.person, Card: o.card.Describe().Serial, Device: id, Class: ledger.ClassOfficer})
		}
	}
}

func (f *Fleet) keys(p *ceremony.Plan) {
	var ids []string
	for i := range f.Config.Devices {
		ids = append(ids, deviceID(i))
	}
	base := ceremony.PlanKey{Devices: ids, Bits: bits, Quorum: 2, Threshold: 2, Scheme: threshold.Additive, Algorithms: []string{"RS256"}}
	swa, load := base, base
	swa.ID, swa.Name, swa.Family, swa.T, swa.MaxDays, swa.RootDays = keySWA, "System-wide authority", ledger.FamilyLedger, uint64(len(ids)), 400, 3650
	load.ID, load.Name, load.Family, load.T = keyLoad, "Load", ledger.FamilyFile, f.T
	p.Keys = []ceremony.PlanKey{swa, load}
}

func deviceID(i int) string { return fmt.Sprintf("d%d", i+1) }

// newDevice makes a device's directory and starts it.
func (f *Fleet) newDevice(i int) (*Device, *ceremony.PlanDevice, error) {
	id := deviceID(i)
	d := newDevice(f, id, uint64(i+1))
	if err := d.listen(f.sockets); err != nil {
		return nil, nil, err
	}
	out, err := exec.Command(f.Device, "init", "--dir", d.dir, "--id", id, "--serial", id, "--model", model, "--link", "unix:"+d.socket).CombinedOutput()
	if err != nil {
		d.close()
		return nil, nil, fmt.Errorf("%s init: %w\n%s", f.Device, err, out)
	}
	if err := json.Unmarshal(out, &d.identity); err != nil {
		d.close()
		return nil, nil, err
	}
	row := &ceremony.PlanDevice{ID: id, Name: "Device " + id, Server: serverID, Model: model, Serial: id, Use: "token", UnlockQuorum: 2}
	if i >= f.Config.Devices-f.InHost {
		row.Use = "host"
	}
	if i < f.Config.Devices-f.Free {
		policy := f.Policy
		policy.Sources = slices.Clone(policy.Sources)
		row.Heartbeat = &policy
		d.policy = &policy
	}
	if err := d.start(d.heard); err != nil {
		d.close()
		return nil, nil, err
	}
	if _, err := d.nextLink(f.ctx); err != nil {
		d.close()
		return nil, nil, err
	}
	f.watch(&d.process)
	return d, row, nil
}

// watch ends the fleet when a process ends by itself.
func (f *Fleet) watch(p *process) {
	go func() {
		select {
		case <-p.ends:
			if f.ctx.Err() == nil && !p.stopping.Load() {
				f.failed(fmt.Errorf("%s ended: %v\n%s", p.id, p.exit, p.said))
			}
		case <-f.ctx.Done():
		}
	}()
}

// failed ends the fleet with an error.
func (f *Fleet) failed(err error) {
	f.mu.Lock()
	f.fails = append(f.fails, err)
	f.mu.Unlock()
	f.fail(err)
}

// Relay is the desk's way to a device.
func (f *Fleet) Relay(ctx context.Context, device string, frame []byte) ([]byte, error) {
	for _, d := range f.devices {
		if d.id == device {
			return d.relay(ctx, frame)
		}
	}
	return nil, fmt.Errorf("no device %s", device)
}

// Use hands the desk a card.
func (f *Fleet) Use(_ context.Context, person, _ string, serial uint32, _ string, with func(desk.Card) error) error {
	c, ok := f.cards[serial]
	if !ok {
		return fmt.Errorf("card %d of %s is not here", serial, person)
	}
	return with(c)
}

// Stop ends all processes in order and returns what was wrong with any.
func (f *Fleet) Stop() error {
	var errs []error
	for _, d := range f.devices {
		d.stopping.Store(true)
		errs = append(errs, d.stop())
	}
	for _, x := range f.sources {
		errs = append(errs, x.stop())
	}
	return errors.Join(errs...)
}

// Close ends and removes everything.
func (f *Fleet) Close() {
	f.fail(context.Canceled)
	for _, x := range f.sources {
		x.close()
	}
	for _, d := range f.devices {
		d.close()
	}
	os.RemoveAll(f.sockets)
	runtime.GOMAXPROCS(f.procs)
}

// identity is what privyseal-device init prints, as far as it is needed.
type identity struct {
	ID      string `json:"id"`
	Sign    []byte `json:"sign"`
	Agree   []byte `json:"agree"`
	InToken bool   `json:"in_token"`
}

func (i *identity) public() (sign, agree any, err error) {
	if sign, err = x509.ParsePKIXPublicKey(i.Sign); err != nil {
		return nil, nil, err
	}
	agree, err = x509.ParsePKIXPublicKey(i.Agree)
	return sign, agree, err
}

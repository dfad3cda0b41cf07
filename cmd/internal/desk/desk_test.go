package desk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/firmwaretest"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// room is everyone and everything at a ceremony.
type room struct {
	t       testing.TB
	devices map[string]*firmwaretest.Device
	cards   map[uint32]*firmwaretest.Card
	plan    ceremony.Plan
	maker   *firmwaretest.Maker
	now     time.Time
	attempt uint64
	// relayed counts frames; fault, if not nil, is told of each one.
	relayed int
	fault   func(frame int, d *firmwaretest.Device, deliver func() ([]byte, error)) ([]byte, error)
	said    []string
}

func newRoom(t testing.TB) *room {
	r := &room{
		t: t, devices: map[string]*firmwaretest.Device{}, cards: map[uint32]*firmwaretest.Card{},
		now: time.Unix(1_800_000_000, 0),
	}
	maker, cards := firmwaretest.NewMaker(t), firmwaretest.NewCardMaker(t)
	r.maker = maker
	p := &r.plan
	*p = ceremony.Plan{
		Name: "Test system", File: envelope.HashOf("file"), Lead: "d1", Witnesses: []string{"Wilma", "Walter"},
		Administrator: "admin", Hours: 4, OfficerDays: 365,
		Models: []ledger.Model{
			{Kind: ledger.ModelDevice, Manufacturer: "M", Model: firmwaretest.Model, Root: maker.Root.Raw},
			{Kind: ledger.ModelCard, Manufacturer: "C", Model: firmwaretest.CardModel, Root: cards.Root.Raw},
		},
	}
	serial := uint32(1000)
	person := func(id, name string) uint32 {
		serial++
		r.cards[serial] = cards.New(t, serial)
		p.Persons = append(p.Persons, ceremony.PlanPerson{ID: id, Name: name, Cards: []uint32{serial}})
		return serial
	}
	person("admin", "Ada")
	var ids []string
	for i := 1; i <= 3; i++ {
		id := fmt.Sprintf("d%d", i)
		ids = append(ids, id)
		pair := ledgertest.NewPair(t, "server "+id)
		p.Servers = append(p.Servers, ledger.Server{
			ID: "s" + id, Name: "Server " + id, Sign: ledgertest.SPKI(t, pair.Sign.Public()), Agree: ledgertest.SPKI(t, pair.Agree.PublicKey()),
			TLS: envelope.HashOf("tls", []byte(id)), URL: "https://" + id + ".test", Route: id + ".test:4222",
		})
		r.devices[id] = maker.New(t, id, func() time.Time { return r.now })
		p.Devices = append(p.Devices, ceremony.PlanDevice{
			ID: id, Name: "Device " + id, Server: "s" + id, Model: firmwaretest.Model, Serial: "serial-" + id, Use: "auto", UnlockQuorum: 2,
		})
		for _, x := range []string{"a", "b"} {
			who := "officer-" + fmt.Sprint(i) + x
			p.Officers = append(p.Officers, ceremony.PlanOfficer{Person: who, Card: person(who, "Officer "+who), Device: id, Class: ledger.ClassOfficer})
		}
	}
	key := func(id, family string, scheme threshold.Scheme, t uint64, safe bool) ceremony.PlanKey {
		return ceremony.PlanKey{
			ID: id, Name: "Key " + id, Family: family, Scheme: scheme, T: t, Devices: ids, Bits: 2048, SafePrimes: safe,
			Algorithms: []string{"RS256", "PS256"}, MaxDays: 400, RootDays: 3650, Quorum: 2, Threshold: 2,
		}
	}
	files := key("files", ledger.FamilyFile, threshold.Multiplicative, 3, true)
	files.MaxDays, files.RootDays = 0, 0
	p.Keys = []ceremony.PlanKey{
		key("swa", ledger.FamilyLedger, threshold.Additive, 3, false),
		key("certs", ledger.FamilyCertificate, threshold.Additive, 2, false),
		files,
	}
	return r
}

func (r *room) Relay(_ context.Context, device string, frame []byte) ([]byte, error) {
	r.relayed++
	d := r.devices[device]
	deliver := func() ([]byte, error) { return d.Relay(frame) }
	if r.fault != nil {
		return r.fault(r.relayed, d, deliver)
	}
	return deliver()
}

func (r *room) Use(_ context.Context, person, _ string, serial uint32, _ string, with func(Card) error) error {
	c, ok := r.cards[serial]
	if !ok {
		return fmt.Errorf("card %d of %s is not here", serial, person)
	}
	return with(c)
}

func (r *room) config(dir string) Config {
	return Config{
		Plan: r.plan, Attempt: r.attempt, Dir: dir, Sites: r, Cards: r, Rand: rand.Reader, Now: func() time.Time { return r.now },
		Say: func(f string, a ...any) { r.said = append(r.said, fmt.Sprintf(f, a...)) },
	}
}

func (r *room) run(dir string) (*Result, error) { return Run(context.Background(), r.config(dir)) }

// revive starts dead devices again.
func (r *room) revive() {
	for _, d := range r.devices {
		if d.Dead() {
			d.Restart(r.t)
		}
	}
}

// whole checks that the devices form one system, or none.
func (r *room) whole(res *Result) {
	r.t.Helper()
	for id, d := range r.devices {
		if p := d.Machine().Phase(); p != firmware.PhaseReady && p != firmware.PhaseLocked {
			r.t.Errorf("device %s is in phase %s", id, p)
		}
	}
	if res.State.System().IsZero() {
		r.t.Error("no system")
	}
}

func TestCeremony(t *testing.T) {
	r := newRoom(t)
	res, err := r.run(t.TempDir())
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(r.said, "\n"))
	}
	r.whole(res)
	g := res.State.Genesis()
	if len(g.Keys) != 3 || len(g.Officers) != 6 || g.Ceremony.Attempt != 1 || len(g.Ceremony.Witnesses) != 2 {
		t.Errorf("genesis: %d keys, %d officers, attempt %d, witnesses %v", len(g.Keys), len(g.Officers), g.Ceremony.Attempt, g.Ceremony.Witnesses)
	}
	for _, d := range g.Devices {
		if d.Unattended || !d.InToken || d.UnlockQuorum != 2 {
			t.Errorf("device %s: %+v", d.ID, d)
		}
	}
}

// TestUnattended has one device keep its own PIN: it says so in the genesis and
// in its status, and comes back by itself, while the others wait for officers.
func TestUnattended(t *testing.T) {
	r := newRoom(t)
	r.small()
	r.plan.Devices[0].Unattended = true
	res, err := r.run(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range res.State.Devices() {
		if want := d.ID == "d1"; d.Unattended != want || (d.UnlockQuorum == 0) != want {
			t.Errorf("device %s: unattended %v, unlocked by %d", d.ID, d.Unattended, d.UnlockQuorum)
		}
	}
	for id, d := range r.devices {
		d.Restart(t)
		want := firmware.PhaseLocked
		if id == "d1" {
			want = firmware.PhaseReady
		}
		if got := d.Machine().Phase(); got != want || d.Machine().Unattended() != (id == "d1") {
			t.Errorf("device %s came back %s", id, got)
		}
	}
}

// TestRecord makes the record of a ceremony and alters what it says, with the
// administrator's own card signing it again.
func TestRecord(t *testing.T) {
	r := newRoom(t)
	r.small()
	dir := t.TempDir()
	res, err := r.run(dir)
	if err != nil {
		t.Fatal(err)
	}
	if done, err := Finished(dir); done || err != nil {
		t.Fatalf("finished before the record: %v %v", done, err)
	}
	if err := Finish(context.Background(), r.config(dir), res, nil); err != nil {
		t.Fatal(err)
	}
	if done, err := Finished(dir); !done || err != nil {
		t.Fatalf("not finished: %v", err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, FileRecord))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadRecord(raw); err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if _, err := ReadRecord(raw); err == nil {
		t.Error("a record with a flipped bit verifies")
	}
	for what, alter := range map[string]func(*ceremony.Record){
		"test signature":               func(x *ceremony.Record) { x.Tests[0].Signature[9] ^= 1 },
		"1 test signatures, 3 subsets": func(x *ceremony.Record) { x.Tests = x.Tests[:1] },
		"another file":                 func(x *ceremony.Record) { x.Plan.File = envelope.HashOf("other") },
		"roster":                       func(x *ceremony.Record) { x.Roster = x.Open },
		"plan":                         func(x *ceremony.Record) { x.Plan.Witnesses = []string{"Mallory"} },
		"attempt":                      func(x *ceremony.Record) { x.Attempt++ },
		"certificate":                  func(x *ceremony.Record) { x.Certificates = [][]byte{res.State.Keys()[0].Certificate} },
	} {
		rec := res.record
		rec.Tests = slices.Clone(rec.Tests)
		for i := range rec.Tests {
			rec.Tests[i].Signature = slices.Clone(rec.Tests[i].Signature)
		}
		alter(&rec)
		d := &desk{Config: r.config(dir)}
		forged, err := d.signWith(r.cards[1001], ceremony.TypeRecord, rec, envelope.MaxTime)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadRecord(forged); err == nil {
			t.Errorf("a record with an altered %s verifies", what)
		}
	}
	d := &desk{Config: r.config(dir)}
	forged, err := d.signWith(r.cards[1002], ceremony.TypeRecord, res.record, envelope.MaxTime)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadRecord(forged); err == nil {
		t.Error("a record signed by an officer verifies")
	}
}

// small makes the room's plan one small key, so that hundreds of ceremonies
// take seconds each.
func (r *room) small() {
	r.plan.Keys = r.plan.Keys[:1]
	r.plan.Keys[0].T = 2
	r.plan.AcknowledgeNoFault = true
}

var errCut = errors.New("the line was cut")

// TestFaultAtEveryFrame kills a device after a message of the ceremony, or cuts
// the desk's line there, at every message in turn; what happens before a
// message is what happens after the one before. However it ends, the ceremony run again makes one
// whole system.
func TestFaultAtEveryFrame(t *testing.T) {
	probe := newRoom(t)
	probe.small()
	if _, err := probe.run(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	faults := []func(d *firmwaretest.Device, deliver func() ([]byte, error)) ([]byte, error){
		func(d *firmwaretest.Device, deliver func() ([]byte, error)) ([]byte, error) {
			_, _ = deliver()
			d.Kill()
			return nil, errCut
		},
		func(_ *firmwaretest.Device, deliver func() ([]byte, error)) ([]byte, error) {
			_, _ = deliver()
			return nil, errCut
		},
	}
	for at := 1; at <= probe.relayed; at++ {
		// Devices die at odd frames, the line is cut at even ones. The other
		// half differs in nothing but which device it is, of three alike.
		fault := faults[at%2]
		r := newRoom(t)
		r.small()
		r.fault = func(frame int, d *firmwaretest.Device, deliver func() ([]byte, error)) ([]byte, error) {
			if frame == at {
				return fault(d, deliver)
			}
			return deliver()
		}
		dir := t.TempDir()
		if _, err := r.run(dir); !errors.Is(err, errCut) {
			t.Fatalf("frame %d: %v", at, err)
		}
		r.fault = nil
		r.revive()
		res, err := r.run(dir)
		if err != nil {
			t.Fatalf("frame %d, second run: %v\n%s", at, err, strings.Join(r.said, "\n"))
		}
		r.whole(res)
	}
}

// TestRecordLost fails every durable write of every device once with the
// record on the disk and once without it.
func TestRecordLost(t *testing.T) {
	for _, persist := range []bool{true, false} {
		t.Run(fmt.Sprintf("persisted %v", persist), func(t *testing.T) {
			for at := 1; ; at++ {
				r := newRoom(t)
				r.small()
				n := 0
				for _, d := range r.devices {
					d.Break = func([]byte) (bool, error) {
						if n++; n == at {
							return persist, firmwaretest.ErrJournal
						}
						return true, nil
					}
				}
				dir := t.TempDir()
				_, err := r.run(dir)
				if err == nil {
					if at == 1 {
						t.Fatal("no record was written")
					}
					return
				}
				for _, d := range r.devices {
					d.Break = nil
				}
				r.revive()
				res, err := r.run(dir)
				if err != nil {
					t.Fatalf("write %d, second run: %v\n%s", at, err, strings.Join(r.said, "\n"))
				}
				r.whole(res)
			}
		})
	}
}

// TestLostDesk loses the desk's directory when some devices are commissioned
// and others are not.
func TestLostDesk(t *testing.T) {
	r := newRoom(t)
	r.small()
	commits := 0
	r.fault = func(_ int, d *firmwaretest.Device, deliver func() ([]byte, error)) ([]byte, error) {
		out, err := deliver()
		if d.Machine().Phase() == firmware.PhaseReady {
			commits++
			return nil, errCut
		}
		return out, err
	}
	if _, err := r.run(t.TempDir()); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	if commits != 1 {
		t.Fatalf("%d devices were commissioned, want 1", commits)
	}
	r.fault = nil
	r.attempt = 2
	for _, d := range r.devices { // the commissioned one comes back locked, and answers with its boot key
		d.Restart(t)
	}
	res, err := r.run(t.TempDir())
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(r.said, "\n"))
	}
	r.whole(res)
}

func TestFirmwareMismatch(t *testing.T) {
	r := newRoom(t)
	r.small()
	other := envelope.HashOf("another firmware")
	r.devices["d2"] = r.maker.New(t, "d2", func() time.Time { return r.now }, func(c *firmware.Config) { c.Local.Firmware = other })
	_, err := r.run(t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "device d2 runs "+other.String()) {
		t.Fatalf("got %v, want an error that names d2 and its firmware", err)
	}
	for id, d := range r.devices {
		if d.Machine().Commissioned() {
			t.Errorf("device %s was commissioned", id)
		}
	}
}

func TestForeignCard(t *testing.T) {
	r := newRoom(t)
	r.small()
	foreign := firmwaretest.NewCardMaker(t)
	r.cards[1003] = foreign.New(t, 1003)
	_, err := r.run(t.TempDir())
	var e *ceremony.RosterError
	if !errors.As(err, &e) || e.Who != "person officer-1b" {
		t.Fatalf("got %v, want a roster error that names officer-1b", err)
	}
}

func TestForeignDevice(t *testing.T) {
	r := newRoom(t)
	r.small()
	r.devices["d3"] = firmwaretest.NewMaker(t).New(t, "d3", func() time.Time { return r.now })
	_, err := r.run(t.TempDir())
	var e *ceremony.RosterError
	if !errors.As(err, &e) || e.Who != "device d3" {
		t.Fatalf("got %v, want a roster error that names device d3", err)
	}
}

func TestExpires(t *testing.T) {
	r := newRoom(t)
	r.small()
	r.fault = func(frame int, _ *firmwaretest.Device, deliver func() ([]byte, error)) ([]byte, error) {
		if frame == 8 {
			r.now = r.now.Add(5 * time.Hour)
		}
		return deliver()
	}
	if _, err := r.run(t.TempDir()); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Fatalf("got %v, want expiry of the temporary certificates", err)
	}
}

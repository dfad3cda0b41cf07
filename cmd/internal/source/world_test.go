package source

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

const device = "device-1"

// world is a system with one source, the source's directory, and device-1.
type world struct {
	t    testing.TB
	sys  *ledgertest.System
	id   string // of the source
	dir  string
	now  int64 // wall clock, unix seconds
	boot int64 // boot-time clock, nanoseconds
	dev  *emulator
}

// period is that of the policy, in nanoseconds.
const period = 50_000_000

// made are systems by kind of their source, and the first instance of device-1.
var made = map[string]*struct {
	sys   *ledgertest.System
	first *heartbeat.Instance
}{}

func newWorld(t testing.TB, kind string) *world {
	t.Helper()
	m := made[kind]
	if m == nil {
		m = new(struct {
			sys   *ledgertest.System
			first *heartbeat.Instance
		})
		m.sys, m.first = newSystem(t, kind)
		made[kind] = m
	}
	return worldOf(t, kind, m.sys, m.first)
}

func newSystem(t testing.TB, kind string, options ...ledgertest.Option) (*ledgertest.System, *heartbeat.Instance) {
	t.Helper()
	policy := ledger.Heartbeat{Sources: []string{kind + "-1"}, Needed: 1, Period: period / 1e6, Lease: 1000}
	if kind == ledger.SourceMessage {
		policy.Minimum = 1
	}
	first := newInstance(t)
	return ledgertest.New(t, append([]ledgertest.Option{
		ledgertest.WithHeartbeat(policy, device, "device-2"), ledgertest.WithInstance(device, first.ID()),
	}, options...)...), first
}

func worldOf(t testing.TB, kind string, sys *ledgertest.System, first *heartbeat.Instance) *world {
	t.Helper()
	w := &world{t: t, id: kind + "-1", boot: 1_000_000_000, sys: sys, now: sys.Now}
	w.dev = &emulator{w: w, inst: first}
	w.dir = filepath.Join(t.TempDir(), "source")
	w.init(w.dir, "unix:"+filepath.Join(t.TempDir(), "link"))
	return w
}

// init makes the source's directory with the keys that the ledger lists.
func (w *world) init(dir, link string) {
	w.t.Helper()
	w.seedKeys(dir)
	row, _ := w.sys.State.Source(w.id)
	if _, err := Init(dir, Config{
		ID: row.ID, Name: row.Name, Kind: row.Kind, Server: row.Server, Operators: row.Operators, Link: link,
	}, envelope.Hash{}, w.now); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) seedKeys(dir string) {
	w.t.Helper()
	must(w.t, os.MkdirAll(dir, 0o700))
	p := w.sys.Sources[w.id]
	agree, err := ecdsa.ParseRawPrivateKey(p.Sign.Curve, p.Agree.Bytes())
	must(w.t, err)
	for name, key := range map[string]*ecdsa.PrivateKey{fileIdentityKey: p.Sign, fileAgreeKey: agree} {
		data, err := encodeKey(key)
		must(w.t, err)
		must(w.t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newInstance(t testing.TB) *heartbeat.Instance {
	t.Helper()
	i, err := heartbeat.NewInstance(rand.Reader)
	must(t, err)
	return i
}

// system is a beat.system of the source's message server.
func (w *world) system(entries ...ledger.SignedEntry) []byte {
	w.t.Helper()
	row, _ := w.sys.State.Source(w.id)
	return w.systemBy(w.sys.Servers[row.Server].Sign, entries...)
}

func (w *world) systemBy(server *ecdsa.PrivateKey, entries ...ledger.SignedEntry) []byte {
	w.t.Helper()
	bundle, err := envelope.Marshal(w.sys.Bundle)
	must(w.t, err)
	return w.page(server, heartbeat.System{Bundle: bundle, Height: uint64(len(entries))}, entries, len(entries))
}

// page is the page with the first n of the entries after its position, where all
// of them are the server's ledger.
func (w *world) page(server *ecdsa.PrivateKey, sys heartbeat.System, all []ledger.SignedEntry, n int) []byte {
	w.t.Helper()
	state, err := ledger.Catchup(w.sys.State, all)
	must(w.t, err)
	for _, e := range all[sys.After:][:n] {
		raw, err := envelope.Marshal(e)
		must(w.t, err)
		sys.Entries = append(sys.Entries, raw)
	}
	frame, err := heartbeat.SealSystem(rand.Reader, server, state, w.id, &sys, w.now)
	must(w.t, err)
	return frame
}

// shuffled is a page with entries at those places, in that order.
func (w *world) shuffled(server *ecdsa.PrivateKey, all []ledger.SignedEntry, after int, places ...int) []byte {
	w.t.Helper()
	sys := heartbeat.System{After: uint64(after), Height: uint64(len(all))}
	for _, i := range places {
		raw, err := envelope.Marshal(all[i])
		must(w.t, err)
		sys.Entries = append(sys.Entries, raw)
	}
	state, err := ledger.Catchup(w.sys.State, all)
	must(w.t, err)
	frame, err := heartbeat.SealSystem(rand.Reader, server, state, w.id, &sys, w.now)
	must(w.t, err)
	return frame
}

// wire is a link that keeps what is sent.
type wire struct{ frames [][]byte }

func (l *wire) Send(_ context.Context, frame []byte) error {
	l.frames = append(l.frames, frame)
	return nil
}
func (l *wire) Err() error { return nil }

func (l *wire) take() [][]byte {
	out := l.frames
	l.frames = nil
	return out
}

// start opens the source without a link and a loop: tests hand it frames.
func (w *world) start(d *disk, log *strings.Builder) (*Source, *wire, error) {
	o := Options{Clock: func() int64 { return w.boot }, Now: func() int64 { return w.now }}
	if log != nil {
		o.Log = slog.New(slog.NewTextHandler(log, nil))
	}
	s, err := start(d, w.dir, o)
	if err != nil {
		return nil, nil, err
	}
	l := new(wire)
	s.up = l
	w.t.Cleanup(func() { s.lock.Close() })
	return s, l, nil
}

// running is a source that knows its system.
func (w *world) running() (*Source, *wire) {
	w.t.Helper()
	s, l, err := w.start(realDisk(), nil)
	must(w.t, err)
	must(w.t, s.handle(context.Background(), w.system()))
	return s, l
}

// emulator is a device's side: an instance, a counter, a log.
type emulator struct {
	w       *world
	inst    *heartbeat.Instance
	counter uint64
	log     uint64
	enrol   *approval.Enrolment
	keys    map[string]*heartbeat.VerifiedKey
}

// head is the head of a log of a length; one device has one log.
func head(log uint64) envelope.Hash { return envelope.HashOf("log", fmt.Append(nil, log)) }

func (e *emulator) challenge() []byte {
	e.w.t.Helper()
	e.counter++
	c := &heartbeat.Challenge{Device: device, Counter: e.counter, Log: e.log, LogHead: head(e.log), Begin: []string{e.w.id}, Enrolment: e.enrol}
	_, err := rand.Read(c.Nonce[:])
	must(e.w.t, err)
	must(e.w.t, e.inst.Complete(rand.Reader, c))
	frame, err := heartbeat.SealChallenge(rand.Reader, e.w.sys.Devices[device].Sign, e.w.sys.State, []string{e.w.id}, c, e.w.now)
	must(e.w.t, err)
	return frame
}

// open reads a beat and remembers beat keys as a device does.
func (e *emulator) open(frame []byte) *heartbeat.Beat {
	e.w.t.Helper()
	b, err := e.tryOpen(frame)
	must(e.w.t, err)
	return b
}

func (e *emulator) tryOpen(frame []byte) (*heartbeat.Beat, error) {
	b, key, err := heartbeat.OpenBeat(e.w.sys.State, e.inst, device, frame, e.keys)
	if err != nil {
		return nil, err
	}
	if e.keys == nil {
		e.keys = map[string]*heartbeat.VerifiedKey{}
	}
	if key != nil {
		e.keys[b.Source] = key
	}
	return b, nil
}

// unlocked is the device after its officers opened it at a time: another
// instance, and the proof that it is one.
func (e *emulator) unlocked(at int64, restored bool) *emulator {
	t, sys := e.w.t, e.w.sys
	t.Helper()
	n := &emulator{w: e.w, inst: newInstance(t), log: e.log, keys: e.keys}
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	must(t, err)
	raw := sign(t, sys, sys.Devices[device].Boot, approval.TypeUnlockOffer, approval.UnlockOffer{
		Device: device, Instance: n.inst.ID(), Public: key.PublicKey().Bytes(), Created: at, Expires: at + 600, Log: n.log, LogHead: head(n.log),
	}, at)
	u, err := envelope.Parse(raw)
	must(t, err)
	n.enrol = &approval.Enrolment{Offer: raw}
	for _, p := range sys.Officers(device) {
		n.enrol.Approvals = append(n.enrol.Approvals, sign(t, sys, p.Card().Sign, approval.TypeUnlockApproval, approval.UnlockApproval{
			Device: device, Offer: u.UnverifiedDigest(), Piece: "pin-" + p.ID, Sealed: []byte("sealed"), Created: at, Expires: at + 600, Restored: restored,
		}, at))
	}
	return n
}

func sign(t testing.TB, sys *ledgertest.System, key *ecdsa.PrivateKey, typ string, v any, at int64) []byte {
	t.Helper()
	body, err := envelope.Marshal(v)
	must(t, err)
	raw, err := envelope.Sign(rand.Reader, key, envelope.Header{
		Type: typ, Version: 1, System: sys.State.System(), LedgerHead: sys.State.Head(), Created: at, Expires: at + 600,
	}, body)
	must(t, err)
	return raw
}

// revoke is a person's revocation; what comes back opens with the key.
func (w *world) revoke(person string) (frame []byte, digest envelope.Hash, reply *ecdh.PrivateKey) {
	w.t.Helper()
	reply, err := ecdh.P256().GenerateKey(rand.Reader)
	must(w.t, err)
	frame, digest, err = heartbeat.SealRevoke(rand.Reader, w.sys.Persons[person].Card().Sign, w.sys.State, &heartbeat.Revoke{
		Device: device, Source: w.id, Reason: "stolen", Reply: reply.PublicKey().Bytes(), Created: w.now, Expires: w.now + 60,
	})
	must(w.t, err)
	return frame, digest, reply
}

// ask hands a challenge over and returns the kind of what comes back: "" for
// nothing, else a kind of beats, a refusal with its code.
func (w *world) ask(s *Source, l *wire, e *emulator) string {
	w.t.Helper()
	return w.hand(s, l, e, e.challenge())
}

func (w *world) hand(s *Source, l *wire, e *emulator, frame []byte) string {
	w.t.Helper()
	l.take()
	_ = s.handle(context.Background(), frame)
	return kindOf(w.t, e, l.take())
}

func kindOf(t testing.TB, e *emulator, frames [][]byte) string {
	t.Helper()
	switch len(frames) {
	case 0:
		return ""
	case 1:
		b := e.open(frames[0])
		if b.Kind == heartbeat.KindRefusal {
			return b.Kind + " " + b.Code
		}
		return b.Kind
	}
	t.Fatalf("%d frames for one", len(frames))
	return ""
}

const (
	answer          = heartbeat.KindAnswer
	refusedInstance = heartbeat.KindRefusal + " " + heartbeat.CodeInstance
	refusedBehind   = heartbeat.KindRefusal + " " + heartbeat.CodeBehind
	refusedRevoked  = heartbeat.KindRefusal + " " + heartbeat.CodeRevoked
)

func want(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %q, want %q", what, got, want)
	}
}

// errFault is a step of the disk that was told to fail.
var errFault = errors.New("this step was told to fail")

// faulty is a disk whose at-th step fails, counted from 1, after it was done
// or instead of it. steps counts.
func faulty(at int, persisted bool, steps *int) *disk {
	real := realDisk()
	fail := func(step func() error) error {
		if *steps++; *steps != at {
			return step()
		}
		if persisted {
			if err := step(); err != nil {
				return err
			}
		}
		return errFault
	}
	return &disk{
		create: func(p string, b []byte, m os.FileMode) error {
			return fail(func() error { return real.create(p, b, m) })
		},
		write: func(p string, b []byte, m os.FileMode) error {
			return fail(func() error { return real.write(p, b, m) })
		},
		destroy: func(p string) error { return fail(func() error { return real.destroy(p) }) },
	}
}

// opened is a challenge as the source's station gets it.
func (w *world) opened(e *emulator) *heartbeat.VerifiedChallenge {
	w.t.Helper()
	c, err := heartbeat.OpenChallenge(w.sys.State, e.challenge(), w.sys.Sources[w.id].Agree)
	must(w.t, err)
	return c
}

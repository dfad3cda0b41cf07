package systemtest

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// Source is a heartbeat source or satellite.
type Source struct {
	ledger.Source
	Station *heartbeat.Station
	Table   []byte // what it stored
	Down    bool   // its process is dead

	identity, beat *ecdsa.PrivateKey
	agree          *ecdh.PrivateKey
	epoch          uint64
	config         heartbeat.StationConfig
}

// Operator may silence every source, and is no officer.
const Operator = "olga"

// Beats gives the devices a policy. The sources in it are made: their ids begin
// with a letter for their kind: m for message, q for sequence, t for satellite.
// Devices may be in it too.
func Beats(policy ledger.Heartbeat, devices ...string) Option {
	return func(r *room) {
		s := r.s
		if s.Sources == nil {
			s.Sources = map[string]*Source{}
			r.person(Operator, "Olga Operator", 1)
		}
		for _, id := range policy.Sources {
			if s.Sources[id] == nil && !slices.Contains(Devices, id) {
				s.Sources[id] = s.newSource(id)
				r.plan.Sources = append(r.plan.Sources, s.Sources[id].Source)
			}
		}
		for i := range r.plan.Devices {
			if d := &r.plan.Devices[i]; slices.Contains(devices, d.ID) {
				p := policy
				p.Sources = slices.DeleteFunc(slices.Clone(p.Sources), func(id string) bool { return id == d.ID })
				d.Heartbeat = &p
			}
		}
		s.wire()
	}
}

var kindOf = map[byte]string{'m': ledger.SourceMessage, 'q': ledger.SourceSequence, 't': ledger.SourceSatellite}

func (s *System) newSource(id string) *Source {
	s.t.Helper()
	pair := ledgertest.NewPair(s.t, "source "+id)
	x := &Source{
		Source: ledger.Source{
			ID: id, Name: "Source " + id, Kind: kindOf[id[0]], Server: "s1", Operators: []string{Operator},
			Sign: ledgertest.SPKI(s.t, pair.Sign.Public()), Agree: ledgertest.SPKI(s.t, pair.Agree.PublicKey()),
		},
		identity: pair.Sign, agree: pair.Agree, config: heartbeat.StationConfig{ID: id},
	}
	if x.Kind == ledger.SourceSequence {
		x.config.Secret = make([]byte, 32)
		s.must(rand.Read(x.config.Secret))
	}
	s.Rotate(x)
	return x
}

// Rotate gives a source its next beat key.
func (s *System) Rotate(x *Source) {
	s.t.Helper()
	x.epoch++
	x.beat = ledgertest.NewSigner(s.t, fmt.Sprintf("beat key %d of %s", x.epoch, x.ID))
	cert, err := heartbeat.SignKey(rand.Reader, x.identity, heartbeat.Key{
		Source: x.ID, Epoch: x.epoch, Sign: ledgertest.SPKI(s.t, x.beat.Public()), Created: s.Now().Unix(),
	})
	s.check(err)
	x.config.Certificate = cert
	if x.Station != nil {
		x.Station.SetCertificate(cert)
	}
}

// RestartSource starts a source's process anew, from what it stored.
func (s *System) RestartSource(x *Source) {
	s.t.Helper()
	var err error
	x.Station, err = heartbeat.NewStation(x.config, s.State, x.Table)
	s.check(err)
	x.Down = false
}

// Carried is a frame on its way, as a message server sees it.
type Carried struct {
	From, To string // devices or sources
	Type     string
	Frame    []byte
}

// wire joins devices and sources through a message server that hands
// everything on at once, or to Hold.
func (s *System) wire() {
	for _, id := range Devices {
		d := s.Devices[id]
		d.Boot, d.Up = s.Boot, s.Up
		d.Now = func() time.Time { return s.NowAt(id) }
		d.Send = func(frame []byte) { s.Carry(id, frame) }
	}
}

// Boot is the boot-time clock of every machine.
func (s *System) Boot() int64 {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	return int64(time.Hour) + s.shared.boot
}

// Up is that clock without the time in which the machines were suspended.
func (s *System) Up() int64 {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	return int64(time.Hour) + s.shared.up
}

// NowAt is the wall clock of a device or source, which may be wrong.
func (s *System) NowAt(id string) time.Time {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	return s.shared.now.Add(s.shared.wrong[id])
}

// SetWall puts the wall clock of a device or source off by d.
func (s *System) SetWall(id string, d time.Duration) {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	s.shared.wrong[id] = d
}

// advance lets time pass and nobody do anything.
func (s *System) advance(d, up time.Duration) {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	s.shared.now = s.shared.now.Add(d)
	s.shared.boot += int64(d)
	s.shared.up += int64(up)
}

// Suspend lets every machine sleep.
func (s *System) Suspend(d time.Duration) { s.advance(d, 0) }

// Stall lets time pass in which every process stands still.
func (s *System) Stall(d time.Duration) { s.advance(d, d) }

// Continue lets a process go on that stood still: what came meanwhile waits in
// its queue, and it takes that before it looks at the clock.
func (s *System) Continue(device string) {
	s.t.Helper()
	delete(s.Stopped, device)
	queue := s.queues[device]
	delete(s.queues, device)
	for _, f := range queue {
		s.check(s.Devices[device].Take(f))
	}
}

// Carry takes what somebody sends that answers nothing.
func (s *System) Carry(from string, frame []byte) {
	s.t.Helper()
	h, err := envelope.Peek(frame)
	s.check(err)
	for _, to := range h.To {
		id, ok := s.State.Identity(to)
		if !ok || id.Owner == from || id.Kind == ledger.OwnerServer && h.Type != firmware.TypeStatus {
			continue
		}
		c := Carried{from, id.Owner, h.Type, frame}
		if s.Hold == nil || !s.Hold(c) {
			s.Put(c)
		}
	}
}

// Put delivers a frame.
func (s *System) Put(c Carried) {
	s.t.Helper()
	s.shared.mu.Lock()
	s.shared.frames[c.To] = append(s.shared.frames[c.To], Frame{Sent: c.Frame})
	s.shared.mu.Unlock()
	if c.Type == firmware.TypeStatus {
		s.Reports = append(s.Reports, c)
		return
	}
	if d := s.Devices[c.To]; d != nil {
		switch {
		case d.Dead():
		case s.Stopped[c.To]:
			s.queues[c.To] = append(s.queues[c.To], c.Frame)
		default:
			s.check(d.Take(c.Frame))
		}
		return
	}
	x := s.Sources[c.To]
	if x == nil || x.Down {
		return
	}
	s.station(x)
	in := heartbeat.Inputs{Now: s.NowAt(x.ID).Unix(), Boot: s.Boot()}
	q, err := heartbeat.OpenChallenge(s.State, c.Frame, x.agree)
	if err != nil {
		s.Dropped = append(s.Dropped, err)
		return
	}
	out, table, err := x.Station.Answer(in, q)
	if table != nil {
		x.Table = table
	}
	if err != nil {
		s.Dropped = append(s.Dropped, err)
		return
	}
	if out != nil {
		s.send(x, out)
	}
}

func (s *System) station(x *Source) {
	if x.Station == nil {
		s.RestartSource(x)
	}
}

func (s *System) send(x *Source, out *heartbeat.Out) {
	s.t.Helper()
	frame, err := heartbeat.SealBeat(rand.Reader, x.beat, s.State, out, s.NowAt(x.ID).Unix())
	s.check(err)
	s.Carry(x.ID, frame)
}

// Pass lets time pass on every clock, and everybody do what is due meanwhile.
func (s *System) Pass(d time.Duration) {
	s.t.Helper()
	const step = 50 * time.Millisecond
	for ; d > 0; d -= step {
		s.advance(min(d, step), min(d, step))
		s.tick()
		for _, x := range s.Sources {
			if x.Down {
				continue
			}
			s.station(x)
			for _, out := range x.Station.Due(s.Boot()) {
				s.send(x, &out)
			}
		}
	}
}

// Coarse lets a long time pass in steps of a length: nothing that is due more
// often happens in time.
func (s *System) Coarse(d, step time.Duration) {
	s.t.Helper()
	for ; d > 0; d -= step {
		s.advance(min(d, step), min(d, step))
		s.tick()
	}
}

func (s *System) tick() {
	s.t.Helper()
	for _, id := range Devices {
		if dev := s.Devices[id]; !dev.Dead() && !s.Stopped[id] && dev.Machine().Next() != 0 && dev.Machine().Next() <= s.Boot() {
			s.check(dev.Tick())
		}
	}
}

// Revoke has a person silence a source for a device; the confirmation is
// verified.
func (s *System) Revoke(person string, x *Source, device string) error {
	s.t.Helper()
	s.station(x)
	reply, err := ecdh.P256().GenerateKey(rand.Reader)
	s.check(err)
	now := s.Now().Unix()
	at := s.NowAt(x.ID).Unix()
	frame, digest, err := heartbeat.SealRevoke(rand.Reader, s.People[person][0], s.State, &heartbeat.Revoke{
		Device: device, Source: x.ID, Reason: "stolen", Reply: reply.PublicKey().Bytes(), Created: now, Expires: now + 600,
	})
	s.check(err)
	v, err := heartbeat.OpenRevoke(s.State, x.ID, frame, x.agree, at)
	if err != nil {
		return err
	}
	done, table, err := x.Station.TakeRevoke(heartbeat.Inputs{Now: at, Boot: s.Boot()}, v)
	if err != nil {
		return err
	}
	if table != nil {
		x.Table = table
	}
	sealed, err := heartbeat.SealRevoked(rand.Reader, x.identity, s.State, v, done, at)
	s.check(err)
	_, err = heartbeat.OpenRevoked(s.State, x.ID, sealed, reply, digest)
	return err
}

// Left is what is left of a device's lease.
func (s *System) Left(device string) time.Duration {
	s.t.Helper()
	l := s.Devices[device].Machine().Lease()
	if !l.Guarded {
		s.t.Fatalf("device %s needs no beats", device)
	}
	return max(0, time.Duration(l.Until-s.Boot()))
}

// Restored marks an officer's word to unlock.
func Restored(a *approval.UnlockApproval) { a.Restored = true }

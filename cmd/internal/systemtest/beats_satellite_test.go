package systemtest

import (
	"crypto/ecdh"
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// Circle are devices that answer each other: each needs two of the other three.
var circle = []string{"d1", "d2", "d3", "d4"}

func newCircle(t *testing.T) *System {
	p := ledger.Heartbeat{Sources: circle, Needed: 2, Period: 500, Lease: uint64(lease.Milliseconds())}
	s := New(t, Only(Pair), Beats(p, circle...))
	s.Pass(2 * time.Second)
	s.alive("begun by the ceremony", circle...)
	return s
}

func (s *System) alive(when string, devices ...string) {
	s.t.Helper()
	for _, id := range circle {
		if want, got := slices.Contains(devices, id), s.Left(id) > 0; got != want {
			s.t.Fatalf("%s: %s alive %v: %+v", when, id, got, s.Status(id).Lease)
		}
	}
}

// hushes tells a device that answers as a satellite to be silent for another,
// at a person's word, and returns whether it confirmed.
func (s *System) hushes(person, satellite, device string) bool {
	s.t.Helper()
	reply, err := ecdh.P256().GenerateKey(rand.Reader)
	s.check(err)
	now := s.Now().Unix()
	frame, digest, err := heartbeat.SealRevoke(rand.Reader, s.People[person][0], s.State, &heartbeat.Revoke{
		Device: device, Source: satellite, Reason: "stolen", Reply: reply.PublicKey().Bytes(), Created: now, Expires: now + 600,
	})
	s.check(err)
	d := s.Devices[satellite]
	send := d.Send
	defer func() { d.Send = send }()
	confirmed := false
	d.Send = func(f []byte) {
		if _, err := heartbeat.OpenRevoked(s.State, satellite, f, reply, digest); err == nil {
			confirmed = true
		} else {
			send(f)
		}
	}
	s.check(d.Take(frame))
	return confirmed
}

// TestAssociatedDevices live on each other's answers, and come back after all
// of them lost their power at once.
func TestAssociatedDevices(t *testing.T) {
	s := newCircle(t)
	for _, id := range circle[:3] {
		if !s.signs(t, id) {
			t.Errorf("%s does not sign", id)
		}
	}
	// A device that is locked answers nobody.
	spoke := 0
	s.Hold = func(c Carried) bool {
		if c.From == "d4" && c.Type == heartbeat.TypeBeat {
			spoke++
		}
		return false
	}
	s.Lock("d4")
	s.Pass(2 * lease)
	if spoke != 0 {
		t.Errorf("d4 is locked, and sent %d beats", spoke)
	}
	s.alive("without d4", "d1", "d2", "d3")
	for _, id := range circle[:3] {
		st := s.Status(id).Lease
		i := slices.IndexFunc(st.Sources, func(x firmware.SourceStatus) bool { return x.ID == "d4" })
		if st.Sources[i].State != heartbeat.StateSilent {
			t.Errorf("to %s, d4 is %s", id, st.Sources[i].State)
		}
	}
	// Two are too few for the other two.
	s.Lock("d3")
	s.Pass(lease + time.Second)
	s.alive("without d3 and d4")
	if p := s.Status("d1").Phase; p != firmware.PhaseLocked {
		t.Fatalf("d1 is %s", p)
	}
	// The power fails everywhere. One device alone waits; with the third the
	// circle closes.
	for _, id := range circle {
		s.Restart(id)
	}
	s.Pass(time.Minute)
	s.Unlock("d1")
	s.Pass(10 * time.Second)
	s.Unlock("d2")
	s.Pass(10 * time.Second)
	s.alive("two of four")
	if _, err := s.Offer("d1", s.File(Pair, []byte("x"))); err == nil {
		t.Error("d1 makes an offer while it waits")
	}
	s.Unlock("d3")
	s.Pass(2 * time.Second)
	s.alive("three of four", "d1", "d2", "d3")
	s.Unlock("d4")
	s.Pass(2 * time.Second)
	s.alive("all", circle...)
	if !s.signs(t, "d2") {
		t.Error("d2 does not sign")
	}
}

// TestSatelliteSilenced has officers silence associated devices for d1.
func TestSatelliteSilenced(t *testing.T) {
	s := newCircle(t)
	for _, who := range []string{Requester, Operator, Administrator, "officer-3a", "officer-4b"} {
		if s.hushes(who, "d2", "d1") {
			t.Errorf("%s silenced d2 for d1", who)
		}
	}
	s.Pass(time.Second)
	s.alive("nobody who may has spoken", circle...)
	if !s.hushes("officer-1b", "d2", "d1") { // an officer of the device
		t.Fatal(s.Devices["d2"].Notes)
	}
	s.Pass(lease + time.Second)
	s.alive("one is silent for d1", circle...)
	// The satellite has it on its disk.
	s.Restart("d2")
	s.Unlock("d2")
	s.Pass(lease)
	text := func(id string) string {
		for _, x := range s.Status("d1").Lease.Sources {
			if x.ID == id {
				return x.State + " " + x.Text
			}
		}
		return ""
	}
	if got := text("d2"); !strings.Contains(got, "refuses") || !strings.Contains(got, "was silenced for device d1") {
		t.Errorf("after its restart d2 is to d1: %s", got)
	}
	if !s.hushes("officer-3a", "d3", "d1") { // an officer of the satellite
		t.Fatal(s.Devices["d3"].Notes)
	}
	s.Pass(lease + time.Second)
	s.alive("two are silent for d1", "d2", "d3", "d4")
	if p := s.Status("d1").Phase; p != firmware.PhaseLocked {
		t.Errorf("d1 is %s", p)
	}
	// Its quorum takes it back.
	s.Unlock("d1")
	s.Pass(2 * time.Second)
	s.alive("opened anew", circle...)
}

// TestSatelliteRolledBack puts an older disk into a device that was told to be
// silent for another. Taken back by its officers, it answers for nobody whose
// officers have not spoken since.
func TestSatelliteRolledBack(t *testing.T) {
	s := newCircle(t)
	s.Lock("d1")
	// d1 never hears d2, and so goes on to show its enrolment.
	s.Hold = func(c Carried) bool { return c.Type == heartbeat.TypeBeat && c.From == "d2" && c.To == "d1" }
	s.Unlock("d1")
	s.Pass(2 * time.Second)
	s.alive("d1 without d2", circle...)

	d2 := s.Devices["d2"]
	journal, seen := slices.Clone(d2.Journal), slices.Clone(d2.Seen)
	s.signs(t, "d2")
	if !s.hushes("officer-1a", "d2", "d1") {
		t.Fatal("not silenced")
	}
	s.Pass(2 * time.Second)
	d2.Journal, d2.Seen = journal, seen
	s.Restart("d2")
	// Beats of d2 for d1 are looked at by what they are.
	s.Hold = nil
	s.Unlock("d2", Restored)
	s.Pass(2 * time.Second)
	for _, x := range s.Status("d1").Lease.Sources {
		if x.ID == "d2" && x.State != heartbeat.StateRefuses {
			t.Fatalf("d2 came back with an older disk, and to d1 it %s", x.State)
		}
	}
	// It forgot everybody, also across its next start.
	s.Restart("d2")
	s.Unlock("d2")
	s.Pass(2 * time.Second)
	for _, id := range []string{"d1", "d3", "d4"} {
		for _, x := range s.Status(id).Lease.Sources {
			if x.ID == "d2" && x.State != heartbeat.StateRefuses {
				t.Errorf("to %s, d2 is %s", id, x.State)
			}
		}
	}
	if s.Left("d2") == 0 {
		t.Errorf("d2 was taken back: %+v", s.Status("d2").Lease)
	}
	s.Lock("d1")
	s.Unlock("d1")
	s.Pass(2 * time.Second)
	for _, x := range s.Status("d1").Lease.Sources {
		if x.State != heartbeat.StateSpeaks {
			t.Errorf("d1 was opened since, and %s %s: %s", x.ID, x.State, x.Text)
		}
	}
}

// TestHostileRevocations are refused by a device that answers as a satellite:
// altered, stale, for another, or not sealed to it.
func TestHostileRevocations(t *testing.T) {
	s := newCircle(t)
	now := s.Now().Unix()
	good := heartbeat.Revoke{Device: "d1", Source: "d2", Reason: "stolen", Created: now, Expires: now + 600}
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	s.check(err)
	good.Reply = key.PublicKey().Bytes()
	for what, change := range map[string]func(*heartbeat.Revoke){
		"expired":                 func(r *heartbeat.Revoke) { r.Created, r.Expires = now-1000, now-400 },
		"from the future":         func(r *heartbeat.Revoke) { r.Created, r.Expires = now+1000, now+1600 },
		"for a day":               func(r *heartbeat.Revoke) { r.Expires = now + 86400 },
		"no reply key":            func(r *heartbeat.Revoke) { r.Reply = nil },
		"for no device":           func(r *heartbeat.Revoke) { r.Device = "d9" },
		"for another satellite":   func(r *heartbeat.Revoke) { r.Source = "d3" },
		"a satellite for itself":  func(r *heartbeat.Revoke) { r.Device = "d2" },
		"a reason beyond measure": func(r *heartbeat.Revoke) { r.Reason = strings.Repeat("x", 5000) },
	} {
		r := good
		change(&r)
		frame, _, err := heartbeat.SealRevoke(rand.Reader, s.People["officer-1a"][0], s.State, &r)
		s.check(err)
		d2, noted := s.Devices["d2"], len(s.Devices["d2"].Notes)
		before := envelope.HashOf("seen", d2.Seen)
		s.check(d2.Take(frame))
		if len(d2.Notes) == noted || envelope.HashOf("seen", d2.Seen) != before {
			t.Errorf("%s: noted %q, table changed %v", what, d2.Notes[noted:], envelope.HashOf("seen", d2.Seen) != before)
		}
	}
	s.Pass(lease)
	s.alive("none counted", circle...)
}

package systemtest

import (
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

const lease = 3 * time.Second

// two of three sources, one of each kind.
func mixed() ledger.Heartbeat {
	return ledger.Heartbeat{Sources: []string{"m1", "q1", "t1"}, Needed: 2, Period: 500, Lease: uint64(lease.Milliseconds()), Minimum: 2, Loss: 2}
}

// signs reports whether a device gives its partial signature now.
func (s *System) signs(t *testing.T, device string) bool {
	t.Helper()
	r := s.File(Pair, []byte("release "+s.Now().String()+device), Via("d4", device))
	if device == "d4" {
		t.Fatal("d4 is the partner")
	}
	offer, err := s.Offer(device, r)
	if err != nil {
		return false
	}
	index := uint64(slices.Index(Devices, device) + 1)
	task := r.Task(offer, s.Approvals(r, offer, nil), []uint64{index, 4}, 0)
	_, err = s.Send(device, firmware.TypeTask, task)
	return err == nil
}

func TestBeatsKeepADeviceAlive(t *testing.T) {
	s := New(t, Only(Pair), Beats(mixed(), "d1", "d2"))
	if s.signs(t, "d1") {
		t.Fatal("d1 signs before its first beat")
	}
	s.Pass(2 * time.Second)
	if !s.signs(t, "d1") || !s.signs(t, "d2") || !s.signs(t, "d3") {
		t.Fatalf("with all beats: lease of d1 %v, notes %q, dropped %v", s.Left("d1"), s.Devices["d1"].Notes, s.Dropped)
	}
	// Five minutes, longer than a series, with one source after the other dead.
	for _, id := range []string{"m1", "q1", "t1"} {
		x := s.Sources[id]
		x.Down = true
		s.Pass(100 * time.Second)
		if !s.signs(t, "d1") {
			t.Fatalf("without %s: %v", id, s.Status("d1").Lease)
		}
		st := s.Status("d1").Lease
		i := slices.IndexFunc(st.Sources, func(x firmware.SourceStatus) bool { return x.ID == id })
		if st.Sources[i].State != heartbeat.StateSilent {
			t.Errorf("%s is %s", id, st.Sources[i].State)
		}
		s.RestartSource(x)
		s.Pass(5 * time.Second)
	}
	if len(s.Reports) == 0 {
		t.Error("no device told its server that a source fell silent")
	}
	// Two dead: too few.
	s.Sources["m1"].Down, s.Sources["t1"].Down = true, true
	s.Pass(lease + time.Second)
	if p := s.Status("d1").Phase; p != firmware.PhaseLocked || s.signs(t, "d1") {
		t.Fatalf("with one source d1 is %s", p)
	}
	if !s.signs(t, "d3") {
		t.Error("d3 needs no beats")
	}
	// Beats alone do not bring it back; officers do.
	s.RestartSource(s.Sources["m1"])
	s.RestartSource(s.Sources["t1"])
	s.Pass(lease)
	if s.signs(t, "d1") {
		t.Fatal("d1 came back by itself")
	}
	s.Unlock("d1")
	if s.signs(t, "d1") {
		t.Fatal("d1 signs before its first beat")
	}
	s.Pass(2 * time.Second)
	if !s.signs(t, "d1") {
		t.Fatalf("after the officers opened it: %v %v %q", s.Status("d1").Lease, s.Dropped, s.Devices["d1"].Notes)
	}
	// Opened without a source it waits, and locks itself again.
	s.Lock("d1")
	for _, x := range s.Sources {
		x.Down = true
	}
	s.Unlock("d1")
	s.Pass(time.Duration(heartbeat.Grace) + time.Second)
	if p := s.Status("d1").Phase; p != firmware.PhaseLocked {
		t.Errorf("d1 is %s", p)
	}
}

// TestHoardedBeats has a message server keep back every beat, for each kind of
// source, and hand them out one by one after the sources were revoked.
func TestHoardedBeats(t *testing.T) {
	for _, id := range []string{"m1", "q1", "t1"} {
		t.Run(id, func(t *testing.T) {
			const lease = 4 * time.Second // half of the beats are enough even where a series begins anew
			p := mixed()
			p.Sources, p.Needed, p.Lease = []string{id}, 1, uint64(lease.Milliseconds())
			if id != "m1" {
				p.Minimum = 0
			}
			if id != "q1" {
				p.Loss = 0
			}
			s := New(t, Only(Pair), Beats(p, "d1"))
			s.Pass(2 * time.Second)
			if !s.signs(t, "d1") {
				t.Fatalf("%v %v", s.Status("d1").Lease, s.Dropped)
			}
			// Every other beat of a series is enough to live on, and every other
			// answer; the rest is kept for later.
			var hoard []Carried
			n := map[[16]byte]int{}
			s.Hold = func(c Carried) bool {
				if c.Type != heartbeat.TypeBeat {
					return false
				}
				h, err := envelope.Peek(c.Frame)
				s.check(err)
				if id == "t1" {
					h.Re = [16]byte{}
				}
				n[h.Re]++
				if n[h.Re]%2 == 0 {
					hoard = append(hoard, c)
				}
				return n[h.Re]%2 == 0
			}
			s.Pass(210 * time.Second) // longer than a series is gone on with
			if !s.signs(t, "d1") || len(hoard) < 150 {
				t.Fatalf("with every other beat: %v, %d kept, %q", s.Status("d1").Lease, len(hoard), s.Devices["d1"].Notes)
			}
			s.check(s.Revoke(Operator, s.Sources[id], "d1"))
			revoked := s.Boot()
			s.Hold = func(c Carried) bool { return c.Type == heartbeat.TypeBeat }
			for i := 0; s.Left("d1") > 0; i++ {
				for _, c := range hoard[max(0, len(hoard)-20):] {
					s.Put(c)
				}
				s.Put(hoard[i%len(hoard)])
				s.Pass(100 * time.Millisecond)
				if s.Boot()-revoked > int64(lease) {
					t.Fatalf("d1 lives %v after the revocation", time.Duration(s.Boot()-revoked))
				}
			}
			s.Pass(time.Second)
			if s.Status("d1").Phase != firmware.PhaseLocked {
				t.Error("d1 is not locked")
			}
			// All that was ever kept, and a fresh opening without a new word of
			// the source.
			for _, c := range hoard {
				s.Put(c)
			}
			if s.Left("d1") > 0 || s.signs(t, "d1") {
				t.Error("old beats revived d1")
			}
		})
	}
}

// TestRevocationHolds: one person silences, only a new opening by the officers
// brings the device back, and old openings do not.
func TestRevocationHolds(t *testing.T) {
	s := New(t, Only(Pair), Beats(mixed(), "d1"))
	s.Pass(2 * time.Second)
	if err := s.Revoke(Requester, s.Sources["m1"], "d1"); err == nil {
		t.Fatal("a requester silenced a source")
	}
	if err := s.Revoke("officer-2a", s.Sources["m1"], "d1"); err == nil {
		t.Fatal("another device's officer silenced a source")
	}
	s.check(s.Revoke("officer-1a", s.Sources["m1"], "d1"))
	s.check(s.Revoke(Operator, s.Sources["q1"], "d1"))
	s.Pass(lease + time.Second)
	if s.Status("d1").Phase != firmware.PhaseLocked {
		t.Fatal("d1 goes on")
	}
	// The sources' processes start anew: they have not forgotten.
	s.Pass(time.Minute)
	s.Unlock("d1")
	for _, x := range s.Sources {
		s.RestartSource(x)
	}
	s.Pass(2 * time.Second)
	if !s.signs(t, "d1") {
		t.Fatalf("after a new opening: %v %q", s.Status("d1").Lease, s.Devices["d1"].Notes)
	}
	// Revoked again in the same instance, unlocking is not repeated by replay.
	s.check(s.Revoke(Operator, s.Sources["q1"], "d1"))
	s.check(s.Revoke(Operator, s.Sources["t1"], "d1"))
	s.Pass(lease + time.Second)
	if s.signs(t, "d1") {
		t.Error("d1 goes on")
	}
}

// TestCopiedDevice starts a second machine on the same token, disk and PIN, and
// has a thief with software of his own ask for beats as well.
func TestCopiedDevice(t *testing.T) {
	s := New(t, Only(Pair), Beats(mixed(), "d1"))
	var recorded []Carried
	s.Hold = func(c Carried) bool {
		if c.To == "d1" && c.Type == heartbeat.TypeBeat {
			recorded = append(recorded, c)
		}
		return false
	}
	s.Pass(2 * time.Second)
	s.Lock("d1")
	offer, approvals := s.unlocked("d1")
	s.Pass(2 * time.Second)
	original, thief := s.Devices["d1"], s.Devices["d1"].Copy(t)
	token := s.SignKey("d1")
	try := func(when string) {
		t.Helper()
		// The product's own software, with the token open, and all beats.
		for _, c := range recorded {
			s.check(thief.Take(c.Frame))
		}
		for range 20 {
			s.check(thief.Tick())
		}
		if thief.Machine().Lease().Until != 0 {
			t.Fatalf("%s the copy has a lease", when)
		}
		s.Devices["d1"] = thief
		if s.signs(t, "d1") {
			t.Fatalf("%s the copy signs", when)
		}
		s.Devices["d1"] = original
		// His own software: it says what it likes, and keeps what it gets.
		for what, e := range map[string]*approval.Enrolment{"no enrolment": nil, "the original's enrolment": {Offer: offer, Approvals: approvals}} {
			i, err := heartbeat.NewInstance(rand.Reader)
			s.check(err)
			before := len(recorded)
			q := &heartbeat.Challenge{Device: "d1", Counter: 1, Log: 1 << 20, LogHead: envelope.HashOf("x"), Begin: []string{"m1", "q1"}, Enrolment: e}
			s.must(rand.Read(q.Nonce[:]))
			s.check(i.Complete(rand.Reader, q))
			frame, err := heartbeat.SealChallenge(rand.Reader, token, s.State, []string{"m1", "q1", "t1"}, q, s.Now().Unix())
			s.check(err)
			s.Carry("d1", frame)
			s.Pass(100 * time.Millisecond)
			for _, c := range recorded[before:] {
				if b, _, err := heartbeat.OpenBeat(s.State, i, "d1", c.Frame, map[string]*heartbeat.VerifiedKey{}); err == nil && b.Kind != heartbeat.KindRefusal {
					t.Fatalf("%s, with %s, a thief got a beat: %+v", when, what, b)
				}
			}
			// In the name of the original's instance, whose keys he does not
			// have.
			forged := *q
			forged.Proof = slices.Clone(q.Proof)
			forged.Sign, forged.Agree = lastKeys(s, "d1")
			frame, err = heartbeat.SealChallenge(rand.Reader, token, s.State, []string{"t1"}, &forged, s.Now().Unix())
			s.check(err)
			dropped := len(s.Dropped)
			s.Carry("d1", frame)
			if len(s.Dropped) == dropped || !strings.Contains(s.Dropped[dropped].Error(), "not proved by the instance") {
				t.Fatalf("%s: a challenge in another's name: %v", when, s.Dropped[dropped:])
			}
		}
	}
	try("beside the original")
	s.Pass(time.Second)
	if !s.signs(t, "d1") {
		t.Fatalf("the copy ended the original: %v", s.Status("d1").Lease)
	}
	original.Kill()
	s.Stopped["d1"] = true
	try("after the original")
	s.Pass(time.Hour / 60)
	try("a minute later")
}

// unlocked has a device's officers unlock it and returns what they said.
func (s *System) unlocked(device string) (offer []byte, approvals [][]byte) {
	s.t.Helper()
	o, err := s.AskUnlock(device)
	s.check(err)
	for _, x := range s.Officers(device) {
		sealed, piece := s.Piece(x, o.Pieces)
		approvals = append(approvals, s.UnlockApproval(x, device, o, sealed.ID, piece))
	}
	s.check(s.SendUnlock(device, o, approvals))
	return o.Raw, approvals
}

// lastKeys are the public keys of a device's instance, as a source saw them.
func lastKeys(s *System, device string) (sign, agree []byte) {
	for _, f := range slices.Backward(s.Frames("t1")) {
		if q, err := heartbeat.OpenChallenge(s.State, f.Sent, s.Sources["t1"].agree); err == nil && q.Device == device {
			if k := s.Sources["t1"].Station.Devices(); k[0].Instance == q.Instance() {
				return q.Sign, q.Agree
			}
		}
	}
	s.t.Fatal("no challenge")
	return nil, nil
}

// TestRolledBackDevice restores an older snapshot of a device's disk.
func TestRolledBackDevice(t *testing.T) {
	s := New(t, Only(Pair), Beats(mixed(), "d1"))
	s.Pass(2 * time.Second)
	d := s.Devices["d1"]
	snapshot := slices.Clone(d.Journal)
	if !s.signs(t, "d1") {
		t.Fatal("d1 does not sign")
	}
	s.Pass(2 * time.Second) // its sources see the longer log
	d.Journal = snapshot
	d.Restart(t)
	s.Unlock("d1")
	s.Pass(2 * time.Second)
	if s.Left("d1") > 0 || s.signs(t, "d1") {
		t.Fatal("the older disk got beats")
	}
	if !slices.ContainsFunc(d.Notes, func(n string) bool { return strings.Contains(n, "its disk is an older copy") }) {
		t.Errorf("the device was told %q", d.Notes)
	}
	// One officer who knows and one who does not are no quorum that knows.
	s.Lock("d1")
	s.Unlock("d1", Restored)
	s.Pass(2 * time.Second)
	if !s.signs(t, "d1") {
		t.Fatalf("after the officers took it back: %v %q", s.Status("d1").Lease, d.Notes)
	}
}

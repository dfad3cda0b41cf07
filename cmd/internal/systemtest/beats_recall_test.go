package systemtest

import (
	"crypto/ecdh"
	"crypto/rand"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// TestSatelliteTableRemoved removes from a satellite's disk, or puts an older
// one in the place of, what it knows of those that it beats for. Its journal
// still says for whom it was silenced.
func TestSatelliteTableRemoved(t *testing.T) {
	p := ledger.Heartbeat{Sources: []string{"d2"}, Needed: 1, Period: 500, Lease: 5000}
	s := New(t, Only(Pair), Beats(p, "d1"))
	s.Pass(2 * time.Second)
	d2 := s.Devices["d2"]
	old, records := d2.Seen, len(d2.Journal)
	if s.Left("d1") == 0 || old == nil {
		t.Fatalf("d2 does not answer: %q %q", s.Devices["d1"].Notes, d2.Notes)
	}
	silence := func() {
		t.Helper()
		reply, err := ecdh.P256().GenerateKey(rand.Reader)
		s.check(err)
		now := s.Now().Unix()
		frame, _, err := heartbeat.SealRevoke(rand.Reader, s.People["officer-1a"][0], s.State, &heartbeat.Revoke{
			Device: "d1", Source: "d2", Reason: "stolen", Reply: reply.PublicKey().Bytes(), Created: now, Expires: now + 600,
		})
		s.check(err)
		s.check(d2.Take(frame))
	}
	for range 5 {
		silence()
	}
	if n := len(d2.Journal) - records; n != 1 {
		t.Errorf("%d records for one device that was silenced", n)
	}
	for what, seen := range map[string][]byte{"none": nil, "an older one": old} {
		d2.Seen = seen
		d2.Restart(t)
		s.Unlock("d2")
		before := s.Left("d1")
		s.Pass(time.Second)
		if left := s.Left("d1"); left > before-900*time.Millisecond {
			t.Errorf("%s: the lease of d1 goes from %v to %v", what, before, left)
		}
	}
	s.Pass(5 * time.Second)
	// Its officers take it back, and that is not undone by what the journal says.
	s.Unlock("d1")
	s.Pass(time.Second)
	d2.Restart(t)
	s.Unlock("d2")
	s.Pass(4 * time.Second)
	if left := s.Left("d1"); left < 3*time.Second {
		t.Errorf("d1 was taken back and has %v left: %q %q", left, s.Devices["d1"].Notes, d2.Notes)
	}
}

package systemtest

import (
	"crypto/ecdh"
	"crypto/rand"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// TestSilencedWhileLocking locks a satellite while it signs its confirmation of
// a revocation. The officer hears that it failed; what the satellite was told
// it must not have forgotten after a restart all the same.
func TestSilencedWhileLocking(t *testing.T) {
	p := ledger.Heartbeat{Sources: []string{"d2"}, Needed: 1, Period: 500, Lease: 5000}
	armed := false
	var s *System
	s = New(t, Only(Pair), Beats(p, "d1"), Tapped("d2", func(call string, _, _ [][]byte) {
		if !armed || call != "C_Sign" {
			return
		}
		armed = false
		d := s.Devices["d2"].Token
		go d.Lock()
		for _, open := d.Login(); open; _, open = d.Login() {
			time.Sleep(time.Millisecond)
		}
	}))
	s.Pass(2 * time.Second)
	if s.Left("d1") == 0 {
		t.Fatalf("d2 does not answer: %q %q", s.Devices["d1"].Notes, s.Devices["d2"].Notes)
	}
	reply, err := ecdh.P256().GenerateKey(rand.Reader)
	s.check(err)
	now := s.Now().Unix()
	frame, _, err := heartbeat.SealRevoke(rand.Reader, s.People["officer-1a"][0], s.State, &heartbeat.Revoke{
		Device: "d1", Source: "d2", Reason: "stolen", Reply: reply.PublicKey().Bytes(), Created: now, Expires: now + 600,
	})
	s.check(err)
	armed = true
	s.check(s.Devices["d2"].Take(frame))
	if armed {
		t.Fatalf("nothing was signed: %q", s.Devices["d2"].Notes)
	}
	s.Devices["d2"].Restart(t)
	s.Unlock("d2")
	s.Pass(6 * time.Second)
	if left := s.Left("d1"); left > 0 {
		t.Errorf("d1 goes on for %v: its satellite has forgotten that it was silenced", left)
	}
}

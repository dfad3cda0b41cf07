package systemtest

import (
	"crypto"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// TestRotationOfBeatKeys gives sources of each kind new beat keys while devices
// live on them.
func TestRotationOfBeatKeys(t *testing.T) {
	s := New(t, Only(Pair), Beats(mixed(), "d1"))
	s.Pass(2 * time.Second)
	for range 2 {
		for _, x := range s.Sources {
			s.Rotate(x)
			s.Pass(time.Second)
			if s.Left("d1") < lease/2 {
				t.Fatalf("%s has a new key: %v, %q", x.ID, s.Status("d1").Lease, s.Devices["d1"].Notes)
			}
		}
	}
	for _, x := range s.Status("d1").Lease.Sources {
		if x.State != heartbeat.StateSpeaks {
			t.Errorf("%s is %s", x.ID, x.State)
		}
	}
	if !s.signs(t, "d1") {
		t.Error("d1 does not sign")
	}
}

// TestOldBeatKey has whoever holds a source's old beat key, or some other key,
// answer in its place.
func TestOldBeatKey(t *testing.T) {
	p := ledger.Heartbeat{Sources: []string{"t1"}, Needed: 1, Period: 500, Lease: uint64(lease.Milliseconds())}
	other := p
	other.Sources = []string{"t2", "m1"}
	other.Minimum = 1
	s := New(t, Only(Pair), Beats(p, "d1"), Beats(other, "d2"))
	s.Pass(time.Second)
	x, y, d := s.Sources["t1"], s.Sources["t2"], s.Devices["d1"]
	old, oldCert := x.beat, x.config.Certificate
	certify := func(identity crypto.Signer, k heartbeat.Key) []byte {
		t.Helper()
		k.Created = s.Now().Unix()
		cert, err := heartbeat.SignKey(rand.Reader, identity, k)
		s.check(err)
		return cert
	}
	evil := ledgertest.NewSigner(t, "beat key of nobody")
	evilSPKI := ledgertest.SPKI(t, evil.Public())

	// quiet has the next challenge reach t1, and its answer nobody.
	quiet := func() *heartbeat.VerifiedChallenge {
		t.Helper()
		n := len(s.Frames("t1"))
		s.Hold = func(c Carried) bool { return c.Type == heartbeat.TypeBeat && c.To == "d1" }
		for len(s.Frames("t1")) == n {
			s.Pass(50 * time.Millisecond)
		}
		return s.heard(x, "d1")
	}
	refused := func(what string, key crypto.Signer, why string, change func(*heartbeat.Beat)) {
		t.Helper()
		q := s.heard(x, "d1")
		b := answerTo(x, q)
		change(&b)
		before, noted := d.Machine().Lease(), len(d.Notes)
		s.check(d.Take(s.beatBy(key, q, b)))
		if after := d.Machine().Lease(); after != before {
			t.Errorf("%s: the lease went from %+v to %+v", what, before, after)
		}
		if notes := strings.Join(d.Notes[noted:], "\n"); !strings.Contains(notes, why) {
			t.Errorf("%s: noted %q, want %q", what, notes, why)
		}
	}
	all := func(when string) {
		t.Helper()
		quiet()
		refused(when+", the old key with its certificate", old, "has gone on to 2", func(b *heartbeat.Beat) { b.Key = oldCert })
		refused(when+", the old key under the new one's certificate", old, "key id in the message", func(*heartbeat.Beat) {})
		refused(when+", a key that another source certified in its own name", evil, "key id in the message", func(b *heartbeat.Beat) {
			b.Key = certify(y.identity, heartbeat.Key{Source: "t2", Epoch: 9, Sign: evilSPKI})
		})
		refused(when+", a key that another source certified", evil, "key id in the message", func(b *heartbeat.Beat) {
			b.Key = certify(y.identity, heartbeat.Key{Source: "t1", Epoch: 9, Sign: evilSPKI})
		})
		refused(when+", a key of another source by its identity", evil, "a beat key of", func(b *heartbeat.Beat) {
			b.Key = certify(x.identity, heartbeat.Key{Source: "t2", Epoch: 9, Sign: evilSPKI})
		})
		refused(when+", the identity key itself", x.identity, "key id in the message", func(*heartbeat.Beat) {})
		refused(when+", a device's token", s.SignKey("d4"), "key id in the message", func(*heartbeat.Beat) {})
		refused(when+", another device of the system in its own name", s.SignKey("d4"), "is not a source of device d1", func(b *heartbeat.Beat) { b.Source, b.Key = "d4", nil })
		refused(when+", another source in its own name", y.beat, "is not a source of device d1", func(b *heartbeat.Beat) { b.Source, b.Key = "t2", y.config.Certificate })
		refused(when+", another device", x.beat, "another device or instance", func(b *heartbeat.Beat) { b.Device = "d2" })
		refused(when+", another instance", x.beat, "another device or instance", func(b *heartbeat.Beat) { b.Instance[0] ^= 1 })
		refused(when+", no kind that there is", x.beat, "sends no beat of kind", func(b *heartbeat.Beat) { b.Kind = "pulse" })
		refused(when+", a kind of another source", x.beat, "sends no beat of kind", func(b *heartbeat.Beat) { b.Kind, b.Slot = heartbeat.KindMessage, 1 })
		refused(when+", a nonce that was not asked", x.beat, "", func(b *heartbeat.Beat) { b.Nonce[0] ^= 1 })
		// Unspoilt it counts: what was refused was refused for its fault.
		q := s.heard(x, "d1")
		before := d.Machine().Lease()
		s.check(d.Take(s.beatBy(x.beat, q, answerTo(x, q))))
		if d.Machine().Lease() == before {
			t.Errorf("%s: a right answer does not count: %q", when, d.Notes[len(d.Notes)-1:])
		}
		s.Hold = nil
		s.Pass(time.Second)
	}
	s.Rotate(x)
	s.Pass(time.Second)
	all("after rotation")

	// What the device saw it knows after its restart, before it hears the new
	// key again.
	s.Restart("d1")
	s.Hold = func(c Carried) bool { return c.Type == heartbeat.TypeBeat && c.To == "d1" }
	s.Unlock("d1")
	s.Pass(200 * time.Millisecond)
	refused("after a restart, the old key with its certificate", old, "has gone on to 2", func(b *heartbeat.Beat) { b.Key = oldCert })
	refused("after a restart, the old key without", old, "not known yet", func(b *heartbeat.Beat) { b.Key = nil })
	all("after a restart")
	if s.Left("d1") == 0 || s.Left("d2") == 0 {
		t.Errorf("d1 has %v, d2 has %v", s.Left("d1"), s.Left("d2"))
	}
}

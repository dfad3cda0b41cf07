package systemtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// A carrier is a message server that does as it likes with what it carries. It
// keeps the honest history as well: when which source last made something for
// which device, and when that device's present instance was opened.
type carrier struct {
	*System
	rnd     *rand.Rand
	all     []Carried // ever carried
	waiting []Carried
	spoke   map[[2]string]int64 // by source and device: when it last made an answer or beat
	opened  map[string]int64    // by device
	honest  bool
}

func newCarrier(s *System) *carrier {
	c := &carrier{System: s, spoke: map[[2]string]int64{}, opened: map[string]int64{}}
	s.Hold = func(x Carried) bool {
		if x.Type == firmware.TypeStatus {
			return false
		}
		if x.Type == heartbeat.TypeBeat {
			c.spoke[[2]string{x.From, x.To}] = s.Boot()
		}
		c.all = append(c.all, x)
		if !c.honest {
			c.waiting = append(c.waiting, x)
		}
		return !c.honest
	}
	return c
}

// hand delivers a frame to whom it likes; what comes of it is carried as well.
func (c *carrier) hand(x Carried, to string) {
	x.To = to
	c.Put(x)
	c.bounded(fmt.Sprintf("%s of %s to %s", x.Type, x.From, to))
}

// bounded is the property: whatever was carried when and to whom, no lease is
// longer than what the sources' last words grant.
func (c *carrier) bounded(what string) {
	c.t.Helper()
	for _, id := range Devices {
		d, _ := c.State.Device(id)
		l := c.Devices[id].Machine().Lease()
		if d.Heartbeat == nil || l.Until == 0 {
			continue
		}
		var ends []int64
		for _, src := range d.Heartbeat.Sources {
			if at, ok := c.spoke[[2]string{src, id}]; ok && at >= c.opened[id] {
				ends = append(ends, at+int64(d.Heartbeat.Lease)*1_000_000)
			}
		}
		slices.Sort(ends)
		n := len(ends) - int(d.Heartbeat.Needed)
		if n < 0 || l.Until > ends[n] {
			c.t.Fatalf("after a %s, the lease of %s ends %v from now; its sources' words end %v", what, id, time.Duration(l.Until-c.Boot()), ends)
		}
	}
}

// somebody is anyone on the network.
func (c *carrier) somebody() string {
	who := []string{"d1", "d5", "m1", "q1", "t1"}
	return who[c.rnd.IntN(len(who))]
}

// mischief does one thing.
func (c *carrier) mischief() {
	n := len(c.waiting)
	switch p := c.rnd.IntN(100); {
	case p < 55 && n > 0: // in order
		x := c.waiting[0]
		c.waiting = c.waiting[1:]
		c.hand(x, x.To)
	case p < 70 && n > 0: // out of order
		i := c.rnd.IntN(n)
		x := c.waiting[i]
		c.waiting = slices.Delete(c.waiting, i, i+1)
		c.hand(x, x.To)
	case p < 74 && n > 0: // lost, or kept for later
		c.waiting = slices.Delete(c.waiting, 0, 1)
	case p < 90 && len(c.all) > 0: // again
		x := c.all[c.rnd.IntN(len(c.all))]
		c.hand(x, x.To)
	case len(c.all) > 0: // to somebody else
		x := c.all[c.rnd.IntN(len(c.all))]
		c.hand(x, c.somebody())
	}
}

// TestHostileCarrier drives random mischief through two devices' lives, with
// lock-downs, restarts, revocations and sources that die.
func TestHostileCarrier(t *testing.T) {
	s := New(t, Only(Pair), Beats(mixed(), "d1", "d5"))
	c := newCarrier(s)
	for seed := range uint64(3) {
		c.rnd, c.honest = rand.New(rand.NewPCG(seed, 7)), false
		for _, x := range s.Sources {
			s.RestartSource(x)
		}
		open := func(id string) {
			if s.Status(id).Phase == firmware.PhaseLocked {
				s.Unlock(id)
				c.opened[id] = s.Boot()
			}
		}
		lived := 0
		for step := range 400 {
			s.Pass(50 * time.Millisecond)
			c.bounded("pause")
			for range 1 + c.rnd.IntN(6) {
				c.mischief()
			}
			if step%10 == 0 && s.Left("d1") > 0 && s.Left("d5") > 0 {
				lived++
			}
			switch c.rnd.IntN(150) {
			case 0:
				s.Restart("d1")
			case 1:
				if s.Status("d5").Phase == firmware.PhaseReady {
					s.Lock("d5")
				}
			case 2:
				x := s.Sources[[]string{"m1", "q1", "t1"}[c.rnd.IntN(3)]]
				s.RestartSource(x)
				x.Down = c.rnd.IntN(2) == 0
			case 3:
				s.check(s.Revoke(Operator, s.Sources["m1"], "d1"))
			case 4, 5, 6, 7:
				open("d1")
				open("d5")
			case 8:
				s.Pass(lease / 2)
				c.bounded("half a lease of silence")
			}
		}
		if lived == 0 {
			t.Errorf("seed %d: the devices never lived: it tries nothing", seed)
		}
		// The sources are silenced; all that was ever carried, to everybody.
		for _, id := range []string{"d1", "d5"} {
			open(id)
			for _, x := range s.Sources {
				s.check(s.Revoke(Operator, x, id))
			}
		}
		revoked := s.Boot()
		last := slices.Clone(c.all[max(0, len(c.all)-250):])
		for i := 0; s.Left("d1")+s.Left("d5") > 0 || i == 0; i++ {
			for _, x := range last {
				c.hand(x, x.To)
			}
			for _, to := range []string{"d1", "d5", "m1", "q1", "t1"} {
				c.hand(last[i%len(last)], to)
			}
			s.Pass(500 * time.Millisecond)
			if s.Boot()-revoked > int64(lease+500*time.Millisecond) {
				t.Fatalf("seed %d: %v and %v left after the revocation", seed, s.Left("d1"), s.Left("d5"))
			}
		}
		s.Pass(time.Second)
		for _, x := range slices.Clone(c.all[:min(len(c.all), 400)]) {
			c.hand(x, x.To)
		}
		// Brought back over an honest server, they are as they were: no refusal
		// of then counts now.
		c.honest, c.waiting = true, nil
		s.Pass(time.Second)
		for _, x := range s.Sources {
			s.RestartSource(x)
		}
		for _, id := range []string{"d1", "d5"} {
			if s.Status(id).Phase == firmware.PhaseReady {
				s.Lock(id)
			}
			open(id)
		}
		s.Pass(2 * time.Second)
		for _, x := range slices.Clone(c.all[max(0, len(c.all)-400):]) {
			c.hand(x, x.To)
		}
		s.Pass(time.Second)
		for _, id := range []string{"d1", "d5"} {
			for _, x := range s.Status(id).Lease.Sources {
				if x.State != heartbeat.StateSpeaks {
					t.Errorf("seed %d: to %s, %s %s: %s", seed, id, x.ID, x.State, x.Text)
				}
			}
		}
	}
}

// TestBeatsOfFormerInstance hands a device what was sealed to the instance it
// was before a lock-down, and what its former challenges are answered with.
func TestBeatsOfFormerInstance(t *testing.T) {
	s := New(t, Only(Pair), Beats(mixed(), "d1"))
	var all []Carried
	s.Hold = func(c Carried) bool { all = append(all, c); return false }
	s.Pass(2 * time.Second)
	s.Lock("d1")
	s.Unlock("d1")
	old := slices.Clone(all)
	s.Hold = func(c Carried) bool { return c.To == "d1" }
	for range 3 {
		for _, c := range old {
			s.Put(c)
		}
		s.Pass(500 * time.Millisecond)
	}
	if s.Devices["d1"].Machine().Lease().Until != 0 {
		t.Fatal("beats of its former instance gave the device a lease")
	}
	s.Hold = nil
	s.Pass(2 * time.Second)
	if s.Left("d1") == 0 {
		t.Errorf("%+v", s.Status("d1").Lease)
	}
}

// TestForgedTypes has the device's own message server send it, under its own
// signature, all that is not a server's to say.
func TestForgedTypes(t *testing.T) {
	s := New(t, Only(Pair), Beats(mixed(), "d1"), Beats(ledger.Heartbeat{
		Sources: []string{"d1", "t1"}, Needed: 1, Period: 500, Lease: uint64(lease.Milliseconds())}, "d2"))
	s.Pass(2 * time.Second)
	d := s.Devices["d1"]
	q := s.heard(s.Sources["t1"], "d1")
	b := answerTo(s.Sources["t1"], q)
	for typ, body := range map[string]any{
		heartbeat.TypeBeat:      b,
		heartbeat.TypeChallenge: q.Challenge,
		heartbeat.TypeRevoke:    heartbeat.Revoke{Device: "d2", Source: "d1", Expires: s.Now().Unix() + 60, Created: s.Now().Unix()},
		heartbeat.TypeRevoked:   heartbeat.Revoked{Device: "d2", Source: "d1"},
		heartbeat.TypeKey:       heartbeat.Key{Source: "t1", Epoch: 9},
		heartbeat.TypeSystem:    heartbeat.System{},
	} {
		for _, sealed := range []bool{true, false} {
			l := s.Letter("d1", typ, body)
			if !sealed {
				l.To = nil
			}
			before, seen, log := d.Machine().Lease(), envelope.HashOf("seen", d.Seen), s.Status("d1").Log
			send := d.Send
			d.Send = func([]byte) { t.Errorf("%s: the device answers", typ) }
			s.check(d.Take(s.Frame(l)))
			d.Send = send
			if after := d.Machine().Lease(); after != before || envelope.HashOf("seen", d.Seen) != seen || s.Status("d1").Log != log {
				t.Errorf("%s, sealed %v: %+v, %+v", typ, sealed, before, after)
			}
		}
	}
	s.Pass(time.Second)
	if s.Left("d1") == 0 || s.Left("d2") == 0 {
		t.Error("forgeries ended a lease")
	}
}

package systemtest

import (
	"slices"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/heartbeat"
)

const year = 365 * 24 * time.Hour

// TestWallClockHasNoPart sets the wall clocks of a device and of its sources
// back and forward by a year: leases go by the boot-time clock.
func TestWallClockHasNoPart(t *testing.T) {
	s := New(t, Only(Pair), Beats(mixed(), "d1"))
	s.Pass(2 * time.Second)
	steady := func(when string) {
		t.Helper()
		for range 20 {
			s.Pass(500 * time.Millisecond)
			if left := s.Left("d1"); left < lease-1500*time.Millisecond || left > lease {
				t.Fatalf("%s: %v left of %v; %v", when, left, lease, s.Status("d1").Lease)
			}
		}
	}
	steady("clocks right")
	sources := []string{"m1", "q1", "t1"}
	for _, off := range []time.Duration{-year, year} {
		set := func(off time.Duration, who ...string) {
			t.Helper()
			for _, id := range who {
				s.SetWall(id, off)
			}
			left := s.Left("d1")
			s.check(s.Devices["d1"].Tick())
			if now := s.Left("d1"); now != left {
				t.Fatalf("the wall clock of %q off by %v: the lease went from %v to %v", who, off, left, now)
			}
			steady("wall clock off")
		}
		set(off, sources...)
		set(off, "d1")
		set(0, sources...)
		// Silence ends it on time.
		begin := s.Boot()
		for _, x := range s.Sources {
			x.Down = true
		}
		s.Pass(lease + 100*time.Millisecond)
		if p := s.Devices["d1"].Machine().Phase(); p != firmware.PhaseLocked || s.Left("d1") != 0 {
			t.Fatalf("%v after the last beat d1 is %s", time.Duration(s.Boot()-begin), p)
		}
		if off > 0 {
			return // its time never falls: until next year it takes our words for old
		}
		s.SetWall("d1", 0)
		for _, x := range s.Sources {
			s.RestartSource(x)
		}
		s.Unlock("d1")
		s.Pass(2 * time.Second)
		steady("opened again")
	}
}

// TestPauseEndsTheLease stops a device's process, or suspends its machine, for
// longer than its lease: what wakes up is expired, whatever waits in its queue.
func TestPauseEndsTheLease(t *testing.T) {
	s := New(t, Only(Pair), Beats(mixed(), "d1"))
	for what, up := range map[string]bool{"stopped": true, "suspended": false} {
		s.Pass(2 * time.Second)
		r := s.File(Pair, []byte("release "+what), Via("d1", "d4"))
		offer := s.MustOffer("d1", r)
		task := s.Frame(s.Letter("d1", firmware.TypeTask, r.Task(offer, s.Approvals(r, offer, nil), order(1, 4), 0)))
		partials := s.Status("d1").Partials

		// Its sources go on beating, its server goes on handing over.
		s.Stopped["d1"] = true
		if up {
			s.Pass(lease + 100*time.Millisecond)
		} else {
			for range 62 {
				s.Suspend(50 * time.Millisecond)
				for _, x := range s.Sources {
					for _, out := range x.Station.Due(s.Boot()) {
						s.send(x, &out)
					}
				}
			}
		}
		if len(s.queues["d1"]) < 8 {
			t.Fatalf("%s: %d frames wait", what, len(s.queues["d1"]))
		}
		if what == "stopped" { // the task first, then the beats
			answer, err := s.relay("d1", task)
			s.check(err)
			wantRefusalFrame(t, s, answer, firmware.CodePhase, "is locked: its officers open it with 'privyseal officer unlock d1'")
			s.Continue("d1")
		} else { // the beats first
			s.Continue("d1")
			answer, err := s.relay("d1", task)
			s.check(err)
			wantRefusalFrame(t, s, answer, firmware.CodePhase, "is locked")
		}
		if st := s.Status("d1"); st.Phase != firmware.PhaseLocked || st.Lease.Left != 0 {
			t.Fatalf("%s: it woke up %s with %d ms", what, st.Phase, st.Lease.Left)
		}
		s.Pass(lease)
		if s.Left("d1") != 0 {
			t.Errorf("%s: beats revived it", what)
		}
		s.Unlock("d1")
		s.Pass(2 * time.Second)
		if !s.signs(t, "d1") {
			t.Fatalf("%s: after the officers opened it: %v", what, s.Status("d1").Lease)
		}
		if p := s.Status("d1").Partials; p != partials+1 {
			t.Errorf("%s: %d partial signatures", what, p-partials)
		}
	}
}

// TestPauseWithinTheLease: a shorter pause costs nothing but itself. Beats that
// waited count from when they were made, not from when they are read.
func TestPauseWithinTheLease(t *testing.T) {
	s := New(t, Only(Pair), Beats(mixed(), "d1"))
	s.Pass(2 * time.Second)
	before := s.Left("d1")
	s.Stopped["d1"] = true
	s.Pass(time.Second)
	paused := s.Boot()
	last := s.queues["d1"]
	s.Stall(700 * time.Millisecond)
	s.Continue("d1")
	if len(last) == 0 {
		t.Fatal("nothing waited")
	}
	if until := s.Boot() + int64(s.Left("d1")); until > paused+int64(lease) {
		t.Errorf("beats made until %v ago gave a lease of %v", time.Duration(s.Boot()-paused), s.Left("d1"))
	}
	if s.Left("d1") == 0 || s.Left("d1") > before+time.Second {
		t.Errorf("%v before, %v after", before, s.Left("d1"))
	}
	s.Pass(time.Second)
	if !s.signs(t, "d1") {
		t.Error("a short pause ended the lease")
	}
}

// TestSourcePause stops the sources instead: what they make up for is nothing,
// and the device's lease runs out meanwhile.
func TestSourcePause(t *testing.T) {
	s := New(t, Only(Pair), Beats(mixed(), "d1"))
	s.Pass(2 * time.Second)
	sent := 0
	s.Hold = func(c Carried) bool {
		if c.Type == heartbeat.TypeBeat && slices.Contains([]string{"m1", "q1"}, c.From) {
			sent++
		}
		return false
	}
	for _, x := range s.Sources {
		x.Down = true
	}
	s.Pass(lease - 1200*time.Millisecond)
	for _, x := range s.Sources {
		x.Down = false // the same process: it goes on
	}
	s.Pass(50 * time.Millisecond)
	if sent > 2 {
		t.Errorf("two sources sent %d beats at once after a pause", sent)
	}
	s.Pass(2 * time.Second)
	if !s.signs(t, "d1") {
		t.Errorf("%v", s.Status("d1").Lease)
	}
}

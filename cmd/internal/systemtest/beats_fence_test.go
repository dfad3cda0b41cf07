package systemtest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/firmwaretest"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// TestFence lets the lease end between the moment when an answer that holds
// something of the share is made and recorded, and the moment when it is
// handed over. It is not.
func TestFence(t *testing.T) {
	s := New(t, Only(Certs), Beats(mixed(), "d1"))
	d, dir := s.Devices["d1"], t.TempDir()
	csr := newCSR(t, dir, "www.example.org")
	key, x := s.Key(Certs), order(1, 2, 3)
	pause := time.Duration(0)
	d.BeforeRelease = func() { s.Stall(pause) }

	type scene struct {
		r    *Request
		task firmware.Task
	}
	begin := func() scene {
		t.Helper()
		pause = 0
		s.Pass(100 * time.Millisecond) // its sources stood still as well
		if s.Status("d1").Phase == firmware.PhaseLocked {
			s.Unlock("d1")
		}
		s.Pass(2 * time.Second)
		r := s.Certificate(csr)
		offer := s.MustOffer("d1", r)
		return scene{r, r.Task(offer, s.Approvals(r, offer, nil), x, 0)}
	}
	ask := func(c scene) (*threshold.Opening, error) {
		ch, opening, err := threshold.NewChallenge(randReader, &key.Public, &key.Commitment, encoded(t, s, c.r))
		s.check(err)
		_, _, err = Ask[firmware.CheckCommit](s, "d1", firmware.TypeCheckAsk, firmware.CheckAsk{Task: c.task, Challenge: *ch}, firmware.TypeCheckCommit)
		return opening, err
	}
	answer := func(c scene, o *threshold.Opening) error {
		_, _, err := Ask[firmware.CheckAnswer](s, "d1", firmware.TypeCheckOpen, firmware.CheckOpen{Request: c.r.Digest, Opening: *o}, firmware.TypeCheckAnswer)
		return err
	}
	do := func(c scene) error { _, _, err := s.Do("d1", c.task); return err }
	steps := map[string]struct {
		before func(scene) *threshold.Opening
		step   func(scene, *threshold.Opening) error
	}{
		"partial signature": {nil, func(c scene, _ *threshold.Opening) error { return do(c) }},
		"commitment":        {nil, func(c scene, _ *threshold.Opening) error { _, err := ask(c); return err }},
		"answer": {func(c scene) *threshold.Opening {
			s.check(do(c))
			o, err := ask(c)
			s.check(err)
			return o
		}, answer},
	}
	for what, x := range steps {
		for _, late := range []bool{false, true} {
			c := begin()
			var o *threshold.Opening
			if x.before != nil {
				o = x.before(c)
			}
			pause = s.Left("d1")
			if !late {
				pause -= time.Nanosecond
			}
			err := x.step(c, o)
			if !late {
				if err != nil {
					t.Errorf("%s, a nanosecond before the end: %v", what, err)
				}
				continue
			}
			if !errors.Is(err, firmwaretest.ErrHeld) {
				t.Fatalf("%s at the end of the lease: %v", what, err)
			}
			// Nothing gets it out afterwards, with the token locked or opened
			// again.
			pause = 0
			wantRefusal(t, x.step(c, o), firmware.CodePhase, "is locked: its officers open it")
			s.Unlock("d1")
			s.Pass(2 * time.Second)
			if err := x.step(c, o); err == nil {
				t.Errorf("%s: the words of before count after the lock-down", what)
			}
		}
	}
}

// TestWaitingRefuses: a device that was opened and has had no beat yet makes
// nothing and says what to do.
func TestWaitingRefuses(t *testing.T) {
	s := New(t, Only(Pair), Beats(mixed(), "d1"))
	r := s.File(Pair, []byte("release"), Via("d1", "d4"))
	for _, typ := range []string{firmware.TypeOfferAsk, firmware.TypeTask, firmware.TypeCheckAsk, firmware.TypePowersTask, firmware.TypeCombineTask} {
		var body any = firmware.OfferAsk{Request: r.Raw}
		switch typ {
		case firmware.TypeTask:
			body = firmware.Task{Request: r.Raw, Order: order(1, 4)}
		case firmware.TypeCheckAsk:
			body = firmware.CheckAsk{Task: firmware.Task{Request: r.Raw, Order: order(1, 4)}}
		case firmware.TypePowersTask:
			body = firmware.PowersTask{Request: r.Raw}
		case firmware.TypeCombineTask:
			body = firmware.CombineTask{Request: r.Raw}
		}
		_, err := s.Send("d1", typ, body)
		wantRefusal(t, err, firmware.CodeLease, "waits for its beats", "'privyseal heartbeat status d1'")
	}
	s.Pass(2 * time.Second)
	if !s.signs(t, "d1") {
		t.Error("d1 does not sign")
	}
}

// TestSourceReported: a source that dies is reported while the others still
// keep the device alive, and so is its return, and so is the end.
func TestSourceReported(t *testing.T) {
	s := New(t, Only(Pair), Beats(mixed(), "d1"))
	s.Pass(2 * time.Second)
	await := func(what string, within time.Duration, is func(*firmware.Status) bool) *firmware.Status {
		t.Helper()
		from := len(s.Reports)
		for range within / (50 * time.Millisecond) {
			s.Pass(50 * time.Millisecond)
			for _, c := range s.Reports[from:] {
				if st := s.report(c); c.From == "d1" && is(st) {
					return st
				}
			}
		}
		t.Fatalf("%s: not reported within %v", what, within)
		return nil
	}
	state := func(id, want string) func(*firmware.Status) bool {
		return func(st *firmware.Status) bool {
			return slices.ContainsFunc(st.Lease.Sources, func(x firmware.SourceStatus) bool { return x.ID == id && x.State == want })
		}
	}
	for _, id := range []string{"m1", "q1", "t1"} {
		s.Sources[id].Down = true
		st := await(id+" died", 2500*time.Millisecond, state(id, heartbeat.StateSilent))
		if st.Phase != firmware.PhaseReady || st.Lease.Left < 1000 || s.Left("d1") < time.Second {
			t.Errorf("%s died: reported with %d ms left", id, st.Lease.Left)
		}
		s.Pass(10 * time.Second)
		if s.Left("d1") < time.Second {
			t.Fatalf("%s died: %v left", id, s.Left("d1"))
		}
		s.RestartSource(s.Sources[id])
		await(id+" came back", 3*time.Second, state(id, heartbeat.StateSpeaks))
		s.Pass(2 * time.Second)
	}
	n := len(s.Reports)
	s.Pass(time.Minute)
	if len(s.Reports) != n {
		t.Errorf("%d reports of nothing in a minute", len(s.Reports)-n)
	}
	s.check(s.Revoke(Operator, s.Sources["t1"], "d1"))
	st := await("revoked", time.Second, state("t1", heartbeat.StateRefuses))
	i := slices.IndexFunc(st.Lease.Sources, func(x firmware.SourceStatus) bool { return x.ID == "t1" })
	if x := st.Lease.Sources[i]; x.Text == "" {
		t.Errorf("no reason: %+v", x)
	}
	s.Sources["m1"].Down = true
	await("locked", lease+time.Second, func(st *firmware.Status) bool { return st.Phase == firmware.PhaseLocked && st.Lease.Left == 0 })
}

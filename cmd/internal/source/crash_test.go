package source

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// judge is the plainest account of what a source may do: it follows what left
// the source, not what the source thinks.
type judge struct {
	t        testing.TB
	log      map[*emulator]uint64 // the longest that was answered
	order    []*emulator          // in which the officers opened them
	last     int                  // the latest that was answered
	silenced int                  // instances before this one are silenced for good
}

func (j *judge) place(e *emulator) int {
	for i, x := range j.order {
		if x == e {
			return i
		}
	}
	j.order = append(j.order, e)
	return len(j.order) - 1
}

func (j *judge) answered(what string, e *emulator, log uint64) {
	j.t.Helper()
	i := j.place(e)
	switch {
	case i < j.last:
		j.t.Fatalf("%s: instance %d was answered, after instance %d was", what, i, j.last)
	case i < j.silenced:
		j.t.Fatalf("%s: instance %d was answered, silenced as it was", what, i)
	case log < j.log[e]:
		j.t.Fatalf("%s: a log of %d was answered, after one of %d was", what, log, j.log[e])
	}
	j.last, j.log[e] = i, log
}

// TestCrash lets each durable write of a source's life fail once, done or not.
// The source ends and is started again, and never answers what it would have
// refused before; what was not answered is asked for again.
func TestCrash(t *testing.T) {
	for _, kind := range []string{ledger.SourceSatellite, ledger.SourceMessage} {
		for _, persisted := range []bool{false, true} {
			at := 1
			for ; crash(t, kind, at, persisted); at++ {
			}
			if at < 10 {
				t.Errorf("%s: only %d writes in a life", kind, at)
			}
		}
	}
}

// crash reports whether there was an at-th write.
func crash(t *testing.T, kind string, at int, persisted bool) bool {
	w := newWorld(t, kind)
	steps, crashed := 0, false
	disk := faulty(at, persisted, &steps)
	var s *Source
	var l *wire
	begin := func() {
		t.Helper()
		for range 2 { // the fault comes once
			var err error
			if s, l, err = w.start(disk, nil); err == nil {
				err = s.handle(context.Background(), w.system())
			}
			if err == nil {
				return
			}
			if !errors.Is(err, errFault) {
				t.Fatalf("write %d: %v", at, err)
			}
			crashed = true
			if s != nil {
				must(t, s.lock.Close())
			}
		}
		t.Fatalf("write %d: failed twice", at)
	}
	begin()
	j := &judge{t: t, log: map[*emulator]uint64{}}
	j.place(w.dev)
	// restarted reports whether the source died, and starts it again.
	restarted := func(what string) bool {
		if s.dead == nil {
			return false
		}
		if n := len(l.take()); n != 0 {
			t.Fatalf("write %d, %s: %d frames left although the write failed", at, what, n)
		}
		if err := s.Run(context.Background()); !errors.Is(err, errFault) {
			t.Fatalf("write %d: a dead source runs: %v", at, err)
		}
		crashed = true
		must(t, s.lock.Close())
		begin()
		return true
	}
	ask := func(e *emulator, log uint64, expect string) {
		t.Helper()
		what := fmt.Sprintf("write %d, log %d", at, log)
		for {
			e.log = log
			frame := e.challenge()
			_ = s.handle(context.Background(), frame)
			if restarted(what) {
				continue
			}
			got := kindOf(t, e, l.take())
			if got == answer {
				j.answered(what, e, log)
			}
			if got != expect {
				t.Fatalf("%s: %q, want %q", what, got, expect)
			}
			return
		}
	}
	due := func() {
		t.Helper()
		w.boot += period
		_ = s.due(context.Background())
		if restarted("due") {
			return
		}
		for _, f := range l.take() {
			for _, e := range j.order { // those that cannot open it are not meant
				if b, err := e.tryOpen(f); err == nil {
					j.answered("beat "+b.Kind, e, j.log[e])
				}
			}
		}
	}
	first := w.dev
	ask(first, 1, answer)
	due()
	ask(first, 5, answer)
	ask(first, 4, refusedBehind)
	first.log = 5
	w.now += 100
	second := first.unlocked(w.now, false)
	j.place(second)
	ask(second, 6, answer)
	ask(first, 7, refusedInstance)
	due()
	w.now += 100
	must(t, Silence(w.dir, device, "", w.now))
	j.silenced = len(j.order)
	due()
	ask(second, 8, refusedRevoked)
	w.now += 100
	second.log = 6
	third := second.unlocked(w.now, false)
	j.place(third)
	ask(third, 9, answer)
	ask(second, 9, refusedInstance)
	w.now += 100
	for {
		frame, digest, reply := w.revoke(ledgertest.Operator)
		_ = s.handle(context.Background(), frame)
		if restarted("revoke") {
			continue
		}
		frames := l.take()
		if len(frames) != 1 {
			t.Fatalf("write %d: %d frames confirm a revocation", at, len(frames))
		}
		_, err := heartbeat.OpenRevoked(w.sys.State, w.id, frames[0], reply, digest)
		must(t, err)
		break
	}
	j.silenced = len(j.order)
	due()
	ask(third, 10, refusedRevoked)
	w.now += 100
	third.log = 9
	old := third.unlocked(w.now, true)
	j.place(old)
	ask(old, 2, refusedBehind) // less than the officers were shown
	ask(old, 10, answer)
	must(t, s.lock.Close())
	return crashed
}

// TestRotateCrash lets each step of a rotation fail: there is a beat key in
// force at all times, its epoch never falls, and the next start leaves one.
func TestRotateCrash(t *testing.T) {
	for _, persisted := range []bool{false, true} {
		for at := 1; ; at++ {
			w := newWorld(t, ledger.SourceSatellite)
			steps := 0
			_, err := rotate(faulty(at, persisted, &steps), w.dir, 0, w.now)
			if steps < at {
				must(t, err)
				if at < 3 {
					t.Fatalf("a rotation of %d steps", steps)
				}
				break
			}
			if !errors.Is(err, errFault) {
				t.Fatalf("step %d: %v", at, err)
			}
			epoch := uint64(1)
			if at > 1 || persisted {
				epoch = 2
			}
			s, _, err := w.start(realDisk(), nil)
			must(t, err)
			if s.beat.epoch != epoch {
				t.Errorf("step %d, done %v: epoch %d in force, want %d", at, persisted, s.beat.epoch, epoch)
			}
			if all, err := epochs(w.dir); err != nil || len(all) != 1 {
				t.Errorf("step %d: keys of epochs %v are left, %v", at, all, err)
			}
			must(t, s.lock.Close())
		}
	}
}

package source

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware/ledger"
)

// TestMain runs a source in a process of its own when it is told to, so that
// tests can kill, stop and wake one.
func TestMain(m *testing.M) {
	dir := os.Getenv("PRIVYSEAL_TEST_SOURCE")
	if dir == "" {
		os.Exit(m.Run())
	}
	offset, err := strconv.ParseInt(os.Getenv("PRIVYSEAL_TEST_OFFSET"), 10, 64)
	if err == nil {
		var s *Source
		s, err = Start(dir, Options{Now: func() int64 { return time.Now().Unix() + offset }})
		if err == nil {
			err = s.Run(context.Background())
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// process starts the source in a process of its own.
func (x *site) process() *os.Process {
	x.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PRIVYSEAL_TEST_SOURCE="+x.dir, fmt.Sprintf("PRIVYSEAL_TEST_OFFSET=%d", x.now-time.Now().Unix()))
	cmd.Stderr = os.Stderr
	must(x.t, cmd.Start())
	x.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process
}

// exchange asks once and says what came back, "" if the link ended first.
func (x *site) exchange(e *emulator) string {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.t.Context(), 30*time.Second)
	defer cancel()
	if x.c.Send(ctx, e.challenge()) != nil {
		return ""
	}
	f, err := x.c.Recv(ctx)
	if err != nil {
		if ctx.Err() != nil {
			x.t.Fatal("no answer, and the link is up")
		}
		return ""
	}
	return kindOf(x.t, e, [][]byte{f})
}

// TestKill kills the process at random moments, while a device's log grows and
// its officers open it again and again. What was answered once is known after.
func TestKill(t *testing.T) {
	x := newSite(t, ledger.SourceSatellite)
	j := &judge{t: t, log: map[*emulator]uint64{}}
	now := x.dev
	j.place(now)
	for round := range 12 {
		p := x.process()
		x.accept()
		if round > 0 {
			before := j.order[j.last]
			older := *before
			if older.log = j.log[before]; older.log > 0 {
				older.log--
				// Its successor may be known already, and the answer to that was lost.
				if got := x.exchange(&older); got != refusedBehind && got != refusedInstance {
					t.Fatalf("an older log: %q", got)
				}
				before.counter = older.counter
			}
			if j.last > 0 {
				want(t, "an older instance", x.exchange(j.order[j.last-1]), refusedInstance)
			}
		}
		kill := time.AfterFunc(time.Duration(1+rand.IntN(100))*time.Millisecond, func() { p.Kill() })
		for n := 0; ; n++ {
			if n%4 == 3 {
				x.now++
				next := now.unlocked(x.now, false)
				j.place(next)
				now = next
			}
			now.log++
			got := x.exchange(now)
			if got == "" {
				break
			}
			want(t, "the device", got, answer)
			j.answered("kill", now, now.log)
		}
		kill.Stop()
		p.Kill()
		p.Wait()
	}
	if len(j.order) < 2 || j.last == 0 {
		t.Error("no instance was opened in all that time")
	}
}

// TestStop stops the process and wakes it later: slots that it missed are not
// made up for.
func TestStop(t *testing.T) {
	x := newSite(t, ledger.SourceMessage)
	p := x.process()
	x.accept()
	want(t, "begin", x.exchange(x.dev), answer)
	last := x.dev.open(x.recv()).Slot
	must(t, p.Signal(syscall.SIGSTOP))
	time.Sleep(12 * period)
	must(t, p.Signal(syscall.SIGCONT))
	for range 3 {
		slot := x.dev.open(x.recv()).Slot
		if slot <= last {
			t.Fatalf("slot %d after %d", slot, last)
		}
		if slot > last+8 {
			return // the gap
		}
		last = slot
	}
	t.Errorf("no slot was skipped: %d", last)
}

// TestTwoProcesses: the second one ends at once, and the lock goes with the
// first, however that ends.
func TestTwoProcesses(t *testing.T) {
	x := newSite(t, ledger.SourceSatellite)
	p := x.process()
	x.accept()
	if _, err := Start(x.dir, Options{}); !errors.Is(err, ErrRunning) {
		t.Fatalf("a second one: %v", err)
	}
	must(t, p.Kill())
	p.Wait()
	s, err := Start(x.dir, Options{})
	must(t, err)
	must(t, s.Close())
}

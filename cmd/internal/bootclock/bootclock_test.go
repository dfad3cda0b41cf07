package bootclock

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNow holds the time asleep to what the kernel says elsewhere: /proc/uptime
// counts CLOCK_BOOTTIME in hundredths of a second.
func TestNow(t *testing.T) {
	mono := read(unix.CLOCK_MONOTONIC)
	data, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	passed := read(unix.CLOCK_MONOTONIC) - mono
	up, err := strconv.ParseFloat(strings.Fields(string(data))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	const hundredth = int64(10 * time.Millisecond)
	got, want := Now()-Up(), int64(up*1e9)-mono
	if got < want-passed-2*hundredth || got > want+2*hundredth {
		t.Errorf("the machine was asleep for %d ns, by the kernel %d", got, want)
	}
}

// TestNeverFalls reads the clock from several goroutines at once.
func TestNeverFalls(t *testing.T) {
	var last atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100_000 {
				before := last.Load()
				now := Now()
				if now < before {
					t.Errorf("%d after %d", now, before)
					return
				}
				for have := last.Load(); now > have && !last.CompareAndSwap(have, now); have = last.Load() {
				}
			}
		})
	}
	wg.Wait()
}

// TestNap lets the kernel's clock be slow or fast by as much as it can be made
// to: a timer ends in time, in a few steps.
func TestNap(t *testing.T) {
	for _, pace := range []float64{0.89, 0.95, 1, 1.05, 1.11} { // of the kernel's, by ours
		for _, whole := range []int64{0, 1, 1000, 499_999, 500_001, 3_000_000, int64(time.Second), int64(time.Hour), int64(100 * 24 * time.Hour)} {
			left, steps := whole, 0
			for ; left > 0; steps++ {
				n := nap(left)
				if n <= 0 || steps > 200 {
					t.Fatalf("pace %v, %d ns: %d ns are left after %d steps, nap of %d", pace, whole, left, steps, n)
				}
				left -= int64(float64(n)/pace) + 1
			}
			if late := -left; late > int64(100*time.Microsecond) {
				t.Errorf("pace %v, %d ns: %d ns late", pace, whole, late)
			}
		}
	}
	if n := nap(-5); n != 0 {
		t.Errorf("what has passed: %d", n)
	}
}

// TestUp checks that the clock without suspends is never ahead of the other.
func TestUp(t *testing.T) {
	up := Up()
	if now := Now(); up > now || up <= 0 {
		t.Errorf("up for %d ns of %d", up, now)
	}
}

func newTimer(t *testing.T) *Timer {
	t.Helper()
	tm, err := NewTimer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tm.Close() })
	return tm
}

func reset(t *testing.T, tm *Timer, at int64) {
	t.Helper()
	if err := tm.Reset(at); err != nil {
		t.Fatal(err)
	}
}

func TestTimerNeverEarly(t *testing.T) {
	tm := newTimer(t)
	for range 20 {
		at := Now() + int64(3*time.Millisecond)
		reset(t, tm, at)
		<-tm.C
		if now := Now(); now < at {
			t.Fatalf("fired %d ns early", at-now)
		}
	}
}

// TestTimerInThePast sets it to what has passed, as after a suspend.
func TestTimerInThePast(t *testing.T) {
	tm := newTimer(t)
	for _, at := range []int64{1, -1, Now() - 1, Now()} {
		reset(t, tm, at)
		<-tm.C
	}
}

// TestTimerMoved checks that a timer keeps its last word only.
func TestTimerMoved(t *testing.T) {
	tm := newTimer(t)
	reset(t, tm, Now()+int64(time.Hour))
	at := Now() + int64(2*time.Millisecond)
	reset(t, tm, at)
	<-tm.C
	if Now() < at {
		t.Error("fired early")
	}
	for at = 0; Now() >= at; { // again, if this process did not get to run in time
		at = Now() + int64(20*time.Millisecond)
		reset(t, tm, at)
		reset(t, tm, 0)
	}
	other := newTimer(t)
	reset(t, other, at+int64(20*time.Millisecond))
	select {
	case <-tm.C:
		t.Error("an unset timer fired")
	case <-other.C:
	}
}

func TestTimerClose(t *testing.T) {
	tm := newTimer(t)
	reset(t, tm, Now()+int64(time.Hour))
	for range 2 {
		if err := tm.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := tm.Reset(1); !errors.Is(err, os.ErrClosed) {
		t.Errorf("reset after close: %v", err)
	}
	select {
	case <-tm.C:
		t.Error("a closed timer fired")
	default:
	}
}

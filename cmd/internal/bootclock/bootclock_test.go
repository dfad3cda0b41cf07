package bootclock

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestNow holds the clock to what the kernel says elsewhere: /proc/uptime counts
// the boot-time clock in hundredths of a second.
func TestNow(t *testing.T) {
	before := Now()
	data, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	after := Now()
	up, err := strconv.ParseFloat(strings.Fields(string(data))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	const hundredth = int64(10 * time.Millisecond)
	if got := int64(up * 1e9); got < before-2*hundredth || got > after+2*hundredth {
		t.Errorf("the kernel is up for %d ns, the clock said %d and %d", got, before, after)
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

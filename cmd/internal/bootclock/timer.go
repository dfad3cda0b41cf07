package bootclock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Timer sends on C when the clock has reached a moment. It is a timerfd, which
// the kernel looks at when the machine wakes up. The kernel has none that goes by
// the bare oscillator: this one goes by CLOCK_BOOTTIME and is set to a moment
// well before the end, and anew from there.
//
// A moment that passed before Reset moved it may still be waiting in C: whoever
// receives from C looks at the clock.
type Timer struct {
	C <-chan struct{}

	c    chan struct{}
	fd   *os.File
	done chan struct{}

	mu     sync.Mutex
	at     int64 // what it is set to; 0: nothing
	closed bool
}

// NewTimer makes a timer that is not set.
func NewTimer() (*Timer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("bootclock: timerfd_create: %w", err)
	}
	c := make(chan struct{}, 1)
	// A file that does not block is read through the runtime's poller, so that
	// Close ends the read.
	t := &Timer{C: c, c: c, fd: os.NewFile(uintptr(fd), "timerfd"), done: make(chan struct{})}
	go t.wait()
	return t, nil
}

// Reset sets the timer to fire at a moment of the clock in nanoseconds, at once
// if it has passed; 0 unsets it. It may be called from any goroutine.
func (t *Timer) Reset(at int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return os.ErrClosed
	}
	t.at = at
	return t.arm()
}

// nap is how long to wait by a clock that may be slow or fast by a tenth, when
// so much is left by this package's: most of it, but at the end all of it.
func nap(left int64) int64 {
	const short = 500_000 // of which a tenth does not matter
	if left > short {
		return max(left-left/8, short)
	}
	return max(left, 0)
}

// arm sets the kernel's timer. It needs mu.
func (t *Timer) arm() error {
	var spec unix.ItimerSpec // the zero value unsets it
	if t.at != 0 {
		spec.Value = unix.NsecToTimespec(max(read(unix.CLOCK_BOOTTIME)+nap(t.at-Now()), 1))
	}
	// Fd would make the file block; Control does not.
	rc, err := t.fd.SyscallConn()
	if err != nil {
		return fmt.Errorf("bootclock: %w", err)
	}
	var set error
	err = rc.Control(func(fd uintptr) { set = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &spec, nil) })
	if err := errors.Join(err, set); err != nil {
		return fmt.Errorf("bootclock: timerfd_settime: %w", err)
	}
	return nil
}

// Close ends the timer. Nothing comes from C once it has returned, but for
// what was there.
func (t *Timer) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	t.mu.Unlock()
	err := t.fd.Close()
	<-t.done
	return err
}

func (t *Timer) wait() {
	defer close(t.done)
	var expirations [8]byte
	for {
		if _, err := t.fd.Read(expirations[:]); err != nil {
			return // closed; a timerfd has no other error
		}
		if binary.NativeEndian.Uint64(expirations[:]) == 0 || !t.fired() {
			continue
		}
		select {
		case t.c <- struct{}{}:
		default: // one that nobody took yet says it already
		}
	}
}

// fired reports whether the moment has come. If not, it sets the timer anew.
func (t *Timer) fired() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed || t.at == 0: // moved meanwhile
		return false
	case Now() < t.at:
		// What cannot be set anew fires now: whoever receives looks at the clock.
		return t.arm() != nil
	}
	t.at = 0
	return true
}

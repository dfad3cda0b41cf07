// Package bootclock is the clock by which leases are measured: nanoseconds since
// the machine was started, the time in which it was suspended included. Nobody
// sets it, it never jumps, and it stands still for no process that is stopped.
//
// It is not CLOCK_BOOTTIME, which whoever speaks for the machine's time servers
// can make slow: chrony corrects a clock that it takes for wrong by up to a
// twelfth of its pace, and the kernel allows a tenth. A lease would last longer,
// and a source in a hurry would make the beats of a series ahead of their slots.
// CLOCK_MONOTONIC_RAW is the bare oscillator's; what it lacks is the time
// asleep, which is how far CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC.
//
// Go's own timers go by CLOCK_MONOTONIC, which does not count a suspend: one set
// for the end of a lease would fire an hour late on a machine that slept for an
// hour. [Timer] fires as soon as the machine is awake.
package bootclock

import (
	"fmt"
	"math"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Now is the clock.
func Now() int64 { return machine.now() }

// Up is the same without the time in which the machine was suspended.
func Up() int64 { return read(unix.CLOCK_MONOTONIC_RAW) }

// machine is what this process has seen of the machine. There is one machine,
// and moments that are compared have to be of one clock.
var machine = newClock()

type clock struct {
	// slept is how long the machine was suspended, as far as that was seen. It
	// never falls, and so the clock never does.
	slept atomic.Int64
}

func newClock() *clock {
	c := new(clock)
	c.slept.Store(math.MinInt64) // in a time namespace it may be less than 0
	c.settle()
	return c
}

func (c *clock) now() int64 {
	if asleep() > c.slept.Load() {
		c.settle() // the machine has slept
	}
	return read(unix.CLOCK_MONOTONIC_RAW) + c.slept.Load()
}

// settle takes the best of a few looks.
func (c *clock) settle() {
	for range 8 {
		d := asleep()
		for have := c.slept.Load(); d > have && !c.slept.CompareAndSwap(have, d); have = c.slept.Load() {
		}
	}
}

// asleep is how long the machine was suspended, less the time in which this
// thread stood still between two looks at clocks.
func asleep() int64 {
	boot := read(unix.CLOCK_BOOTTIME)
	return boot - read(unix.CLOCK_MONOTONIC)
}

// read panics where the kernel has no such clock: a process that cannot tell
// the time must not go on as if its lease lasted.
func read(clock int32) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		panic(fmt.Sprintf("bootclock: clock %d: %v", clock, err))
	}
	return ts.Nano()
}

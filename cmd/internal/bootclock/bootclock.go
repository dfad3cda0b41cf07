// Package bootclock is the clock by which leases are measured: nanoseconds since
// the machine was started, the time in which it was suspended included. Nobody
// sets it, it never jumps, and it stands still for no process that is stopped.
//
// Go's own timers go by CLOCK_MONOTONIC, which does not count a suspend: one set
// for the end of a lease would fire an hour late on a machine that slept for an
// hour. [Timer] fires as soon as the machine is awake.
package bootclock

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Now is CLOCK_BOOTTIME in nanoseconds.
func Now() int64 { return read(unix.CLOCK_BOOTTIME) }

// Up is CLOCK_MONOTONIC in nanoseconds: the same without the time in which the
// machine was suspended.
func Up() int64 { return read(unix.CLOCK_MONOTONIC) }

// read panics where the kernel has no such clock: a process that cannot tell
// the time must not go on as if its lease lasted.
func read(clock int32) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		panic(fmt.Sprintf("bootclock: clock %d: %v", clock, err))
	}
	return ts.Nano()
}

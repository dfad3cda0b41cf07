package main

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// operation is one line of the table of primitives, at one size.
type operation struct {
	name string
	bits int
	run  func() error

	reps      int             // runs in a sample
	wall, cpu []time.Duration // of one run, a value for each round
}

// sampleTime is how long a sample lasts at least, so that a clock's grain and a
// single interruption are small beside it.
const sampleTime = 10 * time.Millisecond

// interleave measures all operations once in each round, forwards and backwards
// in turn, on one thread. What else the machine does then falls on all of them
// alike, and a ratio of two in one round means something even where their
// milliseconds do not.
func interleave(ops []*operation, rounds int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, o := range ops { // warms up, too
		t, _, err := o.sample(1)
		if err != nil {
			return err
		}
		o.reps = 1 + int(sampleTime/max(t, time.Microsecond))
	}
	for round := range rounds {
		for i := range ops {
			o := ops[i]
			if round%2 == 1 {
				o = ops[len(ops)-1-i]
			}
			wall, cpu, err := o.sample(o.reps)
			if err != nil {
				return err
			}
			o.wall, o.cpu = append(o.wall, wall), append(o.cpu, cpu)
		}
	}
	return nil
}

// sample runs the operation some times and returns what one run took by the
// clock and of this thread's processor time.
func (o *operation) sample(reps int) (wall, cpu time.Duration, err error) {
	c0, t0 := threadTime(), time.Now()
	for range reps {
		if err := o.run(); err != nil {
			return 0, 0, fmt.Errorf("%s, %d bits: %w", o.name, o.bits, err)
		}
	}
	t1, c1 := time.Now(), threadTime()
	return t1.Sub(t0) / time.Duration(reps), (c1 - c0) / time.Duration(reps), nil
}

// threadTime is the processor time of the calling thread.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err) // Linux has had this clock since 2.6.12
	}
	return time.Duration(t.Nano())
}

// processorTime is what f takes of its thread.
func processorTime(f func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := threadTime()
	f()
	return threadTime() - c
}

// over compares the processor time of two operations of one run: the median of
// the ratios of each round, and the ratio of the best times. The second is the
// one nearest to a machine with nothing else to do.
func (o *operation) over(base *operation) (median, best float64) {
	var ratios []float64
	for i := range o.cpu {
		ratios = append(ratios, float64(o.cpu[i])/float64(base.cpu[i]))
	}
	return quantile(ratios, 0.5), float64(slices.Min(o.cpu)) / float64(slices.Min(base.cpu))
}

// quantile is the smallest value that at least the share q of the values does
// not exceed (nearest rank). There must be values.
func quantile[T int64 | float64 | time.Duration](values []T, q float64) T {
	v := slices.Clone(values)
	slices.Sort(v)
	return v[max(0, int(math.Ceil(q*float64(len(v))))-1)]
}

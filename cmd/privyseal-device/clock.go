package main

import (
	"crypto/rand"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/bootclock"
	"github.com/privyseal/privyseal/firmware"
)

// clock is the time as the interpreter is told it. Tests set its hands.
type clock struct {
	wall func() time.Time // may be set to anything by whoever administers the machine
	boot func() int64     // leases go by this one
	up   func() int64

	began    time.Time // by the wall
	bootThen int64     // by the boot-time clock in the same moment
}

func newClock() clock {
	c := clock{wall: time.Now, boot: bootclock.Now, up: bootclock.Up}
	c.start()
	return c
}

// The boot-time clock first: what they give later is never behind the wall of now.
func (c *clock) start() { c.bootThen, c.began = c.boot(), c.wall() }

// now is the machine's clock, or where it would stand by now had nobody set it
// back since the process began: a request that expired stays so.
func (c *clock) now() int64 {
	return max(c.wall().Unix(), c.began.Add(time.Duration(c.boot()-c.bootThen)).Unix())
}

func (c *clock) inputs() firmware.Inputs {
	up := c.up() // first: it is never ahead of the other
	return firmware.Inputs{Now: c.now(), Boot: c.boot(), Up: up, Rand: rand.Reader}
}

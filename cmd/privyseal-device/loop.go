package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/firmware"
)

// interpreter is a firmware.Machine.
type interpreter interface {
	Handle(firmware.Inputs, []byte) firmware.Effects
	Continue(firmware.Inputs) firmware.Effects
	Tick(firmware.Inputs) firmware.Effects
	Durable(*firmware.Effects)
	Next() int64
	Lease() firmware.Lease
	LockDown() error
	Destroy() error
	Destroyed() bool

	Phase() string
	Commissioned() bool
	Unattended() bool
	Finish() ([]byte, error)
	Finished() error
}

// Moments of a step at which tests stop the process.
const (
	stepReceived = "received"
	stepHandled  = "handled"     // exponentiated, nothing written
	stepRecorded = "recorded"    // after each record
	stepDurable  = "durable"     // all of them, and the interpreter knows
	stepAtGate   = "at the gate" // before the release lock
	stepInGate   = "in the gate" // before the clock is read
	stepPassed   = "passed"      // before the write
)

func at(step func(string), name string) {
	if step != nil {
		step(name)
	}
}

// attach reads one link into the inbox. The loop answers on the link that is
// there when an answer is ready.
func (d *device) attach(ctx context.Context, c *link.Conn) error {
	d.log.Info("link is up", "server", c.Peer())
	d.link.Store(c)
	defer d.link.CompareAndSwap(c, nil)
	for {
		frame, err := c.Recv(ctx)
		if err != nil {
			return err
		}
		if err := d.inbox.put(ctx, frame); err != nil {
			return err
		}
	}
}

// interrupt ends the link if it is in the middle of a write.
func (d *device) interrupt() {
	if c := d.link.Load(); c != nil {
		c.Interrupt()
	}
}

// loop is the one goroutine that has the interpreter. It goes on without a
// link: a device that is cut off must fall silent too. Between two messages it
// first hears the watchdog, then looks at the time. Between two pieces of work it
// does the same, and takes the messages that may not wait, but no more than maxBetween.
func (d *device) loop(ctx context.Context) error {
	if err := d.renew(); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-d.watch.word:
			if err := d.fellSilent(ctx); err != nil {
				return err
			}
			continue
		default:
		}
		if at := d.due(); at != 0 && d.clock.boot() >= at {
			if err := d.tick(ctx); err != nil {
				return err
			}
		}
		if frame := d.inbox.take(d.lanes()); frame != nil {
			if d.between++; !d.more {
				d.between = 0
			}
			if err := d.handle(ctx, frame); err != nil {
				return err
			}
			continue
		}
		if d.more {
			if err := d.proceed(ctx); err != nil {
				return err
			}
			continue
		}
		if err := d.ticks.Reset(d.due()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-d.watch.word:
			if err := d.fellSilent(ctx); err != nil {
				return err
			}
		case <-d.ticks.C:
		case <-d.inbox.arrived:
		}
	}
}

// due is when the interpreter wants its next tick; 0: not before something else
// happens.
func (d *device) due() int64 {
	next := d.machine.Next()
	if next == 0 {
		return 0
	}
	return max(next, d.ticked+tickPause)
}

func (d *device) tick(ctx context.Context) error {
	in := d.clock.inputs()
	d.ticked = in.Boot
	return d.carryOut(ctx, d.machine.Tick(in))
}

// fellSilent does what is left to do when the watchdog has locked the token.
func (d *device) fellSilent(ctx context.Context) error {
	d.silent = true
	return d.tick(ctx)
}

func (d *device) handle(ctx context.Context, frame []byte) error {
	at(d.step, stepReceived)
	before := d.machine.Commissioned()
	e := d.machine.Handle(d.clock.inputs(), frame)
	at(d.step, stepHandled)
	if err := d.carryOut(ctx, e); err != nil {
		return err
	}
	if e.Sweep || !before && d.machine.Commissioned() {
		// Decoding made copies of shares, and at the lead of everybody's seeds,
		// that nobody can wipe. The collector gives their pages back, and the
		// kernel clears them.
		debug.FreeOSMemory()
	}
	return nil
}

// lanes are those of which a message may be taken now: while work is under way such
// as may not wait for it, until there were so many that it is the work's turn.
func (d *device) lanes() lane {
	switch {
	case !d.more:
		return lanes
	case d.between >= maxBetween:
		return 0
	}
	return laneOther
}

// proceed has the interpreter do the next piece of what it works on.
func (d *device) proceed(ctx context.Context) error {
	d.between = 0
	e := d.machine.Continue(d.clock.inputs())
	at(d.step, stepHandled)
	return d.carryOut(ctx, e)
}

// carryOut does what the interpreter decided, in the order of [firmware.Effects].
// An error ends the process: the next one begins from what is durable.
func (d *device) carryOut(ctx context.Context, e firmware.Effects) error {
	d.more = e.More
	if e.Note != "" {
		d.log.Info(e.Note)
	}
	for _, r := range e.Records {
		if err := d.journal.Append(r); err != nil {
			// What was decided is not on the disk: nothing of it may leave, and
			// a journal that failed once is not trusted again.
			return fmt.Errorf("journal: %w", err)
		}
		at(d.step, stepRecorded)
	}
	d.machine.Durable(&e)
	at(d.step, stepDurable)
	if e.Seen != nil {
		if err := atomicfile.Write(filepath.Join(d.dir, fileSeen), e.Seen, 0o600); err != nil {
			return err
		}
	}
	if e.Destroy {
		if err := d.machine.Destroy(); err != nil {
			return fmt.Errorf("the second limit has passed, and the shares are not destroyed yet: %w", err)
		}
	}
	if e.SetPIN != nil {
		if err := d.commissioned(e.SetPIN); err != nil {
			return err
		}
	}
	// Before the answer: if the step locked the token, the gate knows.
	if err := d.renew(); err != nil {
		return err
	}
	d.send(ctx, e)
	return nil
}

// renew gives the gate and the watchdog the lease as the last step left it.
// After a lapse that needs an unlock: the watchdog locked the token before the
// loop heard of it, so a token that is open was opened anew.
func (d *device) renew() error {
	l := d.machine.Lease()
	switch {
	case !d.silent:
		d.gate.extend(l)
	case d.token.Locked() || l.Guarded && l.Lock == 0:
	default:
		d.silent = false
		d.gate.reopen(l)
	}
	return d.watch.watch()
}

// send hands the frames of a step to the link. What cannot leave now never
// does: whoever waits for it asks again.
func (d *device) send(ctx context.Context, e firmware.Effects) {
	c := d.link.Load()
	if c == nil {
		if e.Reply != nil {
			d.log.Warn("an answer was dropped: there is no link")
		}
		return
	}
	for _, frame := range e.Send {
		d.sent(c, c.Send(ctx, frame))
	}
	switch {
	case e.Reply == nil:
	case !e.Release:
		d.sent(c, c.Send(ctx, e.Reply))
	default:
		at(d.step, stepAtGate)
		d.sent(c, d.gate.release(func(may func() error) error { return c.SendWhile(ctx, e.Reply, may) }))
	}
}

func (d *device) sent(c *link.Conn, err error) {
	switch {
	case err == nil:
	case errors.Is(err, errLocked), errors.Is(err, errNoLease):
		d.log.Warn("an answer was held back", "err", err)
	case c.Err() == nil: // otherwise the link's own end says it
		d.log.Warn("an answer was dropped", "err", err)
	}
}

func (d *device) commissioned(next []byte) error {
	defer clear(next)
	old, err := os.ReadFile(filepath.Join(d.dir, filePIN))
	if err != nil {
		return err
	}
	defer clear(old)
	return d.setPIN(old, next)
}

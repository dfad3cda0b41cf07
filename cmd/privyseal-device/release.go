package main

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/firmware"
)

var (
	// errLocked is why an answer was held back.
	errLocked = errors.New("the device was locked down before its answer could leave")
	// errNoLease is errLocked for want of beats.
	errNoLease = errors.New("the lease was over before the answer could leave")
)

// gate is the release lock (design §5.2): what a share made is handed to
// the link under it, after a look at the lease; lock-down takes the same lock.
// So an answer leaves before the lock-down or not at all.
//
// It judges by the clock alone, and does not depend on the watchdog having run:
// a process that was stopped or suspended finds its lease over by itself.
type gate struct {
	clock func() int64 // the boot-time clock
	step  func(string) // tests stop the process here

	mu     sync.Mutex           // the release lock
	pass   atomic.Pointer[pass] // replaced under mu; nil: not open yet
	closed atomic.Bool          // for good
}

// pass is what the gate goes by. It is never changed, only replaced.
type pass struct {
	firmware.Lease
	lapsed bool // the lease was not renewed in time; only a new unlock counts
}

// release hands an answer over if the device may still speak. hand is given
// the rule itself, to ask again whenever it has waited.
func (g *gate) release(hand func(may func() error) error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	at(g.step, stepInGate)
	if err := g.may(); err != nil {
		return err
	}
	at(g.step, stepPassed)
	return hand(g.may)
}

// may says whether an answer may leave now. It may be asked from any goroutine.
func (g *gate) may() error {
	p := g.pass.Load()
	switch {
	case g.closed.Load() || p == nil:
		return errLocked
	case p.lapsed:
		return errNoLease
	case !p.Guarded:
		return nil
	}
	// After the above, so that what is read is not older than the decision.
	if now := g.clock(); now >= p.Until || p.over(now) {
		return errNoLease
	}
	return nil
}

// over says whether the token should be locked by now.
func (p *pass) over(now int64) bool { return p.Lock != 0 && now >= p.Lock }

// extend takes a new lease. One that was not renewed in time stays over: the
// beat that came too late for the clock renews nothing, whatever the
// interpreter thought when it began to look at it.
func (g *gate) extend(l firmware.Lease) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.pass.Load(); p != nil && (p.lapsed || p.over(g.clock())) {
		return
	}
	g.pass.Store(&pass{Lease: l})
}

// reopen ends a lapse: the token was unlocked anew.
func (g *gate) reopen(l firmware.Lease) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pass.Store(&pass{Lease: l})
}

// deadline is when the token is to be locked; 0: there is nothing to lock.
func (g *gate) deadline() int64 {
	if p := g.pass.Load(); p != nil && !p.lapsed {
		return p.Lock
	}
	return 0
}

// lapse closes the gate if the time to lock the token has come, and returns
// which time that was. When it returns true no answer is on its way out.
// interrupt is to end a write that waits for a slow peer.
func (g *gate) lapse(interrupt func()) (end int64, ok bool) {
	if end := g.deadline(); end == 0 || g.clock() < end {
		return 0, false
	}
	// From here on may refuses, by the clock.
	g.take(interrupt)
	defer g.mu.Unlock()
	p := g.pass.Load()
	if p.lapsed || !p.over(g.clock()) {
		return 0, false // renewed in the last moment
	}
	g.pass.Store(&pass{Lease: firmware.Lease{Guarded: true}, lapsed: true})
	return p.Lock, true
}

// close stops all releases for good: the next process has its own gate.
func (g *gate) close(interrupt func()) {
	g.closed.Store(true)
	g.take(interrupt)
	g.mu.Unlock()
}

// take takes the release lock, from a slow peer after grace.
func (g *gate) take(interrupt func()) {
	t := time.AfterFunc(grace, interrupt)
	g.mu.Lock()
	t.Stop()
}

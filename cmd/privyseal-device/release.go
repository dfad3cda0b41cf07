package main

import (
	"errors"
	"sync"
)

// errLocked is why an answer was held back.
var errLocked = errors.New("the device was locked down before its answer could leave")

// gate is the release lock (design.md §5.2): what a share made is handed to
// the link under it, after a look at the lease; lock-down takes the same lock.
// So an answer leaves before the lock-down or not at all.
type gate struct {
	mu     sync.Mutex
	closed bool
	lease  func() error // nil: no lease is asked for
}

// release hands an answer over if the device may still speak.
func (g *gate) release(hand func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return errLocked
	}
	if g.lease != nil {
		if err := g.lease(); err != nil {
			return err
		}
	}
	return hand()
}

// close stops all releases for good: the next process has its own gate.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

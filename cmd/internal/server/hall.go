package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// hall is where requests wait to be checked. Those of one requester are, one after
// the other, and he rests between them for what they cost; nobody else waits for
// him. A request that comes twice is checked once. All of it is memory: after a
// crash nobody waits, and what was checked is on the disk.
type hall struct {
	mu      sync.Mutex
	queues  map[envelope.KeyID]*queue
	checks  map[envelope.Hash]*checking
	refused map[envelope.Hash]refusal // batches
}

// refusal is why a batch was refused. The same one is not checked again at once:
// anybody may bring one who has seen it.
type refusal struct {
	head  envelope.Hash // of the ledger
	until time.Time
	err   error
}

// queue is a requester's.
type queue struct {
	turn    chan struct{} // holds a token while one of them is checked
	waiting int           // with the one that is
	copies  int           // of those, that wait for what becomes of them
	next    time.Time     // not before
}

// checking is a request that waits or is checked.
type checking struct {
	done chan struct{} // closed when it is over
	err  error         // then
}

func newHall() *hall {
	return &hall{queues: map[envelope.KeyID]*queue{}, checks: map[envelope.Hash]*checking{}, refused: map[envelope.Hash]refusal{}}
}

// enter lets a request wait for its requester's turn, and has it checked if there is
// room for it then. clock is the server's.
func (h *hall) enter(ctx context.Context, v *visit, clock func() time.Time, room, check func() error) error {
	h.mu.Lock()
	q := h.queues[v.owner]
	if c := h.checks[v.digest]; c != nil { // it has this requester
		defer h.mu.Unlock()
		if q.copies >= maxWaiting { // each holds a turn of the web side
			return errInterrupted
		}
		q.copies++
		h.mu.Unlock()
		err := c.outcome(ctx)
		h.mu.Lock()
		q.copies--
		return err
	}
	if q == nil {
		h.sweep(clock())
		q = &queue{turn: make(chan struct{}, 1)}
		h.queues[v.owner] = q
	}
	if q.waiting >= maxWaiting {
		h.mu.Unlock()
		return web.Busy(errors.New("too many requests of this requester wait to be checked"))
	}
	q.waiting++
	c := &checking{done: make(chan struct{}), err: errInterrupted}
	h.checks[v.digest] = c
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		q.waiting--
		delete(h.checks, v.digest)
		h.mu.Unlock()
		close(c.done)
	}()
	c.err = h.wait(ctx, q, v, clock, room, check)
	return c.err
}

// outcome waits until the check is over.
func (c *checking) outcome(ctx context.Context) error {
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return errInterrupted
	}
}

// errInterrupted is for those who waited for the check of another copy.
var errInterrupted = web.Busy(errors.New("the request is being checked"))

// wait has a request checked in its turn.
func (h *hall) wait(ctx context.Context, q *queue, v *visit, clock func() time.Time, room, check func() error) error {
	select {
	case q.turn <- struct{}{}:
	case <-ctx.Done():
		return web.Busy(errors.New("other requests of this requester are being checked"))
	}
	defer func() { <-q.turn }()
	h.mu.Lock()
	rest := q.next.Sub(clock())
	h.mu.Unlock()
	if rest = min(rest, maxRest); rest > 0 { // a clock may be set
		t := time.NewTimer(rest)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return web.Busy(errors.New("other requests of this requester were checked"))
		}
	}
	if err := room(); err != nil {
		return err
	}
	err := check()
	h.mu.Lock()
	q.next = clock().Add(v.rest)
	h.mu.Unlock()
	return err
}

// remember keeps why a batch was refused under a ledger.
func (h *hall) remember(digest, head envelope.Hash, now time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.refused) >= maxRefused {
		for digest, r := range h.refused {
			if !now.Before(r.until) {
				delete(h.refused, digest)
			}
		}
	}
	if len(h.refused) < maxRefused {
		h.refused[digest] = refusal{head, now.Add(keepRefused), err}
	}
}

// remembered is why a batch was refused under the same ledger a moment ago, or nil.
func (h *hall) remembered(digest, head envelope.Hash, now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r, ok := h.refused[digest]; ok && r.head == head && now.Before(r.until) {
		return r.err
	}
	return nil
}

// sweep forgets requesters who neither wait nor rest. The caller holds the lock.
func (h *hall) sweep(now time.Time) {
	for owner, q := range h.queues {
		if q.waiting == 0 && now.After(q.next) {
			delete(h.queues, owner)
		}
	}
}

package server

import (
	"sync"
	"time"
)

// outbox holds the beats that wait for one way out: a link, or the bus to
// another site. Each origin has a few places in it and origins take turns, so
// that one who floods pushes out nobody's frames but his own.
type outbox struct {
	mu   sync.Mutex
	held map[string][]waitingFrame // by origin; none is empty
	turn []string                  // origins, the next one first
	more chan struct{}             // holds a token when something may wait
}

type waitingFrame struct {
	frame []byte
	since time.Time
}

func newOutbox() *outbox {
	return &outbox{held: map[string][]waitingFrame{}, more: make(chan struct{}, 1)}
}

// put adds a frame, and reports whether an older one of its origin had to go:
// of two beats the later one is worth more.
func (o *outbox) put(origin string, frame []byte, now time.Time) (dropped bool) {
	o.mu.Lock()
	list := o.held[origin]
	if len(list) == 0 {
		o.turn = append(o.turn, origin)
	}
	if len(list) == maxWaitingBeats {
		list, dropped = list[1:], true
	}
	o.held[origin] = append(list[:len(list):len(list)], waitingFrame{frame, now})
	o.mu.Unlock()
	select {
	case o.more <- struct{}{}:
	default:
	}
	return dropped
}

// next takes the frame whose turn it is, nil if there is none. What waited for
// too long is passed over.
func (o *outbox) next(now time.Time) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.turn) > 0 {
		origin := o.turn[0]
		f := o.held[origin][0]
		o.turn = o.turn[1:]
		if rest := o.held[origin][1:]; len(rest) > 0 {
			o.held[origin], o.turn = rest, append(o.turn, origin)
		} else {
			delete(o.held, origin)
		}
		if now.Sub(f.since) < beatAge {
			return f.frame
		}
	}
	return nil
}

// clear forgets everything: nobody can be reached this way.
func (o *outbox) clear() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held, o.turn = map[string][]waitingFrame{}, nil
}

// run sends what comes until stop is closed. A frame that cannot be sent is
// lost: another follows.
func (o *outbox) run(stop <-chan struct{}, send func(frame []byte)) {
	for {
		if f := o.next(time.Now()); f != nil {
			send(f)
			continue
		}
		select {
		case <-o.more:
		case <-stop:
			return
		}
	}
}

package main

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
)

// lane is one order of frames. A lower one is served first.
type lane int

const (
	laneBeat      lane = iota // beats for this device
	laneChallenge             // other devices' challenges: their leases hang on them
	laneHeartbeat             // what else concerns the heartbeat, revocations above all
	laneWord                  // the word to lock the device, and questions how it is
	laneOther                 // what waits for work that is under way
	lanes                     // how many there are
)

// bounded reports whether frames of the lane wait their turn outside when there
// are too many of them. Of the others the oldest is dropped.
func (l lane) bounded() bool { return l >= laneHeartbeat }

// inbox holds the frames of the link until the loop takes them.
type inbox struct {
	mu      sync.Mutex
	frames  [lanes][][]byte
	octets  int           // in the bounded lanes
	arrived chan struct{} // something may be there to take
	room    chan struct{} // something was taken from a bounded lane
}

func newInbox() *inbox {
	return &inbox{arrived: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// laneOf looks at the outside of a frame, which proves nothing: whoever lies
// there gains a place in the order and no more.
func laneOf(frame []byte) lane {
	if len(frame) > maxPeek {
		return laneOther
	}
	h, err := envelope.Peek(frame)
	if err != nil {
		return laneOfOpen(frame)
	}
	switch {
	case h.Type == heartbeat.TypeBeat:
		return laneBeat
	case h.Type == heartbeat.TypeChallenge:
		return laneChallenge
	case strings.HasPrefix(h.Type, heartbeat.TypeBeat+"."):
		return laneHeartbeat
	case h.Type == firmware.TypeStatusAsk, h.Type == firmware.TypeLock:
		return laneWord
	}
	return laneOther
}

// laneOfOpen is the lane of what is not sealed: a device may be asked how it is by
// whoever does not know its key, and while its token is locked.
func laneOfOpen(frame []byte) lane {
	if u, err := envelope.Parse(frame); err == nil && u.Header().Type == firmware.TypeStatusAsk {
		return laneWord
	}
	return laneOther // the interpreter says what is wrong with it
}

// put adds a frame. It waits while too much waits already, but for what may be
// dropped.
func (b *inbox) put(ctx context.Context, frame []byte) error {
	l := laneOf(frame)
	for !b.add(l, frame) {
		select {
		case <-b.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	wake(b.arrived)
	return nil
}

func (b *inbox) add(l lane, frame []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case l.bounded() && b.octets > 0 && b.octets+len(frame)+waitingCost > maxWaiting:
		return false
	case l.bounded():
		b.octets += len(frame) + waitingCost
	case len(b.frames[l]) == maxBeats:
		b.frames[l] = slices.Delete(b.frames[l], 0, 1)
	}
	b.frames[l] = append(b.frames[l], frame)
	return true
}

// take returns the next frame of the lanes before end, or nil if there is none.
func (b *inbox) take(end lane) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	for l := range b.frames[:end] {
		if len(b.frames[l]) == 0 {
			continue
		}
		frame := b.frames[l][0]
		b.frames[l][0] = nil
		b.frames[l] = b.frames[l][1:]
		if lane(l).bounded() {
			b.octets -= len(frame) + waitingCost
			wake(b.room)
		}
		return frame
	}
	return nil
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

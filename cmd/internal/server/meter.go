package server

import (
	"sync"
	"time"
)

// meter counts what a peer sends unasked, and says when it is too much.
type meter struct {
	mu    sync.Mutex
	left  float64 // frames that it may send at once
	at    time.Time
	since time.Time // when the counts began
	// passed by type of message, dropped by reason: few, and none of the peer's
	// choosing.
	passed, dropped map[string]uint64
}

// take reports whether a peer may send a frame now, that sends as many a second
// by its policies. The slack is for clocks, retries and links that held frames
// back.
func (m *meter) take(frames float64, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	rate := beatSlack * (frames + otherFrames)
	burst := rate * beatBurst.Seconds()
	if m.at.IsZero() {
		m.left = burst
	} else {
		m.left = min(burst, m.left+rate*max(0, now.Sub(m.at).Seconds()))
	}
	m.at = now
	if m.left < 1 {
		return false
	}
	m.left--
	return true
}

// pass counts a frame that was passed on.
func (m *meter) pass(typ string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begin(now)
	m.passed[typ]++
}

// drop counts one that was not, and reports whether it is the first one for
// this reason since the counts began.
func (m *meter) drop(reason string, now time.Time) (first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begin(now)
	m.dropped[reason]++
	return m.dropped[reason] == 1
}

func (m *meter) begin(now time.Time) {
	if m.passed == nil {
		m.since, m.passed, m.dropped = now, map[string]uint64{}, map[string]uint64{}
	}
}

// due returns the counts and begins anew, if they are as old as that.
func (m *meter) due(now time.Time, age time.Duration) (passed, dropped map[string]uint64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.passed == nil || now.Sub(m.since) < age {
		return nil, nil, false
	}
	passed, dropped = m.passed, m.dropped
	m.passed, m.dropped = nil, nil
	return passed, dropped, true
}

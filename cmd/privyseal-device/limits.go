package main

import "time"

const (
	// maxBeats is how many beats, and as many challenges, may wait: more than
	// come to a device of many sources in the time of the longest step. The
	// oldest is dropped for the next: the newest counts most.
	maxBeats = 64

	// maxBetween is how many messages are taken between two pieces of work: all beats
	// and challenges that may wait. Whoever floods the link, such as the device's own
	// server with questions how it is, keeps a share open for minutes at most, and not
	// for the day that its one-time key lives.
	maxBetween = 2 * maxBeats

	// maxWaiting is how many octets of other frames may wait, each counted with
	// waitingCost: hundreds of tasks, which must not hold up the beat behind
	// them. Beyond it the link is not read, and the server feels it.
	maxWaiting  = 64 << 20
	waitingCost = 1 << 10

	// gcPercent is how far the heap grows between two collections. It is a few
	// MiB, through which a batch passes more than that for each device: with Go's
	// 100 the collector takes a twentieth of a calculator's time from its powers.
	gcPercent = 400

	// maxPeek is the largest frame that is looked at for being a beat: all
	// that belong to the heartbeat are far smaller.
	maxPeek = 256 << 10

	// tickPause lies between two ticks at least: an interpreter that asks for a
	// moment that has passed, again and again, gets no processor for itself.
	tickPause = int64(2 * time.Millisecond)

	// grace is how long a lock-down waits for an answer that is being handed
	// over before it ends that answer's link. Handing over takes microseconds,
	// but for a peer that does not read; and waiting lets no more out, for the
	// clock is read again before each write.
	grace = time.Millisecond

	// lockPatience bounds the locking of the token, which waits for the
	// operations in it: far more than the longest takes. A token that hangs is
	// locked by the end of the process.
	lockPatience = 10 * time.Second

	// wordPatience is how long the loop may take to hear of the lock-down before
	// the link is ended on which it may be waiting for a slow peer.
	wordPatience = 100 * time.Millisecond
)

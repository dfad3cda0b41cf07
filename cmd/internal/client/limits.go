package client

import "time"

const (
	// maxHome bounds system.json: a genesis of at most 4 MiB in base64, and
	// some entries.
	maxHome = 64 << 20
	// maxEntries bounds the chain of entries taken from a server at once; a
	// chain grows by people's decisions.
	maxEntries = 10_000
	// maxItems bounds the items taken from an inbox at once: more no officer
	// reads in a day.
	maxItems = 1000

	// skew is how far the clock of a message server may run ahead, seconds.
	skew = 300

	// busyTries is how often a saturated server is asked again.
	busyTries = 4
	// busyWait is the longest that one such pause lasts.
	busyWait = 10 * time.Second
	// pollWait is how long a poll stays open: below what middle boxes cut.
	pollWait = 25 * time.Second
	// retryWait is the pause before a server that could not be reached is tried
	// again, while somebody waits for a result.
	retryWait = 2 * time.Second

	// revokeLife is how long a revocation is valid, seconds: time for its way,
	// and for clocks that differ.
	revokeLife = 300
	// revokeWait bounds the wait for one source's confirmation: its server waits
	// for it for some seconds, and a second server may have to be tried.
	revokeWait = 30 * time.Second
)

package client

import (
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
)

const (
	// maxHome bounds system.json: a ledger and a genesis of at most 4 MiB with its
	// signatures, in base64, with room for what is around each entry.
	maxHome = 2 * (api.MaxLedger + 8<<20)
	// maxItems bounds the items taken from an inbox at once: more no officer
	// reads in a day.
	maxItems = 1000

	// skew is how far the clock of a message server may run ahead, seconds.
	skew = 300

	// pageSilence is how long a server may take for the first octet of a page of the
	// ledger: so long a command waits for one that is dead. pageTimeout bounds the
	// whole page, either way: the server gives up one after 30 s, a page at 35 kB a
	// second, and verifies one in a few. How many pages there are bounds nothing:
	// each is kept when it has come.
	pageSilence = 10 * time.Second
	pageTimeout = 45 * time.Second

	// busyTries is how often a saturated server is asked again.
	busyTries = 4
	// requestTries is that for a request. Those of one requester are checked one after
	// the other, and a server lets a few of them wait: of a hundred that a program makes
	// at once most are turned away at first. It is half a minute.
	requestTries = 12
	// busyWait is the longest that a server may ask to wait in between.
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

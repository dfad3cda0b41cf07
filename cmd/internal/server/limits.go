package server

import (
	"time"

	"github.com/privyseal/privyseal/cmd/internal/transport/link"
)

const (
	// maxRequest bounds a request message, octets. A task carries it over the
	// link with the approvals of the device's officers, 256 KiB at most.
	maxRequest = link.MaxMessage - 256<<10

	// maxOpen and maxOpenOf bound the requests that this server coordinates at
	// once, in all and of one requester. Each takes its document's size on disk
	// and in memory.
	maxOpen   = 2000
	maxOpenOf = 500

	// maxSets bounds the inbox sets that other sites may leave here.
	maxSets = 20000

	// maxBatch bounds the items in one answer to a poll: each costs a signature
	// and an encapsulation.
	maxBatch = 64

	// askTimeout is how long a device may take over one message, and askQueued
	// how long with the messages before it: devices answer one at a time.
	askTimeout = 60 * time.Second
	askQueued  = 120 * time.Second

	// linkGrace and siteGrace are how long a link or a site that has just gone
	// may take to come back before its devices are given up for the moment: both
	// ends redial within a few seconds. Giving up costs officers their approvals
	// along a chain.
	linkGrace = 4 * time.Second
	siteGrace = 6 * time.Second

	// relayTimeout is for the ceremony: safe primes of a 4096-bit key take
	// minutes on a slow machine. relayWait is how long one HTTPS request waits;
	// middle boxes cut longer ones. relayKeep is how long an answer is kept for
	// a client that lost its connection.
	relayTimeout = 10 * time.Minute
	relayWait    = 40 * time.Second
	relayKeep    = 10 * time.Minute
	maxRelays    = 64

	// statusTimeout is for a device's status, siteTimeout for another site's.
	statusTimeout = 5 * time.Second
	siteTimeout   = 8 * time.Second

	// answerLife is how long a message to a device is fresh, seconds.
	answerLife = 300

	// keepResults is how long a finished request can be asked for after its
	// expiry.
	keepResults = 31 * 24 * time.Hour

	// tickEvery is the pace of coordinators.
	tickEvery = time.Second
)

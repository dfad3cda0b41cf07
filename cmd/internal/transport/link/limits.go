package link

import "time"

// Limits of a link, each with its reason. They are variables of no one: a peer
// cannot move them, and both ends are built from the same source.
const (
	// MaxMessage is the largest sealed envelope in octets. Larger documents
	// travel as digests; a device must hold two of these at once.
	MaxMessage = 4 << 20

	// maxID bounds the device id in a hello: ids are names in logs.
	maxID = 64

	// maxReason bounds the text of a refusal.
	maxReason = 200

	// queued is how many received messages wait for Recv. When it is full the
	// link stops reading and the sender feels it: with MaxMessage it also
	// bounds the memory that a peer can make us hold.
	queued = 4

	// maxGreetings is how many connections may be before the end of their
	// hello at once; maxGreetingsPerSource, how many of them from one address,
	// so that a silent host cannot keep a device out.
	maxGreetings          = 64
	maxGreetingsPerSource = 16

	// greetTimeout bounds TLS and hello together.
	greetTimeout = 5 * time.Second

	// frameTimeout bounds one frame, from its first octet to its last, in
	// either direction: MaxMessage at 200 kB a second.
	frameTimeout = 20 * time.Second

	// DefaultKeepAlive is how often a silent side says that it lives. A link
	// that brings nothing for three of these is dead: a black hole is noticed
	// in 15 seconds and not after minutes of TCP retries.
	DefaultKeepAlive = 5 * time.Second
	silentAfter      = 3

	// Waiting between two attempts to dial doubles from the first to the last.
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 10 * time.Second

	// A link that lasted this long was a good one: waiting starts over.
	goodAfter = 10 * time.Second
)

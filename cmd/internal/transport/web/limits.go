package web

import "time"

// Limits of the HTTPS side, each with its reason. What an operator may have to
// change is in [Rules]; these are the shape of the protocol.
const (
	// MaxBody is the largest request and the largest answer: as on the bus.
	MaxBody = 4<<20 + 64<<10

	// maxHeader bounds a request's header, with the proof of a poll in it.
	maxHeader = 16 << 10

	// maxProof bounds that proof.
	maxProof = 8 << 10

	// maxErrorText bounds the text of an error, on both sides.
	maxErrorText = 1000

	// MaxWait is how long a poll may stay open. Longer, and middle boxes cut it.
	MaxWait = 50 * time.Second

	headerTimeout = 5 * time.Second  // TLS handshake, and a request's header
	bodyTimeout   = 30 * time.Second // a request's body: MaxBody at 140 kB a second
	handleTimeout = 60 * time.Second // a handler that is no poll
	writeTimeout  = 30 * time.Second // an answer, from its first octet
	idleTimeout   = 60 * time.Second // a connection between requests
)

package bus

import "time"

// Limits of the bus, each with its reason.
const (
	// MaxMessage is the largest payload of a message or an answer: a sealed
	// envelope as on a device link, and room for a list of small ones.
	MaxMessage = 4<<20 + 64<<10

	// maxSubject bounds a subject: an id, and a few words after it.
	maxSubject = 160

	// maxErrorText bounds what a remote handler's error may add to our logs.
	maxErrorText = 400

	// maxInFlight is how many requests one Serve handles at once. More are
	// answered "busy" at once, so that the asker tries another site or waits.
	maxInFlight = 64

	// Messages that wait inside the process for one Serve, before NATS drops
	// them. A dropped message is asked for again.
	maxPendingMessages = 256
	maxPendingBytes    = 16 << 20

	// DefaultTimeout is the life of a request or a message whose context has no
	// deadline; MaxTimeout cuts a longer one.
	DefaultTimeout = 10 * time.Second
	MaxTimeout     = 5 * time.Minute

	// MaxSkew is how far the clocks of two sites may differ. A message may be
	// handled this much after its end: a link that was a black hole delivers
	// what it held, and nobody waits for that any more. The signed content
	// has an expiry of its own, checked by whoever acts on it.
	MaxSkew = 2 * time.Minute

	// pingEvery and maxPings: a route that answers nothing is cut after
	// pingEvery * (maxPings + 1), so a black hole is noticed in six seconds.
	pingEvery = 2 * time.Second
	maxPings  = 2

	// writeDeadline is how long a site may take nothing before its route is cut.
	writeDeadline = 5 * time.Second

	// maxPending is what may wait to be written to one connection.
	maxPending = 32 << 20

	// startTimeout bounds opening the listener and the first connection.
	startTimeout = 10 * time.Second

	// tlsSeconds bounds a handshake between sites.
	tlsSeconds = 5
)

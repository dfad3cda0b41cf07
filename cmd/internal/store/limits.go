package store

import "time"

const (
	// maxName bounds the name of a queue and of a sender or receiver: a key
	// identifier in hex has 64 characters.
	maxName = 128

	// openTimeout is how long Open waits for another process to let go of the
	// file: long enough for a restart, short enough for a clear error.
	openTimeout = 2 * time.Second

	// maxList and maxListOctets bound what one List brings into memory; a
	// message that crosses the second is the last.
	maxList       = 256
	maxListOctets = 4 << 20

	// sweepBatch bounds one transaction of a sweep, so that writers are not
	// kept waiting.
	sweepBatch = 500
)

// Limits bound what a queue takes, so that no sender can fill it for the
// others. Zero fields take the value of [DefaultLimits].
type Limits struct {
	MaxMessage int // octets of one message

	// Of one sender in one queue. Reaching them refuses that sender alone.
	SenderMessages int
	SenderOctets   int64

	// Of one queue. Reaching them refuses everybody: they stand between a
	// flood of many senders and a full disk.
	QueueMessages int
	QueueOctets   int64

	// MaxLife is the furthest expiry that Put takes. It also bounds how long
	// the identity of a message that was acknowledged is remembered.
	MaxLife time.Duration
}

// DefaultLimits suit a message server with a few gigabytes of disk.
var DefaultLimits = Limits{
	MaxMessage:     4<<20 + 64<<10, // a device link's message, with room for what wraps it
	SenderMessages: 2000,
	SenderOctets:   256 << 20,
	QueueMessages:  50000,
	QueueOctets:    2 << 30,
	MaxLife:        31 * 24 * time.Hour,
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits
	if l.MaxMessage == 0 {
		l.MaxMessage = d.MaxMessage
	}
	if l.SenderMessages == 0 {
		l.SenderMessages = d.SenderMessages
	}
	if l.SenderOctets == 0 {
		l.SenderOctets = d.SenderOctets
	}
	if l.QueueMessages == 0 {
		l.QueueMessages = d.QueueMessages
	}
	if l.QueueOctets == 0 {
		l.QueueOctets = d.QueueOctets
	}
	if l.MaxLife == 0 {
		l.MaxLife = d.MaxLife
	}
	return l
}

package heartbeat

import "time"

const (
	// Grace is how long a device that was just opened keeps its token open
	// while it waits for its first beats: links that are being dialled again,
	// sources that are told of the system. Nothing is released meanwhile.
	Grace = int64(time.Minute)

	// SeriesSlots is the length of a series of one-way beats. It bounds how far
	// the clocks of source and device drift apart before they are anchored
	// anew, and what a source has to keep: 16 KB of hashes for a sequence.
	SeriesSlots = 512

	// maxBegun bounds the series of one device that a source goes on with at a
	// time: the one the device lives on, and those that it asked for since
	// without an answer.
	maxBegun = 3

	// drift is the part of a slot's distance from its anchor that is taken off,
	// 1/2000 or 500 ppm: quartz clocks are within 100 ppm. A source whose clock
	// is fast by less than this cannot make a slot before the time that the
	// device counts it from.
	drift = 2000

	// silentPeriods is after how many periods without a beat a source is
	// reported as silent, and a series as broken off: one lost beat is no news.
	silentPeriods = 3

	// maxSent bounds the challenges that a device waits for answers to. The
	// oldest is forgotten: its answer would grant the least.
	maxSent = 64

	// maxPast bounds the instances that a station remembers as superseded. They
	// are refused anyway, since an enrolment has to be newer than the last.
	maxPast = 64

	// maxTable bounds a station's stored table in octets: 64 devices and
	// the revocations of an hour.
	maxTable = 64*(maxPast*17+256) + maxSpent*64

	// maxText bounds the text of a refusal, a line on a screen.
	maxText = 256

	// beatLife is what the header of a beat or challenge names as its life, in
	// seconds. Nothing is decided by it: wall clocks have no part in a lease.
	beatLife = 60

	// MaxRevokeLife is how long a revocation may stand, in seconds: whoever
	// revokes waits for the confirmation. A source remembers it for as long, so
	// that it cannot be replayed after the officers took the device back.
	MaxRevokeLife = 3600

	// revokeSkew is how far the clock of whoever revokes may be ahead, seconds.
	revokeSkew = 300

	// maxSpent bounds the revocations that a station remembers. When there are
	// more in an hour the oldest is forgotten: replayed it would silence once
	// more, which is safe.
	maxSpent = 256
)

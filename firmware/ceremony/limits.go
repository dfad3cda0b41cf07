package ceremony

import "time"

const (
	// MaxHours is the longest life of temporary certificates. Source A asks
	// for "a few minutes or hours, at most"; a ceremony of a working day and
	// its interruptions fits into twelve.
	MaxHours = 12

	// SeedSize is what each device contributes to the keys: twice the
	// security strength of the largest modulus, so that one honest device
	// makes the keys unpredictable.
	SeedSize = 64

	// MaxKeys bounds the keys of one ceremony: each costs the lead minutes
	// where safe primes are asked for.
	MaxKeys = 16

	// MaxDevices is threshold.MaxHolders seen from here: a subset of share
	// indices is a 16-bit mask.
	MaxDevices = 16

	// MaxPersons bounds the roster; each entry carries three certificates.
	MaxPersons = 256

	// MaxSources and MaxOperators bound the heartbeat sources and who may
	// silence one: as the ledger does.
	MaxSources   = 64
	MaxOperators = 64

	// MaxNameLen bounds names shown to people, in bytes.
	MaxNameLen = 128

	// clockSkew is how far the desk's clock may be ahead of a device's: both
	// stand in one building and are set before the ceremony.
	clockSkew = 5 * time.Minute
)

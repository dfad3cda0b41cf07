package dealing

import (
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

const (
	// maxName and maxID are as in the ledger, in bytes.
	maxName = 128
	maxID   = 64

	// maxKeepers bounds the keepers of a reserve.
	maxKeepers = share.MaxPieces

	// MaxAbandoned bounds the abandoned dealings that an extension counts. Machines
	// that they named count too, and there are at most fifteen in a layer: more
	// would not fit in any case. A medium has room for them.
	MaxAbandoned = ledger.MaxCounted

	// MinReserveNeed is the least number of cards that open a reserve, which is
	// the whole private exponent: no single person has it.
	MinReserveNeed = 2

	// MaxReserve bounds an encoded reserve in bytes: MaxCalculators·MaxKeys
	// sub-keys and MaxCombiners·ledger.MaxParts parts, for N of 4096 bits, and
	// the pieces.
	MaxReserve = 4 << 20

	// MaxOfficerDays is how long officers of an authority may be registered at
	// most: ten years, after which nobody remembers them.
	MaxOfficerDays = 3660

	// MaxRootDays bounds the root certificate: fifty years.
	MaxRootDays = 18300

	// MaxRedundant bounds how many further combinations a plan may ask of each
	// combiner: as many as it may hold (ledger.MaxParts).
	MaxRedundant = 126

	// ConfirmLife is how long an operator's confirmation may wait for the ledger,
	// in seconds: media travel, and officers of the system-wide authority meet.
	ConfirmLife = 30 * 86400

	// ClockSkew is how far the distributor's clock may be behind the newest thing
	// on the medium, in seconds. It has no network to set it by.
	ClockSkew = 300

	// searchSteps bounds the search for a grouping, for each number of sub-keys
	// tried: some ten seconds. A plan that needs more should say how many sub-keys
	// it wants, or have more combiners.
	searchSteps = 4 * grouping.DefaultBudget

	// maxAdvice is how many more sub-keys are tried to leave no coalition weak, and
	// adviceSteps how long for each: it is advice, and a second is enough.
	maxAdvice   = 3
	adviceSteps = grouping.DefaultBudget / 8
)

package tolerant

import (
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

const (
	// MaxPacket bounds an encoded packet, octets: what the bus takes.
	MaxPacket = 4 << 20

	maxID        = 64 // as in the ledger
	maxText      = 512
	maxApprovals = approval.MaxApprovals
	maxMachines  = grouping.MaxCalculators + grouping.MaxCombiners

	// KeepIllegal is how long an illegal task is kept, seconds: as long as its
	// number is its own.
	KeepIllegal = 2 * 24 * 3600
)

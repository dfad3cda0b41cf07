package tolerant

import (
	"github.com/privyseal/privyseal/firmware"
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

	// maxAnswer bounds a device's offer with its pieces, octets: twice what the
	// distributor takes of it (package coordinator). The desk keeps it.
	maxAnswer = 384 << 10

	// KeepIllegal is how long an illegal task is kept, seconds: as long as its
	// number is its own (B [0113]).
	KeepIllegal = firmware.TaskPeriod

	// maxIllegal bounds those of one enterprise; people look at a few. The
	// oldest give way, and never to another enterprise's.
	maxIllegal = 200

	// maxTasks and maxOctets bound what the desk holds open for one enterprise:
	// as many tasks as a server coordinates at once, and for each of them a
	// certificate of 2048 bits with all that two machines of a site, one of them a
	// combiner, keep of it; or some hundred and fifty batches of 64 with 4096 bits,
	// half a megabyte each. Of several distributors one has half of it at most, two
	// have a third each, and so on.
	maxTasks  = 2000
	maxOctets = 96 << 20

	// maxOctetsOfBatches is what is taken when batches find no room any more: who
	// fills the desk with them leaves hundreds of single requests a place.
	maxOctetsOfBatches = maxOctets / 4 * 3

	// maxOctetsOfOne is what the batches of one requester take at most, who has 500
	// requests open at a server: they may wait for their officers for weeks.
	maxOctetsOfOne = maxOctetsOfBatches / 2

	// machineRoom is set aside for the offer of a machine with its pieces, and what
	// its operators sign; messageRoom for what a machine's message has besides
	// numbers, and combinationRoom for a combination in it. Those that need more
	// find it while there is some.
	machineRoom     = 8 << 10
	messageRoom     = 2 << 10
	combinationRoom = 128

	// maxNumbers is how many task numbers of one distributor are remembered:
	// one for each of its tasks of two days, at more than one in two seconds.
	// Devices remember them durably; this only spares them the question.
	maxNumbers = 1 << 17

	// maxAtOnce is how many messages a device is sent before it has answered. It
	// works on one at a time; the next are on its link when it is ready for them,
	// and those that wait longer wait here, where the urgent can overtake.
	maxAtOnce = 3

	// repeatFor is how long a device's answer is repeated to a distributor that
	// lacks it, in seconds, before the device is asked again: it may have lost
	// its one-time key since.
	repeatFor = 10

	// maxUnknown bounds in a second what is said about tasks that the desk does
	// not know, or has no room for. A desk that restarted comes back a few seconds
	// later.
	maxUnknown = 100
)

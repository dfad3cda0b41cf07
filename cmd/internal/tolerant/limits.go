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

	// maxRefused is how many tasks of one enterprise are remembered that did not pass
	// when they were looked at, and lookAgain for how many seconds they are not looked
	// at again, though time alone might make them right: clocks of sites differ. Who has
	// a distributor's key can make new ones faster than that.
	maxRefused = 1024
	lookAgain  = 15

	// maxAtOnce is how many messages a device is sent before it has answered. It
	// works on one at a time; the next are on its link when it is ready for them,
	// and those that wait longer wait here, where the urgent can overtake.
	maxAtOnce = 3

	// repeatFor is how long a device's answer is repeated to a distributor that
	// lacks it, in seconds, before the device is asked again: it may have lost
	// its one-time key since.
	repeatFor = 10

	// maxUnknown bounds in a second what is said about tasks of one enterprise that the
	// desk does not know, or has no room for. A desk that restarted comes back a few seconds
	// later.
	maxUnknown = 100

	// keepLast is how long copies of a task that is over are kept, seconds: an
	// output interface asks every minute what it missed. maxLast and maxLastOctets
	// bound those of an enterprise: each has its signatures, for which operators
	// looked at it.
	keepLast      = 180
	maxLast       = 256
	maxLastOctets = 16 << 20

	// maxCopies bounds copies of a task in one answer, octets, which the bus takes:
	// a batch has one MiB at most, and what its combiners made fits.
	maxCopies = 4 << 20

	// outputNumbers is how many task numbers of one distributor an output interface
	// remembers, to see one that is given twice. Who uses more of them in two days
	// can give one again unseen here; the devices see it.
	outputNumbers = 1 << 14

	// outputTasks and outputOctets bound the tasks of one enterprise that wait for
	// their signatures here. The oldest of the distributor that has most give way:
	// their combiners' sites have copies.
	outputTasks  = maxTasks
	outputOctets = maxOctets / 2

	// outputFresh and outputFreshOctets bound what was signed and is not settled
	// yet, which nothing displaces: the operators of an authority confirm one every
	// few milliseconds before it is too much, and what finds no room is asked for
	// again.
	outputFresh       = 2000
	outputFreshOctets = maxOctets / 2

	// patience is how long a distributor may take to say that a task with
	// signatures is over, seconds. An honest one waits a minute for calculators who
	// have to prove what they made, and longer if all of them have to prove a batch
	// (package coordinator): a second for provedInSecond documents of each.
	patience       = 300
	provedInSecond = 16

	// keepAgain is after how many seconds what could not be made durable is handed
	// out again.
	keepAgain = 10

	// KeepIssued is how long an output interface keeps what was issued, seconds: as
	// long as a distributor keeps its results. MaxIssued and MaxIssuedOctets bound
	// what it keeps of one enterprise: one every two minutes for a month, with room
	// for a few batches among them. The oldest give way.
	KeepIssued      = 31 * 24 * 3600
	MaxIssued       = 20000
	MaxIssuedOctets = 256 << 20

	// maxCopying bounds the copies that are asked for in copyAgain seconds for what
	// was heard on B3, and a task is asked for once in that time. Only what a
	// combiner signed is.
	maxCopying = 64
	copyAgain  = 10

	// maxCombined bounds what a site may say at a time that its combiners made.
	maxCombined = maxTasks + maxLast
)

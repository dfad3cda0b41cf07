package server

import (
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
)

const (
	// maxRequest bounds a request message, octets. A task carries it over the
	// link with the approvals of the device's officers, 256 KiB at most.
	maxRequest = link.MaxMessage - 256<<10

	// minLeft is how long a request that comes has to last still, seconds.
	minLeft = api.MinLifetime / 2

	// maxOpen and maxOpenOf bound the requests that this server coordinates at
	// once, in all and of one requester. Each takes its document's size on disk
	// and in memory.
	maxOpen   = 2000
	maxOpenOf = 500

	// maxWaiting bounds the requests of one requester that wait to be checked, one at
	// a time, and as well the copies that wait with them: both together are half of
	// the web side's turns (web.Rules).
	maxWaiting = 8

	// restOfProof is how long a requester waits after a request, for each proof with
	// P-256 that its check was worth: one takes 0.2 ms here and on every device of the
	// route, so that nobody takes more than a fifth of any. maxRest bounds it: no
	// batch is worth more.
	restOfProof = time.Millisecond
	maxRest     = time.Second

	// blameFor is how long after its creation a batch that is refused counts against
	// its requester at the firewall, seconds. One that was sound once, and is not any
	// more, anybody can bring who has seen it.
	blameFor = 600

	// keepRefused is how long a batch that was refused is not checked again, and
	// maxRefused bounds what is remembered of them: more than come in that time, at a
	// rest for each, while not many requesters attack.
	keepRefused = time.Minute
	maxRefused  = 4096

	// maxSets bounds the inbox sets that other sites may leave here.
	maxSets = 20000

	// maxBatch bounds the items in one answer to a poll: each costs a signature
	// and an encapsulation.
	maxBatch = 64

	// askTimeout is how long a device may take over one message, and askQueued
	// how long with the messages before it: devices answer one at a time.
	askTimeout = 60 * time.Second
	askQueued  = 120 * time.Second

	// linkGrace and siteGrace are how long a link or a site that has just gone
	// may take to come back before its devices are given up for the moment: both
	// ends redial within a few seconds. Giving up costs officers their approvals
	// along a chain.
	linkGrace = 4 * time.Second
	siteGrace = 6 * time.Second

	// relayTimeout is for the ceremony: safe primes of a 4096-bit key take
	// minutes on a slow machine. relayWait is how long one HTTPS request waits;
	// middle boxes cut longer ones. relayKeep is how long an answer is kept for
	// a client that lost its connection.
	relayTimeout = 10 * time.Minute
	relayWait    = 40 * time.Second
	relayKeep    = 10 * time.Minute
	maxRelays    = 64

	// statusTimeout is for a device's status, siteTimeout for another site's.
	statusTimeout = 5 * time.Second
	siteTimeout   = 8 * time.Second

	// answerLife is how long a message to a device is fresh, seconds.
	answerLife = 300

	// keepResults is how long a finished request can be asked for after its
	// expiry.
	keepResults = 31 * 24 * time.Hour

	// tickEvery is the pace of coordinators.
	tickEvery = time.Second

	// maxBeat, maxChallenge and maxReport bound frames that answer nothing,
	// octets; maxAsk what a source asks for. A challenge has up to 16 recipients, and until the sources know
	// the device the words of all officers who opened it.
	maxBeat      = 8 << 10
	maxChallenge = 96 << 10
	maxReport    = 64 << 10
	maxAsk       = 1 << 10

	// maxWaitingBeats is how many frames of one origin wait for one link or
	// site. More of them mean that it is slow or gone, and only the latest are
	// worth anything.
	maxWaitingBeats = 4

	// beatAge is how long a frame waits. How old its header says it is, is not
	// looked at: a device must not fall silent for its wall clock.
	beatAge = time.Minute

	// A peer may send beatSlack times what its policies make it send, and
	// otherFrames a second besides: reports, confirmations. It may have saved up
	// what it sends in beatBurst: links hold frames back for some seconds before
	// they are given up.
	beatSlack   = 3
	otherFrames = 1.0
	beatBurst   = 20 * time.Second

	// floodPause is how long the link of a peer that sends too much rests for
	// each frame above that: nobody else has to pay for reading them.
	floodPause = 20 * time.Millisecond

	// countEvery is the pace of lines in the audit log for what passes every
	// second.
	countEvery = time.Hour

	// publishTimeout bounds handing a beat to the bus.
	publishTimeout = 5 * time.Second

	// revokeTimeout is how long a source may take to write a revocation down
	// and confirm it, its link included; another site waits for siteTimeout.
	// maxRevokes bounds those that are on their way.
	revokeTimeout = siteTimeout - time.Second
	maxRevokes    = 64

	// maxAlarmsOf bounds what is kept of one device or source, so that one that
	// comes and goes pushes out nobody else's alarms.
	maxAlarmsOf = 16

	// maxLoggedAlarms bounds its lines in the logs in an hour, and maxLoggedRepeats
	// those of them that tell of what was told before.
	maxLoggedAlarms  = 100
	maxLoggedRepeats = 50

	// maxNews bounds how often in newsWindow coordinators are told that a device
	// fell asleep or woke.
	maxNews    = 10
	newsWindow = time.Minute

	// maxWork bounds what waits to be told them, of all devices.
	maxWork = 256

	// reportAge is how old a report may be, that another site passes on,
	// seconds.
	reportAge = 60

	// taskBlock is how many task numbers are made durable at once: a write to
	// the disk for each would cost more than a small part of a calculator's work.
	taskBlock = 1024

	// maxBroadcasts is how many packets may wait for the bus. Each is sent again
	// until it is answered, so that what is too much is lost without harm.
	maxBroadcasts = 4096

	// maxPacketLines bounds the lines on packets in the audit log in a minute:
	// those of fifty certificates. What devices were asked and answered is there
	// besides.
	maxPacketLines = 3000

	// keepPause is between two writes of the illegal tasks.
	keepPause = 200 * time.Millisecond

	// surveyEvery is the pace at which an output interface asks all sites for what it
	// missed. Sites keep copies of what is over for three times as long.
	// surveyAgain is the pace while one of them does not answer.
	surveyEvery = time.Minute
	surveyAgain = 10 * time.Second

	// maxDealings bounds invitations and shares that are on their way to devices
	// at once: a share has up to a few MiB.
	maxDealings = 16

	// maxDealing bounds a share with its dealing, octets: they go to the device
	// in one message.
	maxDealing = link.MaxMessage - 64<<10

	// maxCatchup is how many octets of ledger entries go to a device or a source at
	// a time, at least one: while it verifies them it hears no beat and sends none,
	// and the dealing of a large authority takes tens of milliseconds.
	maxCatchup = 256 << 10
)

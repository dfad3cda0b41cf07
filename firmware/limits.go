package firmware

import "github.com/privyseal/privyseal/firmware/ledger"

const (
	// maxOffers bounds the one-time keys in memory: a saturated server cannot
	// make the device grow. A key takes about 2 KB with its offer; the bound is
	// for the requests that officers can have open at one device.
	maxOffers = 4096

	// maxOffersOfOne bounds those for the requests of one requester, so that
	// nobody alone can keep the others out until his requests expire.
	maxOffersOfOne = maxOffers / 4

	// maxVerified bounds the requests that are kept beside their one-time keys, in
	// octets of their messages: a handful of the longest batches, thousands of single
	// certificates. In memory each takes less than that, for the documents are not
	// kept; verifiedCost is what one takes however short it is.
	maxVerified  = 8 << 20
	verifiedCost = 1 << 10

	// maxAttempts is how often one request may be answered: each subset of a
	// 3-of-5 key that a device is in, with checks of wrong partials.
	maxAttempts = 16

	// unlockLife is how long an unlock offer stands, in seconds: officers come
	// from their homes.
	unlockLife = 4 * 3600

	// answerLife is how long an answer to the server is fresh, in seconds.
	answerLife = 300

	// MaxCatchup bounds one catch-up message; the server sends the rest next.
	MaxCatchup = 256

	// maxRegister bounds the certificates that one device keeps.
	maxRegister = 512

	// maxRefusals is how many refusals are recorded in refusalWindow seconds:
	// enough to see an attack in the log, and a tenth of what would fill the
	// journal in ten years.
	maxRefusals   = 64
	refusalWindow = 3600

	// maxRotations is how many new beat keys one source may bring in
	// rotationWindow seconds: sources rotate once in months, and in an emergency
	// a few times in a row.
	maxRotations   = 8
	rotationWindow = 3600

	// requestSkew is how far a requester's or officer's clock may be ahead, in
	// seconds.
	requestSkew = 300

	// silenceTick is how often powered time without a lease is counted, and the
	// most that one count adds, in nanoseconds.
	silenceTick = int64(10_000_000_000)

	// silenceSteps is in how many steps that time becomes durable on its way to
	// the second limit: a restart costs at most one of them.
	silenceSteps = 32

	// TaskPeriod is for how long a task number counts as used, and how long a
	// task packet may live, in seconds: two days (B [0107]). A packet dies before
	// its number is forgotten.
	TaskPeriod = 2 * 86400

	// maxTasks bounds the numbers that are remembered: three a second all the
	// time, each of some 80 bytes. tasksInBucket of them are forgotten together.
	maxTasks      = 1 << 19
	tasksInBucket = 256

	// maxMachineText bounds all of a message of powers, or of a signature, but the
	// numbers in it: a header, some hashes and ids, and up to 64 officers, together
	// less than 6 KB.
	maxMachineText = 8 << 10

	// maxCombination bounds what names a combination: grouping.MaxCalculators terms
	// of two small numbers each.
	maxCombination = 128

	// maxHash is the longest hash in a task packet, SHA-512.
	maxHash = 64

	// InvitationLife is how long an invitation stands, in seconds: its medium is
	// carried to the distributor, and the dealing carried back, within two
	// working days.
	InvitationLife = 48 * 3600

	// invitationRepeats is how long an invitation is repeated to whoever asks,
	// in seconds. Later there is a second one beside it, for a full life; there are
	// never three, and nobody gets one that ends at once.
	invitationRepeats = InvitationLife / 2

	// maxInvitations is how many enterprises that the ledger does not know yet can
	// have one at a time: as many as the ledger takes.
	maxInvitations = ledger.MaxEnterprises

	// maxPending is how many dealings of one enterprise a device keeps that the
	// ledger does not have: the one that officers are about to enter, and some
	// that came to nothing. It keeps each for pendingLife seconds: the operator's
	// confirmation holds half as long, and an entry may be late.
	maxPending  = 4
	pendingLife = 2 * ledger.ConfirmationLife

	// maxSlots is how many dealt shares the token holds: of each enterprise one
	// in force and one that is about to replace it, or was replaced just now.
	// Others have to wait.
	maxSlots = 2 * ledger.MaxEnterprises

	// maxSealedShare is the largest sealed share of a dealing: 126 numbers of
	// 4096 bits take half of it.
	maxSealedShare = 128 << 10
)

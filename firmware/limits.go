package firmware

const (
	// maxOffers bounds the one-time keys in memory: a saturated server cannot
	// make the device grow. A key takes about 2 KB with its offer; the bound is
	// for the requests that officers can have open at one device.
	maxOffers = 4096

	// maxOffersOfOne bounds those for the requests of one requester, so that
	// nobody alone can keep the others out until his requests expire.
	maxOffersOfOne = maxOffers / 4

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
)

package firmware

const (
	// maxOffers bounds the one-time keys in memory: a saturated server cannot
	// make the device grow. A key takes about 100 bytes; the bound is for the
	// requests that officers can have open at one device.
	maxOffers = 4096

	// maxAttempts is how often one request may be answered: each subset of a
	// 3-of-5 key that a device is in, with checks of wrong partials.
	maxAttempts = 16

	// unlockLife is how long an unlock offer stands, in seconds: officers come
	// from their homes.
	unlockLife = 4 * 3600

	// answerLife is how long an answer to the server is fresh, in seconds.
	answerLife = 300

	// maxCatchup bounds one catch-up message; the server sends the rest next.
	maxCatchup = 256

	// maxRegister bounds the certificates that one device keeps.
	maxRegister = 512

	// requestSkew is how far a requester's or officer's clock may be ahead, in
	// seconds.
	requestSkew = 300
)

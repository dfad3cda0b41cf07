package coordinator

// Times are in seconds.
const (
	// silenceWait and refusalWait are how long a device is left alone after it
	// was silent, or refused; doubled each time, up to waitMax. Meanwhile others
	// are chosen. A link that broke is back within seconds, while somebody has
	// to act on most refusals.
	silenceWait = 2
	refusalWait = 15
	waitMax     = 600

	// sleepWait is how long a device is left alone of which its server says that
	// it cannot sign now. Its server says as well when it can again; this is for
	// when nobody does.
	sleepWait = 15

	// inquiryWait is how long a device is left alone that would not show its
	// partial signature right when one of several was wrong: long enough that
	// the next attempt is made without it.
	inquiryWait = 120

	// shortWait is how long the distributor of a task waits at most before it says
	// again what a machine did not answer, the first shortTries times: a minute in
	// which a lost packet costs seconds. Then pauses double up to waitMax.
	shortWait  = 5
	shortTries = 12

	// combineWait is how long a combiner is given to combine before what it needs
	// is sent again: a few exponentiations, behind those of other tasks.
	combineWait = 2

	// documentsInSecond is how many documents of a batch a machine does in a second
	// at least, of 4096 bits and with proofs: what is waited for until something is
	// said again, or a machine has had its time, grows with the batch.
	documentsInSecond = 16

	// proveFor is how long a calculator may take to prove its powers before the
	// word against it is let rest.
	proveFor = 60

	// A combiner's suspicions are followed doubtsFree times, and then after a pause
	// that doubles from doubtPause to doubtPauseMax, until one whom it suspects is found
	// wrong, or nothing is heard against anybody for doubtsForgotten. holdFor is how
	// long a suspicion waits for that, or for a signature by others.
	doubtsFree      = 3
	doubtPause      = 60
	doubtPauseMax   = 3600
	doubtsForgotten = 24 * 3600
	holdFor         = 10

	// lateFor is how long a task that has its signature waits for what other
	// combiners send, before devices are told to close it: that is when one who
	// lies is found.
	lateFor = 2

	// doneTimes is how often desks are told that a task is over. One that is told
	// none of it drops the task when it expires.
	doneTimes = 2

	// noTimes is how often the site of a machine is told that its operator rejected a
	// task, while the task is open: for two minutes.
	noTimes = 6

	// lastNoTimes is how often when the task is over: the site of a machine whose no
	// was the last, and ended it, has not heard it before.
	lastNoTimes = 3

	// answerSkew is how far a device's clock may be ahead.
	answerSkew = 300

	// closeFor is how long devices are told that a request is over. One that was
	// away for longer most likely restarted, which erased its one-time key; and
	// what it could still make is a partial signature of what is signed already.
	closeFor = 3600

	// maxHistory bounds the attempts that are remembered. Devices answer a
	// request 16 times at most.
	maxHistory = 64

	// maxOffered bounds an offer with the pieces for officers, octets: 64 of less
	// than a kilobyte, and where a device lives on beats the words of as many who
	// opened it. All of it is kept and written down for each request.
	maxOffered = 192 << 10

	// maxText bounds what a device's refusal adds to a record, octets.
	maxText = 512
)

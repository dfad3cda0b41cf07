package virtual

// The limits of the package, each with its reason.
const (
	// maxCommand bounds the data of one command, chained or not, so that a
	// host cannot make the card hold an endless chain. The longest legitimate
	// command stores an object of maxObject bytes with its tags.
	maxCommand = 4096

	// maxObject is the largest data object a YubiKey 5 stores.
	maxObject = 3063

	// maxObjects bounds the state file. PIV names 36 objects, vendors' tools a
	// handful more.
	maxObjects = 64

	// pinLength is the fixed, 0xFF-padded length of PIN and PUK on the wire
	// (SP 800-73-4 Part 2, section 2.4.3); minPIN is the shortest PIN.
	pinLength = 8
	minPIN    = 6

	// defaultTries is the number of tries of PIN and PUK of a new card.
	defaultTries = 3

	// maxStateFile bounds what is read from disk as a state: maxObjects
	// objects of maxObject bytes in base64, and two dozen keys.
	maxStateFile = 1 << 20
)

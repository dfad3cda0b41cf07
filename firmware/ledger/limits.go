package ledger

// Limits of the tables. A genesis comes from a ceremony that people watched, entries from a quorum of quorums, but both reach a
// device through a network, and their size is decided before their signatures can be checked.
const (
	// MaxGenesis bounds the encoded genesis. The bulk are commitments: a 4096-bit key shared 5 of 9 has 126·5 of 512 bytes.
	MaxGenesis = 4 << 20
	// MaxEntry bounds an encoded entry.
	MaxEntry = 64 << 10
	// MaxSignature bounds a genesis.sign message: a header and a hash.
	MaxSignature = 4 << 10

	maxShareID = 2*maxID + 1 // a share may be named after its key and device
	maxID      = 64          // bytes of an id: it appears in file names, subjects and log lines
	maxName    = 128         // bytes of a name or title: one line of a screen
	maxText    = 512         // bytes of a notice, a URL or the name of a standard

	maxServers   = 64
	maxDevices   = 64   // a key has at most 16 holders, but keys may have different ones (row A30)
	maxPersons   = 4096 // requesters included
	maxCards     = 8    // of a person
	maxOfficers  = 4096 // rows
	maxModels    = 256
	maxKeys      = 64
	maxWitnesses = 64
	maxChain     = 8 // certificates between a device's key and its maker's root
	maxNotices   = 64

	// MaxOfficersOfDevice bounds the rows of one device. It bounds the length of a chain of approvals, and stays below the 255
	// points that a sharing over GF(2⁸) has.
	MaxOfficersOfDevice = 64
	// MaxSharesOfDevice bounds the shares in one device (row A11).
	MaxSharesOfDevice = 32

	// MinQuorum is the least number of officers that must approve (row A21: at least 2 officers per device).
	MinQuorum = 2

	// maxAdminWindow is the longest power of a temporary administrator: "minutes or hours only" (row A9).
	maxAdminWindow = 24 * 3600
	// maxTime is the end of year 9999, the last that X.509 can write.
	maxTime = 253402300799
	// maxCertifyDays is the longest validity that a key may be allowed to certify: a hundred years.
	maxCertifyDays = 36525
)

package ledger

// Limits of the tables. A genesis comes from a ceremony that people watched, entries from a quorum of quorums, but both reach a
// device through a network, and their size is decided before their signatures can be checked.
const (
	// MaxGenesis bounds the encoded genesis. The bulk are commitments: a 4096-bit key shared 5 of 9 has 126·5 of 512 bytes. With the
	// signatures of 64 devices and the administrator, of MaxSignature each, it has to fit into one message of a device's link, 4 MiB
	// sealed: a device is committed by one, and shows its genesis in one. They and two headers take less than 384 KiB.
	MaxGenesis = 4<<20 - 384<<10
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

	// maxSources and maxOperators bound the heartbeat sources and the persons who may silence one: as many as devices and officers.
	maxSources   = 64
	maxOperators = 64
	// MaxSourcesOfDevice bounds the sources of one device. A challenge is one message sealed to all of them: sixteen recipients take
	// less than 3 KiB of it and are a quarter of envelope.MaxRecipients, and it is sent anew in every period.
	MaxSourcesOfDevice = 16

	// MinPeriod and MaxPeriod bound the time between two beats, in milliseconds. Below 50 ms the beats of a few devices would take a
	// processor; with more than twenty seconds a device that was opened, and waits a minute for its first lease (heartbeat.Grace), would
	// ask too seldom to survive two lost packets.
	MinPeriod = 50
	MaxPeriod = 20_000
	// MaxFirst bounds Minimum times Period, in milliseconds: so long a source of kind message takes for its first lease, and it has to
	// fit into the same minute.
	MaxFirst = 30_000
	// MinLeasePeriods is the least number of periods in a lease. A lease counts from the challenge or the slot of a beat; when the next
	// beat is lost, the one after it is due two periods later and has the third to arrive. With fewer, one lost packet would lock a token
	// and call officers.
	MinLeasePeriods = 3
	// MaxLease is a day, in milliseconds: a stolen device signs no longer than that.
	MaxLease = 24 * 3600 * 1000
	// MinDestroyLeases and MinDestroy (seconds) bound the second limit from below: the first must have had its time to work, and no
	// restart of a machine or a switch may cost shares. MaxDestroy is ten years: a second limit beyond it is none.
	MinDestroyLeases = 10
	MinDestroy       = 60
	MaxDestroy       = 10 * 365 * 86400

	// MinQuorum is the least number of officers that must approve (row A21: at least 2 officers per device).
	MinQuorum = 2

	// maxAdminWindow is the longest power of a temporary administrator: "minutes or hours only" (row A9).
	maxAdminWindow = 24 * 3600
	// maxTime is the end of year 9999, the last that X.509 can write.
	maxTime = 253402300799
	// maxCertifyDays is the longest validity that a key may be allowed to certify: a hundred years.
	maxCertifyDays = 36525
)

// Limits of authorities in two layers.
const (
	// MaxEnterprises is how many the tables hold: each is one more key of the devices (maxKeys).
	MaxEnterprises = 32
	// MaxEnterpriseCode and MaxDistributorNumber are the highest: six digits, which people read aloud.
	MaxEnterpriseCode    = 999_999
	MaxDistributorNumber = 999_999
	// MaxDistributors is how many task distributors an enterprise has.
	MaxDistributors = 8
	// MaxRevisions of one authority. Machine numbers are used up first.
	MaxRevisions = 9999
	// MaxParts is how many combinations a combiner of a running system holds: as many as threshold.MaxSubShares, since its share is one
	// object of a token.
	MaxParts = 126
	// MaxSubKeys is how many sub-keys a calculator of a running system has: two always do, and each costs an exponentiation for every
	// signature. With many more, a grouping could be made that a device would take minutes to judge.
	MaxSubKeys = 4
	// MaxCounted is how many dealings that were never entered a revision counts. Machines that they named count too, and there are at most
	// fifteen in a layer: more would not fit in any case.
	MaxCounted = 16
	// maxUnconfirmed is the room that an entry leaves for a dealing without its confirmation.
	maxUnconfirmed = MaxEntry - MaxSignature - 256
	// ConfirmationLife is how long an operator's confirmation may wait for its entry, in seconds: thirty days, in which the shares travel to
	// all devices and a quorum of quorums decides. What was forgotten for longer is dealt anew.
	ConfirmationLife = 30 * 86400
)

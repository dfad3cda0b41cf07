package document

import "github.com/privyseal/privyseal/firmware/threshold/grouping"

// Limits of this package. A request is refused, by name, where it exceeds one.
const (
	// MaxFile is the longest file that travels inside a request, octets. With
	// the approvals of its officers it must fit into one frame of a device's
	// link, 4 MiB; longer files need a key that allows digests.
	MaxFile = 3 << 20
	// maxPrivateKey is the longest file that is looked at as a private key in DER:
	// an RSA one of 16384 bits has 9.3 KiB.
	maxPrivateKey = 16 << 10
	// maxBatch bounds the certificates of a batch: officers see each of them. Time
	// bounds nothing more: devices work on a batch in pieces and hear their beats
	// meanwhile, and a server waits a minute for the answer. The longest work, four
	// half-length powers of 4096 bits a certificate and a proof of each, takes 12
	// seconds by libcrypto on a processor without vector multipliers.
	maxBatch = 100
	// maxBatchOctets bounds all of them with their requests, and maxBatchPowers the
	// powers of all calculators for them, octets. Both come to a combiner in one
	// frame of its link, 4 MiB, and half a MiB is left for approvals and for what
	// signed messages have besides (firmware.TestLargestBatchFits).
	maxBatchOctets = 1 << 20
	maxBatchPowers = 5 << 19
	// maxPower is how many octets a power and its proof are, in powers: the answer and
	// the challenge of a proof are shorter than two numbers as long as N.
	maxPower = 3
	// titleNames is how many names the title of a batch has, and titleName how long
	// each of them may be, characters: a title is read as a whole.
	titleNames = 3
	titleName  = 60
	// maxTBS bounds a certificate: what is longer no officer reads.
	maxTBS = 16 << 10
	// maxCSR bounds a certificate request; an RSA 8192 one with many names is 8 KiB.
	maxCSR = 16 << 10
	// maxEntry bounds a ledger command.
	maxEntry = 64 << 10
	// maxExtensions bounds the list; public certificates have about ten.
	maxExtensions = 24
	// maxNames bounds the subject alternative names that an officer must read.
	maxNames = 100
	// maxRDNs bounds a distinguished name.
	maxRDNs = 20
	// maxAttribute bounds an attribute value or alternative name, octets; a DNS
	// name has at most 253, RFC 5280's upper bounds are lower.
	maxAttribute = 1024
	// maxDepth bounds nesting in DER: certificates need about eight.
	maxDepth = 16
	// maxFileName and maxComment bound what a requester says about a document.
	maxFileName = 255
	maxComment  = 1000
	// maxIDLength bounds ids of keys, devices and persons.
	maxIDLength = 128
	// maxRoute is the largest number of devices of a key: the machines of one in
	// two layers; others have 16 (threshold.Split).
	maxRoute = grouping.MaxCalculators + grouping.MaxCombiners

	// maxLifetime bounds how long a request may wait for its officers, seconds.
	// A stolen approval is worth something until then.
	maxLifetime = 31 * day
	// maxBackdate and maxPostdate bound notBefore around the device's time:
	// backdating serves clients with slow clocks, never history; seconds.
	maxBackdate = 2 * day
	maxPostdate = 31 * day
	// maxSerial and minSerialBits bound a serial number: RFC 5280 4.1.2.2, and
	// the entropy that defeats chosen-prefix collisions.
	maxSerial     = 20
	minSerialBits = 64
	// minRSABits and maxRSABits bound a subject's RSA key: below it is weak, above
	// it stalls every verifier.
	minRSABits = 2048
	maxRSABits = 8192

	// maxClockSkew is how far a requester's clock may be ahead, seconds.
	maxClockSkew = 5 * 60

	day = 24 * 60 * 60
)

// Limits of the search for certificates in disguise. They bound time, and with
// it what is found: a certificate wrapped deeper than this is no threat, since
// the signature covers the wrapping.
const (
	// maxWrapping is how many layers of PEM, base64 or hex are taken off.
	maxWrapping = 4
	// maxElements is how many BER elements are looked at.
	maxElements = 20000
	// maxSiblings is how many elements laid end to end are looked at.
	maxSiblings = 64
	// maxIndefinite is how many elements are passed over in search of the end of
	// an indefinite length. Names, keys and algorithms have fewer.
	maxIndefinite = 256
	// viewHead is how much of a file an officer is shown, octets.
	viewHead = 512
)

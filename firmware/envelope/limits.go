package envelope

// Limits. Everything that arrives is checked against them before memory is
// spent on it.
const (
	// MaxMessage is the size of one signed or sealed message in bytes. The
	// largest real one is a chain of approvals that carries a document; larger
	// files are signed by digest.
	MaxMessage = 8 << 20

	// MaxProtected is the size of a protected header in bytes. A full one with
	// MaxRecipients recipients takes less than 3 KiB.
	MaxProtected = 4 << 10

	// MaxRecipients is the number of keys a message is sealed to: sixteen
	// devices at most hold one key, and each has a site server and a few
	// officers who want a copy.
	MaxRecipients = 64

	// MaxDepth is the nesting of arrays and maps in one CBOR item. Tables of
	// the ledger reach six.
	MaxDepth = 16

	// MaxChain is the number of messages nested in each other's payloads: all
	// officers of all devices of one sequential signature, with room to spare.
	MaxChain = 64

	// MaxType and MaxKeyName are lengths in bytes of names in a header.
	MaxType    = 64
	MaxKeyName = 64

	// spkiSize is the length in bytes of a P-256 public key in its usual
	// encoding (RFC 5480 section 2): 26 that say so and an uncompressed point.
	spkiSize = 91

	// MaxTime is the last second of the year 9999, as in RFC 5280 section
	// 4.1.2.5.2. It keeps sums of times far from overflow.
	MaxTime = 253402300799

	// MaxSkew is the largest allowance for a sender's fast clock, in seconds,
	// that a caller may ask of CheckFresh.
	MaxSkew = 3600
)

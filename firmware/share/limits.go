package share

// Limits.
const (
	// MaxPieces is M, the officers of one device for one share. The quorum is
	// some of them; more than sixteen cards at one device is a crowd, and the
	// search for a wrong piece tries up to C(16, 8) = 12870 combinations.
	MaxPieces = 16

	// MinThreshold is the least L. One piece alone would be the key itself, in
	// one officer's hands.
	MinThreshold = 2

	// MaxSecret is the longest secret that is split, in bytes: keys have 32 and
	// PINs 52.
	MaxSecret = 256

	// MaxStored is the largest share at rest in bytes: 126 sub-shares for
	// N of 4096 bits, each a wrapped PKCS#8 that holds N and d. As many parts of a
	// combiner's share take half of that, since they are not wrapped one by one.
	MaxStored = 1 << 20

	// MaxName is the length of a key, share, device or piece id in bytes.
	MaxName = 128

	// maxWrapped is the size of one sub-share under the KEK: N, d and some
	// framing.
	maxWrapped = 8 << 10
)

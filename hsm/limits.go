package hsm

// MaxPIN is the length of the longest PIN in bytes.
const MaxPIN = 255

const (
	// maxSessions bounds the pooled sessions of a token. More only adds
	// waiting: SoftHSM2 works on the caller's core, a hardware token on its own.
	maxSessions = 16

	// maxExponents bounds the exponents held open at once. Each keeps a session
	// of its own. A device holds at most 126 sub-shares of a key (C(n−1,t−1)
	// ≤ 126) and uses one at a time; two keys' worth leaves room.
	maxExponents = 256

	// maxLabel is the width of a token label (PKCS#11 v2.40, CK_TOKEN_INFO).
	maxLabel = 32

	// maxName bounds the labels of keys and the names of data objects. Tokens
	// differ; none in the vendor table refuses 128 bytes.
	maxName = 128

	// minPIN and maxPIN are SoftHSM2's, and within those of common tokens.
	minPIN = 4
	maxPIN = MaxPIN

	// maxData bounds a data object: 4 MiB was the largest tried on SoftHSM2.
	maxData = 4 << 20

	// maxAEAD bounds a message for the token's AES-GCM. A share is a few
	// kilobytes; PKCS#11 single-part GCM buffers the whole message.
	maxAEAD = 1 << 20

	// minModulusBits and maxModulusBits bound the modulus of an exponent.
	// RSA keys here have 2048 to 4096 bits; tests use smaller ones, but OpenSSL
	// 3, which SoftHSM2 stands on, refuses DH moduli under 512 bits.
	minModulusBits = 512
	maxModulusBits = 8192

	// maxExponentFactor bounds an exponent's length in multiples of |N|.
	// Integer shares outgrow the modulus, never twice over.
	maxExponentFactor = 2

	// maxWrapped bounds a wrapped exponent: PKCS#8 of N and d, with slack.
	maxWrapped = 8 << 10

	// findBatch is how many handles one C_FindObjects call asks for.
	findBatch = 64

	// maxObjects stops an enumeration of a token that never ends.
	maxObjects = 1 << 16
)

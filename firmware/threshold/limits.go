package threshold

const (
	// MaxDevices is the largest number of devices that share a key. A Subset
	// is a mask of 16 bits, and the number of subsets grows too fast for more.
	MaxDevices = 16

	// MaxSubShares is the largest number C(n−1, t−1) of sub-shares that one
	// device holds: C(9, 4) = 126, that is 5 of 10, or 8 of 9 of 16 devices
	// at the edges (3 of 16 has 105). At RSA-4096 it is 63 KiB of secret in
	// a device and at most C(10, 5)·5 = 1260 published check values, which take
	// the lead half a minute.
	MaxSubShares = 126

	// PublicExponent is the only public exponent: large enough that encoding
	// mistakes do not hurt, prime, and what every verifier accepts.
	PublicExponent = 65537

	// MaxNameLen bounds the strings in a Binding (key and share ids), so that a
	// hostile message cannot make a check expensive.
	MaxNameLen = 256

	// ChallengeLen is the length of a proof's challenge in bytes. Shoup (2000,
	// §2.2) has L₁ = 128 bits: a forger must hit it with one hash query. It
	// must also stay below the prime factors of (p−1)/2 and (q−1)/2.
	ChallengeLen = 16

	// nonceSlack is by how many bytes a proof's nonce r is longer than N: 128
	// bits for the challenge that multiplies the secret, and 128 bits so that
	// z = r + c·d hides d up to a statistical distance of 2⁻¹²⁸.
	nonceSlack = ChallengeLen + 16

	// responseSlack is by how many bytes a proof's response z is longer than N:
	// one more than the nonce, for the carry of the addition.
	responseSlack = nonceSlack + 1

	// openingALen is the length in bytes of a' in a commit-and-open check,
	// where a = 2a': a device that answers for a wrong partial has to guess a'
	// and succeeds with probability 2⁻¹²⁸ (safe primes).
	openingALen = 16

	// openingBSlack is by how many bytes b is longer than N, so that w = xᵃ·gᵇ
	// is uniform up to 2⁻¹²⁸ whatever a is, and hence says nothing of a.
	openingBSlack = 16

	// MinSeedLen is the shortest seed of one device, in bytes: each alone must
	// carry the security of the key if all others are known.
	MinSeedLen = 32

	// MaxSeeds bounds the number of seeds in one generation: the devices of a
	// system, with room for those that take part without holding a share.
	MaxSeeds = 256
)

// modulusBits lists the sizes of N. 2048 is what FIPS 186-5 and crypto/rsa
// accept at least; above 4096 one signature takes a device longer than people
// wait, and verifiers begin to refuse.
var modulusBits = []int{2048, 3072, 4096}

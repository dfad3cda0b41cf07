package modexp

const (
	// MaxModulusLen is the length in bytes of the longest modulus: RSA-4096,
	// the largest that this system makes. It bounds the work that one call
	// can cause.
	MaxModulusLen = 512

	// MaxExponentLen is the length in bytes of the longest exponent. The
	// longest in use is the answer z of a proof, |N| + 33 bytes, and integer
	// shares grow beyond |N| by some bytes at each re-sharing; twice the
	// modulus leaves room for both.
	MaxExponentLen = 2 * MaxModulusLen
)

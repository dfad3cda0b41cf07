package modexp

const (
	// MaxModulusLen is the length in bytes of the longest modulus: RSA-4096,
	// the largest that this system makes. It bounds the work that one call
	// can cause.
	MaxModulusLen = 512

	// MaxExponentLen is the length in bytes of the longest exponent. The
	// longest in use is the answer z of a proof about a share over the integers
	// (package integer): 1057 bytes for RSA-4096 and 9 of 16 devices.
	MaxExponentLen = 2*MaxModulusLen + 128
)

package twolayer

const (
	// SlackBits is by how many bits a sub-key is longer than half of N: see
	// [Hiding].
	SlackBits = 128

	// MinHiding is to how many bits d has to be hidden from every coalition that
	// the sharing promises to resist, at least: see [Hiding]. A shift of 2³² in all,
	// which no grouping in use comes near, leaves as many.
	MinHiding = 100

	// MaxTries is how many combinations a combiner tries for one signature. Each
	// costs one full exponentiation; with f liars it needs at most one more than
	// there are sets of f calculators that explain the failures (see nextTry), and
	// 64 are enough for two liars among ten. The next combiner goes on where this one
	// gives up.
	MaxTries = 64

	// maxFailures is how many failed sets of machines a Solver remembers. Three liars
	// among 15 cause C(15,1) + C(15,2) + C(15,3) = 575 failures at most, and every
	// choice of the next combination looks at all.
	maxFailures = 600

	// maxEntry bounds the numbers in the search for a shift, so that a product of
	// two and a sum of as many as there are sub-keys fit an int64.
	maxEntry = 1 << 26
)

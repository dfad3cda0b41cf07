package grouping

const (
	// MaxCalculators is k at most. C(15, 7) machine sets are the most that the
	// search is measured with.
	MaxCalculators = 15

	// MaxCombiners is m at most.
	MaxCombiners = 15

	// MaxKeys is l at most: each sub-key costs a calculator one exponentiation
	// for every signature.
	MaxKeys = 16

	// MaxCombinations is how many one combiner holds at most: C(15, 7), one of
	// each machine set.
	MaxCombinations = 6435

	// MaxNumber is the highest number of a machine. They are given once, so that
	// growth and loss use them up.
	MaxNumber = 999

	// MaxCoalitions is how many coalitions a collusion table looks at: 15
	// combiners with any of 15 calculators would be 2³⁰.
	MaxCoalitions = 1 << 16

	// DefaultBudget is how many steps a search takes: some seconds.
	DefaultBudget = 1 << 20

	// DefaultSearch is how many steps the search for the smallest takes as a whole,
	// over all that it tries: some seconds.
	DefaultSearch = 3 << 20

	// MaxEntries bounds the memory of a search that keeps what every coalition
	// cannot tell: 2²⁵ numbers are 128 MiB.
	MaxEntries = 1 << 25

	// MaxOptions is how many combinations a complete search starts from; with more
	// it would not end.
	MaxOptions = 1 << 13

	// MaxLines is how many lines of weak coalitions a table prints; Table.Weak has
	// all.
	MaxLines = 100
)

package medium

const (
	// maxPlan bounds a plan: people are to read it.
	maxPlan = 256 << 10

	// maxFile bounds every other file on a medium: a ledger of ten thousand
	// commands.
	maxFile = 64 << 20

	// maxFiles bounds the files of a list: a share or an invitation for each of
	// thirty machines, sixteen abandoned dealings, and what goes with them.
	maxFiles = 64
)

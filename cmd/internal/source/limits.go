package source

import "time"

const (
	// glance is the pace at which a source looks at its directory while nothing
	// else happens, and writes down what it shows. Before each beat it looks
	// anyway.
	glance = time.Second

	// shown is how old what a running source shows may be: some glances.
	shown = 10 * time.Second

	// clockJump is by how much the wall clock may differ from the boot-time
	// clock since the last glance, and how long a machine may have slept,
	// before people are told.
	clockJump = 2 * time.Second

	// askAgain is how long the message server has for a page of the ledger before
	// it is asked again.
	askAgain = 5 * time.Second

	// quiet is how long the same refusal is told only once: a device whose
	// instance is not known asks in every period.
	quiet = time.Minute

	// maxTold bounds the refusals that are remembered for that: some for each
	// device of a system.
	maxTold = 1024

	// reloads is how often a beat key is looked for again that was replaced
	// between finding and reading it.
	reloads = 5

	// epochJump is added to the epoch of a backup when it is restored: more
	// rotations than a source makes in its life.
	epochJump = 1 << 20

	// maxEpoch keeps epochs far from the end of the numbers.
	maxEpoch = 1 << 62

	// maxReason bounds what is written down with a local revocation.
	maxReason = 200

	// maxFile bounds a file that people hand over: pieces, requests, manifests
	// of sixteen pieces.
	maxFile = 64 << 10
)

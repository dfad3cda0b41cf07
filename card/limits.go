package card

import "time"

const (
	// defaultTimeout bounds one exchange with a card. A YubiKey waits 15 s for
	// a touch; key generation and a slow contactless reader fit too.
	defaultTimeout = 30 * time.Second

	// lookTimeout bounds the reading of a card's serial number. A card that
	// needs longer is listed as mute.
	lookTimeout = 5 * time.Second

	// lookBriefly bounds the first look at a reader: ten times what a card
	// needs to tell its serial number. Slower ones are looked at again, last.
	lookBriefly = time.Second

	// lookTries is how often a reader in use is tried: another program may just
	// be looking, too, which takes it a millisecond.
	lookTries = 3

	// inUsePatience is how long Open retries a reader that another program
	// holds when the caller's context has no deadline.
	inUsePatience = 5 * time.Second

	// inUseRetry is the pause between two attempts. A signature by another
	// program takes tens of milliseconds.
	inUseRetry = 40 * time.Millisecond

	// waitPoll is how often Wait looks. pcscd itself sees an insertion only
	// every 400 ms.
	waitPoll = 250 * time.Millisecond

	// closeTimeout bounds the reset at the end of a transaction.
	closeTimeout = 5 * time.Second

	// minPIN and maxPIN are the PIN lengths of PIV (SP 800-73-4 part 2,
	// 2.4.3): other lengths are refused here, because a card counts them as a
	// wrong PIN.
	minPIN = 6
	maxPIN = 8

	// unknownRetries says in a Prompt that the card does not tell how many
	// tries are left.
	unknownRetries = -1

	// maxResponse bounds a chained response while a reader is looked at.
	maxResponse = 4096
)

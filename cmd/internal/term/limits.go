package term

import "time"

const (
	// maxSecret bounds a typed PIN or passphrase, in bytes. It must stay below
	// what fits a line of Assuan with every byte escaped.
	maxSecret = 255

	// maxLine is the length of a line of the Assuan protocol, with its newline
	// (Assuan manual, 2.1: 1000 bytes without it).
	maxLine = 1002

	// maxLines bounds what a pinentry program may say before it answers.
	maxLines = 1000

	// maxAnswer bounds the line typed for Confirm and ConfirmHeard.
	maxAnswer = 1024

	// keyPoll is how often a prompt looks whether it was cancelled.
	keyPoll = 100 // milliseconds

	// byeTimeout is how long a pinentry program may take to exit.
	byeTimeout = 2 * time.Second

	// progressDelay: what is done sooner shows no progress.
	progressDelay = 2 * time.Second

	// progressRefresh is the pace of the line on a terminal.
	progressRefresh = 250 * time.Millisecond

	// progressLine is the pace of plain lines elsewhere, in logs for example.
	progressLine = 15 * time.Second
)

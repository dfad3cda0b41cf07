package approval

import "github.com/privyseal/privyseal/firmware/ledger"

const (
	// MaxApprovals bounds the approvals in a set and the length of one device's part of a chain: its officers, each once.
	MaxApprovals = ledger.MaxOfficersOfDevice

	// maxPieces bounds the pieces in an approval: one for each holder of the share, hot standbys included.
	maxPieces = 16
	// maxSealed bounds a sealed piece: 65 bytes of encapsulation, 16 of tag, the piece of a 32-byte key with its ids.
	maxSealed = 1 << 10
	// minSealed is an encapsulation and a tag without content.
	minSealed = 65 + 16
	maxPiece  = 256 // bytes of a piece's id
	maxReason = 512 // bytes of a reason: a few lines on a screen

	// MaxOfferLife is the longest life of a one-time key, in seconds. A day: approvals are collected from people.
	MaxOfferLife = 24 * 3600

	// clockSkew is how far a sender's clock may run ahead, in seconds. Expiry is never stretched.
	clockSkew = 60

	// unlockSkew is the same for officers who unlock a device: their workstations may be anywhere, and a device that just started has
	// no better clock than theirs.
	unlockSkew = 300
)

// Package approval is what officers say about a request, and when that is enough.
//
// A device uses its share only when a quorum of its own officers has approved that very request (rows A15, A16). An officer's
// approval is a COSE_Sign1 by slot 9C of his card over an [Approval], which names the request's digest, the key and its epoch, the
// device and the share. Approvals come as a chain, where each signature covers everything that was signed before, byte for byte
// (row A14), or as a set of independent signatures (row A2). [VerifyChain] and [VerifySet] are the only makers of a [Quorum].
//
// An approval also carries the officer's piece of the share's decryption key (row A22), sealed to a one-time key that the device
// signed in an [Offer]. Nothing here opens a piece.
//
// Quorums count persons: a second card adds nothing, and neither the requester nor any of his other cards ever counts.
// The package does no I/O; the time is an argument.
package approval

import (
	"github.com/privyseal/privyseal/firmware/envelope"
)

// Types and version of the messages of this package.
const (
	TypeApproval = "approval"
	TypeOffer    = "offer"
	Version      = 1
)

// Decisions.
const (
	Approve = "approve"
	Reject  = "reject"
)

// Approval is the payload of an officer's message of type TypeApproval. Rows A14, A16, A22.
type Approval struct {
	// Request is the digest of the request message (envelope.Verified.Digest), which covers the document.
	Request envelope.Hash `cbor:"1,keyasint"`
	// Key and Epoch that the request names.
	Key   string `cbor:"2,keyasint"`
	Epoch uint64 `cbor:"3,keyasint"`
	// Device is the device that may sign, Share the share it may use.
	Device string `cbor:"4,keyasint"`
	Share  string `cbor:"5,keyasint"`
	// Decision is Approve or Reject.
	Decision string `cbor:"6,keyasint"`
	// Reason is free text, required for Reject.
	Reason string `cbor:"7,keyasint"`
	// Pieces are the officer's piece of the share's key, sealed to the one-time key of each device that holds the share; empty
	// for Reject.
	Pieces []SealedPiece `cbor:"8,keyasint"`
	// Prior is, in a chain, the raw message signed before this one: another approval for the same device, or at the start the
	// partial signature of the device before. Empty at the start of the first device's chain, and in a set.
	Prior []byte `cbor:"9,keyasint"`
	// Created and Expires repeat the header's.
	Created int64 `cbor:"10,keyasint"`
	Expires int64 `cbor:"11,keyasint"`
}

// SealedPiece is an officer's piece of a share's key on its way to a device. Row A22.
type SealedPiece struct {
	// Offer is the digest of the device's offer message, whose one-time key the piece is sealed to.
	Offer envelope.Hash `cbor:"1,keyasint"`
	// Device made the offer.
	Device string `cbor:"2,keyasint"`
	// Piece is the piece's id.
	Piece string `cbor:"3,keyasint"`
	// Sealed is the HPKE encapsulation and ciphertext (envelope.SealTo).
	Sealed []byte `cbor:"4,keyasint"`
}

// Offer is the payload of a device's message of type TypeOffer: a one-time key for the pieces of one share, for one request.
// The device erases the private half when the request closes or expires, at lock and at restart. Design §3, row A22.
type Offer struct {
	// Request is the digest of the request message.
	Request envelope.Hash `cbor:"1,keyasint"`
	Key     string        `cbor:"2,keyasint"`
	Epoch   uint64        `cbor:"3,keyasint"`
	Device  string        `cbor:"4,keyasint"`
	Share   string        `cbor:"5,keyasint"`
	// Instance is the device's ([InstanceID]).
	Instance [16]byte `cbor:"6,keyasint"`
	// Public is the one-time key: an uncompressed P-256 point, 65 bytes.
	Public []byte `cbor:"7,keyasint"`
	// Created and Expires repeat the header's.
	Created int64 `cbor:"8,keyasint"`
	Expires int64 `cbor:"9,keyasint"`
	// Proof is there if and only if the device lives on beats.
	Proof *InstanceProof `cbor:"10,keyasint,omitempty"`
}

package api

import (
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// Paths. Those of polls are GET, all others POST.
const (
	PathRelay      = "/v1/relay"
	PathSystem     = "/v1/system"
	PathSystemShow = "/v1/system/show"
	PathRequest    = "/v1/request"
	PathTracking   = "/v1/tracking" // poll
	PathInbox      = "/v1/inbox"    // poll
	PathApproval   = "/v1/approval"
	PathUnlockAsk  = "/v1/unlock/ask"
	PathUnlock     = "/v1/unlock"
	PathStatus     = "/v1/status"
	PathRegister   = "/v1/register"
	PathRecertify  = "/v1/recertify"
	PathSourceSend = "/v1/source/send"
	PathInvite     = "/v1/dealing/invite"
	PathInstall    = "/v1/dealing/install"
	PathTasks      = "/v1/tasks"
)

// Relay hands a frame of a ceremony to a device of this site. A server passes
// on messages of the ceremony only.
//
// Key generation takes minutes, a connection does not live that long: when the
// device has not answered in time, Relayed is empty, and the client posts the
// same Relay again. The frame goes to the device once.
type Relay struct {
	Device string `cbor:"1,keyasint"`
	Frame  []byte `cbor:"2,keyasint"`
}

// Relayed carries the device's answer, or nothing yet.
type Relayed struct {
	Frame []byte `cbor:"1,keyasint"` // empty: not yet, post the same Relay again
}

// MinLifetime is how long a request has to last, seconds. Officers do not approve in
// less, and tasks of authorities in two layers would be illegal for that. Of a
// request that comes half of it has to be left: the rest is for whoever signs it, for
// its way and for clocks that differ.
const MinLifetime = 60

// Accepted answers a request: the server keeps it durably and works on it.
type Accepted struct {
	Request envelope.Hash `cbor:"1,keyasint"` // digest of the request message, its name from now on
}

// TypeInboxItem is the type of the message that carries an InboxItem, signed
// by the officer's message server and sealed to his 9D key. Version 1.
const (
	TypeInboxItem    = "inbox.item"
	InboxItemVersion = 1
)

// InboxItem asks an officer for his word. Everything that counts in it is
// signed by others: the officer's workstation verifies the request and the
// offer itself.
type InboxItem struct {
	Request []byte               `cbor:"1,keyasint"` // the request message, raw
	Offers  [][]byte             `cbor:"2,keyasint"` // offers of the devices that hold the share, raw; the piece is sealed to each
	Device  string               `cbor:"3,keyasint"`
	Share   string               `cbor:"4,keyasint"` // share id
	Piece   ceremony.SealedPiece `cbor:"5,keyasint"` // the officer's piece of the share's key
	// Prior is what the officer's approval covers in a chain (approval.Approval.Prior):
	// the approval before his, or the partial signature of the device before.
	// Empty at the start of a chain and in a set.
	Prior []byte `cbor:"6,keyasint"`
	Mode  string `cbor:"7,keyasint"` // form of approval: document.ApprovalsChain or ApprovalsSet
	// Names are for people: who approved here already.
	Approved []string `cbor:"8,keyasint"`
	Need     uint64   `cbor:"9,keyasint"` // approvals that the device needs
}

// Approved says how an approval was taken. A refused one is an HTTP error
// whose text names the reason.
type Approved struct {
	Device  string   `cbor:"1,keyasint"`
	Have    uint64   `cbor:"2,keyasint"`
	Need    uint64   `cbor:"3,keyasint"`
	Missing []string `cbor:"4,keyasint"` // names of officers who may still approve; empty when the quorum is complete
	// Queued means that the site of the request's coordinator cannot be reached
	// now: the approval is kept here durably and sent when it can be, and Have
	// and Need are not known.
	Queued bool `cbor:"5,keyasint"`
}

// UnlockAsk asks for a locked device's one-time key, wherever the device is.
type UnlockAsk struct {
	Device string `cbor:"1,keyasint"`
}

// Unlocked says how an unlock approval was taken.
type Unlocked struct {
	Have    uint64           `cbor:"1,keyasint"`
	Need    uint64           `cbor:"2,keyasint"`
	Missing []string         `cbor:"3,keyasint"` // names
	Status  *firmware.Status `cbor:"4,keyasint"` // after the quorum was complete, else nil
	// Restored are the names of those who took back a device whose log is
	// shorter than it was (approval.UnlockApproval.Restored). Beat sources count
	// that only if all of the quorum say so.
	Restored []string `cbor:"5,keyasint"`
}

// SourceSend hands a source, or a device that answers as one, a message that
// is sealed to it: of type "beat.revoke" and no other.
type SourceSend struct {
	Source string `cbor:"1,keyasint"` // id of the source or device
	Frame  []byte `cbor:"2,keyasint"`
}

// SourceSent carries the source's answer, "beat.revoked", sealed to whom the
// message named.
type SourceSent struct {
	Frame []byte `cbor:"1,keyasint"`
}

// Register carries SWA certificates, which the devices verify themselves.
type Register struct {
	Certificates [][]byte `cbor:"1,keyasint"` // X.509 DER
}

// Registered says what each device of the system made of them.
type Registered struct {
	Devices []DeviceStatus `cbor:"1,keyasint"`
}

// Recertify asks one device for requests for its own and its officers' SWA
// certificates. The answer is firmware.Requests.
type Recertify struct {
	Device  string `cbor:"1,keyasint"`
	Expires int64  `cbor:"2,keyasint"` // of the requests, unix seconds
}

package coordinator

import (
	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// Effects are what a step wants done.
type Effects struct {
	// Record, if not nil, has to be durable before any action is carried out
	// and before anybody is told of the step.
	Record []byte
	// Changed says that there is something new to tell ([Request.Tracking]). Not
	// all of that is in a record: after a crash a revision may come twice, with
	// what is asked for again.
	Changed bool
	Actions []Action
}

// An Action is an Ask, a Present or a Broadcast.
type Action interface{ action() }

// Ask sends a message to a device, wherever it is. Its answer, a COSE_Sign1 of
// the device, comes back with [Request.Answer], or its silence with
// [Request.Silent]. An ask that was lost in a crash is asked again in another
// way; none need be remembered.
type Ask struct {
	ID      uint64
	Device  string
	Type    string // firmware.Type…
	Payload any    // of that type
}

// Present replaces what one device's officers have in their inboxes of this
// request. It is the whole of it, so that it can be sent again, and a later
// revision overtakes an earlier one. [Request.Presented] says that it arrived.
type Present struct {
	Device   string
	Revision uint64
	Items    []Item // empty: nothing is asked of them any more
}

// Item is one officer's item.
type Item struct {
	Officer envelope.KeyID // of the 9D key that it is to be sealed to
	Person  string
	Content api.InboxItem
}

// Broadcast sends a packet to all sites, this one included, on its enterprise's
// channel. It may be lost: what has to arrive is sent again.
type Broadcast struct {
	Channel string // tolerant.B1 …
	Packet  tolerant.Packet
}

func (Ask) action()       {}
func (Present) action()   {}
func (Broadcast) action() {}

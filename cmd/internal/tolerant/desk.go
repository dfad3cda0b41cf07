package tolerant

import (
	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// Config is what a desk works with.
type Config struct {
	State ledger.State
	Site  string // id of the server
	// Illegal are the illegal tasks that an earlier run kept.
	Illegal []api.IllegalTask
}

// Effects are what a step wants done.
type Effects struct {
	Asks []Ask
	// Send are packets for all sites, this one included: each goes on its own
	// channel ([Packet.Channel]) of its enterprise.
	Send []Packet
	// Keep says that the illegal tasks changed: [Desk.Illegal] has to be kept.
	Keep bool
}

// Ask sends a message to a device of this site. Its answer, a COSE_Sign1 of the
// device, which the server has verified, comes back with [Desk.Answer], or its
// silence with [Desk.Silent].
type Ask struct {
	ID      uint64
	Device  string
	Type    string // firmware.Type…
	Payload any    // of that type
}

// Desk is where the calculators and combiners of one site work. It is a pure
// state machine: no clock, no network, no goroutine. It is not safe for
// concurrent use.
type Desk struct {
	Config
}

// NewDesk makes the desk of a site.
func NewDesk(c Config) *Desk { return &Desk{Config: c} }

// Packet takes a packet from any channel.
func (d *Desk) Packet(now int64, p Packet) Effects { return Effects{} }

// Answer takes a device's answer to an ask.
func (d *Desk) Answer(now int64, id uint64, raw []byte) Effects { return Effects{} }

// Silent says that an ask brought no answer.
func (d *Desk) Silent(now int64, id uint64, why string) Effects { return Effects{} }

// Awake says that a device is worth asking again at once: its link came up, or
// its officers unlocked it.
func (d *Desk) Awake(now int64, device string) Effects { return Effects{} }

// Tick lets time pass. It is called every second or so.
func (d *Desk) Tick(now int64) Effects { return Effects{} }

// Renew says that the ledger has grown.
func (d *Desk) Renew(now int64, s ledger.State) Effects { d.State = s; return Effects{} }

// Illegal are tasks that no operator confirmed, or that are not what they say
// they are, oldest first.
func (d *Desk) Illegal() []api.IllegalTask { return nil }

// Tasks are those that the desk works on, oldest first.
func (d *Desk) Tasks() []api.Task { return nil }

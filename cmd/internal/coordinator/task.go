package coordinator

import (
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// Packet takes a packet of a broadcast channel. Those of other requests,
// tasks and channels are passed over, and so is everything if the key is not
// shared in two layers.
func (r *Request) Packet(now int64, channel string, p tolerant.Packet) Effects {
	return r.step(now, func() {})
}

// Renew says that the ledger has grown.
func (r *Request) Renew(now int64, s ledger.State) Effects {
	return r.step(now, func() {})
}

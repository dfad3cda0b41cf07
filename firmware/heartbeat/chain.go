package heartbeat

import (
	"encoding/binary"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// A sequence is a one-way chain (L. Lamport, Password authentication with
// insecure communication, CACM 24(11), 1981): its last element comes from a
// pseudo-random function of the source's secret, each other one is the hash of
// the one after it, and they are sent from the first to the last. Source A has
// a generator in the device that runs in step with the source's; a device that
// holds a chain's element can verify what comes, but not make it, so that not
// even its memory is enough to go on beating.

// step is one step back in the chain: from the value of a slot to the one
// before. Device and slot are part of it, so that no two chains share a step.
func step(device string, slot uint64, v envelope.Hash) envelope.Hash {
	return envelope.HashOf("privyseal beat sequence v1", []byte(device), binary.BigEndian.AppendUint64(nil, slot), v[:])
}

// newChain is a chain with slots 0 to n, made from the source's secret for one
// series of one instance.
func newChain(secret []byte, device string, instance [16]byte, nonce [32]byte, n uint64) []envelope.Hash {
	v := make([]envelope.Hash, n+1)
	v[n] = envelope.HashOf("privyseal beat sequence seed v1", secret, []byte(device), instance[:], nonce[:])
	for k := n; k > 0; k-- {
		v[k-1] = step(device, k, v[k])
	}
	return v
}

// chain is a device's end of one.
type chain struct {
	slot uint64 // of the last value that was accepted
	last envelope.Hash
}

// accept takes the value of a later slot. Values that were lost in between are
// passed over, at most loss in a row; an old value is never taken again.
func (c *chain) accept(device string, slot uint64, v envelope.Hash, loss uint64) error {
	switch {
	case slot <= c.slot:
		return ErrOld
	case slot-c.slot-1 > loss:
		return ErrLost
	}
	w := v
	for k := slot; k > c.slot; k-- {
		w = step(device, k, w)
	}
	if w != c.last {
		return ErrValue
	}
	c.slot, c.last = slot, v
	return nil
}

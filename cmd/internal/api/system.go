package api

import (
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

const (
	// MaxLedger is the largest ledger that servers and homes keep, octets of its
	// entries: whoever verifies it holds it in memory. Some thousand dealings of the
	// largest authorities.
	MaxLedger = 256 << 20

	// PageOctets is how much of it one page takes: an answer is to leave within
	// seconds, over slow lines too.
	PageOctets = 1 << 20
)

// SystemAsk asks for a page of the system.
type SystemAsk struct {
	After  uint64 `cbor:"1,keyasint"` // how many entries the asker has
	Bundle bool   `cbor:"2,keyasint"` // he wants the bundle as well
}

// System is a page of a system. It proves itself to whoever knows the system's
// id (ledger.VerifyGenesisOf) and the entries before.
type System struct {
	Bundle  []byte   `cbor:"1,keyasint"` // ledger.Bundle, encoded; may be empty
	After   uint64   `cbor:"2,keyasint"` // the position that the entries follow
	Entries [][]byte `cbor:"3,keyasint"` // ledger.SignedEntry, encoded, in order
}

// SystemPage is one as a server shows it.
type SystemPage struct {
	System System `cbor:"1,keyasint"`
	// Height is how many entries the server has in all, and Head the hash of the
	// last, the system's id if there is none. Prev is that of the one at the page's
	// position, zero if the server has fewer. Who has another at one of these
	// positions is in a system that was split.
	Height uint64        `cbor:"2,keyasint"`
	Head   envelope.Hash `cbor:"3,keyasint"`
	Prev   envelope.Hash `cbor:"4,keyasint"`
}

// SystemTaken answers System: how many entries the server has now.
type SystemTaken struct {
	Height uint64 `cbor:"1,keyasint"`
}

// PageOf is the page of a system that somebody asks for.
func PageOf(bundle []byte, state ledger.State, entries [][]byte, ask SystemAsk) *SystemPage {
	p := &SystemPage{System: System{After: ask.After}, Height: state.Height(), Head: state.Head()}
	p.Prev, _ = state.HashAt(ask.After)
	room := PageOctets
	if ask.Bundle {
		p.System.Bundle = bundle
		room -= len(bundle) // with a large one no entry fits into an answer
	}
	if ask.After < uint64(len(entries)) && room > 0 {
		p.System.Entries = FirstOf(entries[ask.After:], room)
	}
	return p
}

// FirstOf is as many of the first entries as have so many octets, at least one.
func FirstOf(entries [][]byte, octets int) [][]byte {
	size := 0
	for i, e := range entries {
		if size += len(e); i > 0 && size > octets {
			return entries[:i]
		}
	}
	return entries
}

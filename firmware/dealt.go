package firmware

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// A share of an authority in two layers comes to a device before the ledger
// knows of it: dealt. It is pending until the ledger has its dealing, then in
// force while the ledger's row names it and its version, then superseded. One
// that was superseded, or that the ledger never will have, is dropped: its
// object destroyed, then its record closed.

// dealtBody is the record of a share that this device was dealt. Its object is
// in the token before the record is durable: a crash in between leaves an object
// that no record names, which no piece opens, and whose place the next takes.
type dealtBody struct {
	Dealing    envelope.Hash `cbor:"1,keyasint"`
	Enterprise uint64        `cbor:"2,keyasint"`
	Revision   uint64        `cbor:"3,keyasint"`
	Key        string        `cbor:"4,keyasint"`
	Share      string        `cbor:"5,keyasint"`
	Version    uint64        `cbor:"6,keyasint"`
	Layer      uint64        `cbor:"7,keyasint"`
	Number     uint64        `cbor:"8,keyasint"`
	Slot       uint64        `cbor:"9,keyasint"` // its place in the token
	// Combinations are those of a combiner's parts, in their order: the ledger's
	// row may come to have others.
	Combinations []grouping.Combination `cbor:"10,keyasint,omitempty"`
	Pieces       []ceremony.SealedPiece `cbor:"11,keyasint"`
}

// droppedBody is the record of a dealt share that is gone.
type droppedBody struct {
	Dealing envelope.Hash `cbor:"1,keyasint"`
	Reason  string        `cbor:"2,keyasint"`
}

// dealtShare is one in the token.
type dealtShare struct {
	dealtBody
	at int64 // when it was stored
}

// slotObject names the token's object of a dealt share. A device that crashed
// between an object and its record finds what it left by these names alone, and
// no share id has a slash.
func slotObject(slot uint64) string {
	return ceremony.ShareObject("dealt/" + strconv.FormatUint(slot, 10))
}

// foldDealt applies the records of dealt shares.
func (s *state) foldDealt(r *Record) error {
	if r.Kind == recDealt {
		var d dealtBody
		if err := envelope.Unmarshal(r.Body, &d); err != nil {
			return err
		}
		for _, o := range s.dealt {
			if o.Dealing == d.Dealing || o.Slot == d.Slot {
				return errors.New("takes the place of another")
			}
		}
		s.dealt = append(slices.Clip(s.dealt), dealtShare{d, r.At})
		s.slots = max(s.slots, d.Slot+1)
		return nil
	}
	var d droppedBody
	if err := envelope.Unmarshal(r.Body, &d); err != nil {
		return err
	}
	s.dealt = slices.DeleteFunc(slices.Clone(s.dealt), func(o dealtShare) bool { return o.Dealing == d.Dealing })
	return nil
}

// foldDealing remembers which dealings the ledger had.
func (s *state) foldDealing(e ledger.Entry) error {
	if e.Kind != ledger.KindDealing {
		return nil
	}
	d, err := ledger.DecodeDealing(e.Body)
	if err != nil {
		return err
	}
	digest, err := d.Digest()
	if err != nil {
		return err
	}
	if s.dealings = maps.Clone(s.dealings); s.dealings == nil {
		s.dealings = map[envelope.Hash]bool{}
	}
	s.dealings[digest] = true
	return nil
}

// dealtAs finds the dealt share that the ledger's row of this device names, nil
// if it is not here or the ledger never had its dealing.
func (s *state) dealtAs(key string, h ledger.Holder) *dealtShare {
	for i := range s.dealt {
		if d := &s.dealt[i]; d.Key == key && d.Share == h.Share && d.Version == version(h) && s.dealings[d.Dealing] {
			return d
		}
	}
	return nil
}

// dealtBy finds the dealt share of a dealing.
func (s *state) dealtBy(dealing envelope.Hash) *dealtShare {
	for i := range s.dealt {
		if s.dealt[i].Dealing == dealing {
			return &s.dealt[i]
		}
	}
	return nil
}

// version is that of a share at rest. Rows of the genesis have none.
func version(h ledger.Holder) uint64 { return max(1, h.Version) }

// facts of a dealt share at rest.
func (d *dealtShare) facts(k *ledger.Key) share.Facts {
	return share.Facts{Key: d.Key, Epoch: k.Epoch, ShareID: d.Share, Index: d.Number, Modulus: k.Public.N, Version: d.Version, Layer: d.Layer}
}

// useless says why a dealt share serves nothing any more, or "".
func (m *Machine) useless(s *state, d *dealtShare, now int64) string {
	if !s.dealings[d.Dealing] {
		e, ok := s.ledger.Enterprise(d.Enterprise)
		switch {
		case ok && e.Revision >= d.Revision:
			return fmt.Sprintf("the ledger has another revision %d of enterprise %d", d.Revision, d.Enterprise)
		case now >= d.at+pendingLife:
			return "no entry brought its dealing into the ledger"
		}
		return ""
	}
	h, ok := s.ledger.HolderOf(d.Key, m.cfg.Local.ID)
	switch {
	case ok && h.Share == d.Share && version(h) == d.Version:
		return ""
	case m.offersUnder(d.Dealing) > 0:
		return "" // what was begun with it is finished with it
	case !ok:
		return "the device is no machine of the authority any more"
	}
	return fmt.Sprintf("version %d is in force", version(h))
}

// offersUnder counts the one-time keys for a dealt share.
func (m *Machine) offersUnder(dealing envelope.Hash) (n int) {
	for _, o := range m.offers {
		if o.dealing == dealing {
			n++
		}
	}
	return n
}

// tidy drops dealt shares that serve nothing any more. The object goes first: a
// crash before the record leaves a record of what is useless anyway.
func (m *Machine) tidy(c *ctx) {
	if len(c.draft.state.dealt) == 0 || m.Phase() != PhaseReady {
		return
	}
	for _, d := range c.draft.state.dealt {
		why := m.useless(c.draft.state, &d, c.Now)
		if why == "" {
			continue
		}
		err := m.cfg.Token.DeleteObject(slotObject(d.Slot))
		if err == nil || isNotFound(err) {
			err = c.add(recDropped, droppedBody{Dealing: d.Dealing, Reason: clip(why, 256)})
		}
		if err != nil {
			c.note(fmt.Sprintf("version %d of share %s stays: %v", d.Version, d.Share, err))
			continue
		}
		c.note(fmt.Sprintf("dropped version %d of share %s: %s", d.Version, d.Share, why))
	}
}

// freeSlot finds the place of the next dealt share, and destroys what crashes
// left in places that no record names.
func (m *Machine) freeSlot(s *state) (uint64, error) {
	used := map[uint64]bool{}
	for _, d := range s.dealt {
		used[d.Slot] = true
	}
	if len(used) >= maxSlots {
		return 0, refuse(CodeShare, "%d dealt shares are in device %s, and it holds no more: enter the dealings that wait, or let them be forgotten", len(used), m.cfg.Local.ID)
	}
	free := s.slots
	for i := s.slots; ; i-- { // one beyond the last, too: its record may be what is missing
		if !used[i] {
			if err := m.cfg.Token.DeleteObject(slotObject(i)); err != nil && !isNotFound(err) {
				return 0, faulty(CodeInternal, err)
			}
			free = i
		}
		if i == 0 {
			return free, nil
		}
	}
}

// slotObjects are the names of all objects of dealt shares that the token may
// hold, with or without a record.
func (s *state) slotObjects() []string {
	var out []string
	for i := range s.slots + 1 {
		out = append(out, slotObject(i))
	}
	return out
}

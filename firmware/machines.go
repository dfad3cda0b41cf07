package firmware

import "github.com/privyseal/privyseal/firmware/envelope"

// States of a machine in a Status.
const (
	MachineReady   = "ready"      // its share is here, as the ledger names it
	MachinePending = "pending"    // its share is here, and the ledger does not have the dealing yet
	MachineMissing = "missing"    // the ledger names a share that was not installed here
	MachineLeaving = "superseded" // finishes what was begun with an older share
)

// MachineStatus is a device's part in an authority in two layers.
type MachineStatus struct {
	Enterprise uint64 `cbor:"1,keyasint"` // code
	Key        string `cbor:"2,keyasint"`
	Share      string `cbor:"3,keyasint"`
	Layer      uint64 `cbor:"4,keyasint"` // ledger.LayerCalculator or LayerCombiner
	Number     uint64 `cbor:"5,keyasint"`
	Version    uint64 `cbor:"6,keyasint"`
	State      string `cbor:"7,keyasint"` // one of the Machine constants
	// Dealing that brought the share; zero where it is missing.
	Dealing envelope.Hash `cbor:"8,keyasint"`
}

// machines describes the device's parts in authorities in two layers.
func (m *Machine) machines(s *state) []MachineStatus {
	var out []MachineStatus
	for _, e := range s.ledger.Enterprises() {
		h, ok := s.ledger.HolderOf(e.Key.ID, m.cfg.Local.ID)
		if !ok {
			continue
		}
		if s.dealtAs(e.Key.ID, h) == nil {
			out = append(out, MachineStatus{
				Enterprise: e.Enterprise.Code, Key: e.Key.ID, Share: h.Share, Layer: h.Layer, Number: h.Index, Version: version(h), State: MachineMissing,
			})
		}
	}
	for _, d := range s.dealt {
		x := MachineStatus{
			Enterprise: d.Enterprise, Key: d.Key, Share: d.Share, Layer: d.Layer, Number: d.Number, Version: d.Version,
			State: MachineLeaving, Dealing: d.Dealing,
		}
		h, ok := s.ledger.HolderOf(d.Key, m.cfg.Local.ID)
		switch {
		case !s.dealings[d.Dealing]:
			x.State = MachinePending
		case ok && h.Share == d.Share && version(h) == d.Version:
			x.State = MachineReady
		}
		out = append(out, x)
	}
	return out
}

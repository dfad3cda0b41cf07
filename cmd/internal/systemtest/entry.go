package systemtest

import (
	"slices"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Enter puts a command into the ledger: the first devices sign it with the
// system-wide authority, at the word of all their officers, and every device
// that is open, and every source, is told.
func (s *System) Enter(kind string, body any) {
	s.t.Helper()
	entry, err := ledger.NewEntry(s.State, kind, body, s.Now().Unix())
	s.check(err)
	var by []uint64
	for i := range s.Key(SWA).T {
		by = append(by, i+1)
	}
	r := s.Request(Requester, document.Request{Key: SWA, Kind: document.KindEntry, Document: entry})
	x := ledger.SignedEntry{Entry: entry, Algorithm: string(threshold.RS256), Signature: s.MustSign(r, by...)}
	v, err := ledger.VerifyEntry(s.State, x)
	s.check(err)
	s.State, err = ledger.ApplyVerified(s.State, v)
	s.check(err)
	raw, err := envelope.Marshal(x)
	s.check(err)
	s.entries = append(s.entries, raw)
	for _, id := range Devices {
		if d := s.Devices[id]; !d.Dead() && d.Machine().Phase() == firmware.PhaseReady {
			s.CatchUp(id)
		}
	}
	for _, x := range s.Sources {
		if x.Station != nil {
			s.check(x.Station.SetLedger(s.State))
		}
	}
}

// CatchUp hands a device the entries that it does not know.
func (s *System) CatchUp(device string) {
	s.t.Helper()
	l := s.Letter(device, firmware.TypeCatchup, firmware.Catchup{Entries: slices.Clone(s.entries[s.Status(device).Height:])})
	_, err := s.Deliver(device, l)
	s.check(err)
}

// Backup puts a tested backup of a device's share on record.
func (s *System) Backup(device, key string) {
	s.t.Helper()
	h, ok := s.State.HolderOf(key, device)
	if !ok {
		s.t.Fatalf("%s holds no share of %s", device, key)
	}
	s.Enter(ledger.KindBackup, ledger.Backup{Device: device, Share: h.Share, Place: "the vault of " + device, Tested: s.Now().Unix()})
}

// Quorum sets the number of devices that sign with a key.
func Quorum(key string, t uint64) Option {
	return func(r *room) {
		r.plan.AcknowledgeNoFault = true
		for i := range r.plan.Keys {
			if r.plan.Keys[i].ID == key {
				r.plan.Keys[i].T = t
			}
		}
	}
}

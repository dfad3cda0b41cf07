package clienttest

import (
	"crypto/rand"

	"github.com/privyseal/privyseal/cmd/internal/coordinator"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// Long makes a long ledger of n entries.
func (s *Sites) Long(n int) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = append(s.entries, s.System.Long(s.t, n)...)
}

// Authority deals an authority in two layers and enters it into the ledger. Its
// machines work at the desks of their sites.
func (s *Sites) Authority(p ledgertest.Plan) *ledgertest.Authority {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.System.Authority(s.t, p)
	entry, err := envelope.Marshal(&a.Entry)
	if err != nil {
		s.t.Fatal(err)
	}
	s.entries = append(s.entries, entry)
	for _, d := range s.Devices {
		d.Join(a)
	}
	for _, row := range s.State.Servers() {
		if s.desks[row.ID] == nil {
			s.desks[row.ID] = tolerant.NewDesk(tolerant.Config{State: s.State, Site: row.ID})
		} else {
			s.desks[row.ID].Renew(s.now.Load(), s.State)
		}
	}
	return a
}

// config is what a coordinator at a site works with.
func (s *Sites) config(site string) coordinator.Config {
	return coordinator.Config{
		State: s.State, Site: site, Rand: rand.Reader,
		Distribution: func(key *ledger.Key, request envelope.Hash, checked *document.Checked, expires int64) ([]byte, error) {
			s.task++
			e, _ := s.State.EnterpriseOf(key.ID)
			number, _ := e.DistributorOf(site)
			body, err := envelope.Marshal(firmware.Distribution{
				Enterprise: e.Enterprise.Code, Distributor: number, Task: s.task, Request: request,
				Hash: checked.Digest(), Documents: uint64(len(checked.Parts())), Created: s.now.Load(), Expires: expires,
			})
			if err != nil {
				return nil, err
			}
			return envelope.Sign(rand.Reader, s.Servers[site].Sign, envelope.Header{
				Type: firmware.TypeDistribution, Version: firmware.MessageVersion, System: s.State.System(), Key: key.ID, Epoch: key.Epoch,
				Created: s.now.Load(), Expires: expires,
			}, body)
		},
	}
}

// broadcast brings a packet to the desks and distributors of all sites.
func (s *Sites) broadcast(p tolerant.Packet) {
	raw, err := tolerant.Marshal(p)
	if err != nil {
		s.t.Error(err)
		return
	}
	for _, row := range s.State.Servers() {
		s.todo = append(s.todo, func() {
			p, err := tolerant.Unmarshal(raw)
			if err != nil {
				s.t.Error(err)
				return
			}
			s.desk(row.ID, s.desks[row.ID].Packet(s.now.Load(), p))
			if row.ID == OutputSite {
				s.hearOutput(p)
			}
			if x := s.requests[p.Request]; x != nil && x.site == row.ID {
				s.carry(x, x.r.Packet(s.now.Load(), p.Channel(), p))
			}
		})
	}
}

// desk carries out what a desk wants.
func (s *Sites) desk(site string, e tolerant.Effects) {
	for _, p := range e.Send {
		s.broadcast(p)
	}
	for _, a := range e.Asks {
		s.todo = append(s.todo, func() {
			if raw, ok := s.exchange(a.Device, a.Type, a.Payload); ok {
				s.desk(site, s.desks[site].Answer(s.now.Load(), a.ID, raw))
			} else {
				s.desk(site, s.desks[site].Silent(s.now.Load(), a.ID, "it has no link"))
			}
		})
	}
}

package ledgertest

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/firmware/ledger"
)

// Operator is the person who operates all sources: no officer of any device.
const Operator = Requester

// Policy is one for [WithHeartbeat] that may be changed: any 2 of a message source, a sequence source and a satellite, a beat a second,
// a lease of five seconds, no destruction.
func Policy() ledger.Heartbeat {
	return ledger.Heartbeat{
		Sources: []string{"message-1", "sequence-1", "satellite-1"}, Needed: 2, Period: 1000, Lease: 5000, Minimum: 2, Loss: 3,
	}
}

// WithHeartbeat gives devices a policy; all of them if none is named. It makes the sources that the policy names: their ids begin with
// their kind ("message-1", "sequence-x", "satellite-7"), their keys are those of [NewPair] of the id, and Operator operates them. An id of
// a device stands for itself; a device's own is left out of its policy, so that one policy may name all devices.
//
// The instance of each device is [Instance], which is no hash of any keys: an option that comes later may set another.
func WithHeartbeat(policy ledger.Heartbeat, devices ...string) Option {
	return func(g *ledger.Genesis) {
		for _, id := range policy.Sources {
			addSource(g, id)
		}
		for i := range g.Devices {
			d := &g.Devices[i]
			if len(devices) > 0 && !slices.Contains(devices, d.ID) {
				continue
			}
			h := policy
			h.Sources = slices.DeleteFunc(slices.Clone(policy.Sources), func(id string) bool { return id == d.ID })
			d.Heartbeat, d.Instance = &h, Instance(d.ID)
		}
	}
}

// WithInstance sets the instance that takes part in the ceremony for a device.
func WithInstance(device string, instance [16]byte) Option {
	return func(g *ledger.Genesis) {
		for i := range g.Devices {
			if g.Devices[i].ID == device {
				g.Devices[i].Instance = instance
			}
		}
	}
}

// Instance is the id of the instance that WithHeartbeat gives a device.
func Instance(device string) [16]byte {
	h := sha256.Sum256([]byte("privyseal ledgertest instance " + device))
	return [16]byte(h[:16])
}

// addSource adds the row of a source, if it is one and not there yet.
func addSource(g *ledger.Genesis, id string) {
	kind, _, _ := strings.Cut(id, "-")
	known := slices.ContainsFunc(g.Sources, func(s ledger.Source) bool { return s.ID == id })
	if known || !slices.Contains([]string{ledger.SourceMessage, ledger.SourceSequence, ledger.SourceSatellite}, kind) {
		return // what is neither known nor made is found by the validation of the genesis
	}
	p, err := newPair(id)
	if err != nil {
		panic(err) // of a fixed hash
	}
	sign, err := x509.MarshalPKIXPublicKey(p.Sign.Public())
	if err != nil {
		panic(err)
	}
	agree, err := x509.MarshalPKIXPublicKey(p.Agree.PublicKey())
	if err != nil {
		panic(err)
	}
	g.Sources = append(g.Sources, ledger.Source{
		ID: id, Name: "Source " + id, Kind: kind, Server: fmt.Sprintf("server-%d", len(g.Sources)%len(g.Servers)+1),
		Sign: sign, Agree: agree, Operators: []string{Operator},
	})
}

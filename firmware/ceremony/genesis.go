package ceremony

import (
	"bytes"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// BuildGenesis draws up the genesis from what was agreed. It is a function of
// its arguments alone: desk and devices each compute it, and a device signs
// only what it computed itself, given the keys as the lead dealt them.
//
// Keys must be in the order of the plan. created is chosen by the desk and
// lies within the temporary certificates' life.
func BuildGenesis(r *VerifiedRoster, keys []ledger.Key, created int64) ledger.Genesis {
	p, o := r.Plan(), r.open
	g := ledger.Genesis{
		Version: ledger.GenesisVersion,
		Name:    p.Name,
		Ceremony: ledger.Ceremony{
			File:          p.File,
			Attempt:       o.Attempt,
			Administrator: p.Administrator,
			AdminKey:      envelope.KeyIDOfSPKI(o.Administrator.Sign),
			Witnesses:     r.roster.Witnesses,
			NotBefore:     o.NotBefore,
			NotAfter:      o.NotAfter,
			Vault:         p.Vault,
		},
		Created:            created,
		Firmware:           r.Firmware(),
		Servers:            p.Servers,
		Models:             p.Models,
		Keys:               keys,
		Sources:            p.Sources,
		SharedOfficers:     p.SharedOfficers,
		AcknowledgeNoFault: p.AcknowledgeNoFault,
	}
	for i, d := range p.Devices {
		id := r.identities[i]
		g.Devices = append(g.Devices, ledger.Device{
			ID: d.ID, Name: d.Name, Serial: id.Serial, Model: id.Model, Server: d.Server,
			Sign: id.Sign, Agree: id.Agree, Boot: id.Boot,
			SignCert: id.SignCert, AgreeCert: id.AgreeCert,
			Firmware: id.Firmware, Unattended: d.Unattended,
			InToken: useInToken(d, id), UnlockQuorum: unlockQuorum(d),
			Heartbeat: d.Heartbeat, Instance: instance(d, id),
		})
	}
	for _, x := range p.Persons {
		person := ledger.Person{ID: x.ID, Name: x.Name, Title: x.Title, Software: x.Software}
		for _, serial := range x.Cards {
			person.Cards = append(person.Cards, r.cards[serial])
		}
		g.Persons = append(g.Persons, person)
	}
	expires := created + int64(p.OfficerDays)*86400
	for _, f := range p.Officers {
		g.Officers = append(g.Officers, ledger.Officer{
			Person: f.Person, Card: f.Card, Device: f.Device, Class: f.Class,
			Expires: expires, Keys: p.keysOf(f.Device),
		})
	}
	return g
}

// useInToken settles where a device uses its shares: as the plan says, or by
// the token's own self-test.
func useInToken(d PlanDevice, id *Identity) bool {
	return d.Use == "token" || d.Use == "auto" && id.InToken
}

// instance is what beat sources know a device by until its officers unlock
// another. Every device compared its own with the roster when it joined. A
// device that needs no beats has none.
func instance(d PlanDevice, id *Identity) [16]byte {
	if d.Heartbeat == nil {
		return [16]byte{}
	}
	return id.Instance
}

func unlockQuorum(d PlanDevice) uint64 {
	if d.Unattended {
		return 0
	}
	return d.UnlockQuorum
}

// holders lists who holds the shares of a key, index by index.
func (p *Plan) holders(k *PlanKey) []ledger.Holder {
	out := make([]ledger.Holder, len(k.Devices))
	for i, d := range k.Devices {
		out[i] = ledger.Holder{
			Index: uint64(i + 1), Share: shareID(k.ID, d), Device: d,
			Quorum: k.Quorum, Pieces: uint64(len(p.officersOf(d))), Threshold: k.Threshold,
		}
	}
	return out
}

// shareID names a share after its key and first holder.
func shareID(key, device string) string { return key + "." + device }

func (p *Plan) keysOf(device string) []string {
	var out []string
	for _, k := range p.Keys {
		for _, d := range k.Devices {
			if d == device {
				out = append(out, k.ID)
			}
		}
	}
	return out
}

// sameGenesis reports whether two genesis encode to the same bytes.
func sameGenesis(a, b ledger.Genesis) (bool, error) {
	x, err := envelope.Marshal(a)
	if err != nil {
		return false, err
	}
	y, err := envelope.Marshal(b)
	if err != nil {
		return false, err
	}
	return bytes.Equal(x, y), nil
}

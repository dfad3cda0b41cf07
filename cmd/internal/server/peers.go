package server

import (
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// peer is who hangs on a message server by a link: a device, or a heartbeat
// source. Both have their ids in one namespace.
type peer struct {
	id     string
	server string // id of its message server
	device bool
	sign   envelope.KeyID // of its identity; a source beats with other keys
	agree  envelope.KeyID
	// frames is how many a second it sends unasked, by the policies that it has
	// a part in.
	frames float64
}

func (p peer) kind() string {
	if p.device {
		return "device"
	}
	return "source"
}

// peers are all of a system, whatever their sites.
type peers struct {
	m     map[string]peer
	keys  map[envelope.KeyID]string // ids by agreement key
	beats map[string][]string       // by device: the sources that its policy names
	needs map[string]ledger.Heartbeat
	// asks holds the devices that challenge somebody in every period: those with
	// a satellite. Sources of the other kinds are challenged once for many beats.
	asks map[string]bool
}

func peersOf(state ledger.State) *peers {
	x := &peers{map[string]peer{}, map[envelope.KeyID]string{}, map[string][]string{}, map[string]ledger.Heartbeat{}, map[string]bool{}}
	add := func(p peer) { x.m[p.id], x.keys[p.agree] = p, p.id }
	for _, d := range state.Devices() {
		add(peer{id: d.ID, server: d.Server, device: true, sign: envelope.KeyIDOfSPKI(d.Sign), agree: envelope.KeyIDOfSPKI(d.Agree)})
		if d.Heartbeat != nil {
			x.beats[d.ID], x.needs[d.ID] = d.Heartbeat.Sources, *d.Heartbeat
		}
	}
	for _, r := range state.Sources() {
		add(peer{id: r.ID, server: r.Server, sign: envelope.KeyIDOfSPKI(r.Sign), agree: envelope.KeyIDOfSPKI(r.Agree)})
	}
	kinds := map[string]string{}
	for _, r := range state.Sources() {
		kinds[r.ID] = r.Kind
	}
	for device, h := range x.needs {
		x.asks[device] = slices.ContainsFunc(h.Sources, func(id string) bool { return x.m[id].device || kinds[id] == ledger.SourceSatellite })
		rate := 1000 / float64(h.Period)
		x.add(device, rate) // a challenge to all its sources at once
		for _, id := range h.Sources {
			x.add(id, rate) // its beats
		}
	}
	return x
}

func (x *peers) add(id string, rate float64) {
	p := x.m[id]
	p.frames += rate
	x.m[id] = p
}

// beatsFor reports whether a device's policy names a source.
func (x *peers) beatsFor(source, device string) bool { return slices.Contains(x.beats[device], source) }

// dependents are the devices whose policies name a source, in order.
func (x *peers) dependents(source string) []string {
	out := []string{}
	for device, sources := range x.beats {
		if slices.Contains(sources, source) {
			out = append(out, device)
		}
	}
	slices.Sort(out)
	return out
}

// own finds a peer of a site.
func (x *peers) own(id, site string) (peer, error) {
	p, ok := x.m[id]
	if !ok || p.server != site {
		return p, fmt.Errorf("%s is no device or source of this site", id)
	}
	return p, nil
}

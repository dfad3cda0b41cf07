package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// longLease is from when on people are warned of how long a stolen device goes
// on.
const longLease = 10 * time.Minute

// policies are what a system's tables, or a ceremony's plan, say of
// heartbeats.
type policies struct {
	sources []ledger.Source
	devices []policyOf
}

// policyOf is one device's; nil: it needs no beats.
type policyOf struct {
	id, server string
	*ledger.Heartbeat
}

func policiesOf(s ledger.State) policies {
	p := policies{sources: s.Sources()}
	for _, d := range s.Devices() {
		p.devices = append(p.devices, policyOf{d.ID, d.Server, d.Heartbeat})
	}
	return p
}

func policiesPlanned(x *ceremony.Plan) policies {
	p := policies{sources: x.Sources}
	for _, d := range x.Devices {
		p.devices = append(p.devices, policyOf{d.ID, d.Server, d.Heartbeat})
	}
	return p
}

// warnings say where a policy keeps no thief out, or breaks easily.
func (p policies) warnings() []string {
	var out, bare []string
	for _, d := range p.devices {
		if d.Heartbeat == nil {
			bare = append(bare, d.id)
			continue
		}
		out = append(out, p.weak(d)...)
	}
	switch {
	case len(bare) == len(p.devices):
		out = append(out, "no device needs a heartbeat: a stolen one signs on until somebody locks it")
	case bare != nil:
		out = append(out, strings.Join(bare, ", ")+": no heartbeat is needed there: once stolen it signs on until somebody locks it")
	}
	return out
}

// weak lists what is weak about one device's policy.
func (p policies) weak(d policyOf) []string {
	var out, here []string
	warn := func(format string, args ...any) { out = append(out, d.id+": "+fmt.Sprintf(format, args...)) }
	var operators []string
	for _, id := range d.Sources {
		server, by := p.find(id)
		for _, x := range by {
			if !slices.Contains(operators, x) {
				operators = append(operators, x)
			}
		}
		if server != d.server {
			continue
		}
		here = append(here, id)
		if by == nil {
			warn("its satellite %s is a device of the same site, %s: they can be taken together", id, d.server)
		}
	}
	if uint64(len(here)) >= d.Needed {
		warn("%s at its own site, %s, suffice to keep it going (%d needed): whoever takes the site takes its beats along",
			strings.Join(here, ", "), d.server, d.Needed)
	}
	if devices := slices.ContainsFunc(d.Sources, func(id string) bool { _, by := p.find(id); return by == nil }); len(operators) == 1 && !devices {
		warn("%s alone operates all of its sources", operators[0])
	}
	if lease := time.Duration(d.Lease) * time.Millisecond; lease > longLease {
		warn("a beat grants %s: for so long a stolen device signs on", term.Span(lease))
	}
	if n := uint64(len(d.Sources)); d.Needed == n {
		warn("it needs all of its sources (%d): any one that fails silences it", n)
	}
	return out
}

// find gives the site of a source and who operates it; nobody of a device,
// which answers as a satellite.
func (p policies) find(id string) (server string, operators []string) {
	for _, s := range p.sources {
		if s.ID == id {
			return s.Server, s.Operators
		}
	}
	for _, d := range p.devices {
		if d.id == id {
			return d.server, nil
		}
	}
	return "", nil
}

package desk

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// HeartbeatLines say what people have to know of the plan's sources and
// policies, a line each; none if the plan has neither.
func HeartbeatLines(p *ceremony.Plan) []string {
	var out []string
	for _, s := range p.Sources {
		out = append(out, fmt.Sprintf("source %s (%s): %s, server %s, silenced by %s or by an officer of the device",
			s.ID, s.Name, s.Kind, s.Server, strings.Join(s.Operators, ", ")))
	}
	beats := slices.ContainsFunc(p.Devices, func(d ceremony.PlanDevice) bool { return d.Heartbeat != nil })
	for _, d := range p.Devices {
		switch {
		case d.Heartbeat != nil:
			out = append(out, PolicyLines("device "+d.ID, d.Heartbeat)...)
		case beats:
			out = append(out, fmt.Sprintf("device %s needs NO BEATS: stolen, it goes on until its token is locked", d.ID))
		}
	}
	return out
}

// PolicyLines say what a device's heartbeat policy means, a line each. device
// is its name for people; h is nil if it needs no beats.
func PolicyLines(device string, h *ledger.Heartbeat) []string {
	if h == nil {
		return []string{device + " needs no beats"}
	}
	out := []string{
		LeaseLine(device, h),
		"its sources: " + strings.Join(h.Sources, ", ") + "; asked every " + term.Span(milliseconds(h.Period)),
	}
	if h.Minimum > 1 {
		out = append(out, fmt.Sprintf("a source of messages speaks while %d of them fall into %s", h.Minimum, term.Span(milliseconds(h.Lease))))
	}
	if h.Loss > 0 {
		out = append(out, fmt.Sprintf("of a sequence up to %d values in a row may be lost", h.Loss))
	}
	if h.Destroy == 0 {
		return append(out, "its shares are never destroyed")
	}
	return append(out, fmt.Sprintf("its shares are destroyed after %s without beats, powered time only, once a tested backup of each is on record",
		term.Span(time.Duration(h.Destroy)*time.Second)))
}

// LeaseLine is the first of a policy's lines: how many sources a device needs
// and for how long.
func LeaseLine(device string, h *ledger.Heartbeat) string {
	quorum := "its only source speaks"
	if n := len(h.Sources); n > 1 {
		quorum = fmt.Sprintf("%d of %d sources speak", h.Needed, n)
	}
	return fmt.Sprintf("%s goes on while %s; each beat grants %s", device, quorum, term.Span(milliseconds(h.Lease)))
}

func milliseconds(n uint64) time.Duration { return time.Duration(n) * time.Millisecond }

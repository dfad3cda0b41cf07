package coordinator

import (
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/api"
)

// Tracking says where the request stands, for people and programs (A29).
func (r *Request) Tracking() api.Tracking {
	out := api.Tracking{
		Request: r.digest, Revision: r.revision, State: r.state, Text: r.summary(),
		Key: r.key.ID, Epoch: r.key.Epoch, Algorithm: string(r.request.Algorithm), Kind: r.request.Kind,
		Mode: r.request.Route.Mode, Approvals: r.request.Route.Approvals, Requester: r.request.Requester,
		Coordinator: r.Site, Created: r.request.Created, Expires: r.request.Expires,
		Need: r.key.T, Devices: []api.DeviceTracking{}, Attempts: append([]api.Attempt{}, r.history...), Wrong: []string{},
		Signatures: r.signatures, Documents: r.documents,
	}
	if r.attempt != nil {
		out.Made = uint64(r.attempt.made())
	}
	if r.state == api.StateDone {
		out.Made = r.key.T
	}
	if t := r.task; t != nil {
		out.Enterprise, out.Distributor, out.Task = t.enterprise, t.distributor, t.facts.Task
		out.Liars = append(out.Liars, t.liars...)
		if r.state == api.StateOpen {
			out.Made = r.computed()
		}
	}
	for _, d := range r.devices {
		out.Devices = append(out.Devices, r.trackDevice(d))
		if d.wrong {
			out.Wrong = append(out.Wrong, d.id)
		}
	}
	return out
}

func (r *Request) trackDevice(d *device) api.DeviceTracking {
	x := api.DeviceTracking{
		Device: d.id, Name: d.name, Share: d.holder.Share, Index: d.holder.Index, Offered: d.offer != nil,
		Need: d.holder.Quorum, Approved: d.approved(), Missing: r.missing(d), Rejected: append([]api.Rejection{}, d.rejected...),
		Wrong: d.wrong, Text: d.text,
	}
	if r.layered() {
		x.Layer, x.Signed = d.holder.Layer, d.machine.result != nil || r.state == api.StateDone && slices.Contains(r.signers(), d.id)
		return x
	}
	if t := r.attempt; t != nil {
		if i := t.place(d); i >= 0 {
			x.Signed = t.partials[i] != nil
		}
	} else if n := len(r.history); r.state == api.StateDone && n > 0 {
		x.Signed = slices.Contains(r.history[n-1].Devices, d.id)
	}
	return x
}

// summary is one line: how it ended, or what it waits for.
func (r *Request) summary() string {
	switch {
	case r.state == api.StateDone && r.layered():
		return r.summaryTask()
	case r.state == api.StateDone:
		return "signed by " + strings.Join(r.history[len(r.history)-1].Devices, ", ")
	case r.state != api.StateOpen:
		return r.text
	}
	return r.waiting()
}

// waiting says what is missing, by name.
func (r *Request) waiting() string {
	if r.layered() {
		return r.waitingTask()
	}
	if t := r.attempt; t != nil && t.inquiry != nil {
		return "one of several partial signatures is wrong: finding out whose"
	}
	ready := 0
	var who []string
	for _, d := range r.devices {
		switch {
		case d.wrong:
			who = append(who, fmt.Sprintf("%s is excluded (wrong partial signature)", d.id))
		case len(d.rejected) > 0:
			who = append(who, fmt.Sprintf("%s is out (rejected by %s: %s)", d.id, d.rejected[0].Name, d.rejected[0].Reason))
		case d.offer == nil || r.now < d.retry:
			why := d.text
			if why == "" {
				why = "no answer yet"
			}
			who = append(who, fmt.Sprintf("%s is not ready (%s)", d.id, why))
		case d.complete():
			ready++
		case r.attempt != nil && r.attempt.place(d) > r.attempt.made() && r.chain():
			who = append(who, fmt.Sprintf("%s waits for its turn", d.id))
		default:
			missing := "and nobody is left who may approve there"
			if names := r.missing(d); len(names) > 0 {
				missing = "missing " + strings.Join(names, ", ")
			}
			who = append(who, fmt.Sprintf("%s has %d of %d approvals, %s", d.id, len(d.approvals), d.holder.Quorum, missing))
		}
	}
	line := fmt.Sprintf("%d of %d devices have their officers' quorum", ready, r.key.T)
	if len(who) > 0 {
		line += ": " + strings.Join(who, "; ")
	}
	return line
}

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// An absentError is a request that was named and is not in the inbox.
type absentError struct{ name string }

func (e *absentError) Error() string {
	return fmt.Sprintf("request %.64s is not in your inbox", e.name)
}
func (e *absentError) Hint() string { return "see: privyseal officer inbox" }

// absence says why a request cannot be in this officer's inbox, as the servers
// tell it: nil if they know no reason. Final is one that waiting does not
// change. What servers say here refuses nothing: it spares waiting and explains.
func (d *desk) absence(ctx context.Context, name string) (why error, final bool) {
	digest, err := envelope.ParseHash(strings.ToLower(name))
	if err != nil {
		r, err := d.sys.Kept(strings.ToLower(name))
		if err != nil {
			return nil, false
		}
		digest = r.Digest
	}
	within, cancel := context.WithTimeout(ctx, ownPatience)
	defer cancel()
	t := d.whereabouts(within, digest)
	if t == nil {
		return nil, false
	}
	status := "see: privyseal request status " + digest.String()
	if ids := breathless(d.sys.State(), t); len(ids) > 0 {
		status = beatsHint(ids) + "; " + strings.TrimPrefix(status, "see: ")
	}
	if t.State != api.StateOpen {
		return term.WithHint(fmt.Errorf("request %s is %s: there is nothing left to approve", short(digest), t.State), status), true
	}
	var asked []string
	var mine []*api.DeviceTracking
	for i := range t.Devices {
		asked = append(asked, t.Devices[i].Device)
		if slices.Contains(d.officer.Devices, t.Devices[i].Device) {
			mine = append(mine, &t.Devices[i])
		}
	}
	if len(mine) == 0 {
		return fmt.Errorf("request %s asks the officers of %s; %s is an officer of %s", short(digest),
			strings.Join(asked, ", "), d.personName(d.officer.Person.ID), strings.Join(d.officer.Devices, ", ")), true
	}
	var reasons []string
	final = true
	for _, x := range mine {
		switch {
		case x.Signed:
			reasons = append(reasons, "device "+x.Device+" has signed it")
		case slices.Contains(x.Approved, d.officer.Person.Name):
			reasons = append(reasons, "you approved it for device "+x.Device)
		case len(x.Rejected) > 0:
			reasons = append(reasons, fmt.Sprintf("it was rejected for device %s by %s (%s)", x.Device, x.Rejected[0].Name, x.Rejected[0].Reason))
		case x.Wrong:
			reasons = append(reasons, "device "+x.Device+" is excluded from it")
		default:
			final = false
			switch {
			case x.Text != "":
				reasons = append(reasons, "device "+x.Device+" is not ready: "+x.Text)
			case !x.Offered:
				reasons = append(reasons, "device "+x.Device+" has not answered yet")
			case t.Approvals == document.ApprovalsChain:
				reasons = append(reasons, "it is not the turn of device "+x.Device+" in the chain")
			}
		}
	}
	if len(reasons) == 0 {
		return nil, false
	}
	return term.WithHint(fmt.Errorf("request %s is not in your inbox: %s", short(digest), strings.Join(reasons, "; ")), status), final
}

// breathless are the devices of a request that do not sign because they have
// no lease, or may have none. The reason comes as text alone, in words of the
// device: at worst a hint is missing.
func breathless(s ledger.State, t *tracking) []string {
	var out []string
	for i := range t.Devices {
		x := &t.Devices[i]
		d, ok := s.Device(x.Device)
		if !ok || d.Heartbeat == nil || x.Signed || x.Wrong {
			continue
		}
		for _, word := range []string{"lease", "beats", "locked"} {
			if strings.Contains(x.Text, word) {
				out = append(out, x.Device)
				break
			}
		}
	}
	return out
}

func beatsHint(devices []string) string {
	return "see: privyseal heartbeat status " + strings.Join(devices, " ")
}

// hopeless reports whether waiting for one of these is in vain.
func (d *desk) hopeless(ctx context.Context, digests []string) bool {
	for _, name := range digests {
		if _, final := d.absence(ctx, name); final {
			return true
		}
	}
	return false
}

// explained adds to the error for an item that did not come why it did not.
func (d *desk) explained(ctx context.Context, err error) error {
	if absent, ok := err.(*absentError); ok {
		if why, _ := d.absence(ctx, absent.name); why != nil {
			return why
		}
	}
	return err
}

package main

import (
	"fmt"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/firmware/envelope"
)

type tracking = api.Tracking

// progress tells, while somebody waits, what changed.
func (a *app) progress() func(*tracking) {
	last := map[string]string{}
	change := func(what, now string) {
		if last[what] != now {
			last[what] = now
			a.tell("%s", now)
		}
	}
	return func(t *tracking) {
		for i := range t.Devices {
			d := &t.Devices[i]
			if d.Offered || d.Signed || len(d.Approved)+len(d.Rejected) > 0 || d.Text != "" {
				change(d.Device, fmt.Sprintf("  %s: %s", d.Device, client.Situation(d)))
			}
		}
		change("", fmt.Sprintf("%s: %d of %d partial signatures", t.State, t.Made, t.Need))
	}
}

// brief is a server's word on a request without what it says of each device: that
// is in lines of its own.
func brief(t *tracking) string {
	if t.State == api.StateDone || t.State == api.StateFailed {
		return t.Text
	}
	text, _, _ := strings.Cut(t.Text, ": ")
	return text
}

// unfinishedError says why there is no signature, in a line and one for each
// device that has not signed.
type unfinishedError struct{ t *tracking }

func (e *unfinishedError) Error() string {
	text := fmt.Sprintf("request %s is %s: %d of %d partial signatures", short(e.t.Request), e.t.State, e.t.Made, e.t.Need)
	if b := brief(e.t); b != "" {
		text += "; " + b
	}
	return strings.Join(append([]string{text}, client.Missing(e.t)...), "\n")
}

// signers are the devices of the attempt that led to the signature.
func signers(t *tracking) []string {
	if n := len(t.Attempts); n > 0 {
		return t.Attempts[n-1].Devices
	}
	var out []string
	for _, d := range t.Devices {
		if d.Signed && !d.Wrong {
			out = append(out, d.Device)
		}
	}
	return out
}

// showTracking shows where a request stands; r is what this home knows of it.
func (a *app) showTracking(t *tracking, r *client.Signed) {
	a.say("request    %s", t.Request)
	a.say("state      %s", strings.TrimSuffix(t.State+": "+brief(t), ": "))
	kind := t.Kind
	if names := namesOfBatch(r); names != nil {
		kind = "batch of " + certificatesOf(len(names))
	}
	a.say("document   %s for key %s (epoch %d), %s", kind, t.Key, t.Epoch, t.Algorithm)
	a.say("requester  %s, through message server %s", t.Requester, t.Coordinator)
	a.say("route      %s, approvals as a %s", t.Mode, t.Approvals)
	a.say("expires    %s", timeText(t.Expires))
	a.say("signed     %d of %d partial signatures", t.Made, t.Need)
	for i := range t.Devices {
		d := &t.Devices[i]
		a.say("  %-14s %s", d.Device, client.Situation(d))
	}
	for i, at := range t.Attempts {
		outcome := at.Outcome
		if outcome == "" {
			outcome = "goes on"
		}
		a.say("attempt %d  %s (shares %s): %s", i+1, strings.Join(at.Devices, ", "), strings.Join(at.Shares, ", "), outcome)
	}
	if names := namesOfBatch(r); names != nil && t.State == api.StateDone {
		a.say("results    %s", strings.Join(names, ", "))
	}
	if len(t.Wrong) > 0 {
		a.say("WRONG      partial signatures were made by %s", strings.Join(t.Wrong, ", "))
	}
}

// The JSON form of a tracking.
type trackingJSON struct {
	Request     envelope.Hash `json:"request"`
	State       string        `json:"state"`
	Text        string        `json:"text,omitempty"`
	Key         string        `json:"key"`
	Epoch       uint64        `json:"epoch"`
	Algorithm   string        `json:"algorithm"`
	Kind        string        `json:"kind"`
	Mode        string        `json:"mode"`
	Approvals   string        `json:"approvals"`
	Requester   string        `json:"requester"`
	Coordinator string        `json:"coordinator"`
	Created     int64         `json:"created"`
	Expires     int64         `json:"expires"`
	Need        uint64        `json:"need"`
	Made        uint64        `json:"made"`
	Devices     []deviceJSON  `json:"devices"`
	Attempts    []attemptJSON `json:"attempts"`
	Wrong       []string      `json:"wrong"`
	Signatures  [][]byte      `json:"signatures,omitempty"` // as the server tells them
	Missing     []string      `json:"missing,omitempty"`
	// Names are what the results of a batch are called, if this home made it.
	Names []string `json:"names,omitempty"`
}

type deviceJSON struct {
	Device   string          `json:"device"`
	Name     string          `json:"name"`
	Share    string          `json:"share"`
	Offered  bool            `json:"offered"`
	Need     uint64          `json:"need"`
	Approved []string        `json:"approved"`
	Missing  []string        `json:"missing"`
	Rejected []rejectionJSON `json:"rejected,omitempty"`
	Signed   bool            `json:"signed"`
	Wrong    bool            `json:"wrong,omitempty"`
	Text     string          `json:"text,omitempty"`
}

type rejectionJSON struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

type attemptJSON struct {
	Devices []string `json:"devices"`
	Shares  []string `json:"shares"`
	Outcome string   `json:"outcome"`
	Wrong   []string `json:"wrong,omitempty"`
}

// namesOfBatch are the names of a batch's results; nil for what is none, or not
// known here.
func namesOfBatch(r *client.Signed) []string {
	var out []string
	for i := range r.Request.Batch {
		out = append(out, nameInBatch(r, i))
	}
	return out
}

func trackingOf(t *tracking, r *client.Signed) trackingJSON {
	out := trackingJSON{
		Request: t.Request, State: t.State, Text: t.Text, Key: t.Key, Epoch: t.Epoch, Algorithm: t.Algorithm, Kind: t.Kind,
		Mode: t.Mode, Approvals: t.Approvals, Requester: t.Requester, Coordinator: t.Coordinator,
		Created: t.Created, Expires: t.Expires, Need: t.Need, Made: t.Made, Wrong: t.Wrong, Signatures: t.Signatures,
		Devices: []deviceJSON{}, Attempts: []attemptJSON{}, Names: namesOfBatch(r),
	}
	for _, d := range t.Devices {
		j := deviceJSON{
			Device: d.Device, Name: d.Name, Share: d.Share, Offered: d.Offered, Need: d.Need, Approved: d.Approved,
			Missing: d.Missing, Signed: d.Signed, Wrong: d.Wrong, Text: d.Text,
		}
		for _, r := range d.Rejected {
			j.Rejected = append(j.Rejected, rejectionJSON(r))
		}
		out.Devices = append(out.Devices, j)
	}
	for _, at := range t.Attempts {
		out.Attempts = append(out.Attempts, attemptJSON(at))
	}
	if t.State != api.StateDone {
		out.Missing = client.Missing(t)
	}
	return out
}

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

func newHeartbeat(a *app) *cobra.Command {
	return command.Group("heartbeat", "See what keeps devices alive, and silence one", newHeartbeatStatus(a), newHeartbeatRevoke(a), newHeartbeatPiece(a))
}

func newHeartbeatStatus(a *app) *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use:   "status [DEVICE...]",
		Short: "Show every device's lease and who keeps it alive",
		Long: `Show for every device, or those named, how long it may go on, which of its sources
speak and how many have to, as devices and message servers tell it. Left is the
time until it falls silent if no further beat comes.

With --watch it is shown again every second until you interrupt it; where it is
not shown on a terminal, one line for each change.

Without --watch it exits with 1 if a device is silent, or if just as many
sources are left as it needs and others have failed: one more loss, and it falls
silent. A policy that needs all of its sources has none to spare from the
beginning; that is no reason for 1 (privyseal system show warns of it).`,
		RunE: func(c *cobra.Command, args []string) error { return a.heartbeatStatus(c.Context(), args, watch) },
	}
	c.Flags().BoolVar(&watch, "watch", false, "go on showing it")
	return c
}

// Verdicts on a device's lease.
const (
	verdictGood   = "good"
	verdictLast   = "last" // one more loss silences it, though it had sources to spare
	verdictSilent = "silent"
	verdictFree   = "free" // it needs no beats
)

// beatsJSON is how all leases are.
type beatsJSON struct {
	Now     int64         `json:"now"` // by the server that answered
	Server  string        `json:"server"`
	Devices []deviceBeats `json:"devices"`
	Sources []sourceBeats `json:"sources"`
	Alarms  []alarmOf     `json:"alarms"`
}

type deviceBeats struct {
	Device  string     `json:"device"`
	Name    string     `json:"name"`
	Server  string     `json:"server"`
	Phase   string     `json:"phase"` // "" if it does not answer
	Text    string     `json:"text,omitempty"`
	Verdict string     `json:"verdict"`
	Lease   *leaseJSON `json:"lease,omitempty"`
}

// leaseJSON is what a device says of its beats.
type leaseJSON struct {
	Left       int64      `json:"left_ms"` // 0: no lease
	Speaking   uint64     `json:"speaking"`
	Needed     uint64     `json:"needed"`
	Known      uint64     `json:"sources_of_policy"`
	Sources    []beatJSON `json:"sources"` // none while its token is locked
	Silence    int64      `json:"silence_s"`
	Destroy    int64      `json:"destroy_s"`
	Armed      bool       `json:"armed"`
	Maintained bool       `json:"maintained"`
}

// beatJSON is one source as a device sees it.
type beatJSON struct {
	Source string `json:"source"`
	Kind   string `json:"kind"`
	State  string `json:"state"`
	Text   string `json:"text,omitempty"`
	Left   int64  `json:"left_ms"`          // what it has granted
	Age    int64  `json:"age_ms,omitempty"` // of the beat that granted it; 0 where nothing is granted
}

// sourceBeats is a source as its message server sees it.
type sourceBeats struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Kind    string   `json:"kind"`
	Server  string   `json:"server"`
	Linked  bool     `json:"linked"`
	Since   int64    `json:"since"`
	Silent  bool     `json:"silent"` // its message server is: Linked and Since are not known
	Devices []string `json:"devices"`
}

// alarmOf is an alarm of a site: what happened, for the last time.
type alarmOf struct {
	Server string `json:"server"`
	At     int64  `json:"at"`
	Text   string `json:"text"`
	Device string `json:"device,omitempty"`
	Source string `json:"source,omitempty"`
	Count  uint64 `json:"count"`
	First  int64  `json:"first"`
}

func alarmAt(server string, x *api.Alarm) alarmOf {
	return alarmOf{server, x.At, x.Text, x.Device, x.Source, x.Times(), x.Since()}
}

// what is the text, and how often it happened.
func (x *alarmOf) what() string {
	if x.Count <= 1 {
		return x.Text
	}
	return fmt.Sprintf("%s (%d times since %s)", x.Text, x.Count, timeText(x.First))
}

// leaseOf is a device's lease under its policy.
func leaseOf(d ledger.Device, in *firmware.LeaseStatus) *leaseJSON {
	if in == nil || d.Heartbeat == nil {
		return nil
	}
	out := &leaseJSON{
		Left: in.Left, Needed: in.Needed, Known: uint64(len(d.Heartbeat.Sources)), Sources: []beatJSON{},
		Silence: in.Silence, Destroy: in.Destroy, Armed: in.Armed, Maintained: in.Maintained,
	}
	for _, s := range in.Sources {
		j := beatJSON{Source: s.ID, Kind: s.Kind, State: s.State, Text: s.Text, Left: s.Left}
		if s.Left > 0 {
			j.Age = max(0, int64(d.Heartbeat.Lease)-s.Left)
		}
		if s.State == heartbeat.StateSpeaks {
			out.Speaking++
		}
		out.Sources = append(out.Sources, j)
	}
	return out
}

// beatsOf picks what concerns leases from a status. devices are ids; none
// means all.
func beatsOf(s ledger.State, got *api.SystemStatus, devices []string) *beatsJSON {
	out := &beatsJSON{Now: got.Now, Server: got.Server, Devices: []deviceBeats{}, Sources: []sourceBeats{}, Alarms: []alarmOf{}}
	concerns := func(device string) bool { return len(devices) == 0 || slices.Contains(devices, device) }
	for _, x := range got.Servers {
		for _, d := range x.Devices {
			if row, ok := s.Device(d.Device); ok && concerns(d.Device) {
				out.Devices = append(out.Devices, beatsOfDevice(row, d))
			}
		}
		for _, y := range x.Sources {
			if slices.ContainsFunc(y.Devices, concerns) || len(devices) == 0 {
				out.Sources = append(out.Sources, sourceBeats{y.ID, y.Name, y.Kind, x.ID, y.Linked, y.Since, y.Silent || x.Silent, y.Devices})
			}
		}
		for _, y := range x.Alarms {
			if len(devices) == 0 || slices.Contains(devices, y.Device) || y.Device == "" && feeds(s, y.Source, devices) {
				out.Alarms = append(out.Alarms, alarmAt(x.ID, &y))
			}
		}
	}
	slices.SortStableFunc(out.Alarms, func(a, b alarmOf) int { return int(a.At - b.At) })
	return out
}

// feeds reports whether the policy of one of the devices names a source.
func feeds(s ledger.State, source string, devices []string) bool {
	return slices.ContainsFunc(devices, func(id string) bool {
		d, ok := s.Device(id)
		return ok && d.Heartbeat != nil && slices.Contains(d.Heartbeat.Sources, source)
	})
}

func beatsOfDevice(row ledger.Device, d api.DeviceStatus) deviceBeats {
	j := deviceBeats{Device: row.ID, Name: row.Name, Server: row.Server, Text: d.Text, Verdict: verdictFree}
	if st := d.Status; st != nil {
		j.Phase, j.Lease = st.Phase, leaseOf(row, st.Lease)
	}
	if row.Heartbeat == nil {
		return j
	}
	switch l := j.Lease; {
	case l == nil || j.Phase != firmware.PhaseReady || l.Left == 0:
		j.Verdict = verdictSilent
	case l.Speaking <= l.Needed && l.Needed < l.Known:
		j.Verdict = verdictLast
	default:
		j.Verdict = verdictGood
	}
	return j
}

func (a *app) heartbeatStatus(ctx context.Context, devices []string, watch bool) error {
	s, err := a.system()
	if err != nil {
		return err
	}
	for _, id := range devices {
		if _, ok := s.State().Device(id); !ok {
			return usage(fmt.Sprintf("there is no device %q", id), "privyseal system show lists them")
		}
	}
	conn, _, err := a.dialFirst(ctx, s, s.Server)
	if err != nil {
		return err
	}
	defer conn.Close()
	if watch {
		return a.watchBeats(ctx, conn, s.State(), devices)
	}
	b, err := a.beats(ctx, conn, s.State(), devices)
	if err != nil {
		return err
	}
	if err := a.result(b, func() {
		for _, line := range b.lines() {
			a.say("%s", line)
		}
	}); err != nil {
		return err
	}
	if text := b.trouble(); text != "" {
		a.tell("%s", text)
		return command.Reported(errors.New(text))
	}
	return nil
}

func (a *app) beats(ctx context.Context, conn *client.Conn, s ledger.State, devices []string) (*beatsJSON, error) {
	got, err := conn.Status(ctx)
	if err != nil {
		return nil, err
	}
	if got.System != s.System() {
		return nil, fmt.Errorf("message server %s belongs to another system, %s", got.Server, got.System)
	}
	return beatsOf(s, got, devices), nil
}

// trouble is why somebody should look at it, one line, or nothing.
func (b *beatsJSON) trouble() string {
	var silent, last []string
	for _, d := range b.Devices {
		switch d.Verdict {
		case verdictSilent:
			silent = append(silent, d.Device)
		case verdictLast:
			last = append(last, d.Device)
		}
	}
	var parts []string
	if silent != nil {
		parts = append(parts, "silent: "+strings.Join(silent, ", "))
	}
	if last != nil {
		parts = append(parts, "one more loss silences: "+strings.Join(last, ", "))
	}
	return strings.Join(parts, "; ")
}

// lines is it for people.
func (b *beatsJSON) lines() []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, d := range b.Devices {
		add("%-14s %-20s %s", d.Device, d.Name, d.summary(true))
		if d.Lease == nil {
			continue
		}
		for _, s := range d.Lease.Sources {
			add("  %-12s %-10s %s", s.Source, s.Kind, s.text())
		}
		if text := d.Lease.limit(); text != "" {
			add("  %s", text)
		}
	}
	if len(b.Sources) > 0 {
		add("")
		add("Sources, as their message servers see them")
	}
	for _, s := range b.Sources {
		add("  %-12s %-20s %-10s at %s: %s; for %s", s.ID, s.Name, s.Kind, s.Server, s.text(), listOr(s.Devices, "no device"))
	}
	if len(b.Alarms) > 0 {
		add("")
		add("Alarms")
	}
	for _, x := range b.Alarms {
		add("  %s", x.text())
	}
	return out
}

// summary is a device in one line; with the numbers that change all the time,
// or without them.
func (d *deviceBeats) summary(numbers bool) string {
	var parts []string
	switch {
	case d.Phase == "":
		parts = append(parts, "does not answer")
	case d.Phase == firmware.PhaseDestroyed:
		parts = append(parts, destroyedText)
	default:
		parts = append(parts, d.Phase)
	}
	if d.Text != "" {
		parts = append(parts, d.Text)
	}
	if d.Verdict == verdictFree {
		return strings.Join(append(parts, "needs no beats"), ", ")
	}
	if l := d.Lease; l != nil && d.Phase == firmware.PhaseReady {
		parts = append(parts, l.text(numbers))
	}
	switch d.Verdict {
	case verdictSilent:
		parts = append([]string{"SILENT"}, parts...)
	case verdictLast:
		parts = append(parts, "ONE MORE LOSS SILENCES IT")
	}
	return strings.Join(parts, ", ")
}

// text is a lease in short.
func (l *leaseJSON) text(numbers bool) string {
	left := "lease"
	switch {
	case l.Left == 0:
		left = "no lease"
	case numbers:
		left = "lease " + tenths(l.Left)
	}
	return fmt.Sprintf("%s, %d of %d sources speak, %d needed", left, l.Speaking, l.Known, l.Needed)
}

// limit is how far the second limit is.
func (l *leaseJSON) limit() string {
	if l.Destroy == 0 {
		return ""
	}
	after := term.Span(time.Duration(l.Destroy) * time.Second)
	sofar := term.Span(time.Duration(l.Silence) * time.Second)
	switch {
	case !l.Armed:
		return "destroys nothing: no tested backup of each of its shares is on record"
	case l.Maintained:
		return fmt.Sprintf("destroys its shares after %s without beats, %s so far; a maintenance notice suspends that", after, sofar)
	}
	return fmt.Sprintf("destroys its shares after %s without beats, %s so far", after, sofar)
}

func (s *beatJSON) text() string {
	out := s.State
	if s.Left > 0 {
		out += fmt.Sprintf(", %s old, good for %s", tenths(s.Age), tenths(s.Left))
	}
	if s.Text != "" {
		out += ": " + s.Text
	}
	return out
}

func (s *sourceBeats) text() string {
	switch {
	case s.Silent:
		return "not known, its message server is silent"
	case s.Linked:
		return "linked since " + timeText(s.Since)
	}
	return "NO LINK since " + timeText(s.Since)
}

func (x *alarmOf) text() string { return fmt.Sprintf("%s  %s: %s", timeText(x.At), x.Server, x.what()) }

// tenths writes milliseconds.
func tenths(ms int64) string { return fmt.Sprintf("%.1f s", float64(ms)/1000) }

// destroyedText is what became of a device that reached its second limit.
const destroyedText = "DESTROYED: its shares are gone, only a restore brings it back"

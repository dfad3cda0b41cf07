package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/medium"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// statusAlarms is how many alarms of a site its status shows, the last ones.
const statusAlarms = 2

func newStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how all sites and devices are",
		Long: `Show how all sites and devices are, as their message servers tell it. It decides
nothing: what a device signs is verified where it counts.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.status(c.Context()) },
	}
}

// siteJSON and deviceStatusJSON are the JSON form of a status.
type siteJSON struct {
	ID      string             `json:"id"`
	Name    string             `json:"name"`
	Silent  bool               `json:"silent"`
	Text    string             `json:"text,omitempty"`
	Version string             `json:"version"`
	Open    uint64             `json:"open_requests"`
	Devices []deviceStatusJSON `json:"devices"`
	Sources []sourceBeats      `json:"sources"`
	Alarms  []alarmOf          `json:"alarms"`
}

type deviceStatusJSON struct {
	ID         string        `json:"id"`
	Name       string        `json:"name"`
	Linked     bool          `json:"linked"`
	Silent     bool          `json:"silent"`
	Text       string        `json:"text,omitempty"`
	Phase      string        `json:"phase"` // "" if it does not answer
	Firmware   envelope.Hash `json:"firmware"`
	Use        string        `json:"use"`
	Unattended bool          `json:"unattended"`
	Certified  bool          `json:"certified"`
	Shares     []string      `json:"shares"`
	Partials   uint64        `json:"partials"`
	Token      string        `json:"token"`
	Height     uint64        `json:"height"`
	LogHead    envelope.Hash `json:"log_head"`
	Log        uint64        `json:"log"`
	Officers   []string      `json:"officers"`
	Lease      *leaseJSON    `json:"lease,omitempty"` // absent: it needs no beats, or does not answer
	Machines   []machineJSON `json:"machines"`
	Warnings   []string      `json:"warnings"`
}

// machineJSON is what a device is in an authority in two layers.
type machineJSON struct {
	Enterprise uint64 `json:"enterprise"`
	Key        string `json:"key"`
	Layer      string `json:"layer"`
	Number     uint64 `json:"number"`
	Version    uint64 `json:"version"`
	State      string `json:"state"` // ready, pending, missing or superseded
}

func (m *machineJSON) text() string {
	state := m.State
	switch state {
	case firmware.MachinePending:
		state = "has its share, which the ledger does not have yet"
	case firmware.MachineMissing:
		state = "WARNING: its share is MISSING: deal it again"
	}
	return fmt.Sprintf("%s %d of enterprise %d (%s), share version %d: %s", m.Layer, m.Number, m.Enterprise, m.Key, m.Version, state)
}

func (a *app) status(ctx context.Context) error {
	s, err := a.system()
	if err != nil {
		return err
	}
	conn, srv, err := a.dialFirst(ctx, s, s.Server)
	if err != nil {
		return err
	}
	defer conn.Close()
	got, err := conn.Status(ctx)
	if err != nil {
		return err
	}
	state := s.State()
	if got.System != state.System() {
		return fmt.Errorf("message server %s belongs to another system, %s", srv.ID, got.System)
	}
	out := struct {
		System envelope.Hash `json:"system"`
		Name   string        `json:"name"`
		Height uint64        `json:"height"`
		Head   envelope.Hash `json:"head"`
		Server string        `json:"server"`
		Sites  []siteJSON    `json:"sites"`
	}{state.System(), state.Name(), state.Height(), state.Head(), srv.ID, nil}
	for _, x := range got.Servers {
		out.Sites = append(out.Sites, siteOf(state, x, a.now().Unix()))
	}
	return a.result(out, func() {
		a.say("system %q  %s", out.Name, out.System)
		a.say("ledger at %d (%s), as message server %s and its peers tell it", out.Height, short(out.Head), srv.ID)
		for _, site := range out.Sites {
			a.printSite(site)
		}
	})
}

func siteOf(s ledger.State, x api.ServerStatus, now int64) siteJSON {
	site := siteJSON{ID: x.ID, Name: x.Name, Silent: x.Silent, Text: x.Text, Version: x.Version, Open: x.Open, Devices: []deviceStatusJSON{},
		Sources: []sourceBeats{}, Alarms: []alarmOf{}}
	for _, d := range x.Devices {
		j := deviceStatusJSON{
			ID: d.Device, Name: d.Name, Linked: d.Linked, Silent: d.Silent, Text: d.Text,
			Shares: []string{}, Officers: []string{}, Machines: []machineJSON{}, Warnings: []string{},
		}
		row, known := s.Device(d.Device)
		j.Unattended = row.Unattended
		if st := d.Status; st != nil {
			j.Phase, j.Firmware, j.Use, j.Certified, j.Partials = st.Phase, st.Firmware, st.Use, st.Certified, st.Partials
			j.Token, j.Height, j.LogHead, j.Log = st.Token, st.Height, st.LogHead, st.Log
			j.Shares, j.Officers = append(j.Shares, st.Shares...), append(j.Officers, st.Officers...)
			for _, m := range st.Machines {
				j.Machines = append(j.Machines, machineJSON{m.Enterprise, m.Key, medium.Layer(m.Layer), m.Number, m.Version, m.State})
			}
			j.Unattended = j.Unattended || st.Unattended
			if j.Lease = leaseOf(row, st.Lease); beatsOfDevice(row, d).Verdict == verdictLast {
				j.Warnings = append(j.Warnings, "one more of its sources lost, and it falls silent: see 'privyseal heartbeat status "+d.Device+"'")
			}
			switch {
			case !known:
				j.Warnings = append(j.Warnings, "it is not in the ledger")
			case st.Firmware != row.Firmware:
				j.Warnings = append(j.Warnings, "it runs another firmware than the ledger says: "+st.Firmware.String())
			}
			if _, ok := s.Knows(st.LedgerHead); !ok {
				j.Warnings = append(j.Warnings, "it has another ledger than this home")
			} else if st.Height < s.Height() {
				j.Warnings = append(j.Warnings, fmt.Sprintf("its ledger is %d entries behind", s.Height()-st.Height))
			}
		}
		for _, n := range s.Notices(d.Device, now) {
			j.Warnings = append(j.Warnings, fmt.Sprintf("maintenance until %s: %s", timeText(n.Until), document.Escape(n.Text)))
		}
		site.Devices = append(site.Devices, j)
	}
	for _, y := range x.Sources {
		site.Sources = append(site.Sources, sourceBeats{y.ID, y.Name, y.Kind, x.ID, y.Linked, y.Since, y.Silent || x.Silent, y.Devices})
	}
	for _, y := range x.Alarms {
		site.Alarms = append(site.Alarms, alarmAt(x.ID, &y))
	}
	return site
}

func (a *app) printSite(x siteJSON) {
	line := fmt.Sprintf("\nsite %s  %s", x.ID, x.Name)
	switch {
	case x.Silent:
		line += "  SILENT: " + x.Text
	default:
		line += fmt.Sprintf("  version %s, %d open requests", listOr([]string{x.Version}, "?"), x.Open)
	}
	a.say("%s", line)
	for _, d := range x.Devices {
		a.say("  %-14s %-20s %s", d.ID, d.Name, d.text())
		for _, m := range d.Machines {
			a.say("  %-14s %s", "", m.text())
		}
		for _, w := range d.Warnings {
			a.say("  %-14s WARNING: %s", "", w)
		}
	}
	for _, s := range x.Sources {
		a.say("  %-14s %-20s heartbeat source, kind %s, %s", s.ID, s.Name, s.Kind, s.text())
	}
	shown := x.Alarms[max(0, len(x.Alarms)-statusAlarms):]
	for _, y := range shown {
		a.say("  %-14s ALARM: %s  %s", "", timeText(y.At), y.what())
	}
	if n := len(x.Alarms) - len(shown); n > 0 {
		a.say("  %-14s %d more before: privyseal heartbeat status", "", n)
	}
}

func (d *deviceStatusJSON) text() string {
	var parts []string
	switch {
	case d.Phase == firmware.PhaseDestroyed:
		parts = append(parts, destroyedText)
	case d.Phase != "":
		parts = append(parts, d.Phase)
	case d.Silent:
		parts = append(parts, "SILENT")
	case !d.Linked && d.Text == "":
		parts = append(parts, "no link to its message server")
	}
	if d.Text != "" {
		parts = append(parts, d.Text)
	}
	if d.Unattended {
		parts = append(parts, "UNATTENDED")
	}
	if d.Lease != nil && d.Phase == firmware.PhaseReady {
		parts = append(parts, d.Lease.text(true))
	}
	if d.Phase == firmware.PhaseReady || d.Phase == firmware.PhaseLocked {
		parts = append(parts, "shares used "+d.Use, fmt.Sprintf("%d shares, %d partial signatures", len(d.Shares), d.Partials))
		if !d.Certified {
			parts = append(parts, "not certified yet")
		}
		if d.Token != "" {
			parts = append(parts, "token "+d.Token)
		}
	}
	return strings.Join(parts, ", ")
}

// dateText is the day of a time.
func dateText(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.DateOnly) }

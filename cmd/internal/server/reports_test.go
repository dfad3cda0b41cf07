package server

import (
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/transport/bus"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// lease is a report with sources in some states.
func lease(phase string, left int64, states ...string) firmware.Status {
	st := firmware.Status{Phase: phase, Lease: &firmware.LeaseStatus{Left: left, Needed: 2, Sources: []firmware.SourceStatus{}}}
	for i, s := range states {
		st.Lease.Sources = append(st.Lease.Sources, firmware.SourceStatus{ID: []string{"source-1", "source-2", "device-4"}[i], State: s, Text: "why"})
	}
	return st
}

const (
	speaks  = heartbeat.StateSpeaks
	silent  = heartbeat.StateSilent
	refuses = heartbeat.StateRefuses
)

// TestChanges: what a report is worth telling, before it matters.
func TestChanges(t *testing.T) {
	d := ledger.Device{ID: "device-1", Heartbeat: &ledger.Heartbeat{Sources: []string{"source-1", "source-2", "device-4"}, Needed: 2, Lease: 5000}}
	ready := firmware.PhaseReady
	status := func(st firmware.Status) *firmware.Status { return &st }
	good := status(lease(ready, 4000, speaks, speaks, speaks))
	for what, x := range map[string]struct {
		before, now *firmware.Status
		want        []string
	}{
		"all is well":      {nil, good, nil},
		"it stays so":      {good, good, nil},
		"one falls silent": {good, status(lease(ready, 4000, speaks, silent, speaks)), []string{"source source-2 fell silent: 2 of 3 sources beat, 2 are needed; one more and the device falls silent"}},
		"one refuses":      {good, status(lease(ready, 4000, speaks, speaks, refuses)), []string{"source device-4 refuses to beat (why): 2 of 3"}},
		"two": {good, status(lease(ready, 4000, silent, silent, speaks)), []string{
			"source-1 fell silent: 1 of 3 sources beat, 2 are needed; the device locks itself within 5s", "source-2 fell silent"}},
		"one comes back":   {status(lease(ready, 4000, speaks, silent, speaks)), good, []string{"source source-2 beats again: 3 of 3 sources beat, 2 are needed"}},
		"the lease ends":   {good, status(lease(firmware.PhaseLocked, 0)), []string{"its lease is over"}},
		"no lease":         {good, status(lease(ready, 0, speaks, speaks, speaks)), []string{"cannot sign: it has no lease"}},
		"found locked":     {nil, status(lease(firmware.PhaseLocked, 0)), []string{"cannot sign: its token is locked"}},
		"destroyed":        {good, status(lease(firmware.PhaseDestroyed, 0)), []string{"cannot sign: it has destroyed its shares"}},
		"back":             {status(lease(firmware.PhaseLocked, 0)), good, []string{"can sign again"}},
		"no source of it":  {good, status(firmware.Status{Phase: ready, Lease: &firmware.LeaseStatus{Left: 1, Sources: []firmware.SourceStatus{{ID: "x", State: silent}}}}), nil},
		"without a policy": {nil, status(firmware.Status{Phase: ready}), nil},
	} {
		got := changes(d, x.before, x.now)
		if len(got) != len(x.want) {
			t.Errorf("%s: %+v", what, got)
			continue
		}
		for i, a := range got {
			if !strings.Contains(a.Text, x.want[i]) || a.Device != "device-1" || strings.Contains(x.want[i], "source") != (a.Source != "") {
				t.Errorf("%s: %+v", what, a)
			}
		}
	}
}

// TestAlarms: the status of a system shows what happened last at each site, its
// sources and their links.
func TestAlarms(t *testing.T) {
	b := newBeatRig(t)
	b.commission()
	b.waitStatus()
	s := b.source("source-1")
	eventually(t, "a link", func() bool { systems, _ := s.told(); return systems == 1 })
	b.say("device-1", b.report("device-1", lease(firmware.PhaseReady, 4000, speaks, speaks, speaks)))
	b.say("device-1", b.report("device-1", lease(firmware.PhaseReady, 4000, speaks, silent, speaks)))
	s.stop()
	b.mu.Lock()
	b.conns["source-1"].Close()
	b.mu.Unlock()
	var site api.ServerStatus
	has := func(word string) bool {
		st := b.status("server-2")
		site = st.Servers[slices.IndexFunc(st.Servers, func(x api.ServerStatus) bool { return x.ID == "server-1" })]
		return slices.ContainsFunc(site.Alarms, func(a api.Alarm) bool { return strings.Contains(a.Text, word) })
	}
	for _, word := range []string{"device-1: source source-2 fell silent", "source source-1 lost its link: link: the peer closed it; it cannot beat for device-1"} {
		eventually(t, word, func() bool { return has(word) })
	}
	if len(site.Sources) != 2 || site.Sources[0].ID != "source-1" || site.Sources[0].Linked || site.Sources[0].Since == 0 ||
		site.Sources[0].Kind != ledger.SourceSatellite || !slices.Equal(site.Sources[1].Devices, []string{"device-2"}) {
		t.Errorf("%+v", site.Sources)
	}
	b.source("source-1")
	eventually(t, "its return", func() bool { return has("source source-1 has its link again") && site.Sources[0].Linked })
	b.servers["server-1"].Close()
	site = api.ServerStatus{}
	has("")
	if !site.Silent || len(site.Sources) != 2 || !site.Sources[0].Silent {
		t.Errorf("of a silent site: %+v", site)
	}
}

// TestNewsBounded: a device that falls asleep and wakes in turns makes the
// open requests take few steps.
func TestNewsBounded(t *testing.T) {
	b := newBeatRig(t)
	b.commission()
	b.waitStatus()
	s := b.servers["server-1"]
	d, _ := b.sys.State.Device("device-1")
	digest := b.request("server-1", coordtest.CertificateRequest(t, b.sys, "set", b.unix(), 3600))
	eventually(t, "the offers", func() bool {
		tr := b.tracking("server-1", digest, 0, 0)
		return tr != nil && tr.Devices[0].Offered && tr.Devices[4].Offered
	})
	before := b.tracking("server-1", digest, 0, 0).Revision
	for i := range 1000 {
		st := lease(firmware.PhaseReady, int64(i%2), speaks, speaks, speaks)
		st.Device, st.Shares, st.Officers = "device-1", []string{}, []string{}
		body, err := envelope.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := envelope.Sign(rand.Reader, b.sys.Devices["device-1"].Sign, envelope.Header{Type: firmware.TypeStatus, Version: 1, Created: 1, Expires: 2}, body)
		if err != nil {
			t.Fatal(err)
		}
		u, err := envelope.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		v, err := verifyDevice(d, u)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.report(d, v); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.tracking("server-1", digest, 0, 0).Revision - before; n == 0 || n > 6*maxNews {
		t.Errorf("%d steps", n)
	}
	if why := s.reports.asleep()["device-1"]; why != "" {
		t.Errorf("the last report does not stand: %s", why)
	}
}

// TestAsleep: a device that says that its lease is over, in the middle of a
// task that it will never answer, is replaced at once, whichever site
// coordinates; and is not asked for the next request until it is back.
func TestAsleep(t *testing.T) {
	for _, coordinating := range []string{"server-1", "server-2"} {
		t.Run(coordinating, func(t *testing.T) {
			b := newBeatRig(t)
			b.commission()
			b.waitStatus()
			digest := b.request(coordinating, coordtest.CertificateRequest(t, b.sys, "set", b.unix(), 3600))
			eventually(t, "an offer of device-1", func() bool {
				tr := b.tracking(coordinating, digest, 0, 0)
				return tr != nil && tr.Devices[0].Offered && tr.Devices[1].Offered && tr.Devices[2].Offered && tr.Devices[3].Offered
			})
			b.devices["device-1"].SetFault(coordtest.Silent) // its gate is closed
			s := b.servers["server-1"]
			eventually(t, "the task", func() bool {
				for _, o := range b.sys.Genesis.Officers[:6] { // of the devices 1 to 3
					b.approveAll(o)
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.ports["device-1"].work.answer != nil && s.ports["device-1"].work.typ == firmware.TypeTask
			})
			b.say("device-1", b.report("device-1", lease(firmware.PhaseReady, 0)))
			began := time.Now()
			if out := b.work(coordinating, digest, nil); out.State != api.StateDone || slices.Contains(out.Attempts[len(out.Attempts)-1].Devices, "device-1") {
				t.Fatalf("%s: %s", out.State, out.Text)
			}
			if took := time.Since(began); took > askTimeout/4 {
				t.Errorf("it took %v", took)
			}
			// The next one does without it from the beginning.
			eventually(t, "that the coordinator knows", func() bool { return b.servers[coordinating].reports.asleep()["device-1"] == "it has no lease" })
			digest = b.request(coordinating, coordtest.CertificateRequest(t, b.sys, "set", b.unix(), 3600))
			if out := b.work(coordinating, digest, nil); out.State != api.StateDone || len(out.Attempts) != 1 || slices.Contains(out.Attempts[0].Devices, "device-1") {
				t.Fatalf("%s: %+v", out.State, out.Attempts)
			}
			b.devices["device-1"].SetFault(coordtest.Good)
			b.say("device-1", b.report("device-1", lease(firmware.PhaseReady, 3000, speaks, speaks, speaks)))
			eventually(t, "that it is back", func() bool { return b.servers[coordinating].reports.asleep()["device-1"] == "" })
		})
	}
}

// TestQuiet: a device that has stopped asking its sources, stopped by whatever
// stops a process, has no lease any more, and says nothing of it.
func TestQuiet(t *testing.T) {
	b := newBeatRig(t)
	b.commission()
	b.waitStatus()
	s := b.servers["server-1"]
	b.source("source-1")
	p := b.pulse()
	eventually(t, "a challenge", func() bool { return p.count("source-1") > 0 })
	if why := s.reports.asleep(); len(why) != 0 {
		t.Errorf("asleep: %v", why)
	}
	p.mu.Lock() // stopped
	eventually(t, "that somebody notices", func() bool { return strings.Contains(s.reports.asleep()["device-1"], "has not asked its sources") })
	p.mu.Unlock()
	eventually(t, "that it goes on", func() bool { return s.reports.asleep()["device-1"] == "" })
	b.stops["device-1"]()
	b.conns["device-1"].Close()
	eventually(t, "that its link is gone", func() bool { return strings.Contains(s.reports.asleep()["device-1"], "no link") })
}

// TestAsleepForged: other sites say what a device signed, lately, and that it
// sleeps; nothing else is believed.
func TestAsleepForged(t *testing.T) {
	b := newBeatRig(t)
	b.commission()
	b.waitStatus()
	one := b.servers["server-1"]
	sign := func(id string, st firmware.Status, ago int64, boot bool) []byte {
		st.Device, st.Shares, st.Officers = id, []string{}, []string{}
		body, err := envelope.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		key := b.sys.Devices[id].Sign
		if boot {
			key = b.sys.Devices[id].Boot
		}
		raw, err := envelope.Sign(rand.Reader, key, envelope.Header{
			Type: firmware.TypeStatus, Version: firmware.MessageVersion, System: b.sys.State.System(), Created: b.unix() - ago, Expires: b.unix() + 60,
		}, body)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	tell := func(raw []byte) error {
		_, err := b.servers["server-2"].theBus().Request(t.Context(), bus.Subject("server-1", "asleep"), raw)
		return err
	}
	locked := firmware.Status{Phase: firmware.PhaseLocked}
	for what, raw := range map[string][]byte{
		"of its own device": sign("device-1", locked, 0, true),
		"old":               sign("device-4", locked, reportAge+5, true),
		"not asleep":        sign("device-4", firmware.Status{Phase: firmware.PhaseReady}, 0, false),
		"another's":         b.sys.Devices["device-4"].Sign.X.Bytes(),
		"too large":         make([]byte, maxReport+1),
	} {
		if tell(raw) == nil {
			t.Errorf("believed: %s", what)
		}
	}
	if why := one.reports.asleep(); len(why) != 0 {
		t.Fatalf("asleep: %v", why)
	}
	if err := tell(sign("device-4", locked, 0, true)); err != nil {
		t.Fatal(err)
	}
	if why := one.reports.asleep(); why["device-4"] != "its token is locked" {
		t.Errorf("asleep: %v", why)
	}
	if _, err := one.serveAwake(t.Context(), []byte("device-4")); err != nil {
		t.Fatal(err)
	}
	if err := tell(sign("device-4", locked, 30, true)); err != nil {
		t.Fatal(err)
	}
	if why := one.reports.asleep(); len(why) != 0 {
		t.Errorf("an older report counts: %v", why)
	}
}

// TestPins: on TLS a key is good for its role and no other, once any is listed.
func TestPins(t *testing.T) {
	b := newBeatRig(t)
	s := b.servers["server-1"]
	device, source, stranger := pinned.Pin{1}, pinned.Pin{2}, pinned.Pin{3}
	check := func(what, id string, key pinned.Pin, want bool) {
		t.Helper()
		if got := s.allowKey(key) && s.allow(id, key) == nil; got != want {
			t.Errorf("%s: %s with key %x: %t", what, id, key[:1], got)
		}
	}
	unpinned := func(what string, want bool) {
		for _, key := range []pinned.Pin{device, source, stranger, {}} {
			check(what, "device-1", key, want || key == pinned.Pin{})
			check(what, "source-1", key, want || key == pinned.Pin{})
		}
	}
	unpinned("no pins, no system", true)
	s.devicePins, s.sourcePins = []pinned.Pin{device}, []pinned.Pin{source}
	check("no system", "source-1", source, false)
	check("no system", "device-1", device, true)
	s.devicePins, s.sourcePins = nil, nil
	b.commission()
	unpinned("no pins", true)
	s.devicePins, s.sourcePins = []pinned.Pin{device}, []pinned.Pin{source}
	check("pins", "device-1", device, true)
	check("pins", "device-1", source, false)
	check("pins", "source-1", source, true)
	check("pins", "source-1", device, false)
	check("pins", "source-1", stranger, false)
	check("pins", "source-1", pinned.Pin{}, true) // a Unix socket has its own guard
	check("pins", "source-2", source, false)      // of the other site
	s.sourcePins = nil
	check("device pins alone", "source-1", device, false)
	check("device pins alone", "device-1", device, true)
}

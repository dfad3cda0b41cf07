package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// beating is what device-1 of a test system answers, with a policy of 2 of 3
// sources; states are those of its sources.
func beating(left int64, states ...string) *firmware.Status {
	l := &firmware.LeaseStatus{Left: left, Needed: 2, Destroy: 3600, Silence: 90, Sources: []firmware.SourceStatus{}}
	for i, id := range ledgertest.Policy().Sources {
		if i >= len(states) {
			break
		}
		s := firmware.SourceStatus{ID: id, Kind: strings.Split(id, "-")[0], State: states[i]}
		switch states[i] {
		case heartbeat.StateSpeaks:
			s.Left = left
		case heartbeat.StateRefuses:
			s.Text = "source " + id + " was silenced"
		}
		l.Sources = append(l.Sources, s)
	}
	return &firmware.Status{Device: "device-1", Phase: firmware.PhaseReady, Lease: l}
}

// told is what servers tell of device-1.
func told(st *firmware.Status) *api.SystemStatus {
	return &api.SystemStatus{Server: "server-1", Now: 1, Servers: []api.ServerStatus{
		{ID: "server-1", Devices: []api.DeviceStatus{{Device: "device-1", Name: "Seal 1", Status: st, Linked: true}},
			Sources: []api.SourceStatus{{ID: "message-1", Name: "Source message-1", Kind: "message", Linked: true, Since: 100, Devices: []string{"device-1"}}},
			Alarms:  []api.Alarm{{At: 200, Text: "source sequence-1 fell silent", Source: "sequence-1"}, {At: 150, Text: "the lease of device-2 ended", Device: "device-2"}}},
		{ID: "server-2", Devices: []api.DeviceStatus{{Device: "device-2", Name: "Seal 2", Status: &firmware.Status{Phase: firmware.PhaseReady}}},
			Sources: []api.SourceStatus{{ID: "sequence-1", Name: "Source sequence-1", Kind: "sequence", Since: 200, Devices: []string{"device-1"}}}},
	}}
}

func TestVerdicts(t *testing.T) {
	s := ledgertest.New(t, ledgertest.WithHeartbeat(ledgertest.Policy(), "device-1"))
	speaks, silent := heartbeat.StateSpeaks, heartbeat.StateSilent
	locked := beating(0)
	locked.Phase = firmware.PhaseLocked
	gone := beating(0)
	gone.Phase = firmware.PhaseDestroyed
	for name, c := range map[string]struct {
		status  *firmware.Status
		verdict string
		want    string // in its summary
	}{
		"all speak":     {beating(4200, speaks, speaks, speaks), verdictGood, "ready, lease 4.2 s, 3 of 3 sources speak, 2 needed"},
		"one is lost":   {beating(4200, speaks, silent, speaks), verdictLast, "2 of 3 sources speak, 2 needed, ONE MORE LOSS SILENCES IT"},
		"two are lost":  {beating(900, silent, silent, speaks), verdictLast, "1 of 3 sources speak"},
		"waiting":       {beating(0, speaks, heartbeat.StateWaiting, heartbeat.StateWaiting), verdictSilent, "SILENT, ready, no lease, 1 of 3"},
		"locked":        {locked, verdictSilent, "SILENT, locked"},
		"destroyed":     {gone, verdictSilent, "SILENT, " + destroyedText},
		"no answer":     {nil, verdictSilent, "SILENT, does not answer"},
		"old firmware?": {&firmware.Status{Phase: firmware.PhaseReady}, verdictSilent, "SILENT, ready"},
	} {
		b := beatsOf(s.State, told(c.status), nil)
		d := b.Devices[0]
		if got := d.summary(true); d.Verdict != c.verdict || !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, %q, expected %s and %q", name, d.Verdict, got, c.verdict, c.want)
		}
		if (b.trouble() == "") != (c.verdict == verdictGood) {
			t.Errorf("%s: trouble %q", name, b.trouble())
		}
		if b.Devices[1].Verdict != verdictFree || !strings.Contains(b.Devices[1].summary(true), "needs no beats") {
			t.Errorf("%s: %+v", name, b.Devices[1])
		}
	}
	// A policy that needs all has none to spare: no reason to call somebody.
	p := ledgertest.Policy()
	p.Needed = 3
	s = ledgertest.New(t, ledgertest.WithHeartbeat(p, "device-1"))
	all := beating(4200, speaks, speaks, speaks)
	all.Lease.Needed = 3
	if b := beatsOf(s.State, told(all), nil); b.Devices[0].Verdict != verdictGood {
		t.Errorf("%+v", b.Devices[0])
	}
}

func TestBeatsForPeople(t *testing.T) {
	s := ledgertest.New(t, ledgertest.WithHeartbeat(ledgertest.Policy(), "device-1"))
	st := beating(4200, heartbeat.StateSpeaks, heartbeat.StateSilent, heartbeat.StateRefuses)
	text := strings.Join(beatsOf(s.State, told(st), nil).lines(), "\n")
	for _, want := range []string{
		"message-1    message    speaks, 0.8 s old, good for 4.2 s", "sequence-1   sequence   silent\n", "satellite-1  satellite  refuses: source satellite-1 was silenced",
		"destroys nothing: no tested backup", "at server-1: linked since 1970-01-01 00:01:40 UTC; for device-1", "at server-2: NO LINK since",
		"1970-01-01 00:02:30 UTC  server-1: the lease of device-2 ended\n  1970-01-01 00:03:20 UTC  server-1: source sequence-1 fell silent",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	st.Lease.Armed = true
	if got := beatsOf(s.State, told(st), nil).lines(); !strings.Contains(strings.Join(got, "\n"), "destroys its shares after 1 h without beats, 90 s so far\n") {
		t.Errorf("%q", got)
	}
	st.Lease.Maintained = true
	if got := beatsOf(s.State, told(st), nil).lines(); !strings.Contains(strings.Join(got, "\n"), "a maintenance notice suspends that") {
		t.Errorf("%q", got)
	}
	// Of one device: its sources and what happened to them, nothing else.
	b := beatsOf(s.State, told(st), []string{"device-1"})
	if len(b.Devices) != 1 || len(b.Sources) != 2 || len(b.Alarms) != 1 || b.Alarms[0].Source != "sequence-1" ||
		b.Alarms[0].Count != 1 || b.Alarms[0].First != 200 {
		t.Errorf("%+v", b)
	}
}

// Where nobody looks at a screen, a line is printed for each change, and none
// for numbers that always change.
func TestWatchChanges(t *testing.T) {
	s := ledgertest.New(t, ledgertest.WithHeartbeat(ledgertest.Policy(), "device-1"))
	var out, errs bytes.Buffer
	a := &app{out: &out, err: &errs, now: func() time.Time { return time.Unix(60, 0) }}
	seen := &changes{last: map[string]string{}}
	look := func(st *firmware.Status, err error) string {
		out.Reset()
		errs.Reset()
		if err != nil {
			a.showChange(seen, nil, err)
		} else {
			a.showChange(seen, beatsOf(s.State, told(st), nil), nil)
		}
		return out.String() + errs.String()
	}
	speaks, silent := heartbeat.StateSpeaks, heartbeat.StateSilent
	if got := look(beating(4200, speaks, speaks, speaks), nil); strings.Count(got, "\n") != 6 || !strings.Contains(got, "00:01:00 UTC  device-1: ready, lease, 3 of 3") {
		t.Errorf("%s", got)
	}
	if got := look(beating(3900, speaks, speaks, speaks), nil); got != "" {
		t.Errorf("%s", got)
	}
	if got := look(beating(3900, speaks, silent, speaks), nil); strings.Count(got, "\n") != 1 || !strings.Contains(got, "ONE MORE LOSS SILENCES IT; sequence-1 silent") {
		t.Errorf("%s", got)
	}
	away := errors.New("it is away")
	if got := look(nil, away); !strings.Contains(got, "no news: it is away") {
		t.Errorf("%s", got)
	}
	if got := look(nil, away); got != "" {
		t.Errorf("%s", got)
	}
	if got := look(beating(3900, speaks, silent, speaks), nil); got != "" {
		t.Errorf("%s", got)
	}
	if got := look(nil, away); got == "" {
		t.Error("the server went away again, and nothing was said")
	}
	if got := look(beating(0, silent, silent, silent), nil); !strings.Contains(got, "SILENT, ready, no lease, 0 of 3") {
		t.Errorf("%s", got)
	}
	a.json = true
	if got := look(beating(4200, speaks, speaks, speaks), nil); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, `{"now":1,`) {
		t.Errorf("%s", got)
	}
	// On a screen everything is painted each time, and nobody's text steers it.
	a.json, a.screen = false, true
	x := beating(4200, speaks, heartbeat.StateRefuses, speaks)
	x.Lease.Sources[1].Text = "\x1b[2Jno\x07"
	for range 2 {
		got := look(x, nil)
		if !strings.HasPrefix(got, "\x1b[H") || !strings.HasSuffix(got, "\x1b[J") || strings.Contains(got, "\x1b[2J") || strings.Contains(got, "\x07") ||
			strings.Count(got, "\x1b[K\n") != strings.Count(got, "\n") {
			t.Errorf("%q", got)
		}
	}
}

func TestHeartbeatStatus(t *testing.T) {
	r := newRigWith(t, ledgertest.WithHeartbeat(ledgertest.Policy(), "device-1"))
	r.Devices["device-4"].SetFault(coordtest.Silent)
	x := r.fails(exitFailed, r.nobody(), "silent: device-1", "heartbeat", "status")
	if !strings.Contains(x.out, "SILENT, ready") || !strings.Contains(x.out, "needs no beats") {
		t.Errorf("%s", x.out)
	}
	if x := r.ok("", "heartbeat", "status", "device-2", "device-4"); strings.Count(x.out, "\n") != 2 || strings.Contains(x.out, "SILENT") {
		t.Errorf("%s", x.out)
	}
	got := decode[beatsJSON](t, r.fails(exitFailed, r.nobody(), "", "--json", "heartbeat", "status", "device-1"))
	if len(got.Devices) != 1 || got.Devices[0].Verdict != verdictSilent {
		t.Errorf("%+v", got)
	}
	r.fails(exitUsage, r.nobody(), "there is no device", "heartbeat", "status", "device-9")
	r.fails(exitUsage, r.nobody(), "say what to do", "heartbeat")
}

// A status shows leases, too.
func TestStatusShowsLease(t *testing.T) {
	s := ledgertest.New(t, ledgertest.WithHeartbeat(ledgertest.Policy(), "device-1"))
	var out bytes.Buffer
	a := &app{out: &out}
	st := beating(4200, heartbeat.StateSpeaks, heartbeat.StateSilent, heartbeat.StateSpeaks)
	st.LedgerHead, st.Firmware = s.State.Head(), s.State.Firmware()
	for _, x := range told(st).Servers {
		a.printSite(siteOf(s.State, x, s.Now))
	}
	many := told(st).Servers[0]
	many.Alarms = append(many.Alarms, api.Alarm{At: 300, Text: "third", Count: 17, First: 60})
	a.printSite(siteOf(s.State, many, s.Now))
	gone := &firmware.Status{Phase: firmware.PhaseDestroyed, LedgerHead: s.State.Head(), Firmware: s.State.Firmware()}
	a.printSite(siteOf(s.State, told(gone).Servers[0], s.Now))
	for _, want := range []string{
		"ready, lease 4.2 s, 2 of 3 sources speak, 2 needed", "WARNING: one more of its sources lost, and it falls silent",
		"sequence-1     Source sequence-1    heartbeat source, kind sequence, NO LINK since", "ALARM: 1970-01-01 00:03:20 UTC  source sequence-1 fell silent",
		"DESTROYED: its shares are gone, only a restore brings it back", "third (17 times since 1970-01-01 00:01:00 UTC)\n                 1 more before: privyseal heartbeat status",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

// Whoever waits for a device that has no lease is told where to look.
func TestBreathless(t *testing.T) {
	r := newRigWith(t, ledgertest.WithHeartbeat(ledgertest.Policy(), "device-1"), "officer-1a")
	// Of device-3 no beats are needed: that it is locked has another reason.
	for _, id := range []string{"device-1", "device-3"} {
		r.Devices[id].SetFault(coordtest.Locked)
	}
	digest := r.request("file", file(t, "a.txt", []byte("a")), "--devices", "device-1,device-2,device-3")
	want := "see: privyseal heartbeat status device-1"
	if x := r.ok("", "request", "status", digest); !strings.Contains(x.err, want+"\n") {
		t.Errorf("%s%s", x.out, x.err)
	}
	r.fails(exitFailed, r.nobody(), want, "request", "status", digest, "--wait", "--timeout", "300ms")
	r.fails(exitFailed, r.nobody(), want, "officer", "show", digest, "--wait", "0s", "--card", r.serial("officer-1a"))
}

// The hint goes by the words that devices use.
func TestBreathlessWords(t *testing.T) {
	s := ledgertest.New(t, ledgertest.WithHeartbeat(ledgertest.Policy(), "device-1"))
	for text, want := range map[string]bool{
		"device device-1 waits for its beats": true, "the lease of device device-1 is over": true,
		"device device-1 is locked: its officers open it with 'privyseal officer unlock device-1'":      true,
		"the message was made under ledger head 00, which this device does not know: hand it the newer": false, "": false,
	} {
		if got := breathless(s.State, &tracking{Devices: []api.DeviceTracking{{Device: "device-1", Text: text}}}); (got != nil) != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// sourceRow is a row with what warnings look at.
func sourceRow(id, server string, operators ...string) ledger.Source {
	return ledger.Source{ID: id, Server: server, Operators: operators}
}

func TestPolicyWarnings(t *testing.T) {
	beats := func(needed uint64, lease time.Duration, sources ...string) *ledger.Heartbeat {
		return &ledger.Heartbeat{Sources: sources, Needed: needed, Period: 1000, Lease: uint64(lease / time.Millisecond)}
	}
	sources := []ledger.Source{sourceRow("a", "s1", "anna"), sourceRow("b", "s2", "bert"), sourceRow("c", "s3", "anna")}
	for name, c := range map[string]struct {
		policy *ledger.Heartbeat
		want   []string // parts of the warnings, in order
	}{
		"good":             {beats(2, time.Minute, "a", "b", "c"), nil},
		"own site":         {beats(1, time.Minute, "a", "b"), []string{"a at its own site, s1, suffice to keep it going (1 needed)"}},
		"one operator":     {beats(1, time.Minute, "c"), []string{"anna alone operates all of its sources", "needs all of its sources (1)"}},
		"operator's other": {beats(2, time.Minute, "a", "c", "d3"), nil},
		"long lease":       {beats(2, 11*time.Minute, "a", "b", "c"), []string{"a beat grants 11 min: for so long a stolen device signs on"}},
		"ten minutes":      {beats(2, 10*time.Minute, "a", "b", "c"), nil},
		"near satellite":   {beats(2, time.Minute, "b", "c", "d2"), []string{"its satellite d2 is a device of the same site, s1"}},
		"all":              {beats(2, time.Minute, "b", "c"), []string{"needs all of its sources (2)"}},
	} {
		p := policies{sources: sources, devices: []policyOf{
			{"d1", "s1", c.policy}, {"d2", "s1", beats(2, time.Minute, "a", "b", "c")}, {"d3", "s3", beats(2, time.Minute, "a", "b", "d1")},
		}}
		got := p.warnings()
		if len(got) != len(c.want) {
			t.Errorf("%s: %q", name, got)
			continue
		}
		for i, w := range c.want {
			if !strings.HasPrefix(got[i], "d1: ") || !strings.Contains(got[i], w) {
				t.Errorf("%s: %q, expected %q", name, got[i], w)
			}
		}
	}
	bare := policies{devices: []policyOf{{"d1", "s1", nil}, {"d2", "s1", nil}}}
	if got := bare.warnings(); len(got) != 1 || !strings.HasPrefix(got[0], "no device needs a heartbeat") {
		t.Errorf("%q", got)
	}
	bare.sources, bare.devices[0].Heartbeat = sources, beats(2, time.Minute, "a", "b", "c")
	if got := bare.warnings(); len(got) != 1 || !strings.HasPrefix(got[0], "d2: no heartbeat is needed there") {
		t.Errorf("%q", got)
	}
}

func TestSystemShowsPolicies(t *testing.T) {
	p := ledgertest.Policy()
	p.Destroy = 30 * 86400
	r := newRigWith(t, ledgertest.WithHeartbeat(p, "device-1"))
	x := r.ok("", "system", "show")
	for _, want := range []string{
		"device-1 goes on while 2 of 3 sources speak", "nothing is destroyed yet: no backup is on record of ", "Heartbeat sources",
		"message-1    Source message-1, kind message, at server-1, operated by requester", "WARNING    device-1: requester alone operates all of its sources",
		"WARNING    device-2, device-3, device-4, device-5: no heartbeat is needed there",
	} {
		if !strings.Contains(x.out, want) {
			t.Errorf("system show lacks %q:\n%s", want, x.out)
		}
	}
	got := decode[tablesJSON](t, r.ok("", "--json", "system", "show"))
	if len(got.Sources) != 3 || got.Devices[0].Heartbeat == nil || got.Devices[1].Heartbeat != nil || got.Devices[0].Heartbeat.Armed || len(got.Devices[0].Heartbeat.Unsaved) != 3 {
		t.Errorf("%+v", got)
	}
}

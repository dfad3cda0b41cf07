package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/soak"
)

// TestLockDownTargets: what is promised is of the time beyond the operation in
// flight, and of every late signature.
func TestLockDownTargets(t *testing.T) {
	operation := soak.Times{N: 1, P50: time.Millisecond, P99: 20 * time.Millisecond, Max: time.Second}
	for _, x := range []struct {
		p99    time.Duration
		late   int
		missed int
	}{{70 * time.Millisecond, 0, 0}, {71 * time.Millisecond, 0, 1}, {5 * time.Millisecond, 0, 0}, {time.Millisecond, 1, 1}, {time.Second, 2, 2}} {
		r := new(report)
		r.addLockDowns(&soak.Cuts{Cuts: 7, Lock: soak.Times{N: 7, P99: x.p99}, Operation: operation, Late: x.late})
		missed := 0
		for _, target := range r.Targets {
			if !target.OK {
				missed++
			}
		}
		if len(r.Targets) != 2 || missed != x.missed {
			t.Errorf("p99 %v, %d late: %+v", x.p99, x.late, r.Targets)
		}
		var b strings.Builder
		if err := r.print(&b); err != nil || strings.Count(b.String(), "MISSED") != x.missed || !strings.Contains(b.String(), "7 cuts") {
			t.Errorf("%v\n%s", err, &b)
		}
	}
}

func TestBeatCost(t *testing.T) {
	r := new(report)
	r.addBeats(&soak.Cost{
		Policy: soak.FiveSources(), Took: time.Minute, Devices: []soak.Usage{{ID: "d1", CPU: 16 * time.Second, From: 4_000_000, To: 20_000_000}},
		Sources: []soak.SourceCost{{Usage: soak.Usage{ID: "m1", CPU: time.Second, From: 3_000_000}, Kind: "message", ToDevice: 1_500_000}},
	})
	var b strings.Builder
	if err := r.print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"every 1000 ms", "device d1", "16.00  4000      20000", "source m1, message", "on a device's link: m1", "1500\n"} {
		if !strings.Contains(strings.Join(strings.Fields(b.String()), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("it does not say %q:\n%s", want, &b)
		}
	}
	out, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(out), `"cpu_seconds_per_hour":16`) || !strings.Contains(string(out), `"id":"m1"`) {
		t.Errorf("%s, %v", out, err)
	}
}

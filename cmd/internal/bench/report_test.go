package main

import (
	"strings"
	"testing"
	"time"
)

func TestTargets(t *testing.T) {
	r := new(report)
	r.addStarts([]started{
		{name: "device", ready: 900 * time.Millisecond, rss: 39_000_000},
		{name: "device", ready: 3 * time.Second, rss: 41_000_000},
		{name: "device", ready: 800 * time.Millisecond, rss: 42_000_000},
	})
	r.addMemory([]memory{
		{Process: "privyseal-device d1", Rest: 40_000_000},
		{Process: "privyseal-device d2", Rest: 40_000_001},
		{Process: "privyseal-server s1", Rest: 60_000_000},
		{Process: "privyseal-virtualcard cards", Rest: 90_000_000}, // no promise
	})
	var missed []string
	for _, x := range r.Targets {
		if !x.OK {
			missed = append(missed, x.Name)
		}
	}
	want := "memory at rest: device, memory at rest, the largest: privyseal-device d2"
	if got := strings.Join(missed, ", "); len(r.Targets) != 4 || got != want {
		t.Errorf("%d targets; missed %q, want %q", len(r.Targets), got, want)
	}
	var b strings.Builder
	if err := r.print(&b); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "MISSED"); n != 2 {
		t.Errorf("MISSED is printed %d times:\n%s", n, &b)
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	table(&b, [][]string{{"", "ms"}, {"long name", "1"}, {"größer", "100"}})
	if got, want := b.String(), "              ms\n  long name    1\n  größer     100\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestProcess(t *testing.T) {
	p := process{argv: []string{"/x/privyseal-device", "run", "--dir", "/y/system/d1", "--socket=/run/s"}}
	if p.program() != "privyseal-device" || p.dir() != "/y/system/d1" || p.flag("--socket") != "/run/s" || p.flag("--none") != "" || p.String() != "privyseal-device d1" {
		t.Errorf("%v: %q, %q, %q", p, p.program(), p.dir(), p.flag("--socket"))
	}
	if got := (process{argv: []string{"privyseal-device", "--dir"}}).dir(); got != "" {
		t.Errorf("a flag without value is %q", got)
	}
}

package main

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// The numbers of a load, by hand: 20 certificates in 2 s, each 10 half-length
// powers of 1 ms and 3 full ones of 2 ms on all cores, 16 ms by the clock.
func TestTolerantRun(t *testing.T) {
	o := &tolerantRun{Bits: 2048, What: "all machines", Batch: 10, Certificates: 20}
	o.fill(2*time.Second, 10, 3, powerTimes{time.Millisecond, 2 * time.Millisecond, 2 * time.Millisecond, 4 * time.Millisecond},
		worked{devices: 400 * time.Millisecond, servers: 200 * time.Millisecond, here: 100 * time.Millisecond})
	for _, x := range []struct {
		name      string
		got, want float64
	}{
		{"rate", o.Rate, 10}, {"permitted", o.Permitted, 62.5}, {"share", o.Share, 0.16}, {"plain", o.Plain, 32},
		{"devices", o.Devices, 20}, {"servers", o.Servers, 10}, {"people", o.People, 5},
	} {
		if math.Abs(x.got-x.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", x.name, x.got, x.want)
		}
	}
	r := new(report)
	r.addTolerant(o)
	damaged := *o
	damaged.What = "a combiner dead"
	r.addTolerant(&damaged)
	fast := *o
	fast.Share = minShare
	r.addTolerant(&fast)
	if len(r.Targets) != 2 || r.Targets[0].OK || !r.Targets[1].OK || !r.Targets[0].Least {
		t.Errorf("%+v", r.Targets)
	}
	var b strings.Builder
	if err := r.print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"16 %", "≥ 0.7 x  MISSED", "10.0 + 3.0", "a combiner dead"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not printed:\n%s", want, &b)
		}
	}
}

// A combiner that alone serves some calculators cannot be done without.
func TestServed(t *testing.T) {
	one := func(j uint64) grouping.Combination { return grouping.Combination{{Calculator: j, Key: 1}} }
	g := &grouping.Grouping{T: 1, L: 1, Calculators: []uint64{1, 2}, Combiners: []grouping.Group{
		{Number: 1, Combinations: []grouping.Combination{one(1), one(2)}}, {Number: 2, Combinations: []grouping.Combination{one(2)}},
	}}
	for _, x := range []struct {
		without uint64
		have    []uint64
		want    bool
	}{{2, []uint64{1}, true}, {1, []uint64{1}, false}, {1, []uint64{2}, true}, {1, nil, false}} {
		if got := served(g, x.without, x.have); got != x.want {
			t.Errorf("without combiner %d calculators %v: %v", x.without, x.have, got)
		}
	}
}

func TestGroupings(t *testing.T) {
	all := groupings()
	if last := all[len(all)-1]; last.Combiners != 2 || last.K != maxResistK || last.T != maxResistT {
		t.Errorf("%+v", last)
	}
	found := map[[3]uint64]bool{}
	for _, g := range all {
		found[[3]uint64{g.K, g.T, g.Combiners}] = true
	}
	if len(found) != len(all) || !found[[3]uint64{grouping.MaxCalculators, maxGroupingT, 1}] {
		t.Errorf("%d of %d", len(found), len(all))
	}
	for _, x := range []struct {
		k, t, c uint64
		want    string
	}{
		{5, 3, 1, "k=5 t=3: l=2 m=2"},               // B's example has three combiners
		{3, 3, 1, "k=3 t=3: l=1 m=1"},               // all of them
		{grouping.MaxCalculators + 1, 3, 1, "none"}, // out of range, and it says so
	} {
		g := groupingTime{K: x.k, T: x.t, Combiners: x.c, Calculators: x.t - 1}
		g.measure(1<<16, nil)
		if !strings.Contains(g.line(), x.want) {
			t.Errorf("%s, want %s", g.line(), x.want)
		}
		r := &report{Groupings: []groupingTime{g}}
		var b strings.Builder
		r.printGroupings(&b)
		if got := strings.Contains(b.String(), "  –  –  "); got != (g.L == 0) {
			t.Errorf("l=%d:\n%s", g.L, &b)
		}
	}
}

func TestSizeList(t *testing.T) {
	var l sizeList
	if err := l.Set("2048,4096"); err != nil || l.String() != "2048,4096" {
		t.Errorf("%v, %v", l, err)
	}
	for _, s := range []string{"", "1024", "2048,", "x"} {
		if err := l.Set(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

func TestOnAllCores(t *testing.T) {
	wall, _, err := onAllCores(2, 20*time.Millisecond, func() error { time.Sleep(time.Millisecond); return nil })
	if err != nil || wall <= 0 {
		t.Errorf("%v, %v", wall, err)
	}
	broken := errors.New("broken")
	if _, _, err := onAllCores(2, time.Hour, func() error { return broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
}

package main

import (
	"testing"
	"time"
)

// TestHalfLengthTargets: both promises are judged, each at its own limit.
func TestHalfLengthTargets(t *testing.T) {
	op := func(name string, took time.Duration) *operation {
		return &operation{name: name, bits: 2048, wall: []time.Duration{took}, cpu: []time.Duration{took}}
	}
	for _, x := range []struct {
		half   time.Duration
		missed int
	}{{600 * time.Microsecond, 0}, {620 * time.Microsecond, 0}, {630 * time.Microsecond, 1}, {900 * time.Microsecond, 2}} {
		r := new(report)
		r.addHalfLength([]*operation{op(opLibcrypto, time.Millisecond), op(opHalf, x.half), op(opWhole, 800*time.Microsecond)})
		missed := 0
		for _, target := range r.Targets {
			if !target.OK {
				missed++
			}
		}
		if len(r.Targets) != 2 || missed != x.missed {
			t.Errorf("%v: %+v", x.half, r.Targets)
		}
	}
	r := new(report)
	if r.addHalfLength([]*operation{op(opHalf, 1)}); len(r.Targets) > 0 {
		t.Error("judged without a measure")
	}
}

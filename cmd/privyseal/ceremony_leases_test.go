package main

import (
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware"
)

func TestReadyForCertificates(t *testing.T) {
	b := &beatsJSON{Devices: []deviceBeats{
		{Device: "free", Phase: firmware.PhaseReady},
		{Device: "alive", Phase: firmware.PhaseReady, Lease: &leaseJSON{Left: 1}},
		{Device: "waits", Phase: firmware.PhaseReady, Lease: &leaseJSON{}},
		{Device: "locked", Phase: firmware.PhaseLocked},
		{Device: "away"},
	}}
	if n, waiting := b.ready(); n != 2 || !slices.Equal(waiting, []string{"waits", "locked", "away"}) {
		t.Errorf("%d ready, waiting %v", n, waiting)
	}
}

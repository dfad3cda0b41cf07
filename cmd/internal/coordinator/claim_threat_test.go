package coordinator_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/firmware"
)

// signersOf are the devices of the attempt that gave the signatures.
func signersOf(t *testing.T, out api.Tracking) []string {
	t.Helper()
	i := slices.IndexFunc(out.Attempts, func(h api.Attempt) bool { return h.Outcome == "signed" })
	if i < 0 {
		t.Fatalf("not signed: %+v", out.Attempts)
	}
	if a := out.Attempts[i]; len(a.Devices) != len(a.Shares) {
		t.Errorf("%d devices, %d shares", len(a.Devices), len(a.Shares))
	}
	return out.Attempts[i].Devices
}

// TestCombinerNamesOthers: a combiner whose signature is right says that calculators
// took part who did nothing. They are not among those who signed.
func TestCombinerNamesOthers(t *testing.T) {
	sys, a := printed(t)
	raw := coordtest.LayersRequest(t, sys, a, sys.State.Time(), 3600)
	w := newWorldOf(t, sys, a)
	w.fault(coordtest.Silent, device(4), device(5), device(7), device(8))
	w.answer = func(d, typ string, out any) any {
		c, ok := out.(firmware.Combined)
		if !ok {
			return out
		}
		c.Combinations = slices.Clone(c.Combinations)
		c.Combinations[0] = slices.Clone(c.Combinations[0])
		c.Combinations[0][0].Calculator, c.Combinations[0][1].Calculator = 4, 5
		return c
	}
	g := w.start("server-1", raw)
	w.pass(30)
	check := func() {
		t.Helper()
		out := g.signed()
		who := signersOf(t, out)
		if slices.Contains(who, device(4)) || slices.Contains(who, device(5)) || who[len(who)-1] != device(6) {
			t.Errorf("signed by %v", who)
		}
		for _, d := range out.Devices {
			if (d.Device == device(4) || d.Device == device(5)) && d.Signed {
				t.Errorf("%s signed", d.Device)
			}
		}
		if !strings.Contains(out.Text, "combined by device-6, which says that it used device-4, device-5 as well, of whom nothing came here") {
			t.Error(out.Text)
		}
	}
	check()
	g.restart()
	check()
}

// TestPowersComeLate: what an honest combiner says of calculators whose powers the
// distributor lacks is its word, until they come.
func TestPowersComeLate(t *testing.T) {
	sys, a := printed(t)
	raw := coordtest.LayersRequest(t, sys, a, sys.State.Time(), 3600)
	w := newWorldOf(t, sys, a)
	w.fault(coordtest.Silent, device(4), device(5), device(6)) // one combiner is elsewhere
	var lost []tolerant.Packet
	w.cut = func(p tolerant.Packet, site string) bool {
		if p.Kind != tolerant.KindPowers || site != "server-1" {
			return false
		}
		lost = append(lost, p)
		return true
	}
	g := w.start("server-1", raw)
	w.settle()
	out := g.signed()
	combiner := signersOf(t, out)
	if len(combiner) != 1 || !strings.HasPrefix(out.Text, "signed, combined by "+combiner[0]+", which says that it used device-1, device-2, device-3 as well") {
		t.Fatalf("%v: %s", combiner, out.Text)
	}
	g.restart()
	w.cut = nil
	for _, p := range lost {
		w.broadcast("server-2", p)
	}
	w.settle()
	out = g.signed()
	if who := signersOf(t, out); len(who) != 4 || who[3] != combiner[0] || strings.Contains(out.Text, "says") {
		t.Errorf("%v: %s", who, out.Text)
	}
	w.pass(30)
	w.over()
}

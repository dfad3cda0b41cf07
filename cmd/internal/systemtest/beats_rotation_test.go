package systemtest

import (
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware"
)

// TestEndlessRotation has a corrupt source, which certifies its own beat keys,
// come with another one in every beat. A device records each that it goes on to:
// its journal must not fill up, nor the other sources suffer.
func TestEndlessRotation(t *testing.T) {
	s := New(t, Only(Pair), Beats(mixed(), "d1"))
	s.Pass(2 * time.Second)
	d, corrupt := s.Devices["d1"], s.Sources["t1"]
	before := len(d.Journal)
	for range 100 {
		s.Rotate(corrupt)
		s.Pass(500 * time.Millisecond)
	}
	if n := len(d.Journal) - before; n < 2 || n > 12 {
		t.Errorf("%d records for 100 beat keys", n)
	}
	if !s.signs(t, "d1") || s.Status("d1").Phase != firmware.PhaseReady {
		t.Fatalf("one corrupt source ended the lease: %v %q", s.Status("d1").Lease, d.Notes)
	}
	if !strings.Contains(strings.Join(d.Notes, "\n"), "new beat keys in an hour") {
		t.Errorf("nobody was told: %q", d.Notes)
	}
	// The last key counts once the hour is over.
	s.SetWall("d1", time.Hour+time.Minute)
	s.Pass(2 * time.Second)
	if last := d.Notes[len(d.Notes)-1]; last != "source t1 speaks with its beat key 101" {
		t.Errorf("after an hour: %q", last)
	}
}

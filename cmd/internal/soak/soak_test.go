package soak

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/firmware/ledger"
)

var (
	cuts    = flag.Int("cuts", 20, "how often TestCuts cuts the beats of a device")
	devices = flag.Int("devices", 3, "how many devices it has")
)

var programs struct {
	sync.Once
	dir string
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(programs.dir)
	os.Exit(code)
}

// program builds a program of the product, with the race detector if the test
// runs with it.
func program(t *testing.T, name string) string {
	t.Helper()
	programs.Do(func() {
		if programs.dir, programs.err = os.MkdirTemp("", "privyseal-soak-"); programs.err != nil {
			return
		}
		args := []string{"build", "-o", programs.dir + "/"}
		if raceDetector {
			args = append(args, "-race")
		}
		out, err := exec.Command("go", append(args, "../../privyseal-device", "../../privyseal-heartbeat")...).CombinedOutput()
		if err != nil {
			programs.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if programs.err != nil {
		t.Fatal(programs.err)
	}
	return filepath.Join(programs.dir, name)
}

// TestCuts cuts the beats of devices at work, again and again: nothing is
// released late, nothing crashes, nothing is damaged. How long it takes is
// scripts/bench's business.
func TestCuts(t *testing.T) {
	f, err := New(t.Context(), t, Config{
		Device: program(t, "privyseal-device"), Devices: *devices, T: 2, InHost: *devices / 3,
		Policy: ledger.Heartbeat{Sources: []string{"m1", "q1", "t1"}, Needed: 2, Period: 150, Lease: 900, Minimum: 2, Loss: 2},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out, err := f.Cut(*cuts, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", *out)
	if out.Late != 0 {
		t.Errorf("%d partial signatures were released after the end of a lease", out.Late)
	}
	if out.Cuts != *cuts || out.Partials < out.Cuts {
		t.Errorf("%d cuts and %d partial signatures: the devices were not at work", out.Cuts, out.Partials)
	}
}

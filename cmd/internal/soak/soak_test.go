package soak

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

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

// TestCost: what beats cost is counted for every process and link, and all of
// it is something.
func TestCost(t *testing.T) {
	policy := FiveSources()
	policy.Period, policy.Lease = 200, 4000
	f, err := New(t.Context(), t, Config{
		Device: program(t, "privyseal-device"), Source: program(t, "privyseal-heartbeat"), Devices: 3, T: 2, Policy: policy, Free: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := f.Cost(2 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Devices) != 2 || len(c.Sources) != 5 {
		t.Fatalf("%+v", c)
	}
	// Five challenges a second, none of which is empty.
	const least = 5 * 3600 / 2 * 100
	for _, u := range c.Devices {
		if u.CPU <= 0 || u.From < least || u.To < 3*least {
			t.Errorf("device %+v", u)
		}
	}
	for _, s := range c.Sources {
		if s.CPU <= 0 || s.From < least || s.ToDevice < least {
			t.Errorf("source %+v", s)
		}
		if challenged := s.FromDevice > least; challenged != (s.Kind == ledger.SourceSatellite) {
			t.Errorf("source %s of kind %s: %d octets of challenges in an hour", s.ID, s.Kind, s.FromDevice)
		}
	}
	if err := f.Stop(); err != nil {
		t.Error(err)
	}
}

// TestFaultIsFound: a device whose release gate is open, and whose watchdog
// sleeps, does not pass.
func TestFaultIsFound(t *testing.T) {
	if testing.Short() {
		t.Skip("builds another device")
	}
	dir := t.TempDir()
	replace := map[string]string{}
	for name, change := range map[string][2]string{
		"release.go":  {"func (g *gate) may() error {\n", "func (g *gate) may() error {\n\tif true {\n\t\treturn nil\n\t}\n"},
		"watchdog.go": {"if end, ok := w.gate.lapse(", "time.Sleep(100 * time.Millisecond)\n\t\tif end, ok := w.gate.lapse("},
	} {
		path, err := filepath.Abs(filepath.Join("../../privyseal-device", name))
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(data), change[0]) != 1 {
			t.Fatalf("%s does not hold %q once: plant the fault anew", name, change[0])
		}
		replace[path] = filepath.Join(dir, name)
		if err := os.WriteFile(replace[path], []byte(strings.Replace(string(data), change[0], change[1], 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", dir+"/", "../../privyseal-device").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := New(t.Context(), t, Config{
		Device: filepath.Join(dir, "privyseal-device"), Devices: 2, T: 2,
		Policy: ledger.Heartbeat{Sources: []string{"m1", "q1", "t1"}, Needed: 2, Period: 150, Lease: 900, Minimum: 2, Loss: 2},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found, err := f.Cut(8, nil)
	if err != nil {
		t.Fatal(err)
	}
	if found.Late == 0 {
		t.Errorf("nothing was late: %+v", *found)
	}
	t.Logf("%d late in %d cuts", found.Late, found.Cuts)
}

package systemtest

import (
	"os"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/firmware"
)

// forever is a testing.TB whose cleanups run when the process ends.
type forever struct {
	testing.TB
	cleanups *[]func()
}

func (f forever) Cleanup(fn func()) { *f.cleanups = append(*f.cleanups, fn) }

var common struct {
	sync.Mutex
	system   *System
	cleanups []func()
}

// Main runs the tests of a package that uses Shared: call it from TestMain and
// exit with what it returns.
func Main(m *testing.M) int {
	if dir := os.Getenv(serverProcess); dir != "" {
		return runServer(dir)
	}
	code := m.Run()
	for i := len(common.cleanups) - 1; i >= 0; i-- {
		common.cleanups[i]()
	}
	return code
}

// Shared returns one system for all tests of a package, which must not run in
// parallel: every device is alive and unlocked, and writes its records. A test
// that destroys something for good makes its own with New.
func Shared(t testing.TB) *System {
	t.Helper()
	common.Lock()
	defer common.Unlock()
	if common.system == nil {
		common.system = New(forever{t, &common.cleanups})
	}
	s := *common.system
	s.t = t
	s.Reset()
	return &s
}

// Reset brings every device back to life and unlocks it.
func (s *System) Reset() {
	s.t.Helper()
	for _, id := range Devices {
		d := s.Devices[id]
		s.Tap(id, nil)
		d.Break = nil
		if d.Dead() {
			d.Restart(s.t)
		}
		if d.Machine().Phase() == firmware.PhaseLocked {
			s.Unlock(id)
		}
	}
}

// Restart kills a device and starts it again, locked.
func (s *System) Restart(device string) {
	s.t.Helper()
	s.Devices[device].Restart(s.t)
}

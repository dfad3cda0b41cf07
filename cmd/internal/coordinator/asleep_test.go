package coordinator_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
)

// asleep tells the coordinator what a server tells it of a device that has
// lost its lease.
func (s *sim) asleep(id string, locked bool) {
	s.do(s.r.Asleep(s.now, id, locked, "its lease is over"))
}

// step answers asks and lets officers approve until a device has been asked
// for its partial signature, or the request is over.
func (s *sim) until(done func() bool) {
	s.t.Helper()
	for range 10000 {
		if done() {
			return
		}
		if !s.answer() && !s.officers() {
			s.t.Fatal("it does not come to that")
		}
	}
}

func by(t *testing.T, out api.Tracking, id string) bool {
	t.Helper()
	return slices.Contains(out.Attempts[len(out.Attempts)-1].Devices, id)
}

// TestAsleepBefore: a device that is known to be asleep when a request comes
// is neither asked nor waited for, and its officers are left in peace.
func TestAsleepBefore(t *testing.T) {
	for _, m := range modes {
		for place := 1; place <= 3; place++ {
			t.Run(fmt.Sprintf("%s at %d", m.name, place), func(t *testing.T) {
				s := newSim(t)
				c := s.config()
				c.Asleep = map[string]string{device(place): "its lease is over"}
				s.fault(coordtest.Silent, device(place))
				r, err := coordinator.New(c, s.request(m.file, m.approvals), s.now)
				if err != nil {
					t.Fatal(err)
				}
				s.r = r
				s.do(r.Start(s.now))
				for _, a := range s.asks {
					if a.Device == device(place) {
						t.Errorf("a sleeping device is asked a %q", a.Type)
					}
				}
				out := s.settle() // no time passes
				s.signed(out)
				if by(t, out, device(place)) || len(out.Attempts) != 1 {
					t.Errorf("attempts: %+v", out.Attempts)
				}
			})
		}
	}
}

// TestAsleepBetween: a device that gave its offer, and got its officers'
// approvals, loses its lease before it is asked to sign, or while it is: others
// take its place in the same second, whether it answers or hangs.
func TestAsleepBetween(t *testing.T) {
	for _, m := range modes {
		for _, when := range []string{"after the offer", "with a task"} {
			for place := 1; place <= 3; place++ {
				for _, locked := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s %s at %d locked %t", m.name, when, place, locked), func(t *testing.T) {
						s := newSim(t)
						d := device(place)
						s.hung = map[string]string{d: "task"}
						s.start(s.request(m.file, m.approvals))
						if when == "after the offer" {
							for s.answer() {
							}
						} else {
							s.until(func() bool { return s.waits(d, "task") })
						}
						s.asleep(d, locked)
						out := s.settle()
						s.signed(out)
						if by(t, out, d) {
							t.Errorf("signed by %v", out.Attempts[len(out.Attempts)-1].Devices)
						}
						if x := out.Devices[place-1]; x.Text != "its lease is over" || locked && len(x.Approved) != 0 {
							t.Errorf("the tracking says %+v", x)
						}
					})
				}
			}
		}
	}
}

// TestAsleepAfterPartial: what a device signed within its lease stands.
func TestAsleepAfterPartial(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			s := newSim(t)
			s.hung = map[string]string{device(3): "task"}
			s.start(s.request(m.file, m.approvals))
			s.until(func() bool { return s.waits(device(3), "task") && s.r.Tracking().Made == 2 })
			s.asleep(device(1), true)
			s.fault(coordtest.Locked, device(1))
			s.hung = nil
			out := s.settle()
			s.signed(out)
			if len(out.Attempts) != 1 || s.devices[device(1)].Tasks() != 1 {
				t.Errorf("attempts: %+v", out.Attempts)
			}
		})
	}
}

// TestAsleepDuringInquiry: one that falls asleep instead of showing its partial
// signature right is passed over, and nobody is convicted for it.
func TestAsleepDuringInquiry(t *testing.T) {
	s := newSim(t)
	s.fault(coordtest.Random, device(2))
	s.start(s.certificate("set"))
	s.until(func() bool { return strings.Contains(s.r.Tracking().Text, "finding out whose") })
	s.asleep(device(1), true)
	s.fault(coordtest.Locked, device(1))
	s.attributed(s.pass(3), device(2))
}

// TestAllAsleep: hints alone do not end a request, and do not outlive
// themselves: who was slandered is asked again.
func TestAllAsleep(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			s := newSim(t)
			s.start(s.request(m.file, m.approvals, device(1), device(2), device(3)))
			for i := 1; i <= 3; i++ {
				s.asleep(device(i), i == 2)
			}
			if out := s.settle(); out.State != api.StateOpen || !strings.Contains(out.Text, "its lease is over") {
				t.Fatalf("%s: %s", out.State, out.Text)
			}
			s.signed(s.pass(20))
		})
	}
}

// TestAsleepAwake: a device that got its beats back is asked at once.
func TestAsleepAwake(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			s := newSim(t)
			s.start(s.request(m.file, m.approvals, device(1), device(2), device(3)))
			s.asleep(device(2), true)
			if out := s.settle(); out.State != api.StateOpen {
				t.Fatalf("%s: %s", out.State, out.Text)
			}
			s.do(s.r.Awake(s.now, device(2)))
			s.signed(s.settle())
		})
	}
}

// TestAsleepKeepsChain: where nobody can take a sleeper's place, the officers
// who signed over a partial signature are not asked again.
func TestAsleepKeepsChain(t *testing.T) {
	s := newSim(t)
	s.silent["officer-2b"] = true
	s.start(s.file("chain", device(1), device(2), device(3)))
	s.settle()
	s.asleep(device(3), true)
	if out := s.settle(); out.Made != 1 || !slices.Equal(out.Devices[1].Approved, []string{"Officer 2a"}) {
		t.Fatalf("the chain is lost: %+v", out)
	}
	s.silent["officer-2b"] = false
	s.settle()
	s.do(s.r.Awake(s.now, device(3)))
	out := s.settle()
	s.signed(out)
	if len(out.Attempts) != 1 || s.devices[device(1)].Tasks() != 1 {
		t.Errorf("attempts: %+v", out.Attempts)
	}
}

// TestHungOffer: a device that does not answer holds up nobody: officers
// elsewhere are asked, and the others sign.
func TestHungOffer(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			s := newSim(t)
			s.hung = map[string]string{device(1): "offer.ask", device(2): "offer.ask"}
			s.start(s.request(m.file, m.approvals))
			s.signed(s.settle())
		})
	}
}

// TestAsleepAfterEnd: a hint about a request that is over changes nothing.
func TestAsleepAfterEnd(t *testing.T) {
	s := newSim(t)
	s.start(s.certificate("set"))
	s.signed(s.settle())
	s.asleep(device(1), true)
	s.signed(s.settle())
	if !s.r.Idle() {
		t.Error("something is left to do")
	}
}

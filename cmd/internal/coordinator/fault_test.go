package coordinator_test

import (
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// extremes are the two modes that differ in everything: the others are made of
// the same parts.
var extremes = []mode{modes[0], modes[3]}

var wrongs = []coordtest.Fault{coordtest.Random, coordtest.Zero, coordtest.Negated, coordtest.OtherInput, coordtest.WrongShare}

// TestWrongPartial: a wrong partial signature is found, its maker named, and
// the signature completed from others (P4): by proofs where shares are used in
// the host, by commit-and-open where they are used in tokens.
func TestWrongPartial(t *testing.T) {
	for _, use := range []string{"host", "token"} {
		for _, m := range extremes {
			if use == "token" && m.file {
				continue // three places of a sequence are used in the host anyway
			}
			for _, f := range wrongs {
				for place := 1; place <= 3; place++ {
					t.Run(fmt.Sprintf("%s %s %s at %d", use, m.name, f, place), func(t *testing.T) {
						s := newSim(t)
						if use == "token" {
							s = newSimOf(t, tokens(t))
						}
						s.fault(f, device(place))
						s.start(s.request(m.file, m.approvals))
						s.attributed(s.pass(3), device(place))
					})
				}
			}
		}
	}
}

// attributed checks that exactly the given devices are named, and that the
// others completed the signature.
func (s *sim) attributed(out api.Tracking, guilty ...string) {
	s.t.Helper()
	s.signed(out)
	if !slices.Equal(out.Wrong, guilty) {
		s.t.Errorf("named %v, at fault were %v\n%+v", out.Wrong, guilty, out.Attempts)
	}
	last := out.Attempts[len(out.Attempts)-1]
	for _, d := range guilty {
		if slices.Contains(last.Devices, d) {
			s.t.Errorf("%s took part in the last attempt", d)
		}
	}
}

// TestTwoWrong: as many as can be spared.
func TestTwoWrong(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			s := newSim(t)
			s.fault(coordtest.Random, device(2))
			s.fault(coordtest.OtherInput, device(3))
			s.start(s.request(m.file, m.approvals))
			s.attributed(s.pass(3), device(2), device(3))
		})
	}
}

// TestThreeWrong: then no signature is to be had, and it is said why.
func TestThreeWrong(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			s := newSim(t)
			s.fault(coordtest.Random, device(1), device(2), device(3))
			s.start(s.request(m.file, m.approvals))
			out := s.pass(600)
			if out.State != api.StateFailed || len(out.Signatures) != 0 {
				t.Fatalf("%s: %s", out.State, out.Text)
			}
			for _, d := range out.Wrong {
				if !strings.Contains(out.Text, d+" is excluded") {
					t.Errorf("%s is not named: %s", d, out.Text)
				}
			}
			if len(out.Wrong) != 3 {
				t.Errorf("named %v", out.Wrong)
			}
		})
	}
}

// TestOtherFaults: devices that do not prove, accuse others, answer with
// strange signatures, or refuse: others complete the signature, and nobody
// who is right is named.
func TestOtherFaults(t *testing.T) {
	for _, m := range extremes {
		for _, f := range []coordtest.Fault{coordtest.NoProof, coordtest.BadProof, coordtest.Accuser, coordtest.Stranger, coordtest.Refuser, coordtest.Locked} {
			for place := 1; place <= 3; place++ {
				t.Run(fmt.Sprintf("%s %s at %d", m.name, f, place), func(t *testing.T) {
					s := newSim(t)
					s.fault(f, device(place))
					s.start(s.request(m.file, m.approvals))
					out := s.pass(60)
					s.signed(out)
					for _, d := range out.Wrong {
						if d != device(place) {
							t.Errorf("%s is named, who did nothing wrong", d)
						}
					}
				})
			}
		}
	}
}

// TestTwoPlacesInToken: a sequence of two, both in tokens: the commit-and-open
// check works along a sequence too.
func TestTwoPlacesInToken(t *testing.T) {
	for _, f := range wrongs {
		for place := 1; place <= 2; place++ {
			t.Run(fmt.Sprintf("%s at %d", f, place), func(t *testing.T) {
				s := newSim(t)
				s.resplit(threshold.Split{Scheme: threshold.Multiplicative, T: 2, N: 3})
				s.fault(f, device(place))
				s.start(s.file("set", device(1), device(2), device(3)))
				s.attributed(s.pass(3), device(place))
			})
		}
	}
}

// resplit deals the files' key anew among the first devices, in tokens.
func (s *sim) resplit(split threshold.Split) {
	s.t.Helper()
	primes := ledgertest.Primes(ledgertest.KeyFiles)
	whole, err := threshold.WholeKeyFromPrimes(primes[0].Bytes(), primes[1].Bytes(), true)
	if err != nil {
		s.t.Fatal(err)
	}
	shares, commitment, err := threshold.Deal(s.config().Rand, whole, split)
	if err != nil {
		s.t.Fatal(err)
	}
	sys := ledgertest.Unsigned(s.t)
	for i := range sys.Genesis.Keys {
		k := &sys.Genesis.Keys[i]
		if k.ID != ledgertest.KeyFiles {
			continue
		}
		k.T, k.N, k.Commitment, k.Holders = split.T, split.N, *commitment, k.Holders[:split.N]
		for j, h := range k.Holders {
			sys.Devices[h.Device].Shares[k.ID] = shares[j]
		}
	}
	for i := range sys.Genesis.Officers {
		o := &sys.Genesis.Officers[i]
		if o.Device == device(4) || o.Device == device(5) {
			o.Keys = slices.DeleteFunc(slices.Clone(o.Keys), func(k string) bool { return k == ledgertest.KeyFiles })
		}
	}
	inToken(&sys.Genesis)
	sys.Commission(s.t)
	s.sys = sys
	for _, d := range sys.Genesis.Devices {
		s.devices[d.ID] = coordtest.NewDevice(s.t, sys, d.ID, func() int64 { return s.now })
	}
}

// TestDeviceRestarts: a device that lost its one-time key is noticed when it is
// asked to sign; others are taken, or its officers asked again.
func TestDeviceRestarts(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			s := newSim(t)
			s.start(s.request(m.file, m.approvals, device(1), device(2), device(3)))
			for s.answer() {
			}
			s.devices[device(1)].Restart()
			s.signed(s.pass(30))
		})
	}
}

// TestAwake: a device that was locked for long is asked the moment it is said
// to be back, not when its pause is over.
func TestAwake(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			s := newSim(t)
			s.fault(coordtest.Locked, device(1))
			s.start(s.request(m.file, m.approvals, device(1), device(2), device(3)))
			if out := s.pass(300); out.State != api.StateOpen || !strings.Contains(out.Text, device(1)+" is not ready") {
				t.Fatalf("%s: %s", out.State, out.Text)
			}
			s.fault(coordtest.Good, device(1))
			s.do(s.r.Awake(s.now, device(2))) // another
			if out := s.settle(); out.State != api.StateOpen {
				t.Fatal("asked before its pause was over")
			}
			s.do(s.r.Awake(s.now, device(1)))
			s.signed(s.settle())
			s.do(s.r.Awake(s.now, device(1))) // after the end it changes nothing
			s.signed(s.settle())
		})
	}
}

// TestOfferExpires: requests outlive one-time keys; the officers are asked
// again for the next one.
func TestOfferExpires(t *testing.T) {
	s := newSim(t)
	s.silent["officer-3a"], s.silent["officer-4a"], s.silent["officer-5a"] = true, true, true
	s.start(coordtest.CertificateRequest(t, s.sys, "set", s.now, 48*3600))
	s.settle()
	s.now += 25 * 3600
	for _, d := range s.devices {
		d.Restart() // which drops expired offers, as real devices do
	}
	s.do(s.r.Tick(s.now))
	if out := s.settle(); out.State != api.StateOpen || !out.Devices[0].Offered {
		t.Fatalf("%s: %s", out.State, out.Text)
	}
	s.silent = map[string]bool{}
	s.signed(s.pass(3))
}

// TestReordered: answers in any order, officers in any order.
func TestReordered(t *testing.T) {
	for seed := range uint64(5) {
		for _, m := range modes {
			s := newSim(t)
			s.order = mathrand.New(mathrand.NewPCG(seed, 1))
			s.fault(wrongs[int(seed)%len(wrongs)], device(1+int(seed)%5))
			s.fault(coordtest.Silent, device(1+int(seed+1)%5))
			s.start(s.request(m.file, m.approvals))
			out := s.pass(60)
			s.signed(out)
			for _, d := range out.Wrong {
				if d != device(1+int(seed)%5) {
					t.Errorf("%s seed %d: %s is named", m.name, seed, d)
				}
			}
		}
	}
}

// TestCrash kills the coordinator after each of its records in turn: the next
// one goes on, and nobody signs or approves in vain for ever.
func TestCrash(t *testing.T) {
	for _, m := range extremes {
		t.Run(m.name, func(t *testing.T) {
			for at := 1; ; at++ {
				s := newSim(t)
				if at%2 == 0 {
					s.fault(coordtest.Random, device(2))
				}
				n := 0
				s.crash = func() bool { n++; return n == at }
				s.start(s.request(m.file, m.approvals))
				out := s.pass(60)
				s.signed(out)
				if n < at {
					if at < 10 {
						t.Errorf("only %d records", n)
					}
					return
				}
			}
		})
	}
}

// TestChainSurvivesRestart: officers signed over a partial message; a restart
// must not make them do it again.
func TestChainSurvivesRestart(t *testing.T) {
	s := newSim(t)
	s.silent["officer-2b"] = true
	s.start(s.file("chain"))
	s.settle()
	before := s.r.Tracking()
	if before.Made != 1 || !slices.Equal(before.Devices[1].Approved, []string{"Officer 2a"}) {
		t.Fatalf("%+v", before)
	}
	s.restart()
	s.settle()
	after := s.r.Tracking()
	if after.Made != 1 || !slices.Equal(after.Devices[1].Approved, []string{"Officer 2a"}) {
		t.Fatalf("after the restart: %+v", after)
	}
	s.silent["officer-2b"] = false
	s.signed(s.pass(3))
	if s.devices[device(1)].Tasks() != 1 {
		t.Errorf("device 1 was asked %d times", s.devices[device(1)].Tasks())
	}
}

// TestResumeRefuses: a record of another request, or of another version of it,
// is not taken.
func TestResumeRefuses(t *testing.T) {
	s := newSim(t)
	s.start(s.file("set"))
	first, raw := s.record, s.raw
	s.start(s.file("set"))
	if _, err := coordinator.Resume(s.config(), raw, s.record, s.now); err == nil {
		t.Error("another request's record is taken")
	}
	if _, err := coordinator.Resume(s.config(), raw, first[:len(first)-1], s.now); err == nil {
		t.Error("half a record is taken")
	}
}

// TestStrayAnswers: what nobody asked, and answers to other asks, change
// nothing.
func TestStrayAnswers(t *testing.T) {
	s := newSim(t)
	s.start(s.certificate("set"))
	d := s.devices[device(1)]
	stray := d.Sign(firmware.TypeClosed, firmware.Closed{Request: s.r.Digest()}, [16]byte{1})
	for _, id := range []uint64{0, 99} {
		if e := s.r.Answer(s.now, id, stray); e.Record != nil || len(e.Actions) != 0 {
			t.Error("a stray answer changed something")
		}
	}
	s.do(s.r.Answer(s.now, s.asks[0].ID, stray)) // of the wrong type: as good as silence
	s.do(s.r.Answer(s.now, s.asks[1].ID, []byte("nonsense")))
	s.asks = s.asks[2:]
	out := s.pass(10)
	s.signed(out)
	if !strings.Contains(strings.Join(out.Attempts[0].Devices, " "), device(3)) {
		t.Errorf("signed by %v", out.Attempts[0].Devices)
	}
}

// TestDeadDeviceHoldsNothingUp: a request is over although a device that never
// gave an offer cannot be told so.
func TestDeadDeviceHoldsNothingUp(t *testing.T) {
	s := newSim(t)
	s.fault(coordtest.Silent, device(5))
	s.start(s.certificate("set"))
	s.signed(s.settle())
	if !s.r.Idle() {
		t.Error("a device that knows nothing of the request is still to be told")
	}
	s = newSim(t)
	s.start(s.certificate("set"))
	for s.answer() {
	}
	s.fault(coordtest.Silent, device(5)) // it holds a one-time key
	s.signed(s.settle())
	if s.r.Idle() {
		t.Fatal("a device that may hold a one-time key was not told")
	}
	s.fault(coordtest.Good, device(5))
	s.pass(10)
	if !s.r.Idle() || !s.devices[device(5)].Closed(s.r.Digest()) {
		t.Error("a device that came back was not told")
	}
}

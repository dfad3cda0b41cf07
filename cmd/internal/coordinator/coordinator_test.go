package coordinator_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

type mode struct {
	name      string
	file      bool
	approvals string
}

var modes = []mode{
	{"parallel set", false, "set"}, {"parallel chain", false, "chain"},
	{"sequential set", true, "set"}, {"sequential chain", true, "chain"},
}

func (s *sim) request(file bool, approvals string, devices ...string) []byte {
	s.t.Helper()
	if file {
		return s.file(approvals, devices...)
	}
	return s.certificate(approvals, devices...)
}

func TestSigns(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			s := newSim(t)
			s.start(s.request(m.file, m.approvals))
			out := s.settle()
			s.signed(out)
			if len(out.Attempts) != 1 || out.Attempts[0].Outcome != "signed" || !slices.Equal(out.Attempts[0].Devices, []string{device(1), device(2), device(3)}) {
				t.Errorf("attempts: %+v", out.Attempts)
			}
			if !s.r.Idle() {
				t.Error("something is left to do")
			}
		})
	}
}

// TestRouteOrder: the first of the route that are ready sign, in its order.
func TestRouteOrder(t *testing.T) {
	for _, m := range modes {
		s := newSim(t)
		s.silent["officer-2a"] = true
		s.start(s.request(m.file, m.approvals, device(4), device(1), device(5), device(2)))
		out := s.settle()
		s.signed(out)
		if !slices.Equal(out.Attempts[0].Devices, []string{device(4), device(1), device(5)}) {
			t.Errorf("%s: signed by %v", m.name, out.Attempts[0].Devices)
		}
	}
}

// TestTwoSilent: two of five devices killed, and the request still succeeds.
func TestTwoSilent(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			s := newSim(t)
			s.fault(coordtest.Silent, device(1), device(3))
			s.start(s.request(m.file, m.approvals))
			s.signed(s.settle())
		})
	}
}

// TestThreeSilent: without t devices there is no signature, and the tracking
// says who is missing; when one comes back there is.
func TestThreeSilent(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			s := newSim(t)
			s.fault(coordtest.Silent, device(1), device(3), device(4))
			s.start(s.request(m.file, m.approvals))
			out := s.settle()
			if out.State != api.StateOpen {
				t.Fatalf("%s: %s", out.State, out.Text)
			}
			for _, d := range []string{device(1), device(3), device(4)} {
				if !strings.Contains(out.Text, d+" is not ready") {
					t.Errorf("%s is not named: %s", d, out.Text)
				}
			}
			s.fault(coordtest.Good, device(4))
			s.signed(s.pass(30))
		})
	}
}

// TestMissingOfficers: fewer than the quorum of officers gives no signature,
// and says who is missing, by name.
func TestMissingOfficers(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			s := newSim(t)
			s.silent["officer-2b"], s.silent["officer-4a"], s.silent["officer-5a"] = true, true, true
			s.start(s.request(m.file, m.approvals))
			out := s.pass(3)
			if out.State != api.StateOpen || !strings.Contains(out.Text, "Officer 2b") {
				t.Fatalf("%s: %s", out.State, out.Text)
			}
			if s.devices[device(2)].Tasks() != 0 {
				t.Error("a device was asked to sign without its quorum")
			}
			s.silent["officer-2b"] = false
			s.signed(s.pass(3))
		})
	}
}

// TestExpires: what is not signed in time never is.
func TestExpires(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			s := newSim(t)
			s.silent["officer-1a"], s.silent["officer-2a"], s.silent["officer-3a"] = true, true, true
			s.start(s.request(m.file, m.approvals))
			s.settle()
			s.now += 3600
			s.do(s.r.Tick(s.now))
			out := s.r.Tracking()
			if out.State != api.StateExpired || !strings.Contains(out.Text, "Officer 1a") {
				t.Fatalf("%s: %s", out.State, out.Text)
			}
			for id, p := range s.inbox {
				if len(p.Items) > 0 {
					t.Errorf("the officers of %s are still asked", id)
				}
			}
			if !s.r.Idle() {
				t.Error("something is left to do")
			}
		})
	}
}

// TestReject: an officer's no takes his device out; without t devices the
// request is rejected, and says by whom and why.
func TestReject(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			s := newSim(t)
			for _, o := range s.sys.Genesis.Officers {
				s.silent[o.Person] = true
			}
			s.start(s.request(m.file, m.approvals))
			s.settle()
			var out api.Tracking
			for n := range 5 {
				if out = s.r.Tracking(); out.State != api.StateOpen {
					if n != 3 {
						t.Errorf("rejected after %d rejections", n)
					}
					break
				}
				s.rejectFirst("not in the ticket")
			}
			if out.State != api.StateRejected || !strings.Contains(out.Text, "not in the ticket") || !strings.Contains(out.Text, "Officer") {
				t.Fatalf("%s: %s", out.State, out.Text)
			}
		})
	}
}

// rejectFirst has the first officer who is asked say no.
func (s *sim) rejectFirst(reason string) {
	s.t.Helper()
	for _, d := range s.sys.Genesis.Devices {
		for _, it := range s.inbox[d.ID].Items {
			_, e, err := s.r.Approve(s.now, coordtest.Approve(s.t, s.sys, s.sys.Persons[it.Person], it.Content, s.now, reason))
			if err != nil {
				s.t.Fatal(err)
			}
			s.do(e)
			s.settle()
			return
		}
	}
	s.t.Fatal("nobody is asked")
}

// TestApprovals: what does not count is refused with an error that names it.
func TestApprovals(t *testing.T) {
	s := newSim(t)
	s.start(s.certificate("set"))
	for s.answer() {
	}
	item := s.inbox[device(1)].Items[0]
	person := s.sys.Persons[item.Person]
	good := coordtest.Approve(t, s.sys, person, item.Content, s.now, "")
	refuse := func(what string, raw []byte, want any) {
		t.Helper()
		_, e, err := s.r.Approve(s.now, raw)
		if err == nil {
			t.Errorf("%s counts", what)
		} else if target, ok := want.(error); ok && !errors.Is(err, target) {
			t.Errorf("%s: %v", what, err)
		} else if !ok && !errors.As(err, want) {
			t.Errorf("%s: %T %v", what, err, err)
		}
		s.do(e)
	}
	of := func(p string, change func(*api.InboxItem)) []byte {
		t.Helper()
		c := item.Content
		if change != nil {
			change(&c)
		}
		return coordtest.Approve(t, s.sys, s.sys.Persons[p], c, s.now, "")
	}
	refuse("an officer of another device", of("officer-2a", nil), new(*approval.WrongDeviceError))
	refuse("a person who is no officer", of(ledgertest.Requester, nil), new(*approval.NotOfficerError))
	refuse("an approval with something before it in a set", of(item.Person, func(c *api.InboxItem) { c.Prior = good }), coordinator.ErrStale)
	other := s.inbox[device(2)].Items[0].Content
	refuse("a piece for another device's key", of(item.Person, func(c *api.InboxItem) { c.Offers = other.Offers }), coordinator.ErrStale)

	second := newSim(t)
	second.sys, second.now = s.sys, s.now
	second.start(second.certificate("set"))
	for second.answer() {
	}
	foreign := coordtest.Approve(t, s.sys, person, second.inbox[device(1)].Items[0].Content, s.now, "")
	refuse("an approval of another request", foreign, new(*approval.WrongRequestError))

	for range 2 { // the same approval again is no harm
		out, e, err := s.r.Approve(s.now, good)
		if err != nil || out.Have != 1 || out.Need != 2 || !slices.Equal(out.Missing, []string{"Officer 1b"}) {
			t.Fatalf("%+v %v", out, err)
		}
		s.do(e)
	}
	refuse("a second approval by one person", of(item.Person, nil), new(*approval.DuplicateError))
	s.signed(s.settle())
	late := coordtest.Approve(t, s.sys, s.sys.Persons["officer-4a"], func() api.InboxItem {
		c := item.Content
		c.Device, c.Share = device(4), "certs-4"
		return c
	}(), s.now, "")
	if _, _, err := s.r.Approve(s.now, late); err == nil {
		t.Error("an approval after the end counts")
	}
	if _, _, err := s.r.Approve(s.now, good); !errors.Is(err, coordinator.ErrOver) {
		t.Errorf("a replay after the end: %v", err)
	}
}

// TestRequesterNeverCounts: neither with his registered card nor with another,
// and he is not even asked.
func TestRequesterNeverCounts(t *testing.T) {
	s := newSim(t)
	officer := s.sys.Persons["officer-1a"]
	raw := coordtest.CertificateRequestBy(t, s.sys, officer.ID, officer.Cards[1].Sign, "set", s.now, 3600)
	s.start(raw)
	for s.answer() {
	}
	if n := len(s.inbox[device(1)].Items); n != 1 {
		t.Fatalf("%d officers of device 1 are asked, without the requester it is 1", n)
	}
	_, _, err := s.r.Approve(s.now, coordtest.Approve(t, s.sys, officer, s.inbox[device(1)].Items[0].Content, s.now, ""))
	var own *approval.RequesterApprovedError
	if !errors.As(err, &own) {
		t.Fatalf("the requester's own approval: %v", err)
	}
	for _, o := range []string{"officer-2a", "officer-3a", "officer-4a", "officer-5a"} {
		s.silent[o] = true
	}
	if text := s.settle().Text; !strings.Contains(text, device(1)+" has 1 of 2 approvals, and nobody is left") {
		t.Errorf("not said that nobody is left: %s", text)
	}
	clear(s.silent)
	out := s.settle() // devices 2, 3, 4 sign
	s.signed(out)
	if slices.Contains(out.Attempts[0].Devices, device(1)) {
		t.Error("device 1 signed without its quorum")
	}
}

// TestChainOvertaken: in a chain whoever comes second has to cover the first.
func TestChainOvertaken(t *testing.T) {
	s := newSim(t)
	s.start(s.certificate("chain"))
	for s.answer() {
	}
	items := s.inbox[device(1)].Items
	if len(items) != 2 {
		t.Fatalf("%d items", len(items))
	}
	var raws [][]byte
	for _, it := range items {
		raws = append(raws, coordtest.Approve(t, s.sys, s.sys.Persons[it.Person], it.Content, s.now, ""))
	}
	_, e, err := s.r.Approve(s.now, raws[0])
	if err != nil {
		t.Fatal(err)
	}
	s.do(e)
	if _, _, err := s.r.Approve(s.now, raws[1]); !errors.Is(err, coordinator.ErrStale) {
		t.Fatalf("an approval beside the chain: %v", err)
	}
	again := s.inbox[device(1)].Items
	if len(again) != 1 || !slices.Equal(again[0].Content.Prior, raws[0]) || !slices.Equal(again[0].Content.Approved, []string{"Officer 1a"}) {
		t.Fatalf("the second officer is asked %+v", again)
	}
	s.signed(s.settle())
}

// TestRefusesRequests: what devices would refuse is refused at the door.
func TestRefusesRequests(t *testing.T) {
	s := newSim(t)
	good := s.certificate("set")
	forged := append([]byte{}, good...)
	forged[len(forged)-1] ^= 1
	if _, err := coordinator.New(s.config(), forged, s.now); !errors.Is(err, coordinator.ErrSigner) {
		t.Errorf("a bad signature: %v", err)
	}
	stranger := coordtest.CertificateRequestBy(t, s.sys, ledgertest.Program, ledgertest.NewSigner(t, "stranger"), "set", s.now, 3600)
	if _, err := coordinator.New(s.config(), stranger, s.now); !errors.Is(err, coordinator.ErrSigner) {
		t.Errorf("a stranger: %v", err)
	}
	server := coordtest.CertificateRequestBy(t, s.sys, "server-1", s.sys.Servers["server-1"].Sign, "set", s.now, 3600)
	if _, err := coordinator.New(s.config(), server, s.now); !errors.Is(err, coordinator.ErrSigner) {
		t.Errorf("a server as requester: %v", err)
	}
	other := coordtest.CertificateRequestBy(t, s.sys, ledgertest.Program, s.sys.Persons[ledgertest.Requester].Card().Sign, "set", s.now, 3600)
	if _, err := coordinator.New(s.config(), other, s.now); err == nil {
		t.Error("a request in another's name is taken")
	}
	if _, err := coordinator.New(s.config(), good, s.now+3600); !errors.Is(err, document.ErrExpired) {
		t.Errorf("an expired request: %v", err)
	}
	if _, err := coordinator.New(s.config(), s.certificate("set", device(1), device(2)), s.now); !errors.Is(err, document.ErrRoute) {
		t.Errorf("a route of two devices: %v", err)
	}
}

package ceremony_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// beat gives a plan two sources, and policies to two of its three devices.
func beat(t testing.TB, p *ceremony.Plan) {
	t.Helper()
	p.Sources = nil
	for _, kind := range []string{ledger.SourceMessage, ledger.SourceSequence} {
		pair := ledgertest.NewPair(t, "source "+kind)
		p.Sources = append(p.Sources, ledger.Source{
			ID: kind + "-1", Name: "Source " + kind, Kind: kind, Server: "sd2", Operators: []string{"officer-1a"},
			Sign: ledgertest.SPKI(t, pair.Sign.Public()), Agree: ledgertest.SPKI(t, pair.Agree.PublicKey()),
		})
	}
	p.Devices[0].Heartbeat = &ledger.Heartbeat{Sources: []string{"message-1", "sequence-1", "d2"}, Needed: 2, Period: 1000, Lease: 5000, Minimum: 2, Loss: 3}
	p.Devices[1].Heartbeat = &ledger.Heartbeat{Sources: []string{"d1", "d3"}, Needed: 1, Period: 1000, Lease: 5000}
}

func TestPlanHeartbeatRefuses(t *testing.T) {
	r := newRoom(t)
	beat(t, &r.plan)
	if err := r.plan.Validate(); err != nil {
		t.Fatal(err)
	}
	type plan = ceremony.Plan
	source := func(f func(*ledger.Source)) func(*plan) { return func(p *plan) { f(&p.Sources[0]) } }
	policy := func(f func(*ledger.Heartbeat)) func(*plan) { return func(p *plan) { f(p.Devices[0].Heartbeat) } }
	for _, tc := range []struct {
		name        string
		change      func(*plan)
		where, what string
	}{
		{"too many", func(p *plan) { p.Sources = make([]ledger.Source, 65) }, "sources", "not 65"},
		{"id", source(func(s *ledger.Source) { s.ID = "Message" }), "source Message", "lower-case"},
		{"name", source(func(s *ledger.Source) { s.Name = "" }), "source message-1", "has no name"},
		{"id of a server", source(func(s *ledger.Source) { s.ID = "sd1" }), "source sd1", "also that of server sd1"},
		{"id of a device", source(func(s *ledger.Source) { s.ID = "d1" }), "source d1", "also that of device d1"},
		{"id of a person", source(func(s *ledger.Source) { s.ID = "admin" }), "source admin", "also that of person admin"},
		{"id of a key", source(func(s *ledger.Source) { s.ID = "swa" }), "source swa", "also that of key swa"},
		{"id twice", func(p *plan) { p.Sources[1].ID = "message-1" }, "source message-1", "also that of source message-1"},
		{"kind", source(func(s *ledger.Source) { s.Kind = "drum" }), "source message-1", `kind "drum"`},
		{"server", source(func(s *ledger.Source) { s.Server = "sd9" }), "source message-1", `"sd9" is not in the plan`},
		{"identity", source(func(s *ledger.Source) { s.Sign = nil }), "source message-1", "signature key: missing"},
		{"agreement key", source(func(s *ledger.Source) { s.Agree = []byte{1} }), "source message-1", "agreement key: 1 bytes"},
		{"one key for both", source(func(s *ledger.Source) { s.Agree = s.Sign }), "source message-1", "also one of source message-1"},
		{"key of another", func(p *plan) { p.Sources[1].Sign = p.Sources[0].Sign }, "source sequence-1", "also one of source message-1"},
		{"key of a server", func(p *plan) { p.Sources[0].Agree = p.Servers[2].Agree }, "source message-1", "also one of server sd3"},
		{"no operator", source(func(s *ledger.Source) { s.Operators = nil }), "source message-1", "1 to 64 operators"},
		{"operator unknown", source(func(s *ledger.Source) { s.Operators = []string{"nobody"} }), "source message-1", `"nobody" is not among`},
		{"operator without card", source(func(s *ledger.Source) { s.Operators = []string{"robot"} }), "source message-1", "robot has no card"},
		{"operator administrator", source(func(s *ledger.Source) { s.Operators = []string{"admin"} }), "source message-1", "temporary administrator"},
		{"operator twice", source(func(s *ledger.Source) { s.Operators = []string{"officer-1a", "officer-1a"} }), "source message-1", "named twice"},

		{"unattended", func(p *plan) { p.Devices[0].Unattended = true }, "device d1: heartbeat", "open itself again"},
		{"satellite unattended", func(p *plan) { p.Devices[2].Unattended = true }, "device d2: heartbeat", "d3 is unattended"},
		{"source unknown", policy(func(h *ledger.Heartbeat) { h.Sources[0] = "message-2" }), "device d1: heartbeat", `"message-2" is neither a source nor a device`},
		{"itself", policy(func(h *ledger.Heartbeat) { h.Sources[0] = "d1" }), "device d1: heartbeat", "its own satellite"},
		{"source twice", policy(func(h *ledger.Heartbeat) { h.Sources[1] = "message-1" }), "device d1: heartbeat", "named twice"},
		{"too much needed", policy(func(h *ledger.Heartbeat) { h.Needed = 4 }), "device d1: heartbeat", "4 of 3 sources are needed"},
		{"minimum", policy(func(h *ledger.Heartbeat) { h.Minimum = 0 }), "device d1: heartbeat", "minimum is 0"},
		{"loss", func(p *plan) { p.Devices[1].Heartbeat.Loss = 1 }, "device d2: heartbeat", "no source of kind sequence"},
		// swa is 3 of 3.
		{"destroys what all must sign", policy(func(h *ledger.Heartbeat) { h.Destroy = 86400 }), "key swa", "1 of its 3 devices may destroy their shares, which would leave 2 where 3 sign"},
	} {
		p := clone(r.plan)
		beat(t, &p)
		tc.change(&p)
		var e *ceremony.PlanError
		if err := p.Validate(); !errors.As(err, &e) || e.Where != tc.where || !strings.Contains(e.What, tc.what) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// The genesis has the sources and policies of the plan, and the instance that each device with a policy named.
func TestGenesisHeartbeats(t *testing.T) {
	r := newRoom(t)
	beat(t, &r.plan)
	for id, l := range r.locals {
		l.Instance = ledgertest.Instance(id)
		r.locals[id] = l
	}
	o, open := r.open(t)
	v, err := r.certify(t, o, r.roster(t, o, open))
	if err != nil {
		t.Fatal(err)
	}
	g := ceremony.BuildGenesis(v, nil, now+60)
	if len(g.Sources) != 2 || g.Sources[1].Kind != ledger.SourceSequence {
		t.Errorf("sources %+v", g.Sources)
	}
	for i, d := range g.Devices {
		if i == 2 {
			if d.Heartbeat != nil || d.Instance != [16]byte{} {
				t.Errorf("device %s needs no beats, yet has %+v and instance %x", d.ID, d.Heartbeat, d.Instance)
			}
			continue
		}
		if d.Heartbeat == nil || len(d.Heartbeat.Sources) != 3-i || d.Instance != ledgertest.Instance(d.ID) {
			t.Errorf("device %s: %+v, instance %x", d.ID, d.Heartbeat, d.Instance)
		}
	}
}

func TestRosterInstances(t *testing.T) {
	r := newRoom(t)
	beat(t, &r.plan)
	o, open := r.open(t)
	base := r.roster(t, o, open)
	for name, tc := range map[string]struct {
		device int
		change func(*ceremony.Identity)
		want   string
	}{
		"none":                          {0, func(id *ceremony.Identity) { id.Instance = [16]byte{} }, "device d1: names no instance"},
		"that of another device":        {1, func(id *ceremony.Identity) { id.Instance = r.locals["d1"].Instance }, "device d2: has the instance of device d1"},
		"none, and no beats are needed": {2, func(id *ceremony.Identity) { id.Instance = [16]byte{} }, ""},
	} {
		x := *base
		x.Identities = slices.Clone(base.Identities)
		id := r.plan.Devices[tc.device].ID
		x.Identities[tc.device] = alter(t, r.signs[id], x.Identities[tc.device], tc.change)
		_, err := r.certify(t, o, &x)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A device that finds another instance than its own on the roster signs nothing.
	for _, change := range []bool{false, true} {
		session, a, err := ceremony.Begin(ceremony.Inputs{Now: now, Rand: rand.Reader}, r.locals["d1"],
			verified(t, r.desk.Sign, ceremony.TypeHello, ceremony.Hello{Open: open}))
		if err != nil {
			t.Fatal(err)
		}
		id := a.Payload.(ceremony.Identity)
		if change {
			id.Instance[0] ^= 0x80
		}
		x := *base
		x.Identities = slices.Clone(base.Identities)
		x.Identities[0] = sign(t, r.signs["d1"], ceremony.TypeIdentity, &id)
		_, err = session.Handle(ceremony.Inputs{Now: now, Rand: rand.Reader},
			verified(t, r.desk.Sign, ceremony.TypeJoin, ceremony.Join{Roster: sign(t, r.cards[1].PrivateKey, ceremony.TypeRoster, &x)}))
		if refused := err != nil && strings.Contains(err.Error(), "has restarted since"); refused != change || !change && err != nil {
			t.Errorf("another instance: %v, %v", change, err)
		}
	}
}

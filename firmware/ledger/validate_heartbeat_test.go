package ledger_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// beating is the test system with four sources and a policy for each device, unsigned.
func beating(t testing.TB) *genesis {
	t.Helper()
	s := ledgertest.Unsigned(t)
	ledgertest.WithHeartbeat(ledger.Heartbeat{
		Sources: []string{"message-1", "sequence-1", "satellite-1", "satellite-2"}, Needed: 2, Period: 1000, Lease: 5000, Minimum: 2, Loss: 3,
	})(&s.Genesis)
	return &s.Genesis
}

// Every rule of sources and policies, broken alone, with what the refusal must say.
func TestValidateHeartbeatRefuses(t *testing.T) {
	policy := func(f func(h *ledger.Heartbeat)) func(*genesis) {
		return func(g *genesis) { f(g.Devices[0].Heartbeat) }
	}
	source := func(f func(s *ledger.Source)) func(*genesis) {
		return func(g *genesis) { f(&g.Sources[0]) }
	}
	destroy := func(devices ...int) func(*genesis) {
		return func(g *genesis) {
			for _, i := range devices {
				g.Devices[i-1].Heartbeat.Destroy = 86400
			}
		}
	}
	for _, c := range []struct {
		name string
		edit func(*genesis)
		want string
	}{
		{"too many sources", func(g *genesis) { g.Sources = make([]ledger.Source, 65) }, "65 sources"},
		{"source id", source(func(s *ledger.Source) { s.ID = "" }), "source: id is empty"},
		{"source id of a device", source(func(s *ledger.Source) { s.ID = "Device-1" }), `id is also that of device "device-1"`},
		{"source id of a person", source(func(s *ledger.Source) { s.ID = "admin" }), `id is also that of person "admin"`},
		{"source id of a key", source(func(s *ledger.Source) { s.ID = "swa" }), `key "swa": id is also that of source "swa"`},
		{"source id of a share", source(func(s *ledger.Source) { s.ID = "swa.device-1" }), `id is also that of source`},
		{"source id twice", func(g *genesis) { g.Sources[1].ID = g.Sources[0].ID }, `id is also that of source "message-1"`},
		{"source without name", source(func(s *ledger.Source) { s.Name = "" }), `source "message-1": name is empty`},
		{"source without kind", source(func(s *ledger.Source) { s.Kind = "" }), `kind "" is unknown: message, sequence or satellite`},
		{"source kind", source(func(s *ledger.Source) { s.Kind = "drum" }), `kind "drum" is unknown`},
		{"source server", source(func(s *ledger.Source) { s.Server = "server-9" }), `server "server-9" is unknown`},
		{"source without identity", source(func(s *ledger.Source) { s.Sign = nil }), "sign key: missing"},
		{"source without agreement key", source(func(s *ledger.Source) { s.Agree = nil }), "agree key: missing"},
		{"source on another curve", source(func(s *ledger.Source) { s.Sign = p384(t) }), "sign key"},
		{"source agreement key on another curve", source(func(s *ledger.Source) { s.Agree = p384(t) }), "agree key"},
		{"source with one key for both", source(func(s *ledger.Source) { s.Agree = s.Sign }), `is also the sign key of source "message-1"`},
		{"source with a server's key", func(g *genesis) { g.Sources[0].Sign = g.Servers[0].Sign }, `is also the sign key of server "server-1"`},
		{"source with a device's key", func(g *genesis) { g.Sources[0].Sign = g.Devices[0].Sign }, `is also the sign key of device "device-1"`},
		{"source with a card's key", func(g *genesis) { g.Sources[0].Agree = g.Persons[0].Cards[0].Agree }, `is also the agree key of person "officer-1a"`},
		{"source with another's key", func(g *genesis) { g.Sources[1].Sign = g.Sources[0].Sign }, `is also the sign key of source "message-1"`},
		{"source without operator", source(func(s *ledger.Source) { s.Operators = nil }), "has no operator"},
		{"source with a crowd", source(func(s *ledger.Source) { s.Operators = make([]string, 65) }), "has 65 operators"},
		{"operator unknown", source(func(s *ledger.Source) { s.Operators[0] = "nobody" }), `operator "nobody" is not among the persons`},
		{"operator twice", source(func(s *ledger.Source) { s.Operators = []string{"requester", "requester"} }), `operator "requester" is listed twice`},
		{"operator without card", source(func(s *ledger.Source) { s.Operators[0] = ledgertest.Program }), `operator "program" has no card`},
		{"operator is the temporary administrator", source(func(s *ledger.Source) { s.Operators[0] = ledgertest.Administrator }), "power ends with the ceremony"},

		{"no instance", func(g *genesis) { g.Devices[0].Instance = [16]byte{} }, `device "device-1", heartbeat: a device has an instance if and only if`},
		{"instance without policy", func(g *genesis) { g.Devices[0].Heartbeat = nil }, "if and only if it has a policy"},
		{"instance twice", func(g *genesis) { g.Devices[1].Instance = g.Devices[0].Instance }, `device "device-2", heartbeat: instance is also that of device "device-1"`},
		{"unattended", func(g *genesis) { g.Devices[0].Unattended, g.Devices[0].UnlockQuorum = true, 0 }, "open itself again"},
		{"no sources", policy(func(h *ledger.Heartbeat) { h.Sources = nil }), "0 sources where 1 to 16"},
		{"source unknown", policy(func(h *ledger.Heartbeat) { h.Sources[0] = "message-9" }), `"message-9" is neither a source nor a device`},
		{"source is a person", policy(func(h *ledger.Heartbeat) { h.Sources[0] = "officer-1a" }), "is neither a source nor a device"},
		{"source named twice", policy(func(h *ledger.Heartbeat) { h.Sources[1] = h.Sources[0] }), `"message-1" is listed twice`},
		{"its own satellite", policy(func(h *ledger.Heartbeat) { h.Sources[0] = "device-1" }), "cannot be its own satellite"},
		{"satellite unattended", func(g *genesis) {
			g.Devices[0].Heartbeat.Sources[0], g.Devices[0].Heartbeat.Minimum = "device-2", 0
			d := &g.Devices[1]
			d.Unattended, d.UnlockQuorum, d.Heartbeat, d.Instance = true, 0, nil, [16]byte{}
		}, `satellite "device-2" is unattended`},
		{"none needed", policy(func(h *ledger.Heartbeat) { h.Needed = 0 }), "0 of 4 sources are needed"},
		{"more needed than there are", policy(func(h *ledger.Heartbeat) { h.Needed = 5 }), "5 of 4 sources are needed"},
		{"no period", policy(func(h *ledger.Heartbeat) { h.Period = 0 }), "period is 0 ms"},
		{"period short", policy(func(h *ledger.Heartbeat) { h.Period = 49 }), "period is 49 ms, 50 to 20000"},
		{"period long", policy(func(h *ledger.Heartbeat) { h.Period = 60001 }), "period is 60001 ms"},
		{"period beyond multiplication", policy(func(h *ledger.Heartbeat) { h.Period = 1 << 63 }), "period is"},
		{"lease of one lost beat", policy(func(h *ledger.Heartbeat) { h.Lease = 2999 }), "less than 3 periods of 1000 ms"},
		{"lease of days", policy(func(h *ledger.Heartbeat) { h.Lease = 86400001 }), "lease is 86400001 ms, at most 86400000"},
		{"no minimum", policy(func(h *ledger.Heartbeat) { h.Minimum = 0 }), "minimum is 0, yet a source of kind message"},
		{"minimum for nobody", policy(func(h *ledger.Heartbeat) { h.Sources = h.Sources[1:] }), "minimum is 2, yet no source of kind message"},
		{"minimum takes too long", policy(func(h *ledger.Heartbeat) { h.Period, h.Lease, h.Minimum = 10_000, 100_000, 4 }), "4 beats take 40000 ms"},
		{"minimum out of reach", policy(func(h *ledger.Heartbeat) { h.Minimum = 6 }), "minimum is 6, yet only 5 beats fit"},
		{"loss for nobody", policy(func(h *ledger.Heartbeat) { h.Sources = []string{"message-1", "satellite-1"} }), "loss is 3, yet no source of kind sequence"},
		{"loss beyond the lease", policy(func(h *ledger.Heartbeat) { h.Loss = 5 }), "loss is 5, at most 4"},
		{"loss beyond addition", policy(func(h *ledger.Heartbeat) { h.Loss = 1<<64 - 1 }), "at most 4"},
		{"destroys at once", policy(func(h *ledger.Heartbeat) { h.Destroy = 59 }), "destroys after 59 s, 60 to"},
		{"destroys before locking had time", policy(func(h *ledger.Heartbeat) { h.Lease, h.Destroy = 60_000, 599 }), "less than 10 leases of 60000 ms"},
		{"destroys beyond multiplication", policy(func(h *ledger.Heartbeat) { h.Destroy = 1 << 62 }), "60 to 315360000"},
		// certs and files are 3 of 5, swa 4 of 5: it allows one device alone.
		{"two may destroy what four of five need", destroy(1, 4), `key "swa": 2 of its 5 devices may destroy their shares, which would leave 3 where 4 sign: at most 1 may`},
		{"all may destroy", destroy(1, 2, 3, 4, 5), `key "swa": 5 of its 5 devices`},
		{"three may destroy what three of five need", func(g *genesis) {
			g.Keys = g.Keys[certs:]
			g.Keys[0].Family, g.AcknowledgeNoFault = ledger.FamilyLedger, true
			for i := range g.Officers {
				g.Officers[i].Keys = []string{"certs", "files"}
			}
			destroy(1, 2, 3)(g)
		}, `key "certs": 3 of its 5 devices may destroy their shares, which would leave 2 where 3 sign: at most 2 may`},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := beating(t)
			c.edit(g)
			err := g.Validate()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant …%s…", err, c.want)
			}
		})
	}
}

func TestValidateHeartbeatAccepts(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*genesis)
	}{
		{"as it is", func(*genesis) {}},
		{"sources that no policy names", func(g *genesis) {
			for i := range g.Devices {
				g.Devices[i].Heartbeat, g.Devices[i].Instance = nil, [16]byte{}
			}
		}},
		{"one device may destroy", func(g *genesis) { g.Devices[2].Heartbeat.Destroy = 60 }},
		{"devices answer each other", func(g *genesis) {
			for i := range g.Devices {
				g.Devices[i].Heartbeat.Sources = []string{fmt.Sprintf("device-%d", (i+1)%5+1), fmt.Sprintf("device-%d", (i+2)%5+1)}
				g.Devices[i].Heartbeat.Minimum, g.Devices[i].Heartbeat.Loss = 0, 0
			}
		}},
		{"the shortest lease", func(g *genesis) {
			*g.Devices[0].Heartbeat = ledger.Heartbeat{Sources: []string{"satellite-1"}, Needed: 1, Period: 50, Lease: 150}
		}},
		{"the longest", func(g *genesis) {
			h := g.Devices[0].Heartbeat
			h.Period, h.Lease, h.Minimum, h.Loss, h.Destroy = 20_000, 86_400_000, 1, 4319, 864_000
		}},
		{"an officer operates", func(g *genesis) { g.Sources[0].Operators = []string{"officer-1a", "officer-2b"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := beating(t)
			c.edit(g)
			if err := g.Validate(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestMaySilence(t *testing.T) {
	h := ledgertest.Policy()
	h.Sources = append(h.Sources, "device-2")
	s := ledgertest.New(t, ledgertest.WithHeartbeat(h))
	expired := s.Genesis.Officers[0].Expires
	for _, c := range []struct {
		source, device, person string
		now                    int64
		want                   bool
	}{
		{"message-1", "device-1", ledgertest.Operator, s.Now, true},
		{"message-1", "device-1", ledgertest.Operator, expired, true}, // operators do not expire
		{"message-1", "device-1", "officer-1a", s.Now, true},
		{"message-1", "device-1", "officer-1a", expired, false},
		{"message-1", "device-1", "officer-2a", s.Now, false}, // of another device
		{"message-1", "device-1", ledgertest.Administrator, s.Now, false},
		{"message-1", "device-1", ledgertest.Program, s.Now, false},
		{"message-1", "device-1", "nobody", s.Now, false},
		{"message-1", "device-1", "", s.Now, false},
		{"message-1", "device-9", ledgertest.Operator, s.Now, false},
		{"message-9", "device-1", "officer-1a", s.Now, false},
		{"server-1", "device-1", "officer-1a", s.Now, false},
		// A device that answers: officers of both, and no operator.
		{"device-2", "device-1", "officer-1b", s.Now, true},
		{"device-2", "device-1", "officer-2b", s.Now, true},
		{"device-2", "device-1", "officer-2b", expired, false},
		{"device-2", "device-1", "officer-3a", s.Now, false},
		{"device-2", "device-1", ledgertest.Operator, s.Now, false},
		{"device-1", "device-1", "officer-1a", s.Now, false},
	} {
		if got := s.State.MaySilence(c.source, c.device, c.person, c.now); got != c.want {
			t.Errorf("%s silences %s for %s at %d: %v", c.person, c.source, c.device, c.now, got)
		}
	}
}

package ceremony_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// TestPlanRefuses has every rule of the plan broken once, and the entry at
// fault named.
func TestPlanRefuses(t *testing.T) {
	r := newRoom(t)
	if err := r.plan.Validate(); err != nil {
		t.Fatal(err)
	}
	const swa, certs, files = 0, 1, 2
	type plan = ceremony.Plan
	for _, tc := range []struct {
		name        string
		change      func(*plan)
		where, what string
	}{
		{"system without name", func(p *plan) { p.Name = "" }, "system", "has no name"},
		{"name too long", func(p *plan) { p.Name = strings.Repeat("n", ceremony.MaxNameLen+1) }, "system", "longer than 128"},
		{"name with a control character", func(p *plan) { p.Name = "a\x1bb" }, "system", "control character"},
		{"no hours", func(p *plan) { p.Hours = 0 }, "hours", "between 1 and 12"},
		{"a day", func(p *plan) { p.Hours = 24 }, "hours", "between 1 and 12"},
		{"officers for no time", func(p *plan) { p.OfficerDays = 0 }, "officer_days", "how many days"},
		{"no witness", func(p *plan) { p.Witnesses = nil }, "witnesses", "at least one"},
		{"witness without name", func(p *plan) { p.Witnesses[1] = "" }, "witness", "has no name"},
		{"model of a kind", func(p *plan) { p.Models[0].Kind = "server" }, "model " + r.plan.Models[0].Model, `kind "server"`},
		{"model without root", func(p *plan) { p.Models[1].Root = nil }, "model " + r.plan.Models[1].Model, "root certificate"},

		{"server id", func(p *plan) { p.Servers[0].ID = "" }, "server ", "1 to 32 characters"},
		{"server twice", func(p *plan) { p.Servers[1].ID = "sd1" }, "server sd1", "named twice"},
		{"server without signature key", func(p *plan) { p.Servers[0].Sign = nil }, "server sd1", "signature key: missing"},
		{"server without agreement key", func(p *plan) { p.Servers[0].Agree = []byte{1} }, "server sd1", "agreement key: 1 bytes"},

		{"no devices", func(p *plan) { p.Devices = nil }, "devices", "between 1 and 16"},
		{"too many devices", func(p *plan) { p.Devices = make([]ceremony.PlanDevice, 17) }, "devices", "not 17"},
		{"device id of path", func(p *plan) { p.Devices[0].ID = "../d" }, "device ../d", "lower-case letters"},
		{"device id too long", func(p *plan) { p.Devices[0].ID = strings.Repeat("d", 33) }, "device " + strings.Repeat("d", 33), "1 to 32"},
		{"device without name", func(p *plan) { p.Devices[2].Name = "" }, "device d3", "has no name"},
		{"device twice", func(p *plan) { p.Devices[1].ID = "d1" }, "device d1", "named twice"},
		{"device without server", func(p *plan) { p.Devices[1].Server = "sd9" }, "device d2", `"sd9" is not in the plan`},
		{"use of share", func(p *plan) { p.Devices[1].Use = "cloud" }, "device d2", `use "cloud"`},
		{"unlocked by one", func(p *plan) { p.Devices[1].UnlockQuorum = 1 }, "device d2", "at least 2"},
		{"unlocked by more than there are", func(p *plan) { p.Devices[1].UnlockQuorum = 3 }, "device d2", "more than its 2 officers"},
		{"lead elsewhere", func(p *plan) { p.Lead = "d9" }, "lead", `"d9" is not a device`},

		{"too many persons", func(p *plan) { p.Persons = make([]ceremony.PlanPerson, 257) }, "persons", "not 257"},
		{"person id", func(p *plan) { p.Persons[1].ID = "Officer" }, "person Officer", "lower-case"},
		{"person without name", func(p *plan) { p.Persons[1].Name = "" }, "person officer-1a", "has no name"},
		{"person twice", func(p *plan) { p.Persons[2].ID = "officer-1a" }, "person officer-1a", "named twice"},
		{"person without key", func(p *plan) { p.Persons[1].Cards = nil }, "person officer-1a", "neither a card nor"},
		{"software key rubbish", func(p *plan) { p.Persons[len(p.Persons)-1].Software = []byte("key") }, "person robot", "software key"},
		{"card of two", func(p *plan) { p.Persons[2].Cards = []uint32{2} }, "person officer-1b", "card 2 belongs to officer-1a"},
		{"card listed twice", func(p *plan) { p.Persons[2].Cards = []uint32{3, 3} }, "person officer-1b", "card 3 belongs to officer-1b"},
		{"administrator unknown", func(p *plan) { p.Administrator = "nobody" }, "administrator", `"nobody"`},
		{"administrator without card", func(p *plan) { p.Administrator = "robot" }, "administrator", "not a person with a card"},

		{"officer unknown", func(p *plan) { p.Officers[0].Person = "nobody" }, "officer nobody", "not among the persons"},
		{"officer with another's card", func(p *plan) { p.Officers[0].Card = 3 }, "officer officer-1a", "card 3 is not his"},
		{"officer of no device", func(p *plan) {
			p.Officers = append(p.Officers, ceremony.PlanOfficer{Person: "officer-1a", Card: 2, Device: "d9", Class: "officer"})
		}, "officer officer-1a", `device "d9"`},
		{"administrator as officer", func(p *plan) { p.Officers[0].Person, p.Officers[0].Card = "admin", 1 }, "officer admin", "may not be an officer"},
		{"class", func(p *plan) { p.Officers[0].Class = "king" }, "officer officer-1a", `class "king"`},
		{"officer twice at a device", func(p *plan) { p.Officers = append(p.Officers, p.Officers[0]) }, "officer officer-1a", "serves device d1 twice"},
		{"officer with two cards at a device", func(p *plan) {
			p.Persons[1].Cards = []uint32{2, 99}
			p.Officers = append(p.Officers, ceremony.PlanOfficer{Person: "officer-1a", Card: 99, Device: "d1", Class: "officer"})
		}, "officer officer-1a", "serves device d1 twice"},

		{"no keys", func(p *plan) { p.Keys = nil }, "keys", "between 1 and 16"},
		{"too many keys", func(p *plan) { p.Keys = make([]ceremony.PlanKey, 17) }, "keys", "not 17"},
		{"key id", func(p *plan) { p.Keys[certs].ID = "a.b" }, "key a.b", "lower-case"},
		{"key without name", func(p *plan) { p.Keys[certs].Name = "" }, "key certs", "has no name"},
		{"key twice", func(p *plan) { p.Keys[certs].ID = "files" }, "key files", "named twice"},
		{"no key of the ledger", func(p *plan) { p.Keys = p.Keys[1:] }, "keys", "not 0"},
		{"two keys of the ledger", func(p *plan) { p.Keys[certs].Family, p.Keys[certs].T = ledger.FamilyLedger, 3 }, "keys", "not 2"},
		{"scheme", func(p *plan) { p.Keys[certs].Scheme = 9 }, "key certs", "unknown scheme 9"},
		{"t above n", func(p *plan) { p.Keys[certs].T = 4 }, "key certs", "4 of 3"},
		{"one device signs", func(p *plan) { p.Keys[certs].T = 1 }, "key certs", "one device alone"},
		{"family", func(p *plan) { p.Keys[certs].Family = "mail" }, "key certs", `family "mail"`},
		{"bits", func(p *plan) { p.Keys[certs].Bits = 1024 }, "key certs", "1024 bits"},
		{"chain without safe primes", func(p *plan) { p.Keys[files].SafePrimes = false }, "key files", "needs safe primes"},
		{"no lying device", func(p *plan) { p.Keys[swa].T = 2 }, "key swa", "f = 2q−n−1 = 0"},
		{"no algorithm", func(p *plan) { p.Keys[certs].Algorithms = nil }, "key certs", "at least one algorithm"},
		{"algorithm", func(p *plan) { p.Keys[certs].Algorithms = []string{"RS256", "RS1"} }, "key certs", `algorithm "RS1"`},
		{"root without end", func(p *plan) { p.Keys[swa].RootDays = 0 }, "key swa", "root_days: say"},
		{"certificates without end", func(p *plan) { p.Keys[certs].MaxDays = 0 }, "key certs", "max_days: say"},
		{"root of a key for files", func(p *plan) { p.Keys[files].RootDays = 1 }, "key files", "leave out root_days"},
		{"certificates of a key for files", func(p *plan) { p.Keys[files].MaxDays = 1 }, "key files", "leave out root_days"},
		{"blind certificates", func(p *plan) { p.Keys[certs].AllowDigest = true }, "key certs", "allow_digest"},
		{"quorum of one", func(p *plan) { p.Keys[certs].Quorum = 1 }, "key certs", "quorum of 1"},
		{"one piece opens", func(p *plan) { p.Keys[certs].Threshold = 1 }, "key certs", "1 pieces open"},
		{"more pieces than approvals", func(p *plan) { p.Keys[certs].Threshold = 3 }, "key certs", "3 pieces open"},
		{"held by no device", func(p *plan) { p.Keys[certs].Devices = []string{"d1", "d9", "d3"} }, "key certs", `device "d9"`},
		{"two shares on a device", func(p *plan) { p.Keys[certs].Devices = []string{"d1", "d2", "d1"} }, "key certs", "d1 holds two shares"},
		{"too few officers", func(p *plan) { p.Keys[certs].Quorum = 3 }, "key certs", "has 2 officers"},
		{"officer of two devices", func(p *plan) {
			p.Officers = append(p.Officers, ceremony.PlanOfficer{Person: "officer-1a", Card: 2, Device: "d2", Class: "officer"})
		}, "key swa", "officer-1a serves both d1 and d2"},
	} {
		p := clone(r.plan)
		tc.change(&p)
		var e *ceremony.PlanError
		err := p.Validate()
		if !errors.As(err, &e) || e.Where != tc.where || !strings.Contains(e.What, tc.what) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// TestPlanAccepts: what a plan may say though it looks like a mistake.
func TestPlanAccepts(t *testing.T) {
	r := newRoom(t)
	for name, change := range map[string]func(*ceremony.Plan){
		"no fault tolerated, and known": func(p *ceremony.Plan) { p.Keys[0].T, p.AcknowledgeNoFault = 2, true },
		"shared officers, and known": func(p *ceremony.Plan) {
			p.SharedOfficers = true
			p.Officers = append(p.Officers, ceremony.PlanOfficer{Person: "officer-1a", Card: 2, Device: "d2", Class: "officer"})
		},
		"a chain of two": func(p *ceremony.Plan) {
			p.Keys[2].T, p.Keys[2].SafePrimes = 2, false
		},
		"parallel files without safe primes": func(p *ceremony.Plan) {
			p.Keys[2].Scheme, p.Keys[2].SafePrimes = threshold.Additive, false
		},
		"blind files":        func(p *ceremony.Plan) { p.Keys[2].AllowDigest = true },
		"serial not planned": func(p *ceremony.Plan) { p.Devices[0].Serial = "" },
	} {
		p := clone(r.plan)
		change(&p)
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

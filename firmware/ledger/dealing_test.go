package ledger_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

type dealing = ledger.Dealing

func encode(t testing.TB, d *dealing) []byte {
	t.Helper()
	raw, err := envelope.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func copyOf(t testing.TB, d *dealing) *dealing {
	t.Helper()
	c, err := ledger.DecodeDealing(encode(t, d))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type refusal struct {
	name string
	edit func(*dealing)
	want string
}

// refuses confirms each edited dealing anew, so that nothing but the edit is wrong, and demands the reason.
func refuses(t *testing.T, s *ledgertest.System, good *dealing, cases []refusal) {
	t.Helper()
	if err := ledger.CheckDealing(s.State, good, s.Now); err != nil {
		t.Fatal("the good one:", err)
	}
	for _, c := range cases {
		d := copyOf(t, good)
		c.edit(d)
		if p := s.Persons[d.Operator]; p != nil && len(p.Cards) > 0 {
			if err := d.Confirm(rand.Reader, p.Card().Sign, s.State.System(), d.Created); err != nil {
				// No header can say it. The distributor finds it before anybody confirms.
				if err := ledger.CheckUnconfirmed(s.State, d, s.Now); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: unconfirmed: %v", c.name, err)
				}
				continue
			}
		}
		if _, err := ledger.NewEntry(s.State, ledger.KindDealing, d, s.Now); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), ", dealing: ") {
			t.Errorf("%s:\ngot  %v\nwant …%s…", c.name, err, c.want)
		}
		if err := ledger.CheckDealing(s.State, d, s.Now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: before it is an entry: %v", c.name, err)
		}
	}
}

// Every rule of a first dealing, broken alone.
func TestDealingRefuses(t *testing.T) {
	s := ledgertest.New(t, ledgertest.WithDevices(8))
	other := s.Authority(t, ledgertest.SmallPlan(2))
	good := s.Deal(t, ledgertest.SmallPlan(1)).Dealing
	combiner := func(d *dealing, i int) *grouping.Group { return &d.Key.Layers.Grouping.Combiners[i] }
	refuses(t, s, &good, []refusal{
		{"code 0", func(d *dealing) { d.Enterprise.Code = 0 }, "enterprise code 0 is not 1 to 999999"},
		{"code too high", func(d *dealing) { d.Enterprise.Code = 1_000_000 }, "enterprise code 1000000"},
		{"code of another", func(d *dealing) { d.Enterprise.Code = 2 }, "revision 1 where 2 follows"},
		{"no name", func(d *dealing) { d.Enterprise.Name = "" }, "enterprise 1, name is empty"},
		{"name of two lines", func(d *dealing) { d.Enterprise.Name = "a\nb" }, "unprintable"},
		{"name of another", func(d *dealing) { d.Enterprise.Name = "ENTERPRISE 2" }, `name "ENTERPRISE 2" is also that of enterprise 2`},
		{"revision 0", func(d *dealing) { d.Revision = 0 }, "revision 0 of an authority that is not in the ledger"},
		{"revision 2", func(d *dealing) { d.Revision = 2 }, "the first is 1"},

		{"created nowhere", func(d *dealing) { d.Created = 1 << 60 }, "dealt at 1152921504606846976 is not a time"},
		{"created before the system", func(d *dealing) { d.Created = ledgertest.Epoch - 1 }, "not between"},
		{"created tomorrow", func(d *dealing) { d.Created = s.Now + 1 }, "compare the distributor's clock"},

		{"key id", func(d *dealing) { d.Key.ID = "" }, "id is empty"},
		{"key id with a slash", func(d *dealing) { d.Key.ID = "a/b" }, "letters, digits"},
		{"key id of the genesis", func(d *dealing) { d.Key.ID = "SWA" }, `id "SWA" is also that of key "swa"`},
		{"key id of a person", func(d *dealing) { d.Key.ID = "admin" }, `is also that of person "admin"`},
		{"key id of another enterprise", func(d *dealing) { d.Key.ID = "CA-2" }, `id "CA-2" is also that of key "ca-2"`},
		{"key id of a share", func(d *dealing) { d.Key.ID = "ca-2.combiner-1" }, `also that of a share of key "ca-2"`},
		{"key name", func(d *dealing) { d.Key.Name = "" }, "name is empty"},
		{"family", func(d *dealing) { d.Key.Family = ledger.FamilyFile }, `an authority in two layers is of family "certificate"`},
		{"ledger family", func(d *dealing) { d.Key.Family = ledger.FamilyLedger }, `family "ledger"`},
		{"scheme", func(d *dealing) { d.Key.Scheme = threshold.Additive }, "scheme additive"},
		{"no layers", func(d *dealing) { d.Key.Layers = nil }, "layers are missing"},
		{"epoch", func(d *dealing) { d.Key.Epoch = 2 }, "epoch 2: a dealt key has epoch 1"},
		{"commitment", func(d *dealing) { d.Key.Commitment.G = []byte{1} }, "has a commitment"},
		{"t of one", func(d *dealing) { d.Key.T = 1 }, "no signature may depend on one machine"},
		{"t above n", func(d *dealing) { d.Key.T = 4 }, "4 of 3 calculators cannot sign"},
		{"t equals n", func(d *dealing) { d.Key.T = 3 }, "so that one may fail"},
		{"t of the row", func(d *dealing) { d.Key.T, d.Key.N = 3, 5 }, "3 of 5 in the row, 2 of 3 in the layers"},
		{"no validity", func(d *dealing) { d.Key.MaxDays = 0 }, "may certify for 0 days"},
		{"bare digests", func(d *dealing) { d.Key.AllowDigest = true }, "cannot allow bare digests"},
		{"no algorithm", func(d *dealing) { d.Key.Algorithms = nil }, "no algorithm"},
		{"algorithm", func(d *dealing) { d.Key.Algorithms[1] = "RS1" }, `algorithm "RS1" is unknown`},
		{"exponent", func(d *dealing) { d.Key.Public.E = 3 }, "exponent"},
		{"modulus too short", func(d *dealing) { d.Key.Public.N = d.Key.Public.N[1:] }, "modulus"},
		{"modulus of another", func(d *dealing) {
			d.Key.Public, d.Key.Certificate = other.Dealing.Key.Public, other.Dealing.Key.Certificate
		}, `has the modulus of key "ca-2"`},
		{"modulus of the genesis", func(d *dealing) {
			d.Key.Public, d.Key.Certificate = s.Genesis.Keys[certs].Public, s.Genesis.Keys[certs].Certificate
		}, `has the modulus of key "certs"`},
		{"no root", func(d *dealing) { d.Key.Certificate = nil }, "root certificate is missing"},
		{"root of another", func(d *dealing) { d.Key.Certificate = s.Genesis.Keys[certs].Certificate }, "of another public key"},
		{"root changed", func(d *dealing) { d.Key.Certificate[len(d.Key.Certificate)-1] ^= 1 }, "not signed by its own key"},

		{"h", func(d *dealing) { d.Key.Layers.H = nil }, "h: "},
		{"h is one", func(d *dealing) { d.Key.Layers.H = append(make([]byte, 255), 1) }, "h: "},
		{"check value missing", func(d *dealing) { d.Key.Layers.V = d.Key.Layers.V[1:] }, "5 check values, not 6"},
		{"check value of zero", func(d *dealing) { d.Key.Layers.V[3] = make([]byte, 256) }, "check value 4"},
		{"check value twice", func(d *dealing) { d.Key.Layers.V[3] = d.Key.Layers.V[2] }, "is there twice"},
		{"grouping", func(d *dealing) { d.Key.Layers.Grouping.L = 0 }, "0 sub-keys a calculator"},
		{"grouping out of order", func(d *dealing) { slices.Reverse(d.Key.Layers.Grouping.Calculators) }, "ascend"},
		{"unknown calculator", func(d *dealing) { combiner(d, 0).Combinations[0][1].Calculator = 9 }, "calculator 9"},
		{"unsafe grouping", func(d *dealing) { *combiner(d, 0) = ledgertest.Group(1, "11,21", "12,31", "22,31", "12,21") }, "learn"},
		{"uncovered grouping", func(d *dealing) {
			*combiner(d, 0), *combiner(d, 1) = ledgertest.Group(1, "11,21", "12,31"), ledgertest.Group(2, "12,22", "11,32")
		}, "serve 2 of the 3 sets of 2 calculators"},
		{"combiner without combinations", func(d *dealing) { combiner(d, 1).Combinations = nil }, "combiner 2 has no combination"},
		{"too many sub-keys", func(d *dealing) {
			l := d.Key.Layers
			l.Grouping.L, l.V = 5, nil
			for i := range 15 {
				l.V = append(l.V, append(make([]byte, 255), byte(2*i+101)))
			}
		}, "5 sub-keys a calculator, at most 4"},

		{"no holder", func(d *dealing) { d.Key.Holders = nil }, "0 holders for 5 machines"},
		{"holder too many", func(d *dealing) { d.Key.Holders = append(d.Key.Holders, d.Key.Holders[4]) }, "6 holders for 5 machines"},
		{"holders out of order", func(d *dealing) { slices.Reverse(d.Key.Holders) }, "calculators are listed by number, then the combiners"},
		{"layer", func(d *dealing) { d.Key.Holders[0].Layer = 2 }, "the row is of layer 2, number 1"},
		{"layer 3", func(d *dealing) { d.Key.Holders[4].Layer = 3 }, "the row is of layer 3, number 2"},
		{"number", func(d *dealing) { d.Key.Holders[1].Index = 4 }, "the row is of layer 1, number 4"},
		{"share id", func(d *dealing) { d.Key.Holders[0].Share = "" }, "id is empty"},
		{"share id twice", func(d *dealing) { d.Key.Holders[1].Share = "CA-1.calculator-1" }, "given twice"},
		{"share id of its key", func(d *dealing) { d.Key.Holders[1].Share = "CA-1" }, "given twice"},
		{"share id of the genesis", func(d *dealing) { d.Key.Holders[1].Share = "swa.device-2" }, `is also that of share "swa.device-2"`},
		{"share id of another enterprise", func(d *dealing) { d.Key.Holders[1].Share = "ca-2.calculator-2" }, `a share of key "ca-2"`},
		{"device unknown", func(d *dealing) { d.Key.Holders[0].Device = "device-9" }, `device "device-9" is unknown`},
		{"two machines on a device", func(d *dealing) { d.Key.Holders[3].Device = "device-1" }, `device "device-1" is also calculator 1`},
		{"quorum 0", func(d *dealing) { d.Key.Holders[0].Quorum = 0 }, "quorum is 0 officers, at least 2"},
		{"quorum above the pieces", func(d *dealing) { d.Key.Holders[0].Quorum = 3 }, "quorum of 3 officers, but 2 pieces"},
		{"threshold", func(d *dealing) { d.Key.Holders[0].Threshold = 1 }, "1 pieces open the share"},
		{"threshold above the quorum", func(d *dealing) { d.Key.Holders[0].Threshold = 3 }, "more than the quorum"},
		{"version 0", func(d *dealing) { d.Key.Holders[0].Version = 0 }, "version is 0"},
		{"version 2", func(d *dealing) { d.Key.Holders[4].Version = 2 }, "version 2 of a new share"},

		{"no officers", func(d *dealing) { d.Officers = nil }, "0 officers"},
		{"officer unknown", func(d *dealing) { d.Officers[0].Person = "nobody" }, "person is unknown"},
		{"officer of an unknown device", func(d *dealing) { d.Officers[0].Device = "device-9" }, "device is unknown"},
		{"officer of a device that is no machine", func(d *dealing) { d.Officers[0].Device = "device-7" }, "no machine of the authority"},
		{"officer with another's card", func(d *dealing) { d.Officers[0].Card = 21 }, "card 21 is not the person's"},
		{"officer without card", func(d *dealing) { d.Officers[0].Person = "program" }, "has no card"},
		{"administrator an officer", func(d *dealing) { d.Officers[0].Person, d.Officers[0].Card = "admin", 90 }, "power ends with the ceremony"},
		{"officer's class", func(d *dealing) { d.Officers[0].Class = "king" }, `class "king" is unknown`},
		{"officer expired", func(d *dealing) { d.Officers[0].Expires = s.Now }, "renew him or leave him out"},
		{"officer for ever", func(d *dealing) { d.Officers[0].Expires = 1 << 60 }, "expires 1152921504606846976 is not a time"},
		{"officer of no key", func(d *dealing) { d.Officers[0].Keys = nil }, "approves for its key"},
		{"officer of another enterprise", func(d *dealing) { d.Officers[0].Keys = []string{"ca-2"} }, `approves for its key "ca-1" and no other`},
		{"officer of a genesis key too", func(d *dealing) { d.Officers[0].Keys = []string{"ca-1", "swa"} }, "and no other"},
		{"officer twice", func(d *dealing) { d.Officers[1] = d.Officers[0] }, "registered twice"},
		{"officer of two devices", func(d *dealing) { d.Officers[2].Person, d.Officers[2].Card = "officer-1a", 11 }, "one person could stand for two devices"},
		{"too few officers", func(d *dealing) { d.Officers = d.Officers[1:] }, "fewer than the quorum"},
		{"officer without a piece", func(d *dealing) {
			o := d.Officers[0]
			o.Person, o.Card = "officer-8a", 81
			d.Officers = append(d.Officers, o)
		}, "2 pieces for 3 officers"},

		{"no distributor", func(d *dealing) { d.Distributors = nil }, "0 distributors where 1 to 8"},
		{"too many distributors", func(d *dealing) { d.Distributors = make([]ledger.Distributor, 9) }, "9 distributors"},
		{"distributor 0", func(d *dealing) { d.Distributors[0].Number = 0 }, "distributor 0: the number is not"},
		{"distributor too high", func(d *dealing) { d.Distributors[0].Number = 1_000_000 }, "the number is not 1 to 999999"},
		{"distributor number twice", func(d *dealing) { d.Distributors[1].Number = 1 }, "the number is given twice"},
		{"distributor server twice", func(d *dealing) { d.Distributors[1].Server = "server-1" }, "has the number 1 already"},
		{"distributor unknown", func(d *dealing) { d.Distributors[0].Server = "server-9" }, `server "server-9" is unknown`},
		{"reserve of one", func(d *dealing) { d.Reserve.Keepers = d.Reserve.Keepers[:1] }, "pieces of 1 persons"},
		{"reserve of nobody", func(d *dealing) { d.Reserve = new(ledger.Reserve) }, "pieces of 0 persons"},
		{"reserve of many", func(d *dealing) { d.Reserve.Keepers = make([]ledger.Keeper, 65) }, "2 to 64, or there is no reserve"},
		{"reserve that one opens", func(d *dealing) { d.Reserve.Need = 1 }, "any 1 of 3 persons open the reserve, which is the whole key: at least 2"},
		{"reserve that nobody opens", func(d *dealing) { d.Reserve.Need = 4 }, "any 4 of 3 persons"},
		{"keeper unknown", func(d *dealing) { d.Reserve.Keepers[1].Person = "nobody" }, `keeper "nobody" of the reserve is not among the persons`},
		{"keeper twice", func(d *dealing) { d.Reserve.Keepers[1] = d.Reserve.Keepers[0] }, "a person keeps one piece"},
		{"card of another", func(d *dealing) { d.Reserve.Keepers[1].Card = d.Reserve.Keepers[0].Card }, "is no card of that person"},
		{"keeper without a card", func(d *dealing) { d.Reserve.Keepers[2] = ledger.Keeper{Person: "program"} }, "0 is no card of that person"},
		{"counted beside a new key", func(d *dealing) { d.Counted = []ledger.Counted{{Revision: 2}} }, "a first dealing counts 1 others: its key is its own"},

		{"operator unknown", func(d *dealing) { d.Operator = "nobody" }, `operator "nobody" is not among the persons`},
		{"operator without card", func(d *dealing) { d.Operator = "program" }, "only a card confirms"},
		{"operator the administrator", func(d *dealing) { d.Operator = "admin" }, "he cannot confirm"},
	})
}

// Nothing but the operator's own card, this very dealing, this system and this time confirms.
func TestConfirmationRefuses(t *testing.T) {
	s := ledgertest.New(t)
	good := s.Deal(t, ledgertest.SmallPlan(1)).Dealing
	card := s.Persons[ledgertest.Operator].Card()
	system := s.State.System()
	digest, err := good.Digest()
	if err != nil {
		t.Fatal(err)
	}
	signed := func(edit func(h *envelope.Header, c *ledger.Confirm)) func(*dealing) {
		return func(d *dealing) {
			h := envelope.Header{Type: ledger.TypeConfirm, Version: 1, System: system, Key: "ca-1", Epoch: 1, Created: s.Now, Expires: s.Now + 60}
			c := ledger.Confirm{Dealing: digest}
			edit(&h, &c)
			payload, err := envelope.Marshal(&c)
			if err != nil {
				t.Fatal(err)
			}
			if d.Confirmation, err = envelope.Sign(rand.Reader, card.Sign, h, payload); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []refusal{
		{"none", func(d *dealing) { d.Confirmation = nil }, "is missing"},
		{"long", func(d *dealing) { d.Confirmation = make([]byte, ledger.MaxSignature+1) }, "at most 4096"},
		{"nonsense", func(d *dealing) { d.Confirmation = []byte{1} }, "confirmation: "},
		{"another person", func(d *dealing) {
			_ = d.Confirm(rand.Reader, s.Persons["officer-1a"].Card().Sign, system, s.Now)
		}, "not signed in slot 9C of a card of the operator"},
		{"another operator", func(d *dealing) { d.Operator = "officer-1a" }, "not signed in slot 9C"},
		{"a device", func(d *dealing) { _ = d.Confirm(rand.Reader, s.Devices["device-1"].Sign, system, s.Now) }, "not signed in slot 9C"},
		{"software", func(d *dealing) {
			_ = d.Confirm(rand.Reader, s.Persons[ledgertest.Program].Software, system, s.Now)
		}, "not signed in slot 9C"},
		{"signature changed", func(d *dealing) { d.Confirmation[len(d.Confirmation)-1] ^= 1 }, "confirmation: "},
		{"dealing changed", func(d *dealing) { d.Isolated = false }, "is of another dealing"},
		{"another dealing", signed(func(_ *envelope.Header, c *ledger.Confirm) { c.Dealing[0] ^= 1 }), "is of another dealing"},
		{"another type", signed(func(h *envelope.Header, _ *ledger.Confirm) { h.Type = "approval" }), "approval"},
		{"another version", signed(func(h *envelope.Header, _ *ledger.Confirm) { h.Version = 2 }), "version"},
		{"another system", signed(func(h *envelope.Header, _ *ledger.Confirm) { h.System[0] ^= 1 }), "belongs to system"},
		{"no system", signed(func(h *envelope.Header, _ *ledger.Confirm) { h.System = envelope.Hash{} }), "belongs to system"},
		{"another key", signed(func(h *envelope.Header, _ *ledger.Confirm) { h.Key = "ca-2" }), `of key "ca-2"`},
		{"another epoch", signed(func(h *envelope.Header, _ *ledger.Confirm) { h.Epoch = 2 }), "is for epoch 2"},
		{"before the dealing", signed(func(h *envelope.Header, _ *ledger.Confirm) { h.Created-- }), "not between the dealing"},
		{"tomorrow", signed(func(h *envelope.Header, _ *ledger.Confirm) { h.Created, h.Expires = s.Now+1, s.Now+60 }), "not between the dealing"},
		{"held too long", signed(func(h *envelope.Header, _ *ledger.Confirm) { h.Expires = s.Now + ledger.ConfirmationLife + 1 }), "at most 30 days"},
	} {
		d := copyOf(t, &good)
		c.edit(d)
		if err := ledger.CheckDealing(s.State, d, s.Now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s:\ngot  %v\nwant …%s…", c.name, err, c.want)
		}
		if c.name != "another operator" && c.name != "dealing changed" {
			if err := ledger.CheckUnconfirmed(s.State, d, s.Now); err != nil {
				t.Errorf("%s: unconfirmed: %v", c.name, err)
			}
		}
	}
	// The operator's other card serves as well, and a confirmation expires.
	d := copyOf(t, &good)
	if err := d.Confirm(rand.Reader, s.Persons[ledgertest.Operator].Cards[1].Sign, system, s.Now); err != nil {
		t.Fatal(err)
	}
	if err := ledger.CheckDealing(s.State, d, s.Now+ledger.ConfirmationLife-1); err != nil {
		t.Error(err)
	}
	if err := ledger.CheckDealing(s.State, d, s.Now+ledger.ConfirmationLife); err == nil || !strings.Contains(err.Error(), "deal again") {
		t.Error(err)
	}
}

// The digest is that of the dealing without its confirmation, and of every field of it.
func TestDealingDigest(t *testing.T) {
	s := ledgertest.New(t)
	good := s.Deal(t, ledgertest.SmallPlan(1)).Dealing
	good.Counted = []ledger.Counted{{Revision: 2}}
	want, err := good.Digest()
	if err != nil {
		t.Fatal(err)
	}
	d := copyOf(t, &good)
	d.Confirmation = nil
	if got, _ := d.Digest(); got != want {
		t.Error("the confirmation is part of the digest")
	}
	for i := range reflect.TypeFor[dealing]().NumField() {
		f := reflect.TypeFor[dealing]().Field(i)
		d := copyOf(t, &good)
		reflect.ValueOf(d).Elem().Field(i).SetZero()
		if got, _ := d.Digest(); (got == want) != (f.Name == "Confirmation") {
			t.Errorf("%s is not part of the digest", f.Name)
		}
	}
	if len(good.Confirmation) == 0 {
		t.Error("Digest took the confirmation away")
	}
	if n, ok := good.DistributorOf("server-2"); !ok || n != 2 {
		t.Error(n, ok)
	}
	if id, ok := good.ServerOf(1); !ok || id != "server-1" {
		t.Error(id, ok)
	}
	if _, ok := good.ServerOf(3); ok {
		t.Error("distributor 3")
	}
	if _, ok := good.DistributorOf("server-3"); ok {
		t.Error("server-3")
	}
}

// What one enterprise has is nothing to another, nor to the keys of the genesis.
func TestEnterprisesAreApart(t *testing.T) {
	s := ledgertest.New(t, ledgertest.WithDevices(8))
	before := s.State
	two := s.Authority(t, ledgertest.PrintedPlan(2))
	middle := s.State
	// Another's officer at the device: officer-1a, who serves device-1 for enterprise 2, serves device-4 for enterprise 1, with another card.
	one := s.Deal(t, ledgertest.SmallPlan(1))
	for i := range one.Dealing.Officers {
		switch o := &one.Dealing.Officers[i]; o.Person {
		case "officer-1a":
			o.Person, o.Card = "officer-4a", 41
		case "officer-4a":
			o.Person, o.Card = "officer-1a", 111
		}
	}
	s.Confirm(t, &one.Dealing)
	s.Enter(t, one)
	st := s.State

	var codes []uint64
	for _, e := range st.Enterprises() {
		codes = append(codes, e.Enterprise.Code)
	}
	if !slices.Equal(codes, []uint64{1, 2}) {
		t.Error("enterprises", codes)
	}
	if len(before.Enterprises()) != 0 || len(middle.Enterprises()) != 1 {
		t.Error("an entry changed the states before it")
	}
	var keys []string
	for _, k := range st.Keys() {
		keys = append(keys, k.ID)
	}
	if fmt.Sprint(keys) != "[swa certs files more ca-1 ca-2]" {
		t.Error("keys", keys)
	}
	for _, c := range []struct {
		key, device string
		want        []string
	}{
		{"ca-1", "device-1", []string{"officer-1b", "officer-4a"}},
		{"ca-2", "device-1", []string{"officer-1a", "officer-1b"}},
		{"swa", "device-1", []string{"officer-1a", "officer-1b"}},
		{"ca-1", "device-4", []string{"officer-1a", "officer-4b"}},
		{"ca-2", "device-4", []string{"officer-4a", "officer-4b"}},
		{"ca-1", "device-6", nil},
		{"ca-2", "device-6", []string{"officer-6a", "officer-6b"}},
	} {
		var got []string
		for _, o := range st.OfficersFor(c.key, c.device, s.Now) {
			got = append(got, o.Person)
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("officers of %s at %s: %v, want %v", c.key, c.device, got, c.want)
		}
	}
	// They open no device, and silence nothing at it.
	for _, o := range st.OfficersOf("device-4", s.Now) {
		if o.Person == "officer-1a" {
			t.Error("an enterprise's officer is in custody of the device")
		}
	}
	if st.MaySilence("device-5", "device-4", "officer-1a", s.Now) {
		t.Error("an enterprise's officer silences beats of a device")
	}
	if n := len(st.Registrations("officer-1a")); n != 3 {
		t.Error("officer-1a has", n, "rows")
	}
	// A distributor's number is the enterprise's.
	if e, ok := st.EnterpriseOf("ca-2"); !ok || e.Enterprise.Code != 2 || e.Key.T != 3 {
		t.Error("enterprise of ca-2", ok)
	}
	if _, ok := st.EnterpriseOf("swa"); ok {
		t.Error("swa belongs to an enterprise")
	}
	if _, ok := st.Enterprise(3); ok {
		t.Error("enterprise 3")
	}
	if h, ok := st.HolderOf("ca-1", "device-4"); !ok || h.Layer != ledger.LayerCombiner || h.Index != 1 || h.Share != "ca-1.combiner-1" {
		t.Error("device-4 in ca-1:", h, ok)
	}
	if h, ok := st.HolderOf("ca-2", "device-4"); !ok || h.Layer != ledger.LayerCalculator || h.Index != 4 {
		t.Error("device-4 in ca-2:", h, ok)
	}
	if _, ok := st.HolderOf("ca-1", "device-6"); ok {
		t.Error("device-6 is a machine of ca-1")
	}
	if st.WasMachine("ca-1", "device-6") || !st.WasMachine("ca-2", "device-6") || st.WasMachine("swa", "device-1") {
		t.Error("machines")
	}
	k, _ := st.Key("ca-2")
	if h, ok := k.Machine(ledger.LayerCombiner, 3); !ok || h.Device != "device-8" {
		t.Error("combiner 3", h, ok)
	}
	if _, ok := k.Machine(ledger.LayerCombiner, 4); ok {
		t.Error("combiner 4")
	}
	if swa, _ := st.Key("swa"); true {
		if _, ok := swa.Machine(0, 1); ok {
			t.Error("a machine of a key in one layer")
		}
	}
	if k.UsedInToken(ledger.Device{InToken: true}) {
		t.Error("used in the token")
	}
	// What is given away is a copy.
	k.Layers.V[0][0] ^= 1
	k.Layers.Grouping.Combiners[0].Combinations[0][0].Key = 9
	e, _ := st.Enterprise(2)
	e.Officers[0].Keys[0], e.Confirmation[0], e.Distributors[0].Server = "x", 0, "x"
	if now, _ := st.Enterprise(2); !bytes.Equal(encode(t, &now), encode(t, &two.Dealing)) {
		t.Error("a State was changed through what it gave away")
	}
	// Nor does the caller's own dealing change it.
	two.Dealing.Key.Layers.V[0][0] ^= 1
	if now, _ := st.Key("ca-2"); bytes.Equal(now.Layers.V[0], two.Dealing.Key.Layers.V[0]) {
		t.Error("a State was changed through what made it")
	}
}

// A policy with the second limit must leave machines that can sign.
func TestDealingDestruction(t *testing.T) {
	may := func(devices ...string) *ledgertest.System {
		h := ledgertest.Policy()
		h.Destroy = 86400
		return ledgertest.New(t, ledgertest.WithDevices(9), ledgertest.WithHeartbeat(h, devices...))
	}
	s := may("device-4")
	a := s.Authority(t, ledgertest.SmallPlan(1))
	// The new share has no backup yet: a device that was ready to destroy is no longer.
	state := s.State
	for _, share := range []string{"swa.device-4", "certs.device-4", "files.device-4"} {
		state = fold(t, s, state, ledger.KindBackup, &ledger.Backup{Device: "device-4", Share: share, Place: "safe", Tested: s.Now}, s.Now)
	}
	if state.MayDestroy("device-4") || !slices.Equal(state.MissingBackups("device-4"), []string{"ca-1.combiner-1"}) {
		t.Error("missing", state.MissingBackups("device-4"))
	}
	backup := ledger.Backup{Device: "device-4", Share: "ca-1.combiner-1", Place: "safe", Tested: a.Dealing.Created - 1}
	if _, err := ledger.NewEntry(state, ledger.KindBackup, &backup, s.Now); err == nil || !strings.Contains(err.Error(), "not between the ceremony or dealing") {
		t.Error("a test before the dealing:", err)
	}
	backup.Tested++
	if state = fold(t, s, state, ledger.KindBackup, &backup, s.Now); !state.MayDestroy("device-4") {
		t.Error("missing", state.MissingBackups("device-4"))
	}
	// A share that is dealt again is another, and its backup is none.
	s.State = state
	s.Extend(t, a, ledgertest.GrownPlan(1))
	if s.State.MayDestroy("device-4") || !state.MayDestroy("device-4") || len(s.State.Backups("device-4")) != 3 {
		t.Error("backups", s.State.Backups("device-4"))
	}

	// Its other combiner, and then none, would be left with two calculators. No genesis allows so many devices to destroy their shares of
	// its keys; the test's policies are for devices of an enterprise only.
	for _, c := range []struct {
		devices []string
		fits    bool
	}{
		{[]string{"device-1"}, true},
		{[]string{"device-7"}, true},
		{[]string{"device-6", "device-7"}, false},
	} {
		s := may(c.devices...)
		p := ledgertest.SmallPlan(1)
		p.Combiners = []string{"device-6", "device-7"}
		d := s.Deal(t, p).Dealing
		err := ledger.CheckDealing(s.State, &d, s.Now)
		if c.fits != (err == nil) || err != nil && !strings.Contains(err.Error(), "too many of the devices may destroy their shares") {
			t.Errorf("%v: %v", c.devices, err)
		}
	}
}

// Whatever decodes as a dealing is the only encoding of what it says, and nothing but the good one passes.
func FuzzDealing(f *testing.F) {
	s := ledgertest.New(f)
	good := s.Deal(f, ledgertest.SmallPlan(1)).Dealing
	raw, err := envelope.Marshal(&good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte{0xa0})
	// One that counts another, and a state that it may follow.
	next, lost := abandonedBeside(f)
	next.Dealing.Counted = []ledger.Counted{lost}
	next.Confirm(f, next.Dealing)
	f.Add(encode(f, next.Dealing))
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := ledger.DecodeDealing(in)
		if err != nil {
			return
		}
		if again, err := envelope.Marshal(d); err != nil || !bytes.Equal(again, in) {
			t.Fatalf("decoded, but encodes to something else: %v", err)
		}
		if _, err := d.Digest(); err != nil {
			t.Fatal(err)
		}
		if err := ledger.CheckDealing(s.State, d, s.Now); (err == nil) != bytes.Equal(in, raw) {
			// One signature has two encodings (ECDSA is malleable): all but that must be the same.
			d.Confirmation = good.Confirmation
			if same, _ := envelope.Marshal(d); err != nil || !bytes.Equal(same, raw) {
				t.Fatalf("checked: %v", err)
			}
		}
		_ = ledger.CheckUnconfirmed(s.State, d, s.Now)
		if ledger.CheckUnconfirmed(next.State, d, next.Now) != nil {
			return
		}
		for _, c := range d.Counted {
			if _, err := c.Grouping(d.Key.T, d.Key.Layers.Grouping.L); err != nil || c.Revision > d.Revision {
				t.Fatalf("it counts %v: %v", c, err)
			}
		}
	})
}

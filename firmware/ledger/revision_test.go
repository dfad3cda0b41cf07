package ledger_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// grownAuthority is a system whose enterprise 1 had a calculator and a combiner added: revision 2 of ledgertest.GrownPlan.
func grownAuthority(t testing.TB) (*ledgertest.System, *ledgertest.Authority) {
	t.Helper()
	s := ledgertest.New(t, ledgertest.WithDevices(10))
	a := s.Extend(t, s.Authority(t, ledgertest.SmallPlan(1)), ledgertest.GrownPlan(1))
	return s, a
}

func versions(k ledger.Key) []uint64 {
	var out []uint64
	for _, h := range k.Holders {
		out = append(out, h.Version)
	}
	return out
}

// An authority grows, shrinks and grows again; every State keeps what it had.
func TestRevisions(t *testing.T) {
	s := ledgertest.New(t, ledgertest.WithDevices(10))
	first := s.Authority(t, ledgertest.SmallPlan(1))
	one := s.State
	second := s.Extend(t, first, ledgertest.GrownPlan(1))
	two := s.State
	k, _ := two.Key("ca-1")
	if got := versions(k); !slices.Equal(got, []uint64{1, 1, 1, 1, 2, 2, 1}) || k.N != 4 || k.T != 2 {
		t.Error("after growth:", got, k.T, k.N)
	}
	for _, j := range []uint64{1, 2, 3} {
		for i, d := range second.Calculators[j].Keys {
			if string(d.Reveal()) != string(first.Calculators[j].Keys[i].Reveal()) {
				t.Errorf("sub-key %d.%d changed", j, i+1)
			}
		}
	}

	// Machines go without a reserve, and what remains keeps its shares.
	p := ledgertest.GrownPlan(1).Without([]uint64{2}, []uint64{2})
	third := s.DealNext(t, second, p)
	third.Dealing.Reserve = nil
	s.Confirm(t, &third.Dealing)
	s.Enter(t, third)
	three := s.State
	k, _ = three.Key("ca-1")
	if got := versions(k); !slices.Equal(got, []uint64{1, 1, 1, 2, 1}) || k.N != 3 {
		t.Error("after loss:", got, k.N)
	}
	if e, _ := three.Enterprise(1); e.Revision != 3 || e.Reserve != nil {
		t.Error(e.Revision, e.Reserve)
	}
	if _, ok := three.HolderOf("ca-1", "device-2"); ok || !three.WasMachine("ca-1", "device-2") {
		t.Error("device-2 is a machine still, or was none")
	}
	if len(three.OfficersFor("ca-1", "device-2", s.Now)) != 0 || len(two.OfficersFor("ca-1", "device-2", s.Now)) != 2 {
		t.Error("officers of device-2")
	}
	for i, st := range []ledger.State{one, two, three} {
		if e, ok := st.Enterprise(1); !ok || e.Revision != uint64(i+1) {
			t.Errorf("state %d has revision %d", i+1, e.Revision)
		}
	}
	// The chain of all of it, from the beginning.
	chain := []ledger.SignedEntry{first.Entry, second.Entry, third.Entry}
	again, err := ledger.Catchup(ledger.New(s.Verified), chain)
	if err != nil || again.Head() != three.Head() || !again.WasMachine("ca-1", "device-2") {
		t.Error(err)
	}
	// A branch is another: the entry follows one state alone.
	v, err := ledger.VerifyEntry(one, second.Entry)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.ApplyVerified(two, v); err == nil {
		t.Error("applied twice")
	}
	if _, err := ledger.ApplyVerified(ledger.New(s.Verified), v); err == nil {
		t.Error("applied to a state without the first revision")
	}
}

// Every rule of a later revision, broken alone.
func TestRevisionRefuses(t *testing.T) {
	s, a := grownAuthority(t)
	other := s.Authority(t, ledgertest.SmallPlan(2))
	good := s.DealNext(t, a, ledgertest.GrownPlan(1)).Dealing // nothing changes
	holder := func(d *dealing, i int) *ledger.Holder { return &d.Key.Holders[i] }
	layers := func(d *dealing) *grouping.Grouping { return &d.Key.Layers.Grouping }
	refuses(t, s, &good, []refusal{
		{"same revision", func(d *dealing) { d.Revision-- }, "revision 2 where 3 follows"},
		{"revision left out", func(d *dealing) { d.Revision++ }, "revision 4 where 3 follows"},
		{"name of the enterprise", func(d *dealing) { d.Enterprise.Name = "Enterprise one" }, "it never changes"},
		{"older than the one before", func(d *dealing) { d.Created = a.Dealing.Created - 1 }, "compare the distributor's clock"},
		{"key id", func(d *dealing) { d.Key.ID = "ca-one" }, "id differs"},
		{"key name", func(d *dealing) { d.Key.Name = "Other" }, "name differs"},
		{"t", func(d *dealing) { d.Key.T = 3 }, "number of calculators that sign (t) differs"},
		{"public key", func(d *dealing) {
			d.Key.Public, d.Key.Certificate = other.Dealing.Key.Public, other.Dealing.Key.Certificate
		}, "public key differs"},
		{"primes", func(d *dealing) { d.Key.SafePrimes = false }, "kind of primes differs"},
		{"algorithms", func(d *dealing) { d.Key.Algorithms = d.Key.Algorithms[1:] }, "list of algorithms differs"},
		{"certificate", func(d *dealing) { d.Key.Certificate[9] ^= 1 }, "root certificate differs"},
		{"validity", func(d *dealing) { d.Key.MaxDays++ }, "longest validity differs"},
		{"epoch", func(d *dealing) { d.Key.Epoch = 2 }, "epoch 2"},
		{"sub-keys", func(d *dealing) {
			layers(d).L = 1
			d.Key.Layers.V = d.Key.Layers.V[:4]
		}, "sub-keys"},
		{"h", func(d *dealing) { d.Key.Layers.H = slices.Clone(other.Dealing.Key.Layers.H); d.Key.Layers.H[0] = 1 }, "h is not that of the ledger"},
		{"check value", func(d *dealing) { d.Key.Layers.V[2][255] ^= 2 }, "check values of calculator 2 differ"},
		{"check values in another order", func(d *dealing) { v := d.Key.Layers.V; v[0], v[1] = v[1], v[0] }, "check values of calculator 1 differ"},

		{"share id", func(d *dealing) { holder(d, 0).Share = "ca-1.other" }, "keeps its id"},
		{"device", func(d *dealing) { move(d, "device-1", "device-8") }, "another device is another machine"},
		{"version back", func(d *dealing) { holder(d, 4).Version = 1 }, "version 1 after 2"},
		{"version too far", func(d *dealing) { holder(d, 4).Version = 4 }, "version 4 after 2"},
		{"quorum", func(d *dealing) {
			o := d.Officers[0]
			o.Person, o.Card = "officer-10a", 1101
			d.Officers = append(d.Officers, o)
			holder(d, 0).Pieces = 3
		}, "deal the share again, as version 2"},
		{"officer", func(d *dealing) { d.Officers[0].Person, d.Officers[0].Card = "officer-10a", 1101 }, "the officers of device \"device-1\" or their cards differ"},
		{"card", func(d *dealing) { d.Officers[0].Card = 111 }, "or their cards differ"},
		{"combination gone", func(d *dealing) { c := &layers(d).Combiners[0]; c.Combinations = c.Combinations[:4] }, "combination (32,41) is not in its place"},
		{"combinations in another order", func(d *dealing) { slices.Reverse(layers(d).Combiners[0].Combinations) }, "is not in its place"},
		{"combination at the old version", func(d *dealing) {
			c := &layers(d).Combiners[1]
			c.Combinations = append(c.Combinations, ledgertest.Group(2, "11,42").Combinations...)
		}, "its share is dealt again, as version 3"},
		{"unsafe growth", func(d *dealing) {
			c := &layers(d).Combiners[0]
			c.Combinations = append(c.Combinations, ledgertest.Group(1, "21,42").Combinations...)
			holder(d, 4).Version++
		}, "learn"},
		{"distributor's number at another server", func(d *dealing) { d.Distributors[0].Server = "server-3" }, `the number is that of server "server-1" for ever`},
		{"officer expired meanwhile", func(d *dealing) { d.Officers[0].Expires = s.Now }, "renew him"},
	})

	// What may change without a new share: ends, classes, servers, the reserve, who confirms.
	d := copyOf(t, &good)
	d.Officers[0].Expires, d.Officers[0].Class = s.Now+1, ledger.ClassAdministrator
	d.Distributors = []ledger.Distributor{{Number: 7, Server: "server-1"}, {Number: 2, Server: "server-2"}}
	d.Operator, d.Isolated, d.Reserve = "officer-10b", false, nil
	s.Confirm(t, d)
	if err := ledger.CheckDealing(s.State, d, s.Now); err != nil {
		t.Error(err)
	}
	// With a new version of the share others may approve, with other quorums.
	d = copyOf(t, &good)
	o := d.Officers[0]
	o.Person, o.Card = "officer-10a", 1101
	d.Officers = append(d.Officers, o)
	d.Officers[1].Person, d.Officers[1].Card = "officer-10b", 1102
	h := holder(d, 0)
	h.Pieces, h.Quorum, h.Version = 3, 3, 2
	s.Confirm(t, d)
	if err := ledger.CheckDealing(s.State, d, s.Now); err != nil {
		t.Error(err)
	}
	// The dealing of an entry that another overtook is void.
	s.Enter(t, &ledgertest.Authority{Dealing: *d})
	if err := ledger.CheckDealing(s.State, &good, s.Now); err == nil || !strings.Contains(err.Error(), "revision 3 where 4 follows") {
		t.Error(err)
	}
}

// move moves a machine to another device, whose officers are the old one's: for refusals only.
func move(d *dealing, from, to string) {
	for i := range d.Key.Holders {
		if d.Key.Holders[i].Device == from {
			d.Key.Holders[i].Device = to
		}
	}
	for i := range d.Officers {
		if d.Officers[i].Device == from {
			d.Officers[i].Device = to
		}
	}
}

// What is gone never comes back, and still counts.
func TestGoneForGood(t *testing.T) {
	s, a := grownAuthority(t)
	a = s.Extend(t, a, ledgertest.GrownPlan(1).Without([]uint64{4}, []uint64{3}))
	if e, _ := s.State.Enterprise(1); e.Key.N != 3 || len(e.Key.Holders) != 5 {
		t.Fatal("calculator 4 and combiner 3 are not gone")
	}
	ever, ok := s.State.EverDealt(1)
	if want := ledgertest.GrownPlan(1).Grouping; !ok || fmt.Sprint(ever) != fmt.Sprint(want) {
		t.Errorf("ever dealt: %v, want %v", ever, want)
	}
	if _, ok := s.State.EverDealt(2); ok {
		t.Error("something was dealt to an enterprise that is not there")
	}
	// The plan with machines of another number at the devices given.
	back := func(number uint64, calculator, combiner string) *dealing {
		p := ledgertest.GrownPlan(1)
		p.Calculators[3], p.Combiners[2] = calculator, combiner
		p.Grouping.Calculators[3] = number
		for i, c := range p.Grouping.Combiners {
			for _, x := range c.Combinations {
				if x[1].Calculator == 4 {
					x[1].Calculator = number
				}
			}
			if c.Number == 3 {
				p.Grouping.Combiners[i].Number = number
			}
		}
		d := *copyOf(t, &a.Dealing)
		d.Revision++
		d.Key.N = 4
		l := d.Key.Layers
		l.Grouping = p.Grouping
		for i := range 2 { // any values
			v := slices.Clone(l.V[i])
			v[255] ^= 2
			l.V = append(l.V, v)
		}
		rows := slices.Clone(d.Key.Holders[:3])
		rows = append(rows, ledger.Holder{Layer: 1, Index: number, Device: calculator, Share: "ca-1.new-1", Quorum: 2, Pieces: 2, Threshold: 2, Version: 1})
		rows = append(rows, d.Key.Holders[3:]...)
		rows[4].Version++
		rows[5].Version++
		d.Key.Holders = append(rows, ledger.Holder{Layer: 2, Index: number, Device: combiner, Share: "ca-1.new-2", Quorum: 2, Pieces: 2, Threshold: 2, Version: 1})
		for _, o := range s.Genesis.Officers {
			if o.Device == calculator || o.Device == combiner {
				o.Keys = []string{"ca-1"}
				d.Officers = append(d.Officers, o)
			}
		}
		return &d
	}
	check := func(name string, d *dealing, want string) {
		t.Helper()
		s.Confirm(t, d)
		err := ledger.CheckDealing(s.State, d, s.Now)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\ngot  %v\nwant …%s…", name, err, want)
		}
	}
	check("new machines", back(5, "device-8", "device-9"), "")
	check("old numbers", back(4, "device-8", "device-9"), "numbers are given once")
	check("the calculator's device", back(5, "device-6", "device-9"), `device "device-6" was calculator 4, and still knows what it was dealt`)
	check("the combiner's device", back(5, "device-8", "device-7"), `device "device-7" was combiner 3`)
	check("the calculator's device as a combiner", back(5, "device-8", "device-6"), `device "device-6" was calculator 4`)
	d := back(5, "device-8", "device-9")
	d.Key.Holders[3].Share = "CA-1.calculator-4"
	check("the calculator's share id", d, "is also that of a share of key \"ca-1\", now or before")
	d = back(5, "device-8", "device-9")
	d.Key.Holders[6].Version = 2
	check("a new machine with an old version", d, "version 2 of a new share")

	// Without a reserve nothing is dealt any more, and none is made.
	p := ledgertest.GrownPlan(1).Without([]uint64{4}, []uint64{3})
	p.Reserve = false
	a = s.Extend(t, a, p)
	check("growth without a reserve", func() *dealing { d := back(5, "device-8", "device-9"); d.Reserve = nil; return d }(), "there is no reserve")
	d = copyOf(t, &a.Dealing)
	d.Revision++
	d.Key.Holders[0].Version++
	check("a share again without a reserve", d, "there is no reserve")
	d = copyOf(t, &a.Dealing)
	d.Revision++
	d.Reserve = s.Reserve()
	check("a reserve of nothing", d, "dealt without one")
	// But machines may go, as long as any combination is left.
	next := s.DealNext(t, a, p.Without([]uint64{2}, []uint64{2}))
	check("loss", &next.Dealing, "")
	next = s.DealNext(t, a, p.Without([]uint64{1}, nil))
	next.Dealing.Key.Layers.Grouping.Combiners[1].Combinations = nil
	check("loss of all combinations", &next.Dealing, "combination")
}

// A combination that is safe beside what a combiner has now is refused if it is not beside what the combiner ever had: whoever took
// calculator 4 away may be whom it was taken away from.
func TestWhatWasDealtCounts(t *testing.T) {
	s := ledgertest.New(t, ledgertest.WithDevices(7))
	p := ledgertest.SmallPlan(1)
	p.Grouping.Calculators, p.Calculators = append(p.Grouping.Calculators, 4), append(p.Calculators, "device-6")
	p.Grouping.Combiners = []grouping.Group{
		ledgertest.Group(1, "11,21", "12,31", "11,42", "32,41"), ledgertest.Group(2, "12,22", "21,31", "22,32", "21,41"),
	}
	a := s.Authority(t, p)
	a = s.Extend(t, a, p.Without([]uint64{4}, nil))
	grow := func(group int, combination string) error {
		d := copyOf(t, &a.Dealing)
		d.Revision++
		g := &d.Key.Layers.Grouping.Combiners[group]
		g.Combinations = append(g.Combinations, ledgertest.Group(0, combination).Combinations...)
		d.Key.Holders[3+group].Version++
		if err := d.Key.Layers.Grouping.Check(); err != nil {
			t.Fatalf("%s is not safe by itself: %v", combination, err)
		}
		s.Confirm(t, d)
		return ledger.CheckDealing(s.State, d, s.Now)
	}
	// With d_41 and d_42: (11,42) gives d − d_11, (32,41) gives d − d_32, and (11,32) the rest.
	if err := grow(0, "11,32"); err == nil || !strings.Contains(err.Error(), "with machines that are gone and still know what they were dealt") ||
		!strings.Contains(err.Error(), "combiner 1 with calculator 4") {
		t.Error(err)
	}
	if err := grow(0, "22,32"); err != nil {
		t.Error(err)
	}
	if err := grow(1, "11,21"); err != nil {
		t.Error(err)
	}
}

// After any loss of two machines, keys, holders and officers agree with each other, and each earlier State is as it was.
func TestRevisionsAgree(t *testing.T) {
	s, begin := grownAuthority(t)
	first := s.State
	for one := range 7 {
		s.State = first
		a, plan := begin, ledgertest.GrownPlan(1)
		type seen struct {
			state ledger.State
			hash  [32]byte
		}
		past := []seen{{s.State, sha256.Sum256(encode(t, &a.Dealing))}}
		for _, i := range []int{one, one + 2} {
			k, _ := s.State.Key("ca-1")
			h := k.Holders[i%len(k.Holders)]
			var calculators, combiners []uint64
			if h.Layer == ledger.LayerCalculator {
				calculators = []uint64{h.Index}
			} else {
				combiners = []uint64{h.Index}
			}
			next := plan.Without(calculators, combiners)
			d := s.DealNext(t, a, next)
			s.Enter(t, d)
			a, plan = d, next
			past = append(past, seen{s.State, sha256.Sum256(encode(t, &a.Dealing))})
		}
		for _, x := range past {
			e, _ := x.state.Enterprise(1)
			if sha256.Sum256(encode(t, &e)) != x.hash {
				t.Fatal("a State changed")
			}
			for _, h := range e.Key.Holders {
				if got, ok := x.state.HolderOf("ca-1", h.Device); !ok || got != h {
					t.Fatal("holder", got, h)
				}
				if n := len(x.state.OfficersFor("ca-1", h.Device, s.Now)); uint64(n) != h.Pieces {
					t.Fatal(n, "officers at", h.Device)
				}
			}
			for i := 1; i <= 7; i++ {
				if id := fmt.Sprintf("device-%d", i); !x.state.WasMachine("ca-1", id) {
					t.Fatal(id, "was no machine")
				}
			}
		}
	}
}

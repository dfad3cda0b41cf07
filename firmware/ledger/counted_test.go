package ledger_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// beside is an authority of three calculators in force, and its next revision, which changes nothing.
type beside struct {
	*ledgertest.System
	Dealing *dealing
}

// grownByFour is the plan of an extension by calculator 4 at device-6, which is safe; see TestWhatWasDealtCounts.
func grownByFour() ledgertest.Plan {
	p := ledgertest.SmallPlan(1)
	p.Grouping.Calculators, p.Calculators = append(p.Grouping.Calculators, 4), append(p.Calculators, "device-6")
	p.Grouping.Combiners = []grouping.Group{
		ledgertest.Group(1, "11,21", "12,31", "11,42", "32,41"), ledgertest.Group(2, "12,22", "21,31", "22,32", "21,41"),
	}
	return p
}

// abandonedBeside also makes what is to be counted of an extension that was dealt and not entered.
func abandonedBeside(t testing.TB) (*beside, ledger.Counted) {
	t.Helper()
	s := ledgertest.New(t, ledgertest.WithDevices(8))
	few := grownByFour().Without([]uint64{4}, nil)
	a := s.Authority(t, few)
	lost := s.DealNext(t, a, grownByFour())
	if err := ledger.CheckDealing(s.State, &lost.Dealing, s.Now); err != nil {
		t.Fatal(err)
	}
	digest, err := lost.Dealing.Digest()
	if err != nil {
		t.Fatal(err)
	}
	c := ledger.Counted{Dealing: digest, Revision: 2, Combiners: []grouping.Group{ledgertest.Group(1, "11,42", "32,41"), ledgertest.Group(2, "21,41")}}
	for _, h := range lost.Dealing.Key.Holders {
		c.Machines = append(c.Machines, ledger.Machine{Layer: h.Layer, Number: h.Index, Device: h.Device})
	}
	next := s.DealNext(t, a, few).Dealing
	return &beside{s, &next}, c
}

// enter brings b.Dealing into the ledger and returns the revision after it, which changes nothing.
func (b *beside) enter(t testing.TB, counted ...ledger.Counted) *dealing {
	t.Helper()
	b.Dealing.Counted = counted
	b.Confirm(t, b.Dealing)
	b.Enter(t, &ledgertest.Authority{Dealing: *b.Dealing})
	d := copyOf(t, b.Dealing)
	d.Revision, d.Counted = d.Revision+1, nil
	return d
}

// grow adds a combination to a combiner.
func grow(d *dealing, group int, combination string) {
	g := &d.Key.Layers.Grouping.Combiners[group]
	g.Combinations = append(g.Combinations, ledgertest.Group(0, combination).Combinations...)
	d.Key.Holders[len(d.Key.Layers.Grouping.Calculators)+group].Version++
}

// What was given out and never entered counts from the revision on that says so: in that itself, in later ones, and whoever forgot it.
func TestCountedCounts(t *testing.T) {
	const beside = "with machines that are gone and still know what they were dealt, and with dealings that were given out and never entered"
	for _, told := range []bool{false, true} {
		b, lost := abandonedBeside(t)
		before := b.State
		check := func(when string, d *dealing, want string) {
			t.Helper()
			b.Confirm(t, d)
			err := ledger.CheckDealing(b.State, d, b.Now)
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("told %v, %s: %v\nwant …%s…", told, when, err, want)
			}
		}
		refused := ""
		var counted []ledger.Counted
		if told {
			refused, counted = beside, []ledger.Counted{lost}
		}
		d := copyOf(t, b.Dealing)
		d.Counted = counted
		grow(d, 0, "11,32") // see TestWhatWasDealtCounts
		check("in the revision that counts it", d, refused)
		d = copyOf(t, b.Dealing)
		d.Counted = counted
		grow(d, 0, "22,32")
		check("what is safe beside it", d, "")

		next := b.enter(t, counted...)
		d = copyOf(t, next)
		grow(d, 0, "11,32")
		check("in the next", d, refused)
		if told && !strings.Contains(ledger.CheckDealing(b.State, d, b.Now).Error(), "combiner 1 with calculator 4") {
			t.Error("it is refused for another reason")
		}
		b.Dealing = next
		next = b.enter(t)
		d = copyOf(t, next)
		grow(d, 0, "11,32")
		check("in the one after that", d, refused)
		// It is not forgotten when machines go.
		next.Key.Layers.Grouping.Combiners = next.Key.Layers.Grouping.Combiners[:1]
		next.Key.Holders = next.Key.Holders[:4]
		next.Officers = slices.DeleteFunc(next.Officers, func(o ledger.Officer) bool { return o.Device == "device-5" })
		check("a machine less", next, "")
		b.Dealing = next
		b.enter(t)

		ever, _ := b.State.EverDealt(1)
		want := grownByFour().Grouping
		if !told {
			want = grownByFour().Without([]uint64{4}, nil).Grouping
		}
		if fmt.Sprint(ever) != fmt.Sprint(want) {
			t.Errorf("ever dealt: %v, want %v", ever, want)
		}
		if got := b.State.Counted(1); len(got) != len(counted) || told && fmt.Sprint(got[0]) != fmt.Sprint(lost) {
			t.Errorf("counted: %v", got)
		}
		if len(before.Counted(1)) != 0 || len(before.EverMachines(1)) != 5 || b.State.Counted(2) != nil || b.State.EverMachines(2) != nil {
			t.Error("a State before it, or of another enterprise, counts something")
		}
		if !told {
			continue
		}
		machines := b.State.EverMachines(1)
		if len(machines) != 6 || machines[5] != (ledger.Machine{Layer: ledger.LayerCalculator, Number: 4, Device: "device-6"}) {
			t.Error(machines)
		}
		if given := b.State.Given(1, &lost); len(given) != 3 || given[0] != machines[5] || given[1].Device != "device-4" || given[2].Device != "device-5" {
			t.Error(given)
		}
		if b.State.WasMachine("ca-1", "device-6") || b.State.WasEntered(1, lost.Dealing) || b.State.WasEntered(2, lost.Dealing) {
			t.Error("what was never entered was entered")
		}
		if digest, _ := b.Dealing.Digest(); !b.State.WasEntered(1, digest) {
			t.Error("what is in force was not entered")
		}
		// What is given away is a copy.
		got := b.State.Counted(1)
		got[0].Machines[0].Device, got[0].Combiners[0].Combinations[0][0].Key = "x", 9
		ever.Combiners[0].Combinations[0][0].Key = 9
		if now := b.State.Counted(1); fmt.Sprint(now[0]) != fmt.Sprint(lost) {
			t.Error("a State was changed through what it gave away")
		}
		if now, _ := b.State.EverDealt(1); fmt.Sprint(now) != fmt.Sprint(want) {
			t.Error("a State was changed through what it gave away")
		}
	}
}

// A device of a counted dealing comes under the number that it has there, and no other does; the same plan again is safe.
func TestCountedNumbers(t *testing.T) {
	b, lost := abandonedBeside(t)
	b.enter(t, lost)
	plan := func(number uint64, device string) *dealing {
		p := grownByFour()
		p.Calculators[3], p.Grouping.Calculators[3] = device, number
		for _, c := range p.Grouping.Combiners {
			for _, x := range c.Combinations {
				if x[1].Calculator == 4 {
					x[1].Calculator = number
				}
			}
		}
		a := b.Deal(t, grownByFour().Without([]uint64{4}, nil))
		a.Dealing.Revision = 2
		d := b.DealNext(t, a, p).Dealing
		return &d
	}
	for _, c := range []struct {
		number uint64
		device string
		want   string
	}{
		{4, "device-6", ""},
		{5, "device-7", ""},
		{4, "device-7", `calculator 4 is device "device-7", and device "device-6" in the dealing`},
		{5, "device-6", `device "device-6" is calculator 5, and calculator 4 in the dealing`},
	} {
		err := ledger.CheckDealing(b.State, plan(c.number, c.device), b.Now)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("calculator %d at %s: %v\nwant …%s…", c.number, c.device, err, c.want)
		}
	}
	p := grownByFour().Without([]uint64{4}, nil)
	p.Combiners = append(p.Combiners, "device-6")
	p.Grouping.Combiners = append(p.Grouping.Combiners, ledgertest.Group(3, "11,21"))
	a := b.Deal(t, grownByFour().Without([]uint64{4}, nil))
	a.Dealing.Revision = 2
	d := b.DealNext(t, a, p).Dealing
	if err := ledger.CheckDealing(b.State, &d, b.Now); err == nil || !strings.Contains(err.Error(), `device "device-6" is combiner 3, and calculator 4`) {
		t.Error(err)
	}
}

// Every rule of what a revision counts, broken alone.
func TestCountedRefuses(t *testing.T) {
	b, lost := abandonedBeside(t)
	first, _ := b.State.Enterprise(1)
	entered, err := first.Digest()
	if err != nil {
		t.Fatal(err)
	}
	earlier := ledger.Counted{Dealing: envelope.Hash{7}, Revision: 2, Machines: slices.Clone(lost.Machines)}
	other := ledger.Counted{Dealing: envelope.Hash{0: 0xff, 31: 0xff}, Revision: 3, Machines: slices.Clone(lost.Machines), Combiners: lost.Combiners}
	good := b.enter(t, earlier)
	good.Counted = []ledger.Counted{lost, other}
	b.Confirm(t, good)
	c := func(d *dealing) *ledger.Counted { return &d.Counted[0] }
	refuses(t, b.System, good, []refusal{
		{"too many", func(d *dealing) { d.Counted = make([]ledger.Counted, ledger.MaxCounted+1) }, "counts 17 dealings that were never entered, at most 16"},
		{"out of order", func(d *dealing) { slices.Reverse(d.Counted) }, "the digests do not ascend"},
		{"twice", func(d *dealing) { d.Counted[1] = d.Counted[0] }, "the digests do not ascend"},
		{"one that was entered", func(d *dealing) { d.Counted = d.Counted[:1]; c(d).Dealing = entered }, "it was entered: leave it out"},
		{"one that is counted", func(d *dealing) { c(d).Dealing = earlier.Dealing }, "an earlier revision counts it"},
		{"a first dealing", func(d *dealing) { c(d).Revision = 1 }, "it is revision 1, and those that can count are 2 to 3"},
		{"a later revision", func(d *dealing) { c(d).Revision = 4 }, "it is revision 4"},
		{"no machines", func(d *dealing) { c(d).Machines, c(d).Combiners = nil, nil }, "2 of 0 calculators"},
		{"too few calculators", func(d *dealing) { c(d).Machines = c(d).Machines[3:] }, "2 of 1 calculators"},
		{"no combiner", func(d *dealing) { c(d).Machines, c(d).Combiners = c(d).Machines[:4], nil }, "0 combiners"},
		{"an unknown device", func(d *dealing) { c(d).Machines[3].Device = "device-9" }, `device "device-9" is unknown`},
		{"a device twice", func(d *dealing) { c(d).Machines[3].Device = "device-1" }, `device "device-1" is there twice`},
		{"another layer", func(d *dealing) { c(d).Machines[3].Layer = 3 }, "machine 4 of layer 3 is out of order"},
		{"layers out of order", func(d *dealing) { slices.Reverse(c(d).Machines) }, "is out of order"},
		{"calculators out of order", func(d *dealing) { m := c(d).Machines; m[0], m[1] = m[1], m[0] }, "ascend"},
		{"combiners out of order", func(d *dealing) { m := c(d).Machines; m[4], m[5] = m[5], m[4] }, "combiner"},
		{"number of another device", func(d *dealing) { c(d).Machines[3].Device = "device-7" }, `calculator 4 is device "device-6", and device "device-7" in the dealing`},
		{"device of another number", func(d *dealing) {
			c(d).Machines[3].Number = 5
			c(d).Combiners = nil
		}, `device "device-6" is calculator 4, and calculator 5 in the dealing`},
		{"machine's number at another device", func(d *dealing) { c(d).Machines[0].Device = "device-7" }, `calculator 1 is device "device-1", and device "device-7"`},
		{"a combiner as a calculator", func(d *dealing) {
			c(d).Machines = slices.Insert(c(d).Machines[:4:4], 4, ledger.Machine{Layer: 1, Number: 5, Device: "device-4"}, c(d).Machines[5])
			c(d).Combiners = c(d).Combiners[1:]
		}, `device "device-4" is combiner 1, and calculator 5`},
		{"groups out of order", func(d *dealing) { slices.Reverse(c(d).Combiners) }, "combiners have to ascend"},
		{"group twice", func(d *dealing) { c(d).Combiners[1].Number = 1 }, "combiners have to ascend"},
		{"group of none", func(d *dealing) { c(d).Combiners[1].Number = 3 }, "combiner 3 is none of its machines"},
		{"empty group", func(d *dealing) { c(d).Combiners[0].Combinations = nil }, "combiner 1 has 0 combinations"},
		{"large group", func(d *dealing) {
			c(d).Combiners[0].Combinations = slices.Repeat(c(d).Combiners[0].Combinations, ledger.MaxParts)
		}, "combiner 1 has 252 combinations"},
		{"combination twice", func(d *dealing) { x := c(d).Combiners[0].Combinations; x[1] = x[0] }, "(11,42) twice"},
		{"combination of another t", func(d *dealing) { x := c(d).Combiners[0].Combinations; x[1] = x[1][:1] }, "has 1 terms, not 2"},
		{"combination of another l", func(d *dealing) { c(d).Combiners[0].Combinations[1][1].Key = 3 }, "sub-keys 1 to 2"},
		{"combination of a stranger", func(d *dealing) { c(d).Combiners[0].Combinations[1][1].Calculator = 9 }, "calculator 9 is not one of"},
	})
	if err := ledger.CheckDealing(b.State, good, b.Now); err != nil {
		t.Error(err)
	}
}

// Machines may go, whatever is counted: growth alone is refused where that is unsafe, or more than fits.
func TestCountedExposed(t *testing.T) {
	b, lost := abandonedBeside(t)
	lost.Combiners[0].Combinations = append(lost.Combiners[0].Combinations, ledgertest.Group(0, "11,32").Combinations...)
	next := b.enter(t, lost)
	b.Confirm(t, next)
	if err := ledger.CheckDealing(b.State, next, b.Now); err != nil {
		t.Error(err)
	}
	grow(next, 0, "22,32")
	b.Confirm(t, next)
	if err := ledger.CheckDealing(b.State, next, b.Now); err == nil || !strings.Contains(err.Error(), "never entered: ") {
		t.Error(err)
	}
}

// What no entry has room for is found before anybody confirms.
func TestDealingTooLong(t *testing.T) {
	b, lost := abandonedBeside(t)
	var many []grouping.Combination
	for len(many) < ledger.MaxParts {
		many = append(many, lost.Combiners[0].Combinations...)
	}
	for i := range ledger.MaxCounted {
		c := ledger.Counted{Dealing: envelope.Hash{byte(i)}, Revision: 2, Machines: lost.Machines}
		for range 15 {
			c.Combiners = append(c.Combiners, grouping.Group{Number: 1, Combinations: many})
		}
		b.Dealing.Counted = append(b.Dealing.Counted, c)
	}
	if err := ledger.CheckUnconfirmed(b.State, b.Dealing, b.Now); err == nil || !strings.Contains(err.Error(), "an entry has room for 61184") {
		t.Error(err)
	}
}

package dealing_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/dealing"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// TestAbandonedRefused changes one thing of a good abandoned dealing at a time,
// or of the plan that is to count it.
func TestAbandonedRefused(t *testing.T) {
	r, p, first, _ := bank(t)
	one := r.extension(r.with(p, 0, machines(6, "device-9"), machines(4, "device-10")), first.Reserve)
	draft := func(p *dealing.Plan, abandoned ...ledger.Dealing) (*dealing.Prepared, error) {
		in := r.inputs()
		in.Abandoned = abandoned
		return dealing.Draft(in, r.State, p, nil)
	}
	good := r.with(p, 0, machines(6, "device-9"), nil)
	d, err := draft(good, one.Dealing, one.Dealing)
	r.check(err)
	if got := d.Abandoned(); len(got) != 1 || got[0].Digest != digest(t, one) || got[0].Again {
		t.Errorf("counted: %d", len(got))
	}
	for name, c := range map[string]struct {
		change  func(*ledger.Dealing)
		confirm string // who confirms the change; nobody: the confirmation is of what it was
		words   []string
	}{
		"another enterprise": {func(x *ledger.Dealing) { x.Enterprise.Code = 8 }, ledgertest.Operator, []string{"of enterprise 8, not of 7"}},
		"another key's id":   {func(x *ledger.Dealing) { x.Key.ID = "other-ca" }, ledgertest.Operator, []string{"another key", "leave it out"}},
		"another modulus":    {func(x *ledger.Dealing) { x.Key.Public.N = slices.Clone(x.Key.Public.N); x.Key.Public.N[9] ^= 1 }, ledgertest.Operator, []string{"another key"}},
		"another exponent":   {func(x *ledger.Dealing) { x.Key.Public.E = 3 }, ledgertest.Operator, []string{"another key"}},
		"a later revision":   {func(x *ledger.Dealing) { x.Revision = 3 }, ledgertest.Operator, []string{"revision 3", "newer ledger"}},
		"a first dealing":    {func(x *ledger.Dealing) { x.Revision = 1 }, ledgertest.Operator, []string{"no extension"}},
		"no layers":          {func(x *ledger.Dealing) { x.Key.Layers = nil }, ledgertest.Operator, []string{"no extension"}},
		"no check values":    {func(x *ledger.Dealing) { l := *x.Key.Layers; l.V = l.V[1:]; x.Key.Layers = &l }, ledgertest.Operator, []string{"check values"}},
		"other sub-keys": {func(x *ledger.Dealing) {
			l := *x.Key.Layers
			l.H = l.V[0]
			l.V = slices.Concat(l.V[1:], [][]byte{x.Key.Layers.H})
			x.Key.Layers = &l
		}, ledgertest.Operator, []string{"no extension of it"}},
		"a machine too few":   {func(x *ledger.Dealing) { x.Key.Holders = x.Key.Holders[1:] }, ledgertest.Operator, []string{"1 machines have no device"}},
		"an unknown device":   {func(x *ledger.Dealing) { x.Key.Holders[2].Device = "device-99" }, ledgertest.Operator, []string{"device-99"}},
		"a device twice":      {func(x *ledger.Dealing) { x.Key.Holders[2].Device = "device-1" }, ledgertest.Operator, []string{"calculator 3", "twice"}},
		"a machine twice":     {func(x *ledger.Dealing) { x.Key.Holders[2].Index = 1 }, ledgertest.Operator, []string{"twice"}},
		"no confirmation":     {func(x *ledger.Dealing) { x.Confirmation = nil }, "", []string{"no operator confirmed it"}},
		"no signature":        {func(x *ledger.Dealing) { x.Confirmation = []byte("x") }, "", []string{"confirmation"}},
		"somebody else":       {func(*ledger.Dealing) {}, "officer-1a", []string{"not signed by a card of the operator"}},
		"a device's word":     {func(x *ledger.Dealing) { x.Operator = "officer-1a" }, ledgertest.Operator, []string{"not signed by a card of the operator"}},
		"changed since":       {func(x *ledger.Dealing) { x.Created++ }, "", []string{"of another dealing"}},
		"fewer combinations":  {func(x *ledger.Dealing) { cut(x) }, "", []string{"of another dealing"}},
		"broken confirmation": {func(x *ledger.Dealing) { x.Confirmation[len(x.Confirmation)-1] ^= 1 }, "", []string{"confirmation"}},
	} {
		t.Run(name, func(t *testing.T) {
			x := one.Dealing
			x.Key.Holders, x.Confirmation = slices.Clone(x.Key.Holders), slices.Clone(x.Confirmation)
			c.change(&x)
			if c.confirm != "" {
				r.check(x.Confirm(rand.Reader, r.Persons[c.confirm].Card().Sign, r.State.System(), r.now))
			}
			_, err := draft(good, x)
			var refused *dealing.AbandonedError
			if !errors.As(err, &refused) {
				t.Fatalf("%v", err)
			}
			wants(t, err, c.words...)
		})
	}
	_, err = draft(good, first.Dealing)
	wants(t, err, "it is in force", "leave it out")
	var many []ledger.Dealing
	for i := range dealing.MaxAbandoned + 1 {
		x := one.Dealing
		x.Created -= int64(i)
		many = append(many, x)
	}
	_, err = draft(good, many...)
	wants(t, err, "at most 16")

	// The plan: a device is one machine, and a number one device's.
	for name, c := range map[string]struct {
		calculators, combiners []dealing.Machine
		path                   string
		words                  []string
	}{
		"number of another": {machines(6, "device-11"), nil, "calculators.5.number", []string{"calculator 6 was device-9", "take another"}},
		"another number":    {machines(7, "device-9"), nil, "calculators.5.number", []string{"device-9 was calculator 6", "keeps that number"}},
		"another layer":     {nil, machines(5, "device-9"), "combiners.3.device", []string{"device-9 was calculator 6", "take another device"}},
		"combiner's number": {nil, machines(4, "device-12"), "combiners.3.number", []string{"combiner 4 was device-10"}},
	} {
		_, err := draft(r.with(p, 3, c.calculators, c.combiners), one.Dealing)
		var at *dealing.PlanError
		if !errors.As(err, &at) || at.Path != c.path {
			t.Errorf("%s: %v, expected an error at %s", name, err, c.path)
		}
		wants(t, err, c.words...)
	}

	// A first dealing has nothing to count: its key is its own.
	other := r.plan()
	other.Enterprise, other.Key.ID = ledger.Enterprise{Code: 8, Name: "Other Bank"}, "other-ca"
	_, err = draft(other, one.Dealing)
	wants(t, err, "a key of its own", "leave the abandoned dealings out")
}

// cut leaves a dealing a combination less.
func cut(x *ledger.Dealing) {
	l := *x.Key.Layers
	l.Grouping.Combiners = slices.Clone(l.Grouping.Combiners)
	last := &l.Grouping.Combiners[len(l.Grouping.Combiners)-1]
	last.Combinations = last.Combinations[:len(last.Combinations)-1]
	x.Key.Layers = &l
}

// TestAbandonedExposed: where nobody counted in time, and what was given out is
// not safe together, nothing is dealt of that key any more; a machine can still
// be taken away.
func TestAbandonedExposed(t *testing.T) {
	r, p, first, know := bank(t)
	one := r.extension(r.with(p, 0, nil, machines(4, "device-10")), first.Reserve)
	know.learn(r, one)
	two := r.extension(r.with(p, 1, nil, machines(4, "device-10")), first.Reserve)
	know.learn(r, two)
	if _, _, gain := know.worst(t); gain.Nothing() {
		t.Fatal("these two are safe together")
	}
	r.now += 100
	r.enter(&two.Dealing)
	in := r.inputs()
	in.Abandoned = []ledger.Dealing{one.Dealing}
	var exposed *dealing.ExposedError
	var unsafe *grouping.UnsafeError
	for name, plan := range map[string]*dealing.Plan{
		"growth": r.with(p, 1, machines(6, "device-9"), machines(4, "device-10")),
		"again": func() *dealing.Plan {
			again := r.with(p, 1, nil, machines(4, "device-10"))
			again.Combiners[0].Again = true
			return again
		}(),
	} {
		_, err := dealing.Draft(in, r.State, plan, nil)
		if !errors.As(err, &exposed) || !errors.As(err, &unsafe) || !slices.Equal(unsafe.Combiners, []uint64{4}) {
			t.Errorf("%s: %v", name, err)
		}
		wants(t, err, "replace this authority")
	}
	away := r.with(p, 1, nil, nil)
	away.Reserve, away.KeepReserve = nil, true
	d, err := dealing.Draft(in, r.State, away, nil)
	r.check(err)
	if !slices.ContainsFunc(d.Warnings, func(w string) bool { return strings.Contains(w, "not safe together") }) {
		t.Errorf("it does not say so: %q", d.Warnings)
	}
	// From then on the ledger knows, whoever brings it or not.
	out, err := d.Extend(in, nil, nil, nil)
	r.check(err)
	r.check(out.Confirm(rand.Reader, r.now, r.State, r.Persons[away.Operator].Card().Sign))
	r.enter(&out.Dealing)
	if _, err := dealing.Draft(r.inputs(), r.State, r.with(p, 1, machines(6, "device-9"), nil), nil); !errors.As(err, &exposed) {
		t.Errorf("after it was entered: %v", err)
	}
}

// TestAbandonedInTheLedger: a revision that only takes a machine away, and deals
// nothing, tells the ledger what was given out. No medium and no reserve has to
// remember it any more, and no courier can make anybody forget it.
func TestAbandonedInTheLedger(t *testing.T) {
	r, p, first, know := bank(t)
	one := r.extension(r.with(p, 0, machines(6, "device-9"), machines(4, "device-10")), first.Reserve)
	know.learn(r, one)
	r.now += 100
	away := r.with(p, 0, nil, nil)
	away.Combiners = away.Combiners[:2]
	away.Reserve, away.KeepReserve = nil, true
	r.officers(away)
	in := r.inputs()
	in.Abandoned = []ledger.Dealing{one.Dealing}
	d, err := dealing.Prepare(in, r.State, away, nil, nil)
	r.check(err)
	out, err := d.Extend(in, nil, nil, nil)
	r.check(err)
	r.check(out.Confirm(rand.Reader, r.now, r.State, r.Persons[p.Operator].Card().Sign))
	counted := out.Dealing.Counted
	if len(out.Sealed) != 0 || out.Reserve != nil || len(counted) != 1 || counted[0].Dealing != digest(t, one) || counted[0].Revision != 2 || len(counted[0].Machines) != 10 {
		t.Fatalf("%d shares, counted %+v", len(out.Sealed), counted)
	}
	// Exactly what it gave out beside what was in force: no more, no less.
	for _, g := range one.Dealing.Key.Layers.Grouping.Combiners {
		for _, c := range g.Combinations {
			given := slices.ContainsFunc(counted[0].Combiners, func(x grouping.Group) bool {
				return x.Number == g.Number && slices.ContainsFunc(x.Combinations, func(y grouping.Combination) bool { return slices.Equal(c, y) })
			})
			was := slices.ContainsFunc(first.Dealing.Key.Layers.Grouping.Combiners, func(x grouping.Group) bool {
				return x.Number == g.Number && slices.ContainsFunc(x.Combinations, func(y grouping.Combination) bool { return slices.Equal(c, y) })
			})
			if given == was {
				t.Errorf("combiner %d, %v: counted %v, in force before %v", g.Number, c, given, was)
			}
		}
	}
	r.enter(&out.Dealing)

	// Nobody brings it, and the reserve is older than it.
	base := *away
	base.Reserve, base.KeepReserve = p.Reserve, false
	next := r.with(&base, 2, machines(6, "device-9"), machines(4, "device-10"))
	two := r.extension(next, first.Reserve)
	know.learn(r, two)
	if who, with, gain := know.worst(t); !gain.Nothing() {
		t.Errorf("%v with %v learn %v", who, with, gain)
	}
	// Who brings it all the same changes nothing.
	in = r.inputs()
	in.Abandoned = []ledger.Dealing{one.Dealing}
	again, err := dealing.Draft(in, r.State, next, nil)
	r.check(err)
	if got := again.Counted(); len(again.Abandoned()) != 0 || len(got) != 1 || got[0].Dealing != digest(t, one) {
		t.Errorf("%d counted anew, %d in the ledger", len(again.Abandoned()), len(got))
	}
	if a, b := again.Grouping.Combiners, two.Dealing.Key.Layers.Grouping.Combiners; len(a) != len(b) || combos(a) != combos(b) {
		t.Error("another grouping is found")
	}
	in.Abandoned = []ledger.Dealing{out.Dealing}
	_, err = dealing.Draft(in, r.State, next, nil)
	wants(t, err, "it is in force")
	// A device is one machine, and a number one device's, as before.
	for name, c := range map[string]struct {
		calculators, combiners []dealing.Machine
		path                   string
		words                  []string
	}{
		"number of another": {machines(6, "device-11"), nil, "calculators.5.number", []string{"calculator 6 was device-9", "take another"}},
		"another number":    {machines(7, "device-9"), nil, "calculators.5.number", []string{"device-9 was calculator 6", "keeps that number"}},
		"another layer":     {nil, machines(5, "device-9"), "combiners.2.device", []string{"device-9 was calculator 6", "take another device"}},
	} {
		_, err := dealing.Draft(r.inputs(), r.State, r.with(&base, 3, c.calculators, c.combiners), nil)
		var at *dealing.PlanError
		if !errors.As(err, &at) || at.Path != c.path {
			t.Errorf("%s: %v, expected an error at %s", name, err, c.path)
		}
		wants(t, err, c.words...)
	}
	r.now += 100
	r.enter(&two.Dealing)
	in.Abandoned = []ledger.Dealing{out.Dealing}
	_, err = dealing.Draft(in, r.State, r.with(&base, 3, machines(6, "device-9"), machines(4, "device-10")), nil)
	wants(t, err, "it was entered, as revision 2")
}

// TestAbandonedNames: dealings that came to nothing gave one number to two
// devices, as nobody counted the one at the other, and a third has it in force.
// The ledger tells them apart.
func TestAbandonedNames(t *testing.T) {
	r, p, first, _ := bank(t)
	plan := func(device string) *dealing.Plan { return r.with(p, 0, machines(6, device), nil) }
	var lost []ledger.Dealing
	for _, device := range []string{"device-9", "device-10"} {
		lost = append(lost, r.extension(plan(device), first.Reserve).Dealing)
	}
	third := r.extension(plan("device-11"), first.Reserve)
	r.now += 100
	r.enter(&third.Dealing)

	in := r.inputs()
	in.Abandoned = lost
	same := plan("device-11")
	same.Reserve, same.KeepReserve = nil, true
	d, err := dealing.Prepare(in, r.State, same, nil, nil)
	r.check(err)
	out, err := d.Extend(in, nil, nil, nil)
	r.check(err)
	r.check(out.Confirm(rand.Reader, r.now, r.State, r.Persons[p.Operator].Card().Sign))
	r.enter(&out.Dealing)
	names := map[string]uint64{}
	for _, m := range r.State.EverMachines(7) {
		if m.Layer == ledger.LayerCalculator {
			names[m.Device] = m.Number
		}
	}
	if names["device-11"] != 6 || names["device-9"] == names["device-10"] || names["device-9"] < 900 || names["device-10"] < 900 {
		t.Errorf("%v", names)
	}
	ever, _ := r.State.EverDealt(7)
	if !slices.Contains(ever.Calculators, names["device-9"]) || !slices.Contains(ever.Calculators, names["device-10"]) || len(ever.Calculators) != 8 {
		t.Errorf("ever dealt to %v", ever.Calculators)
	}
	// Each gave the number's combinations to the same combiners, with sub-keys of its
	// own, and the same ones in the same places.
	for _, c := range r.State.Counted(7) {
		var was *ledger.Dealing
		for i := range lost {
			if x, err := lost[i].Digest(); err == nil && x == c.Dealing {
				was = &lost[i]
			}
		}
		h, _ := was.Key.Machine(ledger.LayerCalculator, 6)
		n := 0
		for _, g := range c.Combiners {
			for _, x := range g.Combinations {
				if at := slices.IndexFunc(x, func(t grouping.Term) bool { return t.Calculator == names[h.Device] }); at < 0 {
					t.Errorf("%v is none of %s", x, h.Device)
				}
				n++
			}
		}
		if n == 0 {
			t.Errorf("nothing is counted of %s", h.Device)
		}
	}
}

func combos(groups []grouping.Group) string {
	text := ""
	for _, g := range groups {
		for _, c := range g.Combinations {
			text += c.String()
		}
		text += ";"
	}
	return text
}

// TestAbandonedCounts: an abandoned dealing that counted another says so itself,
// and bringing it alone is enough.
func TestAbandonedCounts(t *testing.T) {
	r, p, first, know := bank(t)
	one := r.extension(r.with(p, 0, machines(6, "device-9"), machines(4, "device-10")), first.Reserve)
	know.learn(r, one)
	two := r.extension(r.with(p, 1, nil, machines(4, "device-10")), first.Reserve, one)
	know.learn(r, two)
	three := r.extension(r.with(p, 2, machines(6, "device-9"), machines(4, "device-10")), first.Reserve, two)
	know.learn(r, three)
	if who, with, gain := know.worst(t); !gain.Nothing() {
		t.Errorf("%v with %v learn %v", who, with, gain)
	}
	var names []envelope.Hash
	for _, c := range three.Dealing.Counted {
		names = append(names, c.Dealing)
	}
	want := []envelope.Hash{digest(t, one), digest(t, two)}
	slices.SortFunc(want, func(a, b envelope.Hash) int { return slices.Compare(a[:], b[:]) })
	if !slices.Equal(names, want) {
		t.Errorf("counted %v, want %v", names, want)
	}
	// What it says is looked at before it is believed.
	for name, c := range map[string]struct {
		change func(*ledger.Counted)
		words  string
	}{
		"device":      {func(c *ledger.Counted) { c.Machines[5].Device = "device-99" }, `no device "device-99"`},
		"combination": {func(c *ledger.Counted) { c.Combiners[0].Combinations[0][0].Key = 9 }, "sub-keys 1 to 2"},
		"revision":    {func(c *ledger.Counted) { c.Revision = 1 }, "no extension"},
	} {
		raw, err := envelope.Marshal(&two.Dealing)
		r.check(err)
		x, err := ledger.DecodeDealing(raw)
		r.check(err)
		c.change(&x.Counted[0])
		r.check(x.Confirm(rand.Reader, r.Persons[x.Operator].Card().Sign, r.State.System(), r.now))
		in := r.inputs()
		in.Abandoned = []ledger.Dealing{*x}
		_, err = dealing.Draft(in, r.State, r.with(p, 2, machines(6, "device-9"), machines(4, "device-10")), nil)
		var refused *dealing.AbandonedError
		if !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
		wants(t, err, "it counts the dealing "+digest(t, one).String(), c.words)
	}
}

// TestAbandonedSearchRepeats: who invites and who deals find the same grouping,
// in whatever order the abandoned dealings lie there.
func TestAbandonedSearchRepeats(t *testing.T) {
	r, p, first, _ := bank(t)
	one := r.extension(r.with(p, 0, machines(6, "device-9"), nil), first.Reserve)
	two := r.extension(r.with(p, 1, nil, machines(4, "device-10")), first.Reserve, one)
	next := r.with(p, 2, machines(6, "device-9"), machines(4, "device-10"))
	var found []string
	for _, order := range [][]ledger.Dealing{{one.Dealing, two.Dealing}, {two.Dealing, one.Dealing}} {
		in := r.inputs()
		in.Abandoned = order
		d, err := dealing.Draft(in, r.State, next, nil)
		r.check(err)
		text := ""
		for _, c := range d.Grouping.Combiners {
			for _, a := range c.Combinations {
				text += a.String()
			}
		}
		found = append(found, text)
		if !strings.Contains(d.Searched, "2 dealings that never came into force") {
			t.Errorf("%q", d.Searched)
		}
	}
	if found[0] != found[1] {
		t.Errorf("%v", found)
	}
}

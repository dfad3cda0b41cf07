package dealing_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/dealing"
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
	for _, words := range []string{"not safe together", "nothing remembers that 1 dealings were given out"} {
		if !slices.ContainsFunc(d.Warnings, func(w string) bool { return strings.Contains(w, words) }) {
			t.Errorf("no %q in %q", words, d.Warnings)
		}
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

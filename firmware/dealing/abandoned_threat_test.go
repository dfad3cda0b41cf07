package dealing_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	mrand "math/rand/v2"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware/dealing"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
)

// knowledge is all that devices were ever given, of every dealing. Sub-keys are
// told apart by what is published of them: those that were drawn anew have other
// check values.
type knowledge struct {
	t, l uint64
	// sets are the sub-keys of a calculator, as they were drawn at one time.
	sets  []drawn
	parts []part
}

type drawn struct {
	device string
	check  string // all check values
	values []*big.Int
}

type part struct {
	device string // of the combiner
	terms  []subKey
	value  *big.Int
}

// subKey is the key-th, from 0, of a set.
type subKey struct{ set, key int }

// learn takes in what a dealing gives out. The devices need their one-time keys.
func (k *knowledge) learn(r *rig, out *dealing.Result) {
	r.t.Helper()
	key := &out.Dealing.Key
	g, v := &key.Layers.Grouping, key.Layers.V
	k.t, k.l = g.T, g.L
	device := func(layer, number uint64) string {
		h, ok := key.Machine(layer, number)
		if !ok {
			r.t.Fatalf("no machine %d of layer %d", number, layer)
		}
		return h.Device
	}
	secrets := func(device string) (values []*big.Int) {
		if out.Sealed[device] == nil {
			return nil
		}
		for _, p := range r.opened(out, device).Parts {
			values = append(values, new(big.Int).SetBytes(p.Reveal()))
		}
		return values
	}
	set := map[uint64]int{} // by calculator, in this dealing
	for i, n := range g.Calculators {
		d := drawn{device: device(ledger.LayerCalculator, n), check: fmt.Sprintf("%x", v[i*int(g.L):(i+1)*int(g.L)])}
		d.values = secrets(d.device)
		at := slices.IndexFunc(k.sets, func(x drawn) bool { return x.check == d.check })
		if at < 0 {
			if d.values == nil {
				r.t.Fatalf("%s has no sub-keys", d.device)
			}
			at = len(k.sets)
			k.sets = append(k.sets, d)
		}
		set[n] = at
	}
	for _, b := range g.Combiners {
		holder := device(ledger.LayerCombiner, b.Number)
		for i, value := range secrets(holder) {
			p := part{device: holder, value: value}
			for _, term := range b.Combinations[i] {
				p.terms = append(p.terms, subKey{set[term.Calculator], int(term.Key) - 1})
			}
			k.parts = append(k.parts, p)
		}
	}
}

func (k *knowledge) devices() (calculators, combiners []string) {
	for _, s := range k.sets {
		calculators = append(calculators, s.device)
	}
	for _, p := range k.parts {
		combiners = append(combiners, p.device)
	}
	for _, list := range []*[]string{&calculators, &combiners} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return calculators, combiners
}

// grouping is all of it for package grouping's exact condition: a number for
// each set of sub-keys, and one for each combiner's device.
func (k *knowledge) grouping(combiners []string) *grouping.Grouping {
	g := &grouping.Grouping{T: k.t, L: k.l}
	for i := range k.sets {
		g.Calculators = append(g.Calculators, uint64(i+1))
	}
	for i, device := range combiners {
		b := grouping.Group{Number: uint64(i + 1)}
		for _, p := range k.parts {
			var c grouping.Combination
			for _, x := range p.terms {
				c = append(c, grouping.Term{Calculator: uint64(x.set + 1), Key: uint64(x.key + 1)})
			}
			slices.SortFunc(c, func(a, b grouping.Term) int { return int(a.Calculator) - int(b.Calculator) })
			if p.device == device && !slices.ContainsFunc(b.Combinations, func(o grouping.Combination) bool { return slices.Equal(o, c) }) {
				b.Combinations = append(b.Combinations, c)
			}
		}
		g.Combiners = append(g.Combiners, b)
	}
	return g
}

// numbers of all sets of sub-keys that some devices hold.
func (k *knowledge) numbers(devices []string) (out []uint64) {
	for i, s := range k.sets {
		if slices.Contains(devices, s.device) {
			out = append(out, uint64(i+1))
		}
	}
	return out
}

// worst is what the coalition learns that learns most, of those that must learn
// nothing: a combiner's device with any t−1 calculators' devices, and all
// combiners' devices.
func (k *knowledge) worst(t *testing.T) (combiners, calculators []string, gain grouping.Gain) {
	t.Helper()
	all, boxes := k.devices()
	g := k.grouping(boxes)
	if err := g.Validate(); err != nil {
		t.Fatal(err)
	}
	consider := func(who []string, number []uint64, with []string) {
		got := g.Gain(number, k.numbers(with))
		if gain.Modulus == nil || gain.Nothing() && !got.Nothing() || !gain.Whole() && got.Whole() {
			combiners, calculators, gain = who, slices.Clone(with), got
		}
	}
	var everybody []uint64
	for i, box := range boxes {
		everybody = append(everybody, uint64(i+1))
		for with := range choose(all, int(k.t)-1) {
			consider([]string{box}, []uint64{uint64(i + 1)}, with)
		}
	}
	consider(boxes, everybody, nil)
	return combiners, calculators, gain
}

// choose yields every so many of a list.
func choose(list []string, n int) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		for mask := range 1 << len(list) {
			var out []string
			for i := range list {
				if mask>>i&1 == 1 {
					out = append(out, list[i])
				}
			}
			if len(out) == n && !yield(out) {
				return
			}
		}
	}
}

// steal computes d from what a coalition holds, with textbook elimination over
// the rationals, and nothing else: nil if that does not give it.
func (k *knowledge) steal(combiners, calculators []string) *big.Int {
	columns := map[subKey]int{}
	var rows [][]*big.Rat // unknown sub-keys …, 1 for d, and what it all sums up to
	for _, p := range k.parts {
		if !slices.Contains(combiners, p.device) {
			continue
		}
		for _, x := range p.terms {
			if _, ok := columns[x]; !ok && !slices.Contains(calculators, k.sets[x.set].device) {
				columns[x] = len(columns)
			}
		}
	}
	n := len(columns)
	for _, p := range k.parts {
		if !slices.Contains(combiners, p.device) {
			continue
		}
		row := make([]*big.Rat, n+2)
		for i := range row {
			row[i] = new(big.Rat)
		}
		// d − Σ unknown = c_a + Σ known
		sum := new(big.Int).Set(p.value)
		for _, x := range p.terms {
			if at, ok := columns[x]; ok {
				row[at].SetInt64(-1)
			} else {
				sum.Add(sum, k.sets[x.set].values[x.key])
			}
		}
		row[n].SetInt64(1)
		row[n+1].SetInt(sum)
		rows = append(rows, row)
	}
	done := 0
	for col := range n {
		at := slices.IndexFunc(rows[done:], func(row []*big.Rat) bool { return row[col].Sign() != 0 })
		if at < 0 {
			continue
		}
		rows[done], rows[done+at] = rows[done+at], rows[done]
		for _, row := range rows[done+1:] {
			if row[col].Sign() == 0 {
				continue
			}
			f := new(big.Rat).Quo(row[col], rows[done][col])
			for j := range row {
				row[j].Sub(row[j], new(big.Rat).Mul(f, rows[done][j]))
			}
		}
		done++
	}
	for _, row := range rows[done:] { // no unknown is left in these
		if row[n].Sign() != 0 {
			if d := new(big.Rat).Quo(row[n+1], row[n]); d.IsInt() {
				return d.Num()
			}
		}
	}
	return nil
}

// exponent is d of the key that tests deal.
func exponent(t *testing.T) *big.Int {
	t.Helper()
	p, q, err := thresholdtest.Key(2048, false).Factors()
	if err != nil {
		t.Fatal(err)
	}
	one := big.NewInt(1)
	x, y := new(big.Int).SetBytes(p.Reveal()), new(big.Int).SetBytes(q.Reveal())
	return new(big.Int).ModInverse(big.NewInt(65537), new(big.Int).Mul(x.Sub(x, one), y.Sub(y, one)))
}

// bank is B's example, any 3 of 5 calculators and one of 3 combiners, dealt and in
// force, with all that its devices know.
func bank(t *testing.T) (*rig, *dealing.Plan, *dealing.Result, *knowledge) {
	r := newRig(t, 12)
	p := r.plan()
	p.Need, p.Redundant = 3, 0
	p.Calculators = machines(1, "device-1", "device-2", "device-3", "device-4", "device-5")
	p.Combiners = machines(1, "device-6", "device-7", "device-8")
	r.officers(p)
	first, k := r.deal(p), &knowledge{}
	k.learn(r, first)
	r.enter(&first.Dealing)
	return r, p, first, k
}

// with is a plan with more machines.
func (r *rig) with(p *dealing.Plan, redundant uint64, calculators, combiners []dealing.Machine) *dealing.Plan {
	q := *p
	q.Redundant = redundant
	q.Calculators = slices.Concat(p.Calculators, calculators)
	q.Combiners = slices.Concat(p.Combiners, combiners)
	r.officers(&q)
	return &q
}

// extension is dealt and confirmed beside abandoned dealings, and not entered.
func (r *rig) extension(p *dealing.Plan, reserve []byte, abandoned ...*dealing.Result) *dealing.Result {
	r.t.Helper()
	out, err := r.tryExtension(p, reserve, abandoned...)
	r.check(err)
	return out
}

func (r *rig) tryExtension(p *dealing.Plan, reserve []byte, abandoned ...*dealing.Result) (*dealing.Result, error) {
	r.t.Helper()
	r.now += 100
	in := r.inputs()
	for _, a := range abandoned {
		in.Abandoned = append(in.Abandoned, a.Dealing)
	}
	d, err := dealing.Prepare(in, r.State, p, r.invite(p), nil)
	if err != nil {
		return nil, err
	}
	out, err := d.Extend(in, reserve, r.pieces(reserve, "officer-1a", "officer-2a"), nil)
	if err != nil {
		return nil, err
	}
	return out, out.Confirm(rand.Reader, r.now, r.State, r.Persons[p.Operator].Card().Sign)
}

func (r *rig) remembers(reserve []byte) []envelope.Hash {
	r.t.Helper()
	x, err := dealing.ParseReserve(reserve)
	r.check(err)
	return x.Abandoned
}

func digest(t *testing.T, r *dealing.Result) envelope.Hash {
	t.Helper()
	x, err := r.Dealing.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestTwoExtensions: an extension was given out and never entered, and another
// plan follows. Who does not count the first gives a combiner that has its shares
// of both the key, with fewer calculators than are needed: it is computed here of
// the very shares. Counted, it says nothing to anybody, exactly.
func TestTwoExtensions(t *testing.T) {
	calculator, combiner := machines(6, "device-9"), machines(4, "device-10")
	for name, c := range map[string]struct {
		// What the abandoned plan and the next one add.
		oneRedundant, twoRedundant   uint64
		oneCalculators, oneCombiners []dealing.Machine
		twoCalculators, twoCombiners []dealing.Machine
		uncountedIsSafe              bool // the same combinations are found again
		remembered                   bool // the abandoned one gave out what the next does not
	}{
		"other combinations for one combiner": {twoRedundant: 1, oneCombiners: combiner, twoCombiners: combiner},
		"one calculator with two lots of sub-keys": {
			oneCalculators: calculator, twoRedundant: 2, twoCalculators: calculator, twoCombiners: combiner,
		},
		"all of it differs": {
			oneCalculators: calculator, oneCombiners: combiner, oneRedundant: 1,
			twoCalculators: machines(7, "device-11"), twoCombiners: slices.Concat(combiner, machines(5, "device-12")),
			remembered: true,
		},
		"the same again": {
			oneCalculators: calculator, oneCombiners: combiner, oneRedundant: 1, twoCalculators: calculator, twoCombiners: combiner, twoRedundant: 1,
			uncountedIsSafe: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, p, first, know := bank(t)
			one := r.extension(r.with(p, c.oneRedundant, c.oneCalculators, c.oneCombiners), first.Reserve)
			know.learn(r, one)
			if who, with, gain := know.worst(t); !gain.Nothing() {
				t.Fatalf("one extension alone: %v with %v: %v", who, with, gain)
			}
			next := r.with(p, c.twoRedundant, c.twoCalculators, c.twoCombiners)

			blind := r.extension(next, first.Reserve)
			careless := *know
			careless.learn(r, blind)
			who, with, gain := careless.worst(t)
			if gain.Nothing() != c.uncountedIsSafe {
				t.Errorf("not counted: %v with %v learn %v", who, with, gain)
			}
			if gain.Whole() {
				if d := careless.steal(who, with); d == nil || d.Cmp(exponent(t)) != 0 {
					t.Errorf("%v with %v do not find the key that they are said to have", who, with)
				}
			} else if !c.uncountedIsSafe {
				t.Logf("%v with %v learn %v", who, with, gain)
			}

			two := r.extension(next, first.Reserve, one)
			know.learn(r, two)
			who, with, gain = know.worst(t)
			if !gain.Nothing() || know.steal(who, with) != nil {
				t.Errorf("counted: %v with %v learn %v", who, with, gain)
			}
			if names := r.remembers(two.Reserve); c.remembered != (len(names) == 1) || c.remembered && names[0] != digest(t, one) {
				t.Errorf("the reserve remembers %v", names)
			}
		})
	}
}

// TestManyAbandoned: one plan after the other comes to nothing, drawn by lot, and
// each counts those before it. All shares of all of them together tell nobody
// anything.
func TestManyAbandoned(t *testing.T) {
	dealt := 0
	for seed := range uint64(2) {
		lot := mrand.New(mrand.NewPCG(seed, 7))
		r, p, first, know := bank(t)
		var abandoned []*dealing.Result
		for step := range 4 {
			var calculators, combiners []dealing.Machine
			for i, device := range []string{"device-9", "device-11"} {
				if lot.IntN(2) == 0 {
					calculators = append(calculators, machines(uint64(6+i), device)...)
				}
			}
			for i, device := range []string{"device-10", "device-12"} {
				if lot.IntN(2) == 0 || calculators == nil && i == 1 {
					combiners = append(combiners, machines(uint64(4+i), device)...)
				}
			}
			out, err := r.tryExtension(r.with(p, 1+lot.Uint64N(3), calculators, combiners), first.Reserve, abandoned...)
			var none *grouping.NotFoundError
			if errors.As(err, &none) {
				continue // an honest answer, and nothing is given out
			}
			r.check(err)
			know.learn(r, out)
			if who, with, gain := know.worst(t); !gain.Nothing() {
				t.Errorf("lot %d, step %d: %v with %v learn %v", seed, step, who, with, gain)
			}
			abandoned = append(abandoned, out)
			dealt++
		}
	}
	if dealt < 5 {
		t.Errorf("only %d were dealt", dealt)
	}
}

// TestAbandonedIsRemembered: what was counted once is counted for ever, by the
// ledger where the dealing that counted it was entered, else by the reserve.
func TestAbandonedIsRemembered(t *testing.T) {
	r, p, first, know := bank(t)
	one := r.extension(r.with(p, 0, machines(6, "device-9"), machines(4, "device-10")), first.Reserve)
	know.learn(r, one)
	two := r.extension(r.with(p, 1, nil, machines(4, "device-10")), first.Reserve, one)
	know.learn(r, two)
	before := r.State
	r.now += 100
	r.enter(&two.Dealing)

	// Nobody brings the first any more. The calculator keeps its number, and gets
	// other sub-keys.
	third := r.with(p, 1, machines(6, "device-9"), machines(4, "device-10"))
	three := r.extension(third, two.Reserve)
	all := *know
	all.learn(r, three)
	if who, with, gain := all.worst(t); !gain.Nothing() {
		t.Errorf("%v with %v learn %v", who, with, gain)
	}
	r.now += 100
	r.enter(&three.Dealing)
	four := r.extension(r.with(p, 2, machines(6, "device-9"), machines(4, "device-10", "device-11")), three.Reserve)
	all.learn(r, four)
	if who, with, gain := all.worst(t); !gain.Nothing() {
		t.Errorf("%v with %v learn %v", who, with, gain)
	}

	// The second is abandoned, too: a revision that deals nothing was entered in its
	// place, and counts nothing. Its reserve names both.
	r.State = before
	away := r.with(p, 0, nil, nil)
	away.Reserve, away.KeepReserve = nil, true
	d, err := dealing.Prepare(r.inputs(), r.State, away, nil, nil)
	r.check(err)
	out, err := d.Extend(r.inputs(), nil, nil, nil)
	r.check(err)
	r.check(out.Confirm(rand.Reader, r.now, r.State, r.Persons[p.Operator].Card().Sign))
	r.enter(&out.Dealing)
	third = r.with(p, 1, machines(6, "device-9"), machines(4, "device-10"))
	_, err = r.tryExtension(third, two.Reserve)
	var forgotten *dealing.ForgottenError
	if !errors.As(err, &forgotten) || !slices.Equal(forgotten.Digests, []envelope.Hash{digest(t, two), digest(t, one)}) {
		t.Fatalf("an extension that does not count what the reserve remembers: %v", err)
	}
	wants(t, err, "--abandoned")
	_, err = r.tryExtension(third, two.Reserve, one)
	if !errors.As(err, &forgotten) || !slices.Equal(forgotten.Digests, []envelope.Hash{digest(t, two)}) {
		t.Fatalf("an extension that does not count what the reserve was made with: %v", err)
	}
	three = r.extension(third, two.Reserve, two)
	know.learn(r, three)
	if who, with, gain := know.worst(t); !gain.Nothing() {
		t.Errorf("%v with %v learn %v", who, with, gain)
	}

	// Who strikes it out of the reserve spoils that.
	x, err := dealing.ParseReserve(two.Reserve)
	r.check(err)
	pieces := r.pieces(two.Reserve, "officer-1a", "officer-2a")
	x.Abandoned = nil
	raw, err := envelope.Marshal(x)
	r.check(err)
	in := r.inputs()
	in.Abandoned = []ledger.Dealing{two.Dealing}
	d, err = dealing.Prepare(in, r.State, third, r.invite(third), nil)
	r.check(err)
	if _, err := d.Extend(in, raw, pieces, nil); !errors.Is(err, dealing.ErrReserveTampered) {
		t.Errorf("a reserve that was made to forget: %v", err)
	}
}

package dealing

import (
	"cmp"
	"fmt"
	"maps"
	"math/bits"
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// One name for a device.
//
// An abandoned extension drew sub-keys for the calculators that it added, and
// the next one draws others for the same machine. All checks here take them for
// the same, by naming every calculator after its device. That is on the safe
// side. Let Ā be the matrix of a coalition's combinations with a column for each
// sub-key so named, and A that with a column for each sub-key there really is.
// If Ā·ū = 1, with ū zero for what the coalition's calculators hold, then A·u =
// 1 for u with ū's number at every sub-key of the name: a combination has one
// sub-key of a device. u is zero for all that these devices hold, of whichever
// dealing. So who learns nothing by Ā learns nothing by A, and |u| ≤ n·|ū| for n
// dealings. The same holds where two devices have one name: a coalition of as
// many names has at least these devices.
//
// What is not on the safe side is one device under two names, or in two layers.
// A plan that brings that about is refused.

// place is a machine of a layer.
type place struct{ layer, number uint64 }

func (p place) String() string {
	if p.layer == ledger.LayerCalculator {
		return fmt.Sprintf("calculator %d", p.number)
	}
	return fmt.Sprintf("combiner %d", p.number)
}

// checkNumbers holds the machines that a plan adds to what abandoned dealings
// made of their devices and numbers: the same device is the same machine, also
// if its sub-keys are drawn anew, and no other is.
func (d *Prepared) checkNumbers() error {
	if d.row == nil {
		return nil
	}
	lists := map[envelope.Hash][]ledger.Machine{}
	var digests []envelope.Hash
	for _, c := range d.known {
		lists[c.Dealing], digests = c.Machines, append(digests, c.Dealing)
	}
	for _, a := range d.abandoned {
		lists[a.Digest], digests = a.machines, append(digests, a.Digest)
	}
	for _, layer := range d.layers() {
		for i, m := range layer.machines {
			if _, ok := d.row.Key.Machine(layer.number, m.Number); ok {
				continue
			}
			was, here := []place(nil), place{layer.number, m.Number}
			for _, digest := range digests {
				for _, h := range lists[digest] {
					p := place{h.Layer, h.Number}
					switch {
					case h.Device == m.Device:
						was = append(was, p)
					case p == here:
						return planErr(at(layer.name, i, "number"), "%v was %s in a dealing that never came into force (%s): numbers are given once, take another",
							p, h.Device, digest)
					}
				}
			}
			for _, p := range was {
				if p.layer != layer.number {
					return planErr(at(layer.name, i, "device"), "%s was %v in a dealing that never came into force, and may know what that was dealt: take another device", m.Device, p)
				}
			}
			if len(was) > 0 && !slices.Contains(was, here) {
				return planErr(at(layer.name, i, "number"), "%s was %v in a dealing that never came into force, and may know what that was dealt: it keeps that number", m.Device, was[0])
			}
		}
	}
	return nil
}

// name gives each device one name in all that is counted: its number in the
// ledger, also of a machine that is gone and of one that it counts only, else in
// the plan, else in an abandoned dealing. Two devices have two.
func (d *Prepared) name() error {
	names, taken := map[string]place{}, map[place]bool{}
	give := func(device string, p place) {
		if _, ok := names[device]; !ok {
			names[device], taken[p] = p, true
		}
	}
	for _, m := range d.state.EverMachines(d.row.Enterprise.Code) {
		give(m.Device, place{m.Layer, m.Number})
	}
	for _, layer := range d.layers() {
		for _, m := range layer.machines {
			give(m.Device, place{layer.number, m.Number})
		}
	}
	for i := range d.abandoned {
		a := &d.abandoned[i]
		as := map[place]uint64{}
		for _, h := range a.machines {
			p := place{h.Layer, h.Number}
			if n, ok := names[h.Device]; ok && n.layer != p.layer {
				return &AbandonedError{Digest: a.Digest, Why: fmt.Sprintf("%s is %v in it and %v elsewhere, and may know what both were dealt: replace this authority by a new one", h.Device, p, n)}
			} else if !ok {
				for n := uint64(grouping.MaxNumber); taken[p] && n > 0; n-- {
					p.number = n
				}
				give(h.Device, p)
			}
			as[place{h.Layer, h.Number}] = names[h.Device].number
			a.counted.Machines = append(a.counted.Machines, ledger.Machine{Layer: h.Layer, Number: names[h.Device].number, Device: h.Device})
		}
		slices.SortFunc(a.counted.Machines, func(x, y ledger.Machine) int {
			return cmp.Or(cmp.Compare(x.Layer, y.Layer), cmp.Compare(x.Number, y.Number))
		})
		a.named = renamed(a.grouping, func(p place) uint64 { return as[p] })
		if err := a.named.Validate(); err != nil {
			return &AbandonedError{Digest: a.Digest, Why: err.Error()}
		}
	}
	return nil
}

// renamed is a grouping with other numbers, one for each machine.
func renamed(g *grouping.Grouping, number func(place) uint64) *grouping.Grouping {
	out := &grouping.Grouping{T: g.T, L: g.L}
	for _, n := range g.Calculators {
		out.Calculators = append(out.Calculators, number(place{ledger.LayerCalculator, n}))
	}
	slices.Sort(out.Calculators)
	for _, group := range g.Combiners {
		x := grouping.Group{Number: number(place{ledger.LayerCombiner, group.Number})}
		for _, c := range group.Combinations {
			y := slices.Clone(c)
			for i := range y {
				y[i].Calculator = number(place{ledger.LayerCalculator, y[i].Calculator})
			}
			slices.SortFunc(y, func(a, b grouping.Term) int { return cmp.Compare(a.Calculator, b.Calculator) })
			x.Combinations = append(x.Combinations, y)
		}
		out.Combiners = append(out.Combiners, x)
	}
	slices.SortFunc(out.Combiners, func(a, b grouping.Group) int { return cmp.Compare(a.Number, b.Number) })
	return out
}

// ever is all that was dealt before, as far as the ledger and those who brought
// abandoned dealings know: what the ledger has comes first.
func (d *Prepared) ever() []*grouping.Grouping {
	var out []*grouping.Grouping
	if g, ok := d.state.EverDealt(d.plan.Enterprise.Code); ok {
		out = append(out, &g)
	}
	for _, a := range d.abandoned {
		out = append(out, a.named)
	}
	return out
}

// together is what all machines of some groupings know, under one name for each.
func together(all ...*grouping.Grouping) *grouping.Grouping {
	out := &grouping.Grouping{T: all[0].T, L: all[0].L}
	held, seen := map[uint64][]grouping.Combination{}, map[string]bool{}
	for _, g := range all {
		out.Calculators = append(out.Calculators, g.Calculators...)
		for _, group := range g.Combiners {
			held[group.Number] = append(held[group.Number], nil...)
			for _, c := range group.Combinations {
				if at := fmt.Sprint(group.Number, c); !seen[at] {
					seen[at] = true
					held[group.Number] = append(held[group.Number], c)
				}
			}
		}
	}
	slices.Sort(out.Calculators)
	out.Calculators = slices.Compact(out.Calculators)
	for _, n := range slices.Sorted(maps.Keys(held)) {
		out.Combiners = append(out.Combiners, grouping.Group{Number: n, Combinations: held[n]})
	}
	return out
}

// checkExposed reports whether what was given out already is safe.
func (d *Prepared) checkExposed() error {
	if len(d.abandoned)+len(d.known) == 0 {
		return nil
	}
	g := together(d.ever()...)
	if err := g.Validate(); err != nil {
		return fmt.Errorf("with what was dealt and never came into force: %w: replace this authority by a new one", err)
	}
	for _, who := range [][2]uint64{{1, g.T - 1}, {uint64(len(g.Combiners)), 0}} {
		if err := g.CheckAgainst(who[0], who[1]); err != nil {
			return &ExposedError{err}
		}
	}
	return nil
}

// checkHidden reports whether the exponent stays hidden from every combiner with
// T−1 calculators, and from all combiners, to as many bits as twolayer demands,
// by all that was ever given out and by a grouping. twolayer checks that too,
// with names of its own for sub-keys that are drawn anew, and so not what a
// device knows that has several; the bits that these cost (above) are taken off
// here.
func (d *Prepared) checkHidden(g *grouping.Grouping) error {
	known := together(append(d.ever(), g)...)
	copies := bits.Len(uint(len(d.abandoned) + len(d.known))) // ⌈log₂(1 + counted)⌉
	var all []uint64
	for _, c := range known.Combiners {
		all = append(all, c.Number)
	}
	hidden := func(combiners, calculators []uint64) error {
		b, err := twolayer.Hiding(known, combiners, calculators)
		if err == nil && b-copies < twolayer.MinHiding {
			err = twolayer.ErrThin
		}
		if err != nil {
			return &twolayer.UnsafeError{Combiners: combiners, Calculators: slices.Clone(calculators), Err: err}
		}
		return nil
	}
	if err := hidden(all, nil); err != nil {
		return err
	}
	subset := make([]uint64, 0, known.T)
	var each func(from int) error
	each = func(from int) error {
		if len(subset) == int(known.T)-1 {
			for _, c := range all {
				if err := hidden([]uint64{c}, subset); err != nil {
					return err
				}
			}
			return nil
		}
		for i := from; i < len(known.Calculators); i++ {
			subset = append(subset, known.Calculators[i])
			if err := each(i + 1); err != nil {
				return err
			}
			subset = subset[:len(subset)-1]
		}
		return nil
	}
	return each(0)
}

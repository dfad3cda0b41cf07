package ledger

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// Counted is a dealing of the same key that was given out and never entered, as far as a distributor was told. Who has its shares knows
// them for good, so from the revision that counts it on, an authority grows safely beside it. The ledger sees no share and no
// confirmation of it, and believes the operator who confirmed the revision, and the SWA that entered it: one that is left out is as
// unknown as it was, and one that never was only stands in the way of growth.
type Counted struct {
	// Dealing is its digest.
	Dealing envelope.Hash `cbor:"1,keyasint"`
	// Revision is the one it would have been.
	Revision uint64 `cbor:"2,keyasint"`
	// Machines are all of it, calculators first, each layer ascending.
	Machines []Machine `cbor:"3,keyasint"`
	// Combiners are the combinations that it gave out and that neither earlier revisions nor that which counts it did, by the numbers of
	// Machines; those with none are not there.
	Combiners []grouping.Group `cbor:"4,keyasint,omitempty"`
}

// Machine is a device under the number that stands for it wherever an authority's machines are counted. It is that of the ledger's row
// where the device is a machine or was one; else the number that it was given out under, if no other device has that.
type Machine struct {
	Layer  uint64 `cbor:"1,keyasint"`
	Number uint64 `cbor:"2,keyasint"`
	Device string `cbor:"3,keyasint"`
}

// Grouping is what the ledger learns of it, as a grouping of its machines with t and l of the key. Any combiners are those that gave out
// something else than the ledger has. The error is grouping.ErrGrouping, or says what is wrong with the list of machines.
func (c *Counted) Grouping(t, l uint64) (*grouping.Grouping, error) {
	g := &grouping.Grouping{T: t, L: l}
	var combiners []uint64
	devices := make(map[string]bool)
	for _, m := range c.Machines {
		switch {
		case m.Layer == LayerCalculator && combiners == nil:
			g.Calculators = append(g.Calculators, m.Number)
		case m.Layer == LayerCombiner:
			combiners = append(combiners, m.Number)
			g.Combiners = append(g.Combiners, grouping.Group{Number: m.Number})
		default:
			return nil, fmt.Errorf("machine %d of layer %d is out of order: the calculators are listed by number, then the combiners", m.Number, m.Layer)
		}
		if devices[m.Device] {
			return nil, fmt.Errorf("device %.64q is there twice: one machine of the authority each", m.Device)
		}
		devices[m.Device] = true
	}
	for i, group := range c.Combiners {
		at, ok := slices.BinarySearch(combiners, group.Number)
		switch {
		case !ok:
			return nil, fmt.Errorf("combiner %d is none of its machines", group.Number)
		case i > 0 && group.Number <= c.Combiners[i-1].Number:
			return nil, fmt.Errorf("combiners have to ascend: %d after %d", group.Number, c.Combiners[i-1].Number)
		case len(group.Combinations) < 1 || len(group.Combinations) > MaxParts:
			return nil, fmt.Errorf("combiner %d has %d combinations where 1 to %d are possible", group.Number, len(group.Combinations), MaxParts)
		}
		g.Combiners[at] = group
	}
	// Before anything is looked up by number, the search above included: Validate demands that they ascend.
	if err := g.Validate(); err != nil {
		return nil, err
	}
	return g, nil
}

func (c Counted) clone() Counted {
	c.Machines = slices.Clone(c.Machines)
	c.Combiners = cloneAll(c.Combiners, cloneGroup)
	return c
}

// checkCounted takes in what a revision counts.
func (x *dealt) checkCounted() error {
	digest, err := x.Digest()
	if err != nil {
		return err
	}
	x.next.entered = []envelope.Hash{digest}
	if x.prev == nil {
		if len(x.Counted) > 0 {
			return fmt.Errorf("%s", x.where("a first dealing counts %d others: its key is its own, and nothing before tells anything of it", len(x.Counted)))
		}
		return nil
	}
	x.next.entered = append(slices.Clone(x.prev.entered), digest)
	if n := len(x.Counted); n > MaxCounted {
		return fmt.Errorf("%s", x.where("counts %d dealings that were never entered, at most %d: deal a new authority", n, MaxCounted))
	}
	x.next.counted = slices.Clone(x.prev.counted)
	for i := range x.Counted {
		c := &x.Counted[i]
		fail := func(format string, args ...any) error {
			return fmt.Errorf("%s: %s", x.where("counted dealing %v", c.Dealing), fmt.Sprintf(format, args...))
		}
		switch {
		case i > 0 && slices.Compare(c.Dealing[:], x.Counted[i-1].Dealing[:]) <= 0:
			return fail("the digests do not ascend")
		case slices.Contains(x.prev.entered, c.Dealing):
			return fail("it was entered: leave it out")
		case slices.ContainsFunc(x.prev.counted, func(o Counted) bool { return o.Dealing == c.Dealing }):
			return fail("an earlier revision counts it: leave it out")
		case c.Revision < 2 || c.Revision > x.Revision:
			return fail("it is revision %d, and those that can count are 2 to %d", c.Revision, x.Revision)
		}
		if _, err := c.Grouping(x.Key.T, x.Key.Layers.Grouping.L); err != nil {
			return fail("%v", err)
		}
		for _, m := range c.Machines {
			if _, ok := x.t.devices[m.Device]; !ok {
				return fail("device %.64q is unknown", m.Device)
			}
		}
		x.next.counted = append(x.next.counted, *c)
	}
	return x.checkNames()
}

// checkNames demands that every device has one number in all that ever counts, and every number one device: else a coalition could be
// judged by less than it knows.
func (x *dealt) checkNames() error {
	devices, places := make(map[place]string), make(map[string]place)
	for _, m := range x.next.machines {
		p := place{m.row.Layer, m.row.Index}
		devices[p], places[m.row.Device] = m.row.Device, p
	}
	for _, c := range x.next.counted {
		for _, m := range c.Machines {
			p := place{m.Layer, m.Number}
			if device, ok := devices[p]; ok && device != m.Device {
				return fmt.Errorf("%s", x.where("%v is device %q, and device %q in the dealing %v, which was given out and never entered: numbers are given once, take another",
					p, device, m.Device, c.Dealing))
			}
			if other, ok := places[m.Device]; ok && other != p {
				return fmt.Errorf("%s", x.where("device %q is %v, and %v in the dealing %v, which was given out and never entered: it keeps that number, or another device is taken",
					m.Device, other, p, c.Dealing))
			}
			devices[p], places[m.Device] = m.Device, p
		}
	}
	return nil
}

// place is a machine's, by layer and number.
type place struct{ layer, number uint64 }

func (p place) String() string { return fmt.Sprintf("%s %d", layerName(p.layer), p.number) }

// everDealt is all that machines were ever given of the authority of g: those that there are, those that are gone, and those of dealings
// that were never entered and are counted.
func everDealt(g *grouping.Grouping, machines []machine, counted []Counted) *grouping.Grouping {
	ever := &grouping.Grouping{T: g.T, L: g.L}
	held := make(map[uint64][]grouping.Combination)
	for _, m := range machines {
		if m.row.Layer == LayerCalculator {
			ever.Calculators = append(ever.Calculators, m.row.Index)
		} else {
			held[m.row.Index] = slices.Clone(m.combinations)
		}
	}
	for _, c := range counted {
		for _, group := range c.Combiners {
			seen := make(map[string]bool)
			for _, h := range held[group.Number] {
				seen[h.String()] = true
			}
			for _, a := range group.Combinations {
				if !seen[a.String()] {
					held[group.Number] = append(held[group.Number], a)
				}
				ever.Calculators = append(ever.Calculators, a.Calculators()...)
			}
		}
	}
	slices.Sort(ever.Calculators)
	ever.Calculators = slices.Compact(ever.Calculators)
	for number, combinations := range held {
		ever.Combiners = append(ever.Combiners, grouping.Group{Number: number, Combinations: combinations})
	}
	slices.SortFunc(ever.Combiners, func(a, b grouping.Group) int { return cmp.Compare(a.Number, b.Number) })
	return ever
}

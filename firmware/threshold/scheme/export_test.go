package scheme

import (
	"fmt"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// UseGrouping puts a grouping in the place of the search for one with as few
// combiners as can be.
func UseGrouping(g *grouping.Grouping) {
	found.Store(Params{T: g.T, N: uint64(len(g.Calculators))}, g)
}

// SecretOf names what a device exponentiates with when a set signs: by the same
// secret it makes the same partial signature of the same message.
func SecretOf(d Device, set threshold.Subset) string {
	switch d := d.(type) {
	case *setDevice:
		return fmt.Sprintf("share %d for %v", d.Index(), set)
	case *groupDevice:
		group, _ := d.family.Choose(set)
		return fmt.Sprintf("share %d in group %d", d.Index(), group)
	}
	return fmt.Sprintf("share %d", d.Index())
}

// Secrets reveals all secret numbers of a dealing to tests.
func (d *Dealing) Secrets() (out [][]byte) {
	for _, x := range d.Devices {
		switch x := x.(type) {
		case *setDevice:
			for _, s := range x.share.Subs {
				out = append(out, s.Value.Reveal())
			}
		case *groupDevice:
			for _, s := range x.share.Parts {
				out = append(out, s.Reveal())
			}
		case *pointDevice:
			out = append(out, x.share.Value.Reveal())
		case *calculator:
			for _, s := range x.share.Keys {
				out = append(out, s.Reveal())
			}
		}
	}
	if c, ok := d.Combiner.(*layerCombiner); ok {
		for _, s := range c.dealt.Combiners {
			for _, part := range s.Parts {
				out = append(out, part.Reveal())
			}
		}
	}
	return out
}

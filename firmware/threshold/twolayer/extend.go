package twolayer

import (
	"fmt"
	"io"
	"maps"
	"math/big"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// Extend deals to a grouping that continues the one before: machines may be
// new or gone, combiners may have other combinations, t and l stay. Sub-keys are
// those of before; a new calculator gets its own. It needs no factors: any part
// gives d = c_a + Σ d_ji back, in the distributor only. d itself is left as it was,
// for the caller to wipe.
//
// It refuses a grouping that is safe by itself but not together with all that
// combiners were given before, as nobody can take that from them. Whoever
// removes machines and adds others later hands in the Dealing that Extend returned
// last, which remembers.
//
// It returns ErrGrowth if the grouping does not continue the dealing, ErrShare if
// the dealing is not one of this key.
func (d *Dealing) Extend(rand io.Reader, g grouping.Grouping, pub *threshold.PublicKey) (*Dealing, error) {
	if err := g.Validate(); err != nil {
		return nil, err
	}
	if err := d.check(pub); err != nil {
		return nil, err
	}
	old := &d.Public.Grouping
	if g.T != old.T || g.L != old.L {
		return nil, fmt.Errorf("%w: t = %d, l = %d; it was dealt with %d, %d", ErrGrowth, g.T, g.L, old.T, old.L)
	}
	gone := union(d.Gone, old.Combiners)
	given := union(gone, g.Combiners)
	were := calculators(gone)
	for _, j := range g.Calculators {
		if slices.Contains(were, j) && !slices.Contains(old.Calculators, j) {
			return nil, fmt.Errorf("%w: calculator %d was there before and is gone: numbers are given once", ErrGrowth, j)
		}
	}
	if err := checkHiding(g.T, given, calculators(given)); err != nil {
		return nil, err
	}
	s, err := d.secrets()
	if err != nil {
		return nil, err
	}
	defer s.wipe()
	if err := s.draw(rand, g.Calculators, g.L, 8*SubKeyLen(pub.Bits())); err != nil {
		return nil, err
	}
	grown, err := s.deal(pub, Public{Grouping: g, H: d.Public.H})
	if err != nil {
		return nil, err
	}
	grown.Gone = without(gone, g.Combiners)
	return grown, nil
}

// secrets reads the numbers back.
func (d *Dealing) secrets() (*secrets, error) {
	s := &secrets{keys: map[grouping.Term]*big.Int{}}
	for _, share := range d.Calculators {
		for i, key := range share.Keys {
			s.keys[grouping.Term{Calculator: share.Number, Key: uint64(i + 1)}] = new(big.Int).SetBytes(key.Reveal())
		}
	}
	for i, share := range d.Combiners { // any part and its sub-keys give d
		if len(share.Parts) == 0 {
			continue
		}
		s.d = new(big.Int).SetBytes(share.Parts[0].Reveal())
		for _, term := range d.Public.Grouping.Combiners[i].Combinations[0] {
			s.d.Add(s.d, s.keys[term])
		}
		return s, nil
	}
	s.wipe()
	return nil, fmt.Errorf("%w: the dealing has no part", ErrGrowth)
}

// union merges what groups hold by combiner.
func union(lists ...[]grouping.Group) []grouping.Group {
	held := map[uint64][]grouping.Combination{}
	seen := map[string]bool{}
	for _, groups := range lists {
		for _, g := range groups {
			for _, c := range g.Combinations {
				if at := place(g.Number, c); !seen[at] {
					seen[at] = true
					held[g.Number] = append(held[g.Number], c)
				}
			}
		}
	}
	var out []grouping.Group
	for _, number := range slices.Sorted(maps.Keys(held)) {
		out = append(out, grouping.Group{Number: number, Combinations: held[number]})
	}
	return out
}

// without returns what is in all and not in now.
func without(all, now []grouping.Group) []grouping.Group {
	held := map[string]bool{}
	for _, g := range now {
		for _, c := range g.Combinations {
			held[place(g.Number, c)] = true
		}
	}
	var out []grouping.Group
	for _, g := range all {
		rest := grouping.Group{Number: g.Number}
		for _, c := range g.Combinations {
			if !held[place(g.Number, c)] {
				rest.Combinations = append(rest.Combinations, c)
			}
		}
		if len(rest.Combinations) > 0 {
			out = append(out, rest)
		}
	}
	return out
}

func place(combiner uint64, c grouping.Combination) string { return fmt.Sprint(combiner, c) }

// calculators lists the calculators of all combinations, ascending.
func calculators(groups []grouping.Group) []uint64 {
	seen := map[uint64]bool{}
	for _, g := range groups {
		for _, c := range g.Combinations {
			for _, term := range c {
				seen[term.Calculator] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

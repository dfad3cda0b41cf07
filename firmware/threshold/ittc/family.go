package ittc

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/tuplehash"
)

// ErrFamily is returned for numbers of devices that cannot be served within the
// limits, and for a family that is malformed or does not serve every set.
var ErrFamily = errors.New("ittc: family refused")

// Group says which part of one division each device holds: the element i − 1 is
// the part of device i, from 1 to t.
type Group []uint64

// Family is a perfect hash family: functions from n devices to t parts such that
// for every set of t devices at least one of them is one to one. That function's
// group is the one by which the set signs. It is public.
type Family struct {
	T      uint64  `cbor:"1,keyasint"`
	N      uint64  `cbor:"2,keyasint"`
	Groups []Group `cbor:"3,keyasint"`
}

// Find returns a family for t of n devices, small but not always the smallest:
// each next group is the best of a few that were improved step by step, where
// better means that more of the sets not served yet are served by it; in the end
// groups without which all sets are served are left out. The same numbers give
// the same family.
//
// It returns ErrFamily for impossible numbers, and where MaxGroups are not enough.
func Find(t, n uint64) (*Family, error) {
	f := &Family{T: t, N: n}
	if err := f.checkNumbers(); err != nil {
		return nil, err
	}
	return f.fill()
}

// Grow returns the family for one device more. Everybody keeps what he holds:
// the new device gets a part of every group there is, and groups are added for the
// sets that have none yet, of which everybody gets a part.
func (f *Family) Grow() (*Family, error) {
	if err := f.Validate(); err != nil {
		return nil, err
	}
	grown := &Family{T: f.T, N: f.N + 1}
	if err := grown.checkNumbers(); err != nil {
		return nil, err
	}
	open := grown.sets()
	for _, g := range f.Groups {
		var best Group
		most := -1
		for part := uint64(1); part <= f.T; part++ {
			next := append(slices.Clone(g), part)
			if served := grown.serves(next, open); served > most {
				best, most = next, served
			}
		}
		grown.Groups = append(grown.Groups, best)
		open = grown.without(best, open)
	}
	return grown.fillFrom(open)
}

// Bound returns a number of groups below which no family for t of n devices can
// be. A group of parts held by s₁ … s_t devices serves s₁·…·s_t sets, which is
// most if the sizes differ by at most one.
func Bound(t, n uint64) int {
	if (&Family{T: t, N: n}).checkNumbers() != nil {
		return 0
	}
	sets, most := 1, 1
	for i := range int(t) {
		sets = sets * (int(n) - i) / (i + 1)
		most *= (int(n) + i) / int(t)
	}
	return (sets + most - 1) / most
}

// Validate returns ErrFamily unless every group gives each device one of the
// parts 1 to t and every set of t devices is served.
func (f *Family) Validate() error {
	if err := f.checkNumbers(); err != nil {
		return err
	}
	if len(f.Groups) > MaxGroups {
		return fmt.Errorf("%w: %d groups, more than %d", ErrFamily, len(f.Groups), MaxGroups)
	}
	open := f.sets()
	for number, g := range f.Groups {
		if uint64(len(g)) != f.N || slices.Min(g) < 1 || slices.Max(g) > f.T {
			return fmt.Errorf("%w: group %d does not give each of %d devices one of the parts 1 to %d", ErrFamily, number+1, f.N, f.T)
		}
		open = f.without(g, open)
	}
	if len(open) > 0 {
		return fmt.Errorf("%w: devices %v cannot sign together, and %d sets more", ErrFamily, open[0], len(open)-1)
	}
	return nil
}

// Choose returns the index of the first group by which a set of t devices signs,
// and false if there is none.
func (f *Family) Choose(set threshold.Subset) (int, bool) {
	if uint64(set.Len()) != f.T || uint64(set)>>f.N != 0 {
		return 0, false
	}
	for i, g := range f.Groups {
		if uint64(len(g)) == f.N && g.oneToOne(set, f.T) {
			return i, true
		}
	}
	return 0, false
}

// oneToOne reports whether the members of a set hold different parts.
func (g Group) oneToOne(set threshold.Subset, t uint64) bool {
	var parts uint32
	for s := uint32(set); s != 0; s &= s - 1 {
		parts |= 1 << g[bits.TrailingZeros32(s)]
	}
	return uint64(bits.OnesCount32(parts)) == t
}

func (f *Family) checkNumbers() error {
	if f.T < 1 || f.T > f.N || f.N > threshold.MaxDevices {
		return fmt.Errorf("%w: %d of %d devices; need 1 ≤ t ≤ n ≤ %d", ErrFamily, f.T, f.N, threshold.MaxDevices)
	}
	return nil
}

// sets returns all sets of t devices.
func (f *Family) sets() []threshold.Subset {
	var all []threshold.Subset
	for mask := uint32(1); mask < 1<<f.N; mask++ {
		if bits.OnesCount32(mask) == int(f.T) {
			all = append(all, threshold.Subset(mask))
		}
	}
	return all
}

func (f *Family) serves(g Group, sets []threshold.Subset) int {
	n := 0
	for _, s := range sets {
		if g.oneToOne(s, f.T) {
			n++
		}
	}
	return n
}

func (f *Family) without(g Group, sets []threshold.Subset) []threshold.Subset {
	return slices.DeleteFunc(slices.Clone(sets), func(s threshold.Subset) bool { return g.oneToOne(s, f.T) })
}

func (f *Family) fill() (*Family, error) {
	if Bound(f.T, f.N) > MaxGroups {
		return nil, f.tooMany()
	}
	filled, err := f.fillFrom(f.sets())
	if err != nil {
		return nil, err
	}
	return filled.prune(), nil
}

// prune leaves out groups, the first first, that later ones made needless.
func (f *Family) prune() *Family {
	sets := f.sets()
	servedBy := make([]int, len(sets))
	count := func(g Group, by int) {
		for i, s := range sets {
			if g.oneToOne(s, f.T) {
				servedBy[i] += by
			}
		}
	}
	for _, g := range f.Groups {
		count(g, 1)
	}
	pruned := &Family{T: f.T, N: f.N}
	for _, g := range f.Groups {
		if count(g, -1); slices.Min(servedBy) < 1 {
			count(g, 1)
			pruned.Groups = append(pruned.Groups, g)
		}
	}
	return pruned
}

func (f *Family) fillFrom(open []threshold.Subset) (*Family, error) {
	random := tuplehash.New("privyseal ittc search v1") // any fixed stream would do
	random.AddUint(f.T)
	random.AddUint(f.N)
	for len(open) > 0 {
		if len(f.Groups) == MaxGroups {
			return nil, f.tooMany()
		}
		var best Group
		most := 0
		some := sample(open)
		for try := 0; try < max(1, searchBudget/len(open)) && try < maxTries || most == 0; try++ {
			if g, served := f.climb(f.deal(random), some); served > most {
				best, most = g, served
			}
		}
		f.Groups = append(f.Groups, best)
		open = f.without(best, open)
	}
	return f, nil
}

// sample returns some of the sets, spread over all, if they are too many to be
// looked at again and again.
func sample(sets []threshold.Subset) []threshold.Subset {
	step := (len(sets) + maxSample - 1) / maxSample
	var some []threshold.Subset
	for i := 0; i < len(sets); i += step {
		some = append(some, sets[i])
	}
	return some
}

func (f *Family) tooMany() error {
	return fmt.Errorf("%w: %d of %d devices need more than %d groups: choose t nearer to 1 or n", ErrFamily, f.T, f.N, MaxGroups)
}

// deal gives out the parts as evenly as possible, in random order.
func (f *Family) deal(random *tuplehash.XOF) Group {
	g := make(Group, f.N)
	for i := range g {
		g[i] = uint64(i)%f.T + 1
		j := int(random.Sum(1)[0]) % (i + 1) // bias does not matter here
		g[i], g[j] = g[j], g[i]
	}
	return g
}

// climb changes one device's part as long as that serves more of the sets.
func (f *Family) climb(g Group, open []threshold.Subset) (Group, int) {
	most := f.serves(g, open)
	for better := true; better; {
		better = false
		for i := range g {
			for part := uint64(1); part <= f.T; part++ {
				old := g[i]
				g[i] = part
				if served := f.serves(g, open); served > most {
					most, better = served, true
				} else {
					g[i] = old
				}
			}
		}
	}
	return g, most
}

package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// checkHolders demands one row for each machine of the layers, calculators first, each at a device of its own.
func (x *dealt) checkHolders() error {
	k, g := &x.Key, &x.Key.Layers.Grouping
	where := x.where("key %q", k.ID)
	// Before anything is looked up by number.
	if err := k.Layers.Validate(&k.Public); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	if g.L > MaxSubKeys {
		return fmt.Errorf("%s: %d sub-keys a calculator, at most %d", where, g.L, MaxSubKeys)
	}
	if k.T != g.T || k.N != uint64(len(g.Calculators)) {
		return fmt.Errorf("%s: %d of %d in the row, %d of %d in the layers", where, k.T, k.N, g.T, len(g.Calculators))
	}
	machines := machinesOf(g)
	if len(k.Holders) != len(machines) {
		return fmt.Errorf("%s: %d holders for %d machines", where, len(k.Holders), len(machines))
	}
	devices, shares := make(map[string]string), make(map[string]bool)
	for i, h := range k.Holders {
		name := layerName(machines[i].Layer)
		fail := func(format string, args ...any) error {
			return fmt.Errorf("%s: %s", x.where("%s %d, share %.130q", name, machines[i].Index, h.Share), fmt.Sprintf(format, args...))
		}
		if h.Layer != machines[i].Layer || h.Index != machines[i].Index {
			return fail("the row is of layer %d, number %d: the calculators are listed by number, then the combiners", h.Layer, h.Index)
		}
		if err := checkID(h.Share, maxShareID); err != nil {
			return fail("%v", err)
		}
		if id := strings.ToLower(h.Share); shares[id] || id == strings.ToLower(k.ID) {
			return fail("the id of the share is given twice")
		} else {
			shares[id] = true
		}
		if _, ok := x.t.devices[h.Device]; !ok {
			return fail("device %.64q is unknown", h.Device)
		}
		if other, ok := devices[h.Device]; ok {
			return fail("device %q is also %s: one machine of the authority each", h.Device, other)
		}
		devices[h.Device] = fmt.Sprintf("%s %d", name, h.Index)
		if err := h.checkQuorum(); err != nil {
			return fail("%v", err)
		}
		if h.Version < 1 {
			return fail("version is 0, versions count from 1")
		}
		if n := x.sharesAt(h.Device); n >= MaxSharesOfDevice {
			return fail("device %q holds %d other shares already, at most %d in all", h.Device, n, MaxSharesOfDevice)
		}
	}
	return nil
}

// machinesOf are the machines of a grouping in the order of a key's holders.
func machinesOf(g *grouping.Grouping) []Holder {
	var out []Holder
	for _, j := range g.Calculators {
		out = append(out, Holder{Layer: LayerCalculator, Index: j})
	}
	for _, c := range g.Combiners {
		out = append(out, Holder{Layer: LayerCombiner, Index: c.Number})
	}
	return out
}

func layerName(layer uint64) string {
	if layer == LayerCalculator {
		return "calculator"
	}
	return "combiner"
}

// sharesAt counts the shares that a device holds of other keys.
func (x *dealt) sharesAt(device string) int {
	n := 0
	for _, k := range x.s.allKeys() {
		if _, ok := holderOf(k, device); ok && (x.prev == nil || k.ID != x.prev.dealing.Key.ID) {
			n++
		}
	}
	return n
}

// checkGrowth makes the new row, and compares the machines with those that are there and with those that ever were. Nobody can prove
// that a machine forgot what it was dealt. So numbers, shares and devices of machines that are gone never come back, and whatever a
// machine was ever dealt counts in checkGrouping.
func (x *dealt) checkGrowth() error {
	x.next = &authority{}
	if x.prev != nil {
		x.next.machines = slices.Clone(x.prev.machines)
	}
	for i := range x.next.machines {
		m := &x.next.machines[i]
		m.gone = true
		m.combinations = slices.Clone(m.combinations)
	}
	deals := false
	for _, h := range x.Key.Holders {
		m, dealt, err := x.checkMachine(h)
		if err != nil {
			return fmt.Errorf("%s: %w", x.where("%s %d, share %q", layerName(h.Layer), h.Index, h.Share), err)
		}
		deals = deals || dealt
		if dealt {
			m.dealt = x.Created
		}
		m.row, m.gone = h, false
	}
	if x.prev != nil && x.prev.dealing.Reserve == nil && deals {
		return fmt.Errorf("%s", x.where("shares are dealt, yet there is no reserve to deal them of: without one machines can only be taken away"))
	}
	return x.checkLayers()
}

// checkMachine finds the machine of a row, or makes it, and says whether its share is dealt with this revision.
func (x *dealt) checkMachine(h Holder) (m *machine, dealt bool, err error) {
	for i := range x.next.machines {
		if old := &x.next.machines[i]; old.row.Layer == h.Layer && old.row.Index == h.Index {
			m = old
		}
	}
	if m == nil {
		return x.newMachine(h)
	}
	old := m.row
	switch {
	case !x.isMachine(h):
		return nil, false, errors.New("the number was that of a machine that is gone: numbers are given once, take another")
	case h.Share != old.Share:
		return nil, false, fmt.Errorf("its share is %q in the ledger, and keeps its id", old.Share)
	case h.Device != old.Device:
		return nil, false, fmt.Errorf("it is device %q in the ledger: another device is another machine, with a number of its own", old.Device)
	case h.Version != old.Version && h.Version != old.Version+1:
		return nil, false, fmt.Errorf("version %d after %d: it stays, or grows by one where the share is dealt again", h.Version, old.Version)
	}
	dealt = h.Version != old.Version
	grew, err := x.checkCombinations(m, h)
	if err != nil {
		return nil, false, err
	}
	if grew && !dealt {
		return nil, false, fmt.Errorf("has more combinations at the old version %d: its share is dealt again, as version %d", old.Version, old.Version+1)
	}
	if dealt {
		return m, true, nil
	}
	// The key that opens a share at rest is in pieces with the officers there were when it was dealt.
	if h.Quorum != old.Quorum || h.Pieces != old.Pieces || h.Threshold != old.Threshold {
		return nil, false, fmt.Errorf("quorum and pieces (%d of %d, %d open) differ from the ledger's (%d of %d, %d open): deal the share again, as version %d",
			h.Quorum, h.Pieces, h.Threshold, old.Quorum, old.Pieces, old.Threshold, old.Version+1)
	}
	if !sameCards(x.Officers, x.prev.dealing.Officers, h.Device) {
		return nil, false, fmt.Errorf("the officers of device %q or their cards differ from the ledger's: deal the share again, as version %d, so that they get pieces", h.Device, old.Version+1)
	}
	return m, false, nil
}

// isMachine reports whether the ledger has the machine now.
func (x *dealt) isMachine(h Holder) bool {
	_, ok := x.prev.dealing.Key.Machine(h.Layer, h.Index)
	return ok
}

func (x *dealt) newMachine(h Holder) (*machine, bool, error) {
	if h.Version != 1 {
		return nil, false, fmt.Errorf("version %d of a new share, the first is 1", h.Version)
	}
	if err := x.claim("share", h.Share, maxShareID); err != nil {
		return nil, false, err
	}
	for _, m := range x.next.machines {
		if m.row.Device == h.Device {
			return nil, false, fmt.Errorf("device %q was %s %d, and still knows what it was dealt: take a device that was no machine of the authority",
				h.Device, layerName(m.row.Layer), m.row.Index)
		}
	}
	x.grows = true
	x.next.machines = append(x.next.machines, machine{})
	m := &x.next.machines[len(x.next.machines)-1]
	if h.Layer == LayerCombiner {
		m.combinations = x.groupOf(h.Index)
	}
	return m, true, nil
}

func (x *dealt) groupOf(number uint64) []grouping.Combination {
	for _, c := range x.Key.Layers.Grouping.Combiners {
		if c.Number == number {
			return c.Combinations
		}
	}
	return nil
}

// checkCombinations demands that a combiner keeps its combinations in their order, but for those of calculators that are gone, and notes
// those that it gets.
func (x *dealt) checkCombinations(m *machine, h Holder) (grew bool, err error) {
	if h.Layer != LayerCombiner {
		return false, nil
	}
	var kept []grouping.Combination
	for _, c := range m.combinations {
		if !slices.ContainsFunc(c, func(t grouping.Term) bool {
			return !slices.Contains(x.Key.Layers.Grouping.Calculators, t.Calculator)
		}) {
			kept = append(kept, c)
		}
	}
	now := x.groupOf(h.Index)
	for i, c := range kept {
		if i >= len(now) || !slices.Equal(now[i], c) {
			return false, fmt.Errorf("combination %v is not in its place: those of calculators that remain stay in their order, new ones follow", c)
		}
	}
	m.combinations = append(m.combinations, now[len(kept):]...)
	grew = len(now) > len(kept)
	x.grows = x.grows || grew
	return grew, nil
}

// checkLayers compares the check values with those in the ledger.
func (x *dealt) checkLayers() error {
	if x.prev == nil {
		return nil
	}
	l, old := x.Key.Layers, x.prev.dealing.Key.Layers
	where := x.where("layers")
	if l.Grouping.L != old.Grouping.L {
		return fmt.Errorf("%s: %d sub-keys a calculator, in the ledger %d: their number never changes", where, l.Grouping.L, old.Grouping.L)
	}
	if !bytes.Equal(l.H, old.H) {
		return fmt.Errorf("%s: h is not that of the ledger", where)
	}
	n := int(l.Grouping.L)
	for i, j := range l.Grouping.Calculators {
		o := slices.Index(old.Grouping.Calculators, j)
		if o < 0 {
			continue
		}
		if !slices.EqualFunc(l.V[i*n:(i+1)*n], old.V[o*n:(o+1)*n], bytes.Equal) {
			return fmt.Errorf("%s: the check values of calculator %d differ from the ledger's: its sub-keys never change", where, j)
		}
	}
	return nil
}

// sameCards reports whether a device has the same officers with the same cards in both lists. What else their rows say may change.
func sameCards(a, b []Officer, device string) bool {
	cards := func(rows []Officer) map[string]uint32 {
		m := make(map[string]uint32)
		for _, o := range rows {
			if o.Device == device {
				m[o.Person] = o.Card
			}
		}
		return m
	}
	x, y := cards(a), cards(b)
	if len(x) != len(y) {
		return false
	}
	for person, card := range x {
		if y[person] != card {
			return false
		}
	}
	return true
}

// checkGrouping asks who learns what. A grouping that only lost machines tells nobody more than it did before, and need not serve every
// machine set any longer: what was lost is lost, and the ledger has to be able to say so.
func (x *dealt) checkGrouping() error {
	g := &x.Key.Layers.Grouping
	where := x.where("key %q", x.Key.ID)
	for _, c := range g.Combiners {
		switch n := len(c.Combinations); {
		case n > MaxParts:
			return fmt.Errorf("%s: combiner %d has %d combinations, at most %d", where, c.Number, n, MaxParts)
		case n == 0:
			return fmt.Errorf("%s: combiner %d has no combination: take it away", where, c.Number)
		}
	}
	if !x.grows {
		return nil
	}
	// Counted before anything is computed: what is far from serving all sets can take minutes to judge, what serves them all does not.
	if have, want := served(g); have < want {
		return fmt.Errorf("%s: combiners serve %d of the %d sets of %d calculators, so that some would wait for others in vain: add combinations", where, have, want, g.T)
	}
	if err := g.Check(); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	if x.prev == nil {
		return nil
	}
	where += ": with machines that are gone and still know what they were dealt"
	if len(x.next.counted) > 0 {
		where += ", and with dealings that were given out and never entered"
	}
	ever := everDealt(g, x.next.machines, x.next.counted)
	if err := ever.Validate(); err != nil {
		return fmt.Errorf("%s: %w: deal a new authority", where, err)
	}
	for _, c := range [][2]uint64{{1, g.T - 1}, {uint64(len(ever.Combiners)), 0}} {
		if err := ever.CheckAgainst(c[0], c[1]); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
	return nil
}

// served counts the sets of t calculators that a combiner serves, and all there are.
func served(g *grouping.Grouping) (have, want int) {
	sets := make(map[string]bool)
	for _, c := range g.Combiners {
		for _, combination := range c.Combinations {
			sets[fmt.Sprint(combination.Calculators())] = true
		}
	}
	want = 1
	for i := range int(g.T) { // exact: a product of i+1 neighbours
		want = want * (len(g.Calculators) - i) / (i + 1)
	}
	return len(sets), want
}

// checkDestruction keeps a machine set and a combiner that serves it from ever destroying their shares, so that no failure of all beats
// at once can lose the key (design §7).
func (x *dealt) checkDestruction() error {
	destroys := func(layer, number uint64) bool {
		h, _ := x.Key.Machine(layer, number)
		hb := x.t.genesis.Devices[x.t.devices[h.Device]].Heartbeat
		return hb != nil && hb.Destroy > 0
	}
	for _, c := range x.Key.Layers.Grouping.Combiners {
		if destroys(LayerCombiner, c.Number) {
			continue
		}
		for _, combination := range c.Combinations {
			if !slices.ContainsFunc(combination, func(t grouping.Term) bool { return destroys(LayerCalculator, t.Calculator) }) {
				return nil
			}
		}
	}
	return fmt.Errorf("%s", x.where("too many of the devices may destroy their shares: there is no combiner with calculators of one of its combinations that never do"))
}

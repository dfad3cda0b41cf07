package grouping

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Table is the collusion table: what so many combiners with so many calculators
// learn. Rows for T and more calculators are left out: with a combiner that
// serves them they sign, as they are meant to.
type Table struct {
	K, T, L, M uint64
	Cells      []Cell // ascending by combiners, then calculators
	// Weak are the coalitions that learn more than all smaller coalitions within
	// them, in the order of the cells. Who contains one learns it too.
	Weak []Weak
}

// Cell is about all coalitions of so many combiners with so many calculators.
type Cell struct {
	Combiners, Calculators uint64
	Coalitions             uint64 // how many there are
	Weak                   uint64 // how many of them learn something
	Worst                  Gain   // the most that one of them learns; nil: not computed, there were too many
}

// Weak is a coalition that learns something.
type Weak struct {
	Combiners, Calculators []uint64
	Gain                   Gain
}

func (w Weak) String() string { return coalition(w.Combiners, w.Calculators) + ": " + w.Gain.String() }

// Table computes the collusion table of a valid grouping, exactly. Cells beyond
// MaxCoalitions are left open.
func (g *Grouping) Table() Table {
	k, m := len(g.Calculators), len(g.Combiners)
	table := Table{K: uint64(k), T: g.T, L: g.L, M: uint64(m)}
	var numbers []uint64
	p := g.places()
	rows := make([][][]int, m)
	for i, group := range g.Combiners {
		numbers = append(numbers, group.Number)
		rows[i] = p.rows(group.Combinations)
	}
	type key struct{ combiners, calculators set }
	gains := map[key]Gain{} // of coalitions that learn something
	// below is what the coalitions know that lack one machine, put together.
	below := func(who key) Gain {
		all := nothing
		for i := range m {
			if who.combiners.has(i) {
				all = all.with(gains[key{who.combiners &^ (1 << i), who.calculators}])
			}
		}
		for i := range k {
			if who.calculators.has(i) {
				all = all.with(gains[key{who.combiners, who.calculators &^ (1 << i)}])
			}
		}
		return all
	}
	left := uint64(MaxCoalitions)
	for c := 0; c <= m; c++ {
		for s := range int(g.T) {
			cell := Cell{Combiners: uint64(c), Calculators: uint64(s), Coalitions: binomial(m, c) * binomial(k, s)}
			if cell.Coalitions > left {
				left = 0 // and so are all that need this one
				table.Cells = append(table.Cells, cell)
				continue
			}
			left -= cell.Coalitions
			cell.Worst = nothing
			for combiners := range subsets(m, c) {
				var all [][]int
				for i := range rows {
					if combiners.has(i) {
						all = append(all, rows[i]...)
					}
				}
				safe := newBlinds(k, int(g.L), all)
				for calculators := range subsets(k, s) {
					who := key{combiners, calculators}
					known := below(who)
					gain := known
					if !known.Whole() {
						gain = safe.gain(calculators)
					}
					if gain.Nothing() {
						continue
					}
					gains[who] = gain
					cell.Weak++
					if worse(gain, cell.Worst) {
						cell.Worst = gain
					}
					if !known.implies(gain) {
						table.Weak = append(table.Weak, Weak{members(combiners, numbers), members(calculators, g.Calculators), gain})
					}
				}
			}
			table.Cells = append(table.Cells, cell)
		}
	}
	slices.SortStableFunc(table.Weak, func(a, b Weak) int {
		return cmp.Or(cmp.Compare(len(a.Combiners), len(b.Combiners)), cmp.Compare(len(a.Calculators), len(b.Calculators)),
			slices.Compare(a.Combiners, b.Combiners), slices.Compare(a.Calculators, b.Calculators))
	})
	return table
}

func worse(a, b Gain) bool {
	switch {
	case a.Whole() || b.Whole():
		return a.Whole() && !b.Whole()
	case a.Nothing() || b.Nothing():
		return !a.Nothing()
	}
	return a.Modulus.CmpAbs(b.Modulus) > 0
}

// String is for a terminal: a line of numbers of calculators, a line for each
// number of combiners, and the weak coalitions.
func (t Table) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "k=%d calculators with l=%d sub-keys each, any t=%d of them sign with one of m=%d combiners\n", t.K, t.L, t.T, t.M)
	s.WriteString("learned at most by so many combiners (down) with so many calculators (across):\n")
	const width = 12
	fmt.Fprintf(&s, "%4s", "")
	for c := range t.T {
		fmt.Fprintf(&s, "%*d", width, c)
	}
	open := false
	for i, cell := range t.Cells {
		if i%int(t.T) == 0 {
			fmt.Fprintf(&s, "\n%4d", cell.Combiners)
		}
		worst := cell.Worst.String()
		if cell.Worst.Modulus == nil {
			worst, open = "?", true
		}
		fmt.Fprintf(&s, "%*s", width, worst)
	}
	s.WriteString("\n")
	if open {
		fmt.Fprintf(&s, "? not computed: more than %d coalitions\n", uint64(MaxCoalitions))
	}
	lines := t.lines()
	if len(lines) == 0 {
		fmt.Fprintf(&s, "no coalition with fewer than %d calculators learns anything\n", t.T)
		return s.String()
	}
	s.WriteString("weak coalitions (and all that contain them):\n")
	for i, line := range lines {
		if i == MaxLines {
			fmt.Fprintf(&s, "  and %d lines more\n", len(lines)-i)
			break
		}
		s.WriteString("  " + line + "\n")
	}
	return s.String()
}

// lines puts together what is weak with the same combiners and the same gain.
func (t Table) lines() []string {
	type kind struct {
		combiners, gain string
		calculators     int
	}
	var order []kind
	sets := map[kind][][]uint64{}
	for _, w := range t.Weak {
		k := kind{plus(w.Combiners), w.Gain.String(), len(w.Calculators)}
		if sets[k] == nil {
			order = append(order, k)
		}
		sets[k] = append(sets[k], w.Calculators)
	}
	var lines []string
	for _, k := range order {
		who := "combiners " + k.combiners
		if !strings.Contains(k.combiners, "+") {
			who = "combiner " + k.combiners
		}
		switch n := uint64(len(sets[k])); {
		case k.calculators == 0:
		case n == binomial(int(t.K), k.calculators) && k.calculators == 1:
			who += " with any one calculator"
		case n == binomial(int(t.K), k.calculators):
			who += fmt.Sprintf(" with any %d calculators", k.calculators)
		default:
			var with []string
			for _, s := range sets[k] {
				with = append(with, plus(s))
			}
			if len(with) == 1 {
				who += " with " + machines("calculator", sets[k][0])
			} else {
				who += " with calculator" + plural(k.calculators) + " " + strings.Join(with[:len(with)-1], ", ") + " or " + with[len(with)-1]
			}
		}
		lines = append(lines, who+": "+k.gain)
	}
	return lines
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// binomial is C(n, k), 0 if there is none.
func binomial(n, k int) uint64 {
	if k < 0 || k > n {
		return 0
	}
	c := uint64(1)
	for i := range min(k, n-k) {
		c = c * uint64(n-i) / uint64(i+1)
	}
	return c
}

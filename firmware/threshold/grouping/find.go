package grouping

import (
	"fmt"
	"math"
	"slices"
)

// Params is what is asked of a grouping.
type Params struct {
	K, T uint64 // calculators, and how many of them sign
	L, M uint64 // sub-keys of a calculator, combiners; 0: the fewest found, L before M

	// Beyond what [Grouping.Check] demands, so many combiners with so many
	// calculators learn nothing. 0 means 1 combiner, and T−1 calculators.
	Combiners, Calculators uint64

	// Spare combiners may fail, whichever they are, and every machine set is still
	// served.
	Spare uint64

	// Redundant is how many combinations a combiner takes at most beyond those
	// that the machine sets need (B [0083]): those first that fewest others have.
	Redundant uint64

	// Dealt are, for Grow, the groupings that were dealt before with the same
	// sub-keys: machines that are gone, and combinations that were given up, are
	// still known to whoever has their memory.
	Dealt []*Grouping

	// Budget bounds the work, in steps of some microseconds; 0 means
	// DefaultBudget. The same parameters give the same grouping everywhere.
	Budget uint64

	effort *effort // that bounds a whole search, see Search
}

// Progress says how far a search is.
type Progress struct {
	K, T, L, M     uint64
	Step, Budget   uint64
	Served, Needed uint64 // machine sets, of the best so far
	Method         string // "partitions", "combinations" or "proof", which comes last
	FoundL, FoundM uint64 // by Search, so far; 0 if there is none yet
}

// ImpossibleError says that a grouping cannot be had, and why: a proof, not a
// search that was given up.
type ImpossibleError struct {
	Params Params
	Reason string
}

func (e *ImpossibleError) Error() string {
	return fmt.Sprintf("grouping: %v cannot be had: %s", e.Params, e.Reason)
}

// NotFoundError says that no grouping was found within the budget, and none was
// excluded.
type NotFoundError struct {
	Params Params
	// Best is how many of the Needed machine sets could be served.
	Best, Needed uint64
	// Reason is empty if the budget was all that was lacking.
	Reason string
	Open   []Open // of Search: what is left open
}

func (e *NotFoundError) Error() string {
	if e.Reason != "" {
		return fmt.Sprintf("grouping: %v: not looked for: %s", e.Params, e.Reason)
	}
	var open string
	if len(e.Open) > 0 {
		open = "; " + describe(e.Open)
	}
	return fmt.Sprintf("grouping: %v: not found within the budget (the best serves %d of %d machine sets)%s: allow more sub-keys, more combiners or more steps",
		e.Params, e.Best, e.Needed, open)
}

// String is "k=5 t=3 l=2 m=3", and what else is asked.
func (p Params) String() string {
	s := fmt.Sprintf("k=%d t=%d", p.K, p.T)
	if p.L > 0 {
		s += fmt.Sprintf(" l=%d", p.L)
	}
	if p.M > 0 {
		s += fmt.Sprintf(" m=%d", p.M)
	}
	if p.Spare > 0 {
		s += fmt.Sprintf(" with %d to spare", p.Spare)
	}
	if p.Combiners > 1 {
		s += fmt.Sprintf(" against %d combiners with %d calculators", p.Combiners, p.Calculators)
	}
	return s
}

// filled replaces zeros by what they mean, and refuses what is out of range.
func (p Params) filled() (Params, error) {
	if p.Combiners == 0 {
		p.Combiners = 1
	}
	if p.Calculators == 0 && p.T > 0 {
		p.Calculators = p.T - 1
	}
	if p.Budget == 0 {
		p.Budget = DefaultBudget
	}
	switch {
	case p.T < 1:
		return p, &ImpossibleError{p, "at least one calculator has to take part"}
	case p.K < p.T:
		return p, &ImpossibleError{p, fmt.Sprintf("%d calculators are needed for every signature, and there are %d", p.T, p.K)}
	case p.K > MaxCalculators || p.L > MaxKeys || p.M > MaxCombiners || p.Redundant > MaxCombinations:
		return p, fmt.Errorf("%w: at most %d calculators, %d sub-keys of each, %d combiners, %d combinations of each",
			ErrGrouping, MaxCalculators, MaxKeys, MaxCombiners, MaxCombinations)
	case p.M > 0 && p.Spare >= p.M || p.Spare >= MaxCombiners:
		return p, &ImpossibleError{p, fmt.Sprintf("no combiner is left when %d fail, and without one nobody has c_a", p.Spare)}
	case p.Calculators >= p.T:
		return p, &ImpossibleError{p, fmt.Sprintf("%d calculators with a combiner that serves them know d: they sign, and d = c_a + their sub-keys", p.T)}
	}
	return p, nil
}

// Find looks for a grouping that passes [Grouping.Check] and resists what the
// parameters say. Calculators and combiners are numbered from 1. progress may
// be nil. The error is ErrGrouping, an *ImpossibleError or a *NotFoundError.
func Find(p Params, progress func(Progress)) (*Grouping, error) {
	p, err := p.filled()
	if err != nil {
		return nil, err
	}
	if p.L > 0 && p.M > 0 {
		return find(p, progress)
	}
	// All are tried with little work first: most that can be had are found soon.
	best := &NotFoundError{Params: p, Needed: binomial(int(p.K), int(p.T))}
	for _, budget := range []uint64{min(p.Budget, max(p.Budget/32, 1<<14)), p.Budget} {
		var impossible *ImpossibleError
		every := true
		for l := max(p.L, 1); l == p.L || p.L == 0 && l <= MaxKeys; l++ {
			for m := max(p.M, p.Spare+1); m == p.M || p.M == 0 && m <= MaxCombiners; m++ {
				q := p
				q.L, q.M, q.Budget = l, m, budget
				g, err := find(q, progress)
				switch err := err.(type) {
				case nil:
					return g, nil
				case *ImpossibleError:
					impossible = err
				case *NotFoundError:
					every = false
					best.Best = max(best.Best, err.Best)
				default:
					return nil, err
				}
			}
		}
		if every {
			return nil, &ImpossibleError{p, fmt.Sprintf("for no number up to %d sub-keys and %d combiners; the last reason: %s", MaxKeys, MaxCombiners, impossible.Reason)}
		}
	}
	return nil, best
}

// find is Find for filled parameters with L and M.
func find(p Params, progress func(Progress)) (*Grouping, error) {
	if reason := excluded(p); reason != "" {
		return nil, &ImpossibleError{p, reason}
	}
	needed, steps := binomial(int(p.K), int(p.T)), p.Budget
	if p.effort != nil {
		steps = math.MaxUint64 // then only that counts
	}
	report := func(method string, step, served uint64) {
		if progress != nil {
			progress(Progress{K: p.K, T: p.T, L: p.L, M: p.M, Step: step, Budget: p.Budget, Served: served, Needed: needed, Method: method})
		}
	}
	// Most of what is excluded is so soon; the rest is tried at the end.
	var g *Grouping
	var reason string
	p.effort.part(8, func() { _, reason = bySearch(p, steps/256, report) })
	if reason != "" {
		return nil, &ImpossibleError{p, reason}
	}
	var best uint64
	p.effort.part(2, func() { g, best = byPartitions(p, report) })
	if g == nil {
		var served uint64
		p.effort.part(2, func() { g, served = byCombinations(p, steps, report) })
		best = max(best, served)
	}
	if g == nil {
		if g, reason = bySearch(p, steps/4, report); reason != "" {
			return nil, &ImpossibleError{p, reason}
		}
	}
	if g == nil {
		return nil, &NotFoundError{Params: p, Best: best, Needed: needed}
	}
	if p.Redundant > 0 {
		g.enrich(p)
	}
	for i := range g.Combiners {
		slices.SortFunc(g.Combiners[i].Combinations, compareCombinations)
	}
	// All this is safe by its making; nothing unchecked is handed out even so.
	if err := g.checkSafe(p); err != nil {
		return nil, err
	}
	if err := g.Check(); err != nil {
		return nil, err
	}
	return g, nil
}

func compareCombinations(a, b Combination) int {
	for i := range a {
		if a[i] != b[i] {
			if a[i].Calculator != b[i].Calculator {
				return int(a[i].Calculator) - int(b[i].Calculator)
			}
			return int(a[i].Key) - int(b[i].Key)
		}
	}
	return 0
}

// excluded gives a proof that there is no such grouping, or "".
func excluded(p Params) string {
	if p.L == 1 && p.T > 1 && p.T < p.K {
		return fmt.Sprintf("with one sub-key each, machine sets that differ in one calculator leave only that all sub-keys are moved alike, so that all combiners together learn d mod %d", p.T)
	}
	most, need := capacity(int(p.K), int(p.T), int(p.L)), binomial(int(p.K), int(p.T))
	if most*p.M < need*(p.Spare+1) {
		return fmt.Sprintf("by counting, one combiner serves at most %d machine sets and %d serve at most %d, where %d are needed", most, p.M, most*p.M, need*(p.Spare+1))
	}
	// Any c combiners that resist t−1 calculators serve no more than one that
	// does; of all m their average is c/m.
	if p.Calculators == p.T-1 && most*max(p.M, p.Combiners) < need*p.Combiners {
		return fmt.Sprintf("%d combiners that resist together serve at most %d of the %d machine sets, by counting, and so %d not all", min(p.Combiners, p.M), most, need, p.M)
	}
	return ""
}

// number is a grouping without combinations, numbered from 1.
func (p Params) number() *Grouping {
	g := &Grouping{T: p.T, L: p.L}
	for j := range p.K {
		g.Calculators = append(g.Calculators, j+1)
	}
	for a := range p.M {
		g.Combiners = append(g.Combiners, Group{Number: a + 1})
	}
	return g
}

// random varies the searches for p.
func (p Params) random() random {
	r := random(p.K<<24 | p.T<<16 | p.L<<8 | p.M)
	if p.effort != nil {
		r ^= random(p.effort.spent << 32) // to try the same again is to try something else
	}
	return r
}

// random is a fixed sequence (splitmix64, Steele, Lea and Flood 2014), to vary a
// search and nothing else.
type random uint64

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (r *random) below(n int) int { return int(r.next() % uint64(n)) }

// shuffle is by Fisher and Yates.
func (r *random) shuffle(n int, swap func(i, j int)) {
	for i := n - 1; i > 0; i-- {
		swap(i, r.below(i+1))
	}
}

// unit is in [0, 1).
func (r *random) unit() float64 { return float64(r.next()>>11) / (1 << 53) }

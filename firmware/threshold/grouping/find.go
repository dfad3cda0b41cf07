package grouping

import (
	"fmt"
	"slices"
)

// Params is what is asked of a grouping.
type Params struct {
	K, T uint64 // calculators, and how many of them sign
	L, M uint64 // sub-keys of a calculator, combiners; 0: the fewest found, L before M

	// Beyond what [Grouping.Check] demands, so many combiners with so many
	// calculators learn nothing. 0 means 1 combiner, and T−1 calculators.
	Combiners, Calculators uint64

	// Redundant is how many combinations a combiner takes at most beyond those
	// that the machine sets need (B [0083]): those first that fewest others have.
	Redundant uint64

	// Budget bounds the work, in steps of some microseconds; 0 means
	// DefaultBudget. The same parameters give the same grouping everywhere.
	Budget uint64
}

// Progress says how far a search is.
type Progress struct {
	K, T, L, M     uint64
	Step, Budget   uint64
	Served, Needed uint64 // machine sets, of the best so far
	Method         string // "partitions", "combinations", "proof"
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
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("grouping: %v: not found within the budget (the best serves %d of %d machine sets): allow more sub-keys, more combiners or more steps",
		e.Params, e.Best, e.Needed)
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
	best := &NotFoundError{Params: p, Needed: binomial(int(p.K), int(p.T))}
	var impossible *ImpossibleError
	every := true
	for l := max(p.L, 1); l == p.L || p.L == 0 && l <= MaxKeys; l++ {
		for m := max(p.M, 1); m == p.M || p.M == 0 && m <= MaxCombiners; m++ {
			q := p
			q.L, q.M = l, m
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
		return nil, &ImpossibleError{p, "nor with fewer; " + impossible.Reason}
	}
	return nil, best
}

// find is Find for filled parameters with L and M.
func find(p Params, progress func(Progress)) (*Grouping, error) {
	if reason := excluded(p); reason != "" {
		return nil, &ImpossibleError{p, reason}
	}
	report := func(method string, step, served uint64) {
		if progress != nil {
			progress(Progress{p.K, p.T, p.L, p.M, step, p.Budget, served, binomial(int(p.K), int(p.T)), method})
		}
	}
	g, best := byPartitions(p, report)
	if g == nil {
		served := best
		if g, served = byCombinations(p, report); g == nil {
			return nil, &NotFoundError{p, max(best, served), binomial(int(p.K), int(p.T))}
		}
	}
	for i := range g.Combiners {
		slices.SortFunc(g.Combiners[i].Combinations, compareCombinations)
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
		return "with one sub-key each, two machine sets that differ in one calculator tell all combiners that any two sub-keys might have been changed by the same amount only, so that they learn d mod t"
	}
	most := capacity(int(p.K), int(p.T), int(p.L))
	if need := binomial(int(p.K), int(p.T)); most*p.M < need {
		return fmt.Sprintf("one combiner serves at most %d of the %d machine sets by counting, %d combiners not all", most, need, p.M)
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

// unit is in [0, 1).
func (r *random) unit() float64 { return float64(r.next()>>11) / (1 << 53) }

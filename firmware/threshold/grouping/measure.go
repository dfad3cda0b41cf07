package grouping

import (
	"fmt"
	"time"
)

// Measure is what a search took and what it gave.
type Measure struct {
	Params       Params
	L, M         uint64        // of the grouping found, 0: none
	Combinations uint64        // of all combiners
	Largest      uint64        // of the combiner with most: so many c_a of |N| bytes it holds
	Find, Check  time.Duration // of Check, that every bound coalition learns nothing
	Err          error         // *ImpossibleError, *NotFoundError: why there is none
}

// String is one line.
func (m Measure) String() string {
	if m.Err != nil {
		return fmt.Sprintf("%v after %v", m.Err, m.Find.Round(time.Millisecond))
	}
	return fmt.Sprintf("k=%d t=%d: l=%d m=%d, %d combinations, at most %d in one combiner; found in %v, checked in %v",
		m.Params.K, m.Params.T, m.L, m.M, m.Combinations, m.Largest, m.Find.Round(100*time.Microsecond), m.Check.Round(100*time.Microsecond))
}

// Try finds a grouping, checks it, and says how long both took by the caller's
// clock. A grouping that does not pass its check is an error too.
func Try(p Params, clock func() time.Duration, progress func(Progress)) Measure {
	m := Measure{Params: p}
	start := clock()
	g, err := Find(p, progress)
	m.Find, m.Err = clock()-start, err
	if err != nil {
		return m
	}
	start = clock()
	m.Err = g.Check()
	m.Check = clock() - start
	m.L, m.M = g.L, uint64(len(g.Combiners))
	for _, c := range g.Combiners {
		n := uint64(len(c.Combinations))
		m.Combinations += n
		m.Largest = max(m.Largest, n)
	}
	return m
}

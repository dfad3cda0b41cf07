package grouping

import (
	"fmt"
	"slices"
	"strings"
)

// Result is what Search found.
type Result struct {
	Grouping *Grouping
	L, M     uint64
	// Proven is true if every smaller one was excluded by a proof or by a complete
	// search; Reason says by what, or what stays open. Both are empty if L and M
	// were given.
	Proven bool
	Reason string
	Open   []Open // empty if it is proven
	// Used is how much of the budget was used, in steps; Stopped is true if stop
	// ended the search.
	Used    uint64
	Stopped bool
}

// Open are numbers that are smaller than those of a result, or all if there is
// none, and that nothing excludes.
type Open struct {
	L        uint64
	From, To uint64 // combiners
	// Searched is with how many combiners a grouping was looked for in vain, the
	// most: who has fewer has it no easier. 0: none, these were not looked at.
	Searched uint64
}

// Smallest is Search without stop for the fewest sub-keys and combiners of all.
func Smallest(k, t, c, s, budget uint64, progress func(Progress)) (*Result, error) {
	return Search(Params{K: k, T: t, Combiners: c, Calculators: s, Budget: budget}, nil, progress)
}

// Search looks for the fewest sub-keys, and with these the fewest combiners,
// that do what the parameters ask; L and M are fixed where they are given.
// Sub-keys come first: every calculator pays for each of its own in every
// signature. The budget is for all of it, DefaultSearch steps of a microsecond
// if it is 0: work is counted and not time, so that the same parameters have the
// same answer. Any grouping comes first, and then smaller ones are tried, with
// ever more work, until all are excluded or the budget is used up. Where stop
// returns true the search ends with what it has. Both functions may be nil.
// Errors are those of Find.
func Search(p Params, stop func() bool, progress func(Progress)) (*Result, error) {
	if p.Budget == 0 {
		p.Budget = DefaultSearch
	}
	p, err := p.filled()
	if err != nil {
		return nil, err
	}
	h := newHunt(p, stop, progress)
	if err := h.run(); err != nil {
		return nil, err
	}
	return h.result()
}

// hunt is the state of a search. Who has a grouping has one with a sub-key or a
// combiner more: it does nothing. So what is excluded, and what is found, is so
// for all that is smaller, or larger.
type hunt struct {
	p        Params
	whole    uint64 // the budget in operations
	effort   *effort
	progress func(Progress)

	l, m  [2]uint64           // that are asked for: from, to
	none  [MaxKeys + 1]uint64 // by l: with so many combiners there is none
	why   [MaxKeys + 1]string // the proof
	tried [MaxKeys + 1]set    // with so many none was found

	best   *Grouping
	served uint64 // machine sets by the best failure
}

func newHunt(p Params, stop func() bool, progress func(Progress)) *hunt {
	h := &hunt{p: p, progress: progress, l: [2]uint64{1, MaxKeys}, m: [2]uint64{p.Spare + 1, MaxCombiners}}
	h.effort = newEffort(p.Budget, stop)
	h.whole = h.effort.left
	h.p.effort = h.effort
	if p.L > 0 {
		h.l = [2]uint64{p.L, p.L}
	}
	if p.M > 0 {
		h.m = [2]uint64{p.M, p.M}
	}
	for l := h.l[0]; l <= h.l[1]; l++ {
		h.none[l] = h.m[0] - 1
		q := p
		for q.L, q.M = l, h.m[0]; q.M <= h.m[1]; q.M++ {
			if reason := excluded(q); reason != "" {
				h.exclude(q, reason)
			}
		}
	}
	return h
}

// exclude notes a proof.
func (h *hunt) exclude(p Params, reason string) {
	for l := h.l[0]; l <= p.L; l++ {
		if h.none[l] < p.M {
			h.none[l], h.why[l] = p.M, fmt.Sprintf("l=%d m=%d: %s", p.L, p.M, reason)
		}
	}
}

// bestL and bestM are the numbers of the best, or beyond all.
func (h *hunt) bestL() uint64 {
	if h.best == nil {
		return h.l[1] + 1
	}
	return h.best.L
}

func (h *hunt) bestM() uint64 {
	if h.best == nil {
		return h.m[1] + 1
	}
	return uint64(len(h.best.Combiners))
}

// run tries with ever more work. Errors are of what was found and is not safe,
// which cannot be.
func (h *hunt) run() error {
	// The first answer does not wait longer where more work is allowed.
	for allowance := min(h.whole, DefaultSearch*stepWork) / 256; !h.done(); allowance = min(4*allowance, h.whole) {
		spent := h.effort.spent
		if err := h.fewerKeys(allowance); err != nil {
			return err
		}
		if err := h.fewerCombiners(allowance); err != nil {
			return err
		}
		if allowance == h.whole && h.effort.spent-spent < h.whole>>10 {
			return nil // no method takes more work
		}
	}
	return nil
}

// done reports whether nothing smaller is possible, or nobody waits, or the
// budget is used up.
func (h *hunt) done() bool { return h.effort.over() || len(h.open()) == 0 }

// fewerKeys looks for the fewest sub-keys with as many combiners as may be: from
// few to many in growing steps until something is found, then back; and where
// something is found already, one less at a time.
func (h *hunt) fewerKeys(allowance uint64) error {
	low := h.l[0] // the fewest that nothing speaks against
	for low <= h.l[1] && h.none[low] >= h.m[1] {
		low++
	}
	for h.best != nil && h.best.L > low {
		if found, err := h.most(h.best.L-1, allowance); err != nil || !found {
			return err
		}
	}
	if h.best != nil {
		return nil
	}
	for l := low; h.best == nil && low <= h.l[1]; l = min(2*l, h.l[1]) {
		found, err := h.most(l, allowance)
		if err != nil || !found && l == h.l[1] {
			return err
		}
		if !found {
			low = l + 1
		}
	}
	for h.best != nil && low < h.best.L {
		l := (low + h.best.L) / 2
		found, err := h.most(l, allowance)
		if err != nil {
			return err
		}
		if !found {
			low = l + 1
		}
	}
	return nil
}

// most tries with the most combiners. Against several of them there are methods
// that grow with their pairs: so fewer are tried as well.
func (h *hunt) most(l, allowance uint64) (bool, error) {
	found, err := h.try(l, h.m[1], allowance)
	for _, m := range []uint64{2*h.p.Combiners + 1, h.p.Combiners + 1} {
		if err == nil && !found && h.p.Combiners > 1 && m < h.m[1] {
			found, err = h.try(l, m, allowance)
		}
	}
	return found, err
}

// fewerCombiners looks for the fewest with the sub-keys of the best: first by
// halves, then one less at a time.
func (h *hunt) fewerCombiners(allowance uint64) error {
	if h.best == nil {
		return nil
	}
	l := h.best.L
	for low := max(h.none[l], h.searched(l, h.bestM()-1)); low+1 < h.bestM(); low = max(low, h.none[l]) {
		m := (low + h.bestM()) / 2
		found, err := h.try(l, m, allowance)
		if err != nil {
			return err
		}
		if !found {
			low = m
		}
	}
	for h.none[l]+1 < h.bestM() {
		if found, err := h.try(l, h.bestM()-1, allowance); err != nil || !found {
			return err
		}
	}
	return nil
}

// try looks for a grouping with these numbers; what is found is smaller than the
// best so far.
func (h *hunt) try(l, m, allowance uint64) (bool, error) {
	if m <= h.none[l] || m < h.m[0] || h.effort.over() {
		return false, nil
	}
	q := h.p
	q.L, q.M, q.Budget = l, m, h.p.changes(allowance/2)
	var g *Grouping
	var err error
	h.effort.within(allowance, func() { g, err = find(q, h.report) })
	switch err := err.(type) {
	case nil:
		h.best = g
		// To check it takes time too: a lattice of every sub-key, for each part.
		keys := h.p.K * l
		h.effort.left -= min(m*l*h.p.T*keys*keys, h.effort.left)
		h.report(Progress{L: l, M: m, Method: "found"})
		return true, nil
	case *ImpossibleError:
		h.exclude(q, err.Reason)
	case *NotFoundError:
		h.tried[l] |= 1 << m
		h.served = max(h.served, err.Best)
	default:
		return false, err
	}
	return false, nil
}

// changes is about how many changes of partitions cost so much.
func (p Params) changes(work uint64) uint64 {
	sets := uint64(1)
	for q := range p.T - 1 {
		sets *= (p.K + q) / p.T
	}
	return max(work/(workOfVary+8*workOfSet*sets), 1<<8)
}

// report puts the whole search into what a method says of its own.
func (h *hunt) report(p Progress) {
	if h.progress == nil {
		return
	}
	p.K, p.T, p.Needed = h.p.K, h.p.T, binomial(int(h.p.K), int(h.p.T))
	p.Step, p.Budget = h.effort.spent/stepWork, h.whole/stepWork
	if h.best != nil {
		p.FoundL, p.FoundM = h.bestL(), h.bestM()
	}
	h.progress(p)
}

// open are the numbers that are smaller than the best and not excluded.
func (h *hunt) open() []Open {
	var open []Open
	for l := h.l[0]; l <= min(h.bestL(), h.l[1]); l++ {
		o := Open{L: l, From: h.none[l] + 1, To: h.m[1]}
		if l == h.bestL() {
			o.To = h.bestM() - 1
		}
		if o.From <= o.To {
			o.Searched = h.searched(l, o.To)
			open = append(open, o)
		}
	}
	return open
}

// searched is the most combiners, up to m, with which none was found. With more
// some may have been found later.
func (h *hunt) searched(l, m uint64) uint64 {
	for ; m > 0 && !h.tried[l].has(int(m)); m-- {
	}
	return m
}

func (h *hunt) result() (*Result, error) {
	open := h.open()
	p := h.p
	p.effort = nil
	switch {
	case h.best != nil:
	case len(open) == 0 && h.l[0] == h.l[1] && h.m[0] == h.m[1]:
		_, reason, _ := strings.Cut(h.why[h.l[1]], ": ")
		return nil, &ImpossibleError{p, reason}
	case len(open) == 0:
		return nil, &ImpossibleError{p, fmt.Sprintf("for no number up to %d sub-keys and %d combiners; the last reason: %s", h.l[1], h.m[1], h.why[h.l[1]])}
	default:
		err := &NotFoundError{Params: p, Best: h.served, Needed: binomial(int(p.K), int(p.T)), Open: open}
		if !h.effort.over() {
			err.Reason = "no method here serves every machine set with so few sub-keys and combiners, and nothing excludes that there is one"
		}
		return nil, err
	}
	r := &Result{Grouping: h.best, L: h.bestL(), M: h.bestM(), Open: open}
	r.Used, r.Stopped = h.effort.spent/stepWork, h.effort.stopped
	if p.L > 0 && p.M > 0 {
		return r, nil // there is nothing to compare with
	}
	// The proof for one sub-key counts no combiners, all others do.
	more := r.L > max(h.l[0], 2) && p.M == 0
	r.Proven = len(open) == 0 && !more
	switch reason := h.why[r.L]; {
	case len(open) > 0:
		r.Reason = describe(open)
	case more:
		r.Reason = fmt.Sprintf("l=%d with more than %d combiners was not looked at", r.L-1, MaxCombiners)
	case h.none[r.L] < h.m[0] && r.L > h.l[0]:
		r.Reason = h.why[r.L-1]
	case reason != "":
		r.Reason = reason
	default:
		r.Reason = "less than one sub-key and one combiner there is not"
	}
	return r, nil
}

// describe is "l=13 m=1 to 14 searched and not found; l=9 to 12 searched and not
// found; l=2 to 8 not looked at", the largest first.
func describe(open []Open) string {
	var parts []string
	for i := 0; i < len(open); i++ {
		o, last := open[i], i
		for last+1 < len(open) && open[last+1].To == o.To && open[last+1].state() == o.state() {
			last++
		}
		name := o.String()
		if last > i {
			name = fmt.Sprintf("l=%d to %d with up to m=%d", o.L, open[last].L, o.To)
		}
		parts = append(parts, name+" "+o.state())
		i = last
	}
	slices.Reverse(parts)
	return strings.Join(parts, "; ")
}

func (o Open) state() string {
	switch o.Searched {
	case 0:
		return "not looked at"
	case o.To:
		return "searched and not found"
	}
	return fmt.Sprintf("searched with m=%d and not found, not with more", o.Searched)
}

// String is "l=5 m=2 to 15".
func (o Open) String() string {
	if o.From == o.To {
		return fmt.Sprintf("l=%d m=%d", o.L, o.To)
	}
	return fmt.Sprintf("l=%d m=%d to %d", o.L, o.From, o.To)
}

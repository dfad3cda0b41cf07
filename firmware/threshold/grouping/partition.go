package grouping

import (
	"math"
	"slices"
)

// A partition puts every calculator into one of t parts, for one sub-key number
// i and one combiner. If the combiner uses sub-key i only in machine sets with
// one calculator of each part, then any t−1 calculators miss a part, and the
// sub-keys i of all calculators in it may move by what d moves: so these
// combinations hide d, and together with those of other sub-keys too, which
// share nothing with them. The question is only whether partitions, l for each
// combiner, reach every machine set: they form a perfect hash family
// (Fredman, Komlós and Szemerédi 1984).
//
// The sub-keys are not called i in every combiner. That all combiners together
// learn nothing, every partition has one part that is marked, and a calculator
// is in equally many marked parts of each combiner: these take its first
// sub-keys, by whatever name, so that all first sub-keys may move as d does, and
// nothing else.
//
// If several combiners shall do no harm with s calculators, then the sub-keys
// are called the same, and the first s+1 parts of their partitions are the same
// as well: the calculators miss one of them.
type partitions struct {
	k, t, l, m, common int
	part               [][]int8 // of combiner a and key i: a·l+i, then by calculator
	masks              [][]set
	served             [][]int16 // by combiner and machine set: by how many partitions
	combiners          []int8    // by machine set: how many serve it
	need               int8      // how many have to
	missing            int       // how many that is short of, over all machine sets
	undo               []change
	work               uint64 // machine sets counted, ever
	effort             *effort
	level              bool // parts keep their sizes
}

func newPartitions(p Params) *partitions {
	s := &partitions{k: int(p.K), t: int(p.T), l: int(p.L), m: int(p.M), effort: p.effort}
	if p.Combiners > 1 {
		s.common = int(p.Calculators) + 1
	}
	if s.common == s.t {
		s.m = 1 // they are all the same
	}
	if s.m == 1 {
		s.common = 0
	}
	s.need = int8(p.Spare + 1)
	if s.common == s.t || s.m == 1 {
		s.need = 1 // who serves a set once has every combiner serve it
	}
	s.served = make([][]int16, s.m)
	for a := range s.served {
		s.served[a] = make([]int16, 1<<s.k)
	}
	s.combiners = make([]int8, 1<<s.k)
	s.part = make([][]int8, s.m*s.l)
	s.masks = make([][]set, s.m*s.l)
	return s
}

// start puts random partitions with parts of equal size.
func (s *partitions) start(rnd *random) {
	for a := range s.served {
		clear(s.served[a])
	}
	clear(s.combiners)
	s.missing = int(s.need) * int(binomial(s.k, s.t))
	for i := range s.l {
		first := s.shuffled(rnd)
		for a := range s.m {
			f := a*s.l + i
			s.part[f] = slices.Clone(first)
			if a > 0 { // shuffle those that are not in a common part
				var free []int
				for j, q := range first {
					if int(q) >= max(s.common, 1) {
						free = append(free, j)
					}
				}
				rnd.shuffle(len(free), func(x, y int) {
					s.part[f][free[x]], s.part[f][free[y]] = s.part[f][free[y]], s.part[f][free[x]]
				})
			}
			s.masks[f] = make([]set, s.t)
			for j, q := range s.part[f] {
				s.masks[f][q] |= 1 << j
			}
			s.count(f, -1, 0, +1)
		}
	}
}

func (s *partitions) shuffled(rnd *random) []int8 {
	p := make([]int8, s.k)
	for j := range p {
		p[j] = int8(j % s.t)
	}
	rnd.shuffle(s.k, func(i, j int) { p[i], p[j] = p[j], p[i] })
	return p
}

// count adds to served for all machine sets that partition f serves: all if
// part is −1, else those that have the calculator of chosen from that part.
func (s *partitions) count(f, part int, chosen set, by int16) {
	masks, served := s.masks[f], s.served[f/s.l]
	var walk func(q int, have set)
	walk = func(q int, have set) {
		if q == part {
			q++
		}
		if q == s.t {
			s.work++
			was := served[have]
			served[have] = was + by
			if was == 0 {
				if s.combiners[have]++; s.combiners[have] <= s.need {
					s.missing--
				}
			} else if was+by == 0 {
				if s.combiners[have]--; s.combiners[have] < s.need {
					s.missing++
				}
			}
			return
		}
		for left := masks[q]; left != 0; left &= left - 1 {
			walk(q+1, have|left&-left)
		}
	}
	walk(0, chosen)
}

// vary makes a random change that keeps what the combiners have in common.
func (s *partitions) vary(rnd *random) {
	a, i, j, q := rnd.below(s.m), rnd.below(s.l), rnd.below(s.k), rnd.below(s.t)
	f := a*s.l + i
	from := int(s.part[f][j])
	if s.level || rnd.below(2) == 0 {
		s.swap(a, i, j, rnd.below(s.k))
		return
	}
	switch {
	case s.m == 1 || from >= max(s.common, 1) && q >= max(s.common, 1):
		s.put(f, j, q)
	case s.common > 0: // a common part changes, in all combiners
		for b := range s.m {
			s.put(b*s.l+i, j, q)
		}
	case rnd.below(8) > 0: // another sub-key takes the mark over
		if o := a*s.l + rnd.below(s.l); (s.part[o][j] == 0) != (from == 0) {
			q = int(s.part[o][j])
			s.put(o, j, from)
			s.put(f, j, q)
		}
	case from == 0: // one mark less in every combiner
		for b := range s.m {
			for s.part[b*s.l+i][j] != 0 {
				i = (i + 1) % s.l
			}
			s.put(b*s.l+i, j, 1+rnd.below(s.t-1))
		}
	default: // one more
		for b := range s.m {
			for s.part[b*s.l+i][j] == 0 {
				i = (i + 1) % s.l
			}
			s.put(b*s.l+i, j, 0)
		}
	}
}

// swap lets two calculators change places in a partition: with parts of one
// calculator, one that only moves leaves an empty part.
func (s *partitions) swap(a, i, j, o int) {
	x, y := int(s.part[a*s.l+i][j]), int(s.part[a*s.l+i][o])
	switch {
	case x == y:
	case s.m == 1 || min(x, y) >= max(s.common, 1):
		s.put(a*s.l+i, j, y)
		s.put(a*s.l+i, o, x)
	case s.common > 0:
		for b := range s.m {
			f := b*s.l + i
			x, y := int(s.part[f][j]), int(s.part[f][o])
			s.put(f, j, y)
			s.put(f, o, x)
		}
	default: // the mark goes the other way in another partition
		for n := range s.l {
			f := a*s.l + (i+n)%s.l
			u, v := int(s.part[f][j]), int(s.part[f][o])
			if (u == 0) == (y == 0) && (v == 0) == (x == 0) {
				s.put(a*s.l+i, j, y)
				s.put(a*s.l+i, o, x)
				s.put(f, j, v)
				s.put(f, o, u)
				return
			}
		}
	}
}

// put puts calculator j into part q of partition f.
func (s *partitions) put(f, j, q int) {
	from := int(s.part[f][j])
	if from == q {
		return
	}
	s.undo = append(s.undo, change{f, j, from})
	one := set(1) << j
	s.count(f, from, one, -1)
	s.masks[f][from] &^= one
	s.masks[f][q] |= one
	s.part[f][j] = int8(q)
	s.count(f, q, one, +1)
}

type change struct{ f, j, from int }

// anneal moves calculators between parts until every machine set is served or
// the steps are used up (Kirkpatrick, Gelatt and Vecchi 1983).
func (s *partitions) anneal(rnd *random, steps uint64, report func(done uint64)) uint64 {
	hot, cold := 1.5, 0.15
	if s.level {
		hot = 0.5
	}
	for n := range steps {
		if s.missing == 0 {
			return n
		}
		if n%4096 == 0 {
			report(n)
		}
		if s.effort.over() {
			return n
		}
		work := s.work
		heat := hot * math.Pow(cold/hot, float64(n)/float64(steps))
		missing := s.missing
		s.undo = s.undo[:0]
		s.vary(rnd)
		if worse := s.missing - missing; worse > 0 && rnd.unit() >= math.Exp(-float64(worse)/heat) {
			for u := len(s.undo) - 1; u >= 0; u-- {
				s.put(s.undo[u].f, s.undo[u].j, s.undo[u].from)
			}
		}
		s.effort.spend(workOfVary + workOfSet*(s.work-work))
	}
	return steps
}

// byPartitions looks for a grouping by partitions. Without one it says how many
// machine sets were served at best.
func byPartitions(p Params, report func(method string, step, served uint64)) (*Grouping, uint64) {
	if p.M > 1 && p.Combiners < p.M {
		// If the same combinations would do for all, then no number of combiners
		// does any harm with t−1 calculators, and each can have all.
		same := p
		same.Combiners, same.Calculators, same.Budget = p.M, p.T-1, p.Budget/4
		var g *Grouping
		p.effort.part(4, func() { g, _ = newPartitions(same).search(same, report) })
		if g != nil {
			return g, binomial(int(p.K), int(p.T))
		}
	}
	return newPartitions(p).search(p, report)
}

func (s *partitions) search(p Params, report func(method string, step, served uint64)) (*Grouping, uint64) {
	if s.hopeless() {
		return nil, 0
	}
	needed := binomial(s.k, s.t)
	rnd := p.random()
	var done, best uint64
	for try := uint64(0); done < p.Budget && !s.effort.over(); try++ {
		work := s.work
		s.level = p.effort != nil && try%2 == 0
		s.start(&rnd)
		s.effort.spend(workOfSet * (s.work - work + needed))
		steps := min(p.Budget-done, p.Budget/64<<min(try/2, 5)+1024)
		done += 1 + s.anneal(&rnd, steps, func(n uint64) { report("partitions", done+n, best) })
		if s.missing == 0 {
			return s.grouping(p), needed
		}
		served := uint64(0)
		for machines := range subsets(s.k, s.t) {
			if s.combiners[machines] >= s.need {
				served++
			}
		}
		best = max(best, served)
	}
	return nil, best
}

// hopeless reports that even partitions that serve no machine set twice would
// not serve all.
func (s *partitions) hopeless() bool {
	each := uint64(1)
	for q := range s.t {
		each *= uint64((s.k + q) / s.t)
	}
	return each*uint64(s.m*s.l) < uint64(s.need)*binomial(s.k, s.t)
}

// names gives the sub-key that calculator j takes in each partition of combiner
// a: its first ones where it is in the marked part.
func (s *partitions) names(a, j int) []int {
	names := make([]int, s.l)
	next := 0
	for _, marked := range []bool{true, false} {
		for i := range s.l {
			switch {
			case s.m == 1 || s.common > 0:
				names[i] = i
			case (s.part[a*s.l+i][j] == 0) == marked:
				names[i] = next
				next++
			}
		}
	}
	return names
}

// options lists, by machine set, the partitions of combiner a that serve it.
func (s *partitions) options(a int) map[set][]int {
	options := map[set][]int{}
	for i := range s.l {
		masks := s.masks[a%s.m*s.l+i]
		var walk func(q int, have set)
		walk = func(q int, have set) {
			if q == s.t {
				options[have] = append(options[have], i)
				return
			}
			for left := masks[q]; left != 0; left &= left - 1 {
				walk(q+1, have|left&-left)
			}
		}
		walk(0, 0)
	}
	return options
}

// grouping gives every machine set to the combiner with the fewest that can
// have it, to as many as have to, and then each combiner as many others as are asked for.
func (s *partitions) grouping(p Params) *Grouping {
	g := p.number()
	options := make([]map[set][]int, p.M)
	for a := range options {
		options[a] = s.options(a)
	}
	type choice struct {
		machines  set
		combiners int
	}
	var sets []choice
	for machines := range subsets(s.k, s.t) {
		c := choice{machines: machines}
		for a := range options {
			if options[a][machines] != nil {
				c.combiners++
			}
		}
		sets = append(sets, c)
	}
	// Those first that can choose least.
	slices.SortStableFunc(sets, func(a, b choice) int { return a.combiners - b.combiners })
	names := make([][][]int, p.M)
	for a := range names {
		for j := range s.k {
			names[a] = append(names[a], s.names(a%s.m, j))
		}
	}
	has := map[set][]int{}
	give := func(a int, machines set) {
		keys := options[a][machines]
		var c Combination
		for j := range s.k {
			if machines.has(j) {
				c = append(c, Term{Calculator: uint64(j + 1), Key: uint64(names[a][j][keys[0]] + 1)})
			}
		}
		options[a][machines] = keys[1:]
		g.Combiners[a].Combinations = append(g.Combiners[a].Combinations, c)
		has[machines] = append(has[machines], a)
	}
	for range p.Spare + 1 {
		for _, c := range sets {
			least := -1
			for a := range options {
				if options[a][c.machines] != nil && !slices.Contains(has[c.machines], a) &&
					(least < 0 || len(g.Combiners[a].Combinations) < len(g.Combiners[least].Combinations)) {
					least = a
				}
			}
			give(least, c.machines)
		}
	}
	for range p.Redundant {
		more := false
		for a := range options {
			var pick set
			rank := math.MaxInt
			for _, c := range sets {
				if len(options[a][c.machines]) == 0 {
					continue
				}
				r := 2 * len(has[c.machines])
				if slices.Contains(has[c.machines], a) {
					r++
				}
				if r < rank {
					rank, pick = r, c.machines
				}
			}
			if pick != 0 {
				give(a, pick)
				more = true
			}
		}
		if !more {
			break
		}
	}
	return g
}

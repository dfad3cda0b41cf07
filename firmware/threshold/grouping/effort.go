package grouping

// stepWork is how many elementary operations, of about a nanosecond, make a step
// of a budget that bounds a whole search.
const stepWork = 1 << 10

// pause is how many operations pass until a search asks whether to go on: a
// millisecond.
const pause = 1 << 20

// effort is what a search over many pairs of numbers may still do. It is counted
// in operations, not in time, so that the same question has the same answer on
// every machine. nil bounds nothing.
type effort struct {
	left, floor uint64      // it is over when left falls to floor
	spent       uint64      // all of it, with what the last piece of work took too much
	next        uint64      // work until stop is asked again
	stop        func() bool // whoever waits wants no more; may be nil
	stopped     bool
}

func newEffort(steps uint64, stop func() bool) *effort {
	return &effort{left: min(steps, 1<<50) * stepWork, stop: stop}
}

// spend counts work that was done, or is about to be.
func (e *effort) spend(work uint64) {
	if e == nil {
		return
	}
	e.left -= min(work, e.left)
	e.spent += work
	if e.stop == nil || e.stopped {
		return
	}
	if work < e.next {
		e.next -= work
		return
	}
	e.next = pause
	e.stopped = e.stop()
}

// affords reports whether so much work is allowed.
func (e *effort) affords(work uint64) bool { return e == nil || !e.over() && work < e.left-e.floor }

func (e *effort) over() bool { return e != nil && (e.stopped || e.left <= e.floor) }

// within has do spend so much at most.
func (e *effort) within(work uint64, do func()) {
	floor := e.floor
	e.floor = max(floor, e.left-min(work, e.left))
	do()
	e.floor = floor
}

// part has do spend a part of what is left at most.
func (e *effort) part(of uint64, do func()) {
	if e == nil {
		do()
		return
	}
	e.within((e.left-min(e.floor, e.left))/of, do)
}

// What the parts of a search cost, in operations, as measured.
const (
	workOfVary = 64 // a change of partitions, beside
	workOfSet  = 8  // each machine set that it adds or takes away
	workOfView = 64 // asking a coalition about a combination
	workOfTerm = 8  // each term of a candidate
)

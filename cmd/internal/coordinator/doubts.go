package coordinator

import (
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// Proofs take calculators three times the work. A combiner whose suspicions never
// have anybody found wrong can have them made for every task, and nothing proves it a
// liar: calculators can send it other powers than they send here, and two of them
// powers that are wrong apart and right together. So it is not named, and its word
// is not followed for longer and longer times, unless the task wants its signature
// for just this reason. A liar that honest combiners find is looked for all the
// same: each of them has its own credit, and has it back when one is found.

// Doubts remembers, for all requests of a distributor, of which combiners suspicions
// came to nothing: see [Config]. It is memory only.
type Doubts struct{ of map[doubter]*credit }

// doubter is a combiner of a key.
type doubter struct{ key, device string }

// credit is how often a combiner was followed since one whom it suspected was wrong.
type credit struct {
	followed int
	last     int64
}

// NewDoubts trusts everybody.
func NewDoubts() *Doubts { return &Doubts{of: map[doubter]*credit{}} }

// follow reports whether a combiner's suspicion is followed now, and counts it.
func (x *Doubts) follow(who doubter, now int64) bool {
	c := x.of[who]
	switch {
	case c == nil || now-c.last >= doubtsForgotten:
		c = &credit{}
		x.of[who] = c
	case now < c.last+pauseAfter(c.followed):
		return false
	}
	c.followed, c.last = c.followed+1, now
	return true
}

// pauseAfter is how long a combiner's suspicions are not followed.
func pauseAfter(followed int) int64 {
	if followed < doubtsFree {
		return 0
	}
	return min(int64(doubtPause)<<min(followed-doubtsFree, 16), doubtPauseMax)
}

// founded says that one whom a combiner suspected was wrong.
func (x *Doubts) founded(who doubter) {
	delete(x.of, who)
}

// vain is how often a combiner was followed for nothing, or is just being.
func (x *Doubts) vain(who doubter) int {
	if c := x.of[who]; c != nil {
		return c.followed
	}
	return 0
}

// trial is what becomes of a combiner's suspicions of a task.
type trial struct {
	accused  []*device
	followed bool
	until    int64 // when they are let rest, if they are not followed by then
}

// doubts asks what is known of a combiner.
func (r *Request) doubts(combiner *device, ask func(*Doubts, doubter)) {
	if r.Doubts != nil {
		r.Doubts(func(x *Doubts) { ask(x, doubter{r.key.ID, combiner.id}) })
	}
}

func (r *Request) follow(combiner *device) bool {
	yes := true
	r.doubts(combiner, func(x *Doubts, who doubter) { yes = x.follow(who, r.now) })
	return yes
}

func (r *Request) vain(combiner *device) (n int) {
	r.doubts(combiner, func(x *Doubts, who doubter) { n = x.vain(who) })
	return n
}

// try has a combiner's word against a calculator followed, now or later.
func (r *Request) try(combiner, x *device) {
	t := combiner.machine.trial
	if t == nil {
		t = &trial{until: r.now + holdFor + r.work()}
		combiner.machine.trial = t
	}
	if !slices.Contains(t.accused, x) {
		t.accused = append(t.accused, x)
	}
	if !t.followed {
		t.followed = r.follow(combiner)
	}
}

// held reports whether nobody has to prove anything for a word, for now.
func (a *accusation) held() bool {
	t := a.combiner.machine.trial
	return t != nil && !t.followed
}

// holdTrials looks again at suspicions that are not followed: a liar may have been
// found elsewhere meanwhile. When their time is over they are let rest if there are
// signatures, and followed in any case if there are none.
func (r *Request) holdTrials() {
	for _, d := range r.devices {
		t := d.machine.trial
		if t == nil || t.followed || r.state != api.StateOpen && r.state != api.StateDone {
			continue
		}
		over := r.now >= t.until
		switch {
		case r.follow(d), over && r.state == api.StateOpen:
			t.followed = true
			for _, a := range r.task.accusations {
				if a.combiner == d {
					a.until = r.proveUntil()
					r.hurry(a.calculator)
				}
			}
		case over:
			r.task.accusations = slices.DeleteFunc(r.task.accusations, func(a *accusation) bool {
				return a.combiner == d && a.calculator.machine.proved.IsZero()
			})
			d.machine.trial = nil
			d.text, r.dirty = fmt.Sprintf("suspects calculators, and is not followed: whom it suspected the last %d times was not found wrong", r.vain(d)), true
		}
	}
}

// endTrials sees what came of suspicions that were followed.
func (r *Request) endTrials() {
	for _, d := range r.devices {
		t := d.machine.trial
		if t == nil || slices.ContainsFunc(r.task.accusations, func(a *accusation) bool { return a.combiner == d }) {
			continue
		}
		d.machine.trial = nil
		if slices.ContainsFunc(t.accused, func(x *device) bool { return x.wrong }) {
			r.doubts(d, (*Doubts).founded)
		} else if n := r.vain(d); t.followed && n >= doubtsFree && !d.wrong {
			d.text, r.dirty = fmt.Sprintf("none of those whom it suspected the last %d times was found wrong", n), true
		}
	}
}

// hurry has a calculator asked for proofs at once.
func (r *Request) hurry(x *device) {
	if x.machine.proved.IsZero() && !x.machine.asked {
		x.machine.tries, x.wait, x.retry = 0, 0, 0
	}
}

// newAccusation makes one, of nobody who is accused by the same already.
func (r *Request) newAccusation(combiner, x *device, claimed, shown envelope.Hash, reason []byte) *accusation {
	r.try(combiner, x)
	return &accusation{combiner, x, claimed, shown, reason, r.proveUntil()}
}

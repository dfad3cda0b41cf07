package tolerant

import "github.com/privyseal/privyseal/firmware/envelope"

// refused is a task that was looked at as a whole, which may take tens of
// milliseconds, and did not pass. Its distributor signed it, so that any site can
// repeat it for two days; each repetition costs two signature checks and no more.
type refused struct {
	head  envelope.Hash // of the ledger then
	again int64         // when it is looked at again under the same one: a clock may make it right
}

// never is for what is wrong whatever the time, and the ledger.
const never = 1<<63 - 1

// refusals are an enterprise's, by what the distributor and the requester signed.
// Signatures are no part of that: who has one can make another.
type refusals struct {
	of    map[envelope.Hash]refused
	order []envelope.Hash // oldest first
}

// nameOf names what a task's distributor and requester said.
func (t *task) nameOf() envelope.Hash {
	u, err := envelope.Parse(t.packet)
	if err != nil {
		return envelope.Hash{} // it was verified
	}
	digest := u.UnverifiedDigest()
	return envelope.HashOf("privyseal refused task", digest[:], t.distribution.Request[:])
}

// wasRefused reports whether a task was refused, and nothing has changed since.
func (d *Desk) wasRefused(t *task) bool {
	r, ok := d.refusals(t).of[t.nameOf()]
	return ok && (r.again == never || r.head == d.cfg.State.Head() && d.now < r.again)
}

// noteRefused remembers that one was. The oldest of its enterprise gives way.
func (d *Desk) noteRefused(t *task, again int64) {
	x, name := d.refusals(t), t.nameOf()
	if _, ok := x.of[name]; !ok {
		if len(x.order) >= maxRefused {
			delete(x.of, x.order[0])
			x.order = x.order[1:]
		}
		x.order = append(x.order, name)
	}
	x.of[name] = refused{d.cfg.State.Head(), again}
}

func (d *Desk) refusals(t *task) *refusals {
	x := d.turned[t.number.enterprise]
	if x == nil {
		x = &refusals{of: map[envelope.Hash]refused{}}
		d.turned[t.number.enterprise] = x
	}
	return x
}

package tolerant

import "slices"

// Room for a task is set aside when it comes, for all that its machines and those
// of other sites will honestly add to it: a desk that took in as many tasks as it
// can hold, and then had no room for the powers of any, would finish none of them.
// Whoever finds no room comes again; what is asked for is never half a task.

// load is what an enterprise has open here, in all and by distributor.
type load struct {
	held
	of map[uint64]*held
}

type held struct{ tasks, octets int }

// by is what one distributor has.
func (l *load) by(distributor uint64) *held {
	if l.of[distributor] == nil {
		l.of[distributor] = &held{}
	}
	return l.of[distributor]
}

// add counts more, or less, of a distributor.
func (l *load) add(distributor uint64, tasks, octets int) {
	for _, h := range []*held{&l.held, l.by(distributor)} {
		h.tasks += tasks
		h.octets += octets
	}
}

// full reports whether there is no room for so much more.
func (l *load) full(tasks, octets int) bool {
	return l.tasks+tasks > maxTasks || l.octets+octets > maxOctets
}

// crowds reports whether a distributor would have more than it leaves free. Where
// an enterprise has several, there is room for each, whatever the others do: one
// request is enough for any number of tasks.
func (l *load) crowds(distributor uint64, tasks, octets int) bool {
	own := l.by(distributor)
	return own.tasks+tasks > maxTasks-l.tasks || own.octets+octets > maxOctets-l.octets
}

// needs is how much room a task needs here.
func (d *Desk) needs(a *authority, t *task) int {
	documents, width := int(t.distribution.Documents), len(a.key.Public.N)
	powers := documents*int(a.key.Layers.Grouping.L)*width + messageRoom
	size := len(t.raw) + len(t.packet)
	combines := false
	for _, h := range a.own {
		size += machineRoom
		if m := (machine{holder: h}); m.combines() {
			combines = true
			size += documents*(width+combinationRoom) + messageRoom
		} else {
			size += powers
		}
	}
	if combines {
		size += int(a.key.N) * powers
	}
	return size
}

// has is how much a task holds.
func (t *task) has() int {
	n := len(t.raw) + len(t.packet)
	for _, m := range t.machines {
		n += len(m.answer) + len(m.offer) + len(m.result)
		for _, raw := range m.approvals {
			n += len(raw)
		}
	}
	for _, raw := range t.powers {
		n += len(raw)
	}
	return n
}

// admit sets room aside for a task, if there is any for its distributor. Batches
// leave some to single requests, and those of one requester some to others'.
func (d *Desk) admit(a *authority, t *task) bool {
	l, size := d.load[t.number.enterprise], d.needs(a, t)
	t.room = size
	no := func() bool {
		return l.full(1, size) || a.several && l.crowds(t.number.distributor, 1, size) ||
			t.distribution.Documents > 1 && l.octets+size > maxOctetsOfBatches
	}
	if t.distribution.Documents > 1 && d.batchesOf(t)+size > maxOctetsOfOne || !d.relieve(t.number.enterprise, no) {
		return false
	}
	l.add(t.number.distributor, 1, size)
	return true
}

// batchesOf is the room of the batches of a task's requester that wait for their
// signatures.
func (d *Desk) batchesOf(t *task) (octets int) {
	for _, x := range d.open {
		if x.number.enterprise == t.number.enterprise && x.about.Signer == t.about.Signer && x.distribution.Documents > 1 && !x.signed {
			octets += x.room
		}
	}
	return octets
}

// hold makes sure of room for what a task is to keep besides. More than was set
// aside for it no distributor can make up: machines and operators signed it.
func (d *Desk) hold(t *task, size int) bool {
	l, more := d.load[t.number.enterprise], t.has()+size-t.room
	if more <= 0 {
		return true
	}
	if !d.relieve(t.number.enterprise, func() bool { return l.full(0, more) }) || t.over {
		return false
	}
	l.add(t.number.distributor, 0, more)
	t.room += more
	return true
}

// release gives a task's room back.
func (d *Desk) release(t *task) { d.load[t.number.enterprise].add(t.number.distributor, -1, -t.room) }

// relieve drops tasks of an enterprise that have their signatures, oldest first,
// until there is room: they only wait for their distributor to say that they are
// over, and one that wants proofs brings its task again.
func (d *Desk) relieve(enterprise uint64, no func() bool) bool {
	for no() {
		i := slices.IndexFunc(d.open, func(t *task) bool { return t.signed && t.number.enterprise == enterprise })
		if i < 0 {
			return false
		}
		d.forgo(d.open[i])
	}
	return true
}

// turnAway says for the machines of this site that there is no room for a task.
func (d *Desk) turnAway(a *authority, p *Packet) {
	for _, h := range a.key.Holders {
		if _, own := a.own[h.Device]; !own || slices.Contains(p.Acked, h.Device) || d.unknown[a.code] >= maxUnknown {
			continue
		}
		d.unknown[a.code]++
		d.send(numberOf(p), p.Request, Packet{Kind: KindFailed, Device: h.Device, Text: "its site has no room for more tasks now"})
	}
}

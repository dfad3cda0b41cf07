package tolerant

import (
	"slices"
	"strings"

	"github.com/privyseal/privyseal/firmware"
)

// job is something to ask a device for.
type job struct {
	device *device
	t      *task
	m      *machine
	typ    string // firmware.Type… of the message
}

// device is a device of this site, with what it is to be asked. Whatever waits
// for it keeps nobody else waiting (B [0119]).
type device struct {
	id    string
	busy  int
	lanes []*lane // the one whose turn it is comes first
}

// lane holds what one enterprise wants of a device, so that one with many tasks
// cannot keep another's waiting.
type lane struct {
	enterprise uint64
	urgent     []*job // operators confirmed
	offers     []*job
}

func (d *Desk) device(id string) *device {
	i, ok := slices.BinarySearchFunc(d.devices, id, func(x *device, id string) int { return strings.Compare(x.id, id) })
	if !ok {
		d.devices = slices.Insert(d.devices, i, &device{id: id})
	}
	return d.devices[i]
}

func (x *device) lane(enterprise uint64) *lane {
	for _, l := range x.lanes {
		if l.enterprise == enterprise {
			return l
		}
	}
	l := &lane{enterprise: enterprise}
	x.lanes = append(x.lanes, l)
	return l
}

// enqueue lines a job up. A machine has at most one of each kind in its task.
func (d *Desk) enqueue(t *task, m *machine, typ string) {
	x := d.device(m.device)
	l := x.lane(t.number.enterprise)
	j := &job{x, t, m, typ}
	if typ == firmware.TypeOfferAsk {
		l.offers = append(l.offers, j)
	} else {
		l.urgent = append(l.urgent, j)
	}
}

// pop takes the next job: what operators confirmed first, and enterprises in
// turn.
func (x *device) pop() *job {
	for _, of := range []func(*lane) *[]*job{
		func(l *lane) *[]*job { return &l.urgent },
		func(l *lane) *[]*job { return &l.offers },
	} {
		for i, l := range x.lanes {
			jobs := of(l)
			if len(*jobs) == 0 {
				continue
			}
			j := (*jobs)[0]
			(*jobs)[0] = nil // the array lives on
			*jobs = (*jobs)[1:]
			x.lanes = append(slices.Delete(x.lanes, i, i+1), l)
			return j
		}
	}
	return nil
}

// pump asks devices for what they can be asked now.
func (d *Desk) pump() {
	for _, x := range d.devices {
		for x.busy < maxAtOnce {
			j := x.pop()
			if j == nil {
				break
			}
			payload := d.payload(j)
			if payload == nil { // not wanted any more
				j.m.idle(j.typ)
				continue
			}
			x.busy++
			d.lastAsk++
			d.asks[d.lastAsk] = j
			d.out.Asks = append(d.out.Asks, Ask{ID: d.lastAsk, Device: x.id, Type: j.typ, Payload: payload})
		}
	}
}

// finish ends an ask. It returns nil if the task is over, or the ask unknown.
func (d *Desk) finish(id uint64) *job {
	j, ok := d.asks[id]
	if !ok {
		return nil
	}
	delete(d.asks, id)
	j.device.busy--
	j.m.idle(j.typ)
	if j.t.over || j.m.gone {
		return nil
	}
	return j
}

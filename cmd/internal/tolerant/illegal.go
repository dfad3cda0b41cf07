package tolerant

import (
	"slices"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// outlaw keeps an illegal task to be looked at (B [0113]). kind is the reason
// without what differs from task to task.
func (d *Desk) outlaw(n number, request envelope.Hash, device, kind, why string) {
	x := api.IllegalTask{
		Enterprise: n.enterprise, Distributor: n.distributor, Task: n.task, Request: request, Device: device,
		Why: document.Escape(clip(why)), Seen: d.now, Forget: d.now + KeepIllegal,
	}
	same := func(y api.IllegalTask) bool {
		y.Why, y.Seen, y.Forget = x.Why, x.Seen, x.Forget
		return x == y
	}
	if slices.ContainsFunc(d.illegal, same) {
		return // the first reason is the one that was seen
	}
	d.illegal, d.out.Keep, d.kinds[x] = append(d.illegal, x), true, kind
	count := 0
	for i := len(d.illegal) - 1; i >= 0; i-- {
		if d.illegal[i].Enterprise != n.enterprise {
			continue
		}
		if count++; count > maxIllegal {
			delete(d.kinds, d.illegal[i])
			d.illegal = slices.Delete(d.illegal, i, i+1)
			return
		}
	}
}

// forget drops what was kept long enough.
func (d *Desk) forget() {
	d.forgetLast()
	before := len(d.illegal)
	d.illegal = slices.DeleteFunc(d.illegal, func(x api.IllegalTask) bool {
		over := x.Forget <= d.now
		if over {
			delete(d.kinds, x)
		}
		return over
	})
	d.out.Keep = d.out.Keep || len(d.illegal) != before
	for who, order := range d.order {
		for len(order) > 0 && d.used[order[0]].until <= d.now {
			delete(d.used, order[0])
			order = order[1:]
		}
		if len(order) == 0 {
			delete(d.order, who)
			continue
		}
		d.order[who] = order
	}
}

// Illegal are tasks that no operator confirmed, or that are not what they say
// they are, oldest first.
func (d *Desk) Illegal() []api.IllegalTask { return slices.Clone(d.illegal) }

// KindOf is the reason of an illegal task without what differs from task to task. Of
// those that were kept from before it is empty.
func (d *Desk) KindOf(x api.IllegalTask) string { return d.kinds[x] }

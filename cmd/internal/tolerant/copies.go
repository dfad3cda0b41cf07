package tolerant

import (
	"bytes"
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// An output interface that lost a packet, was away, or was passed over by a
// distributor asks the combiners' site for its copies: of the task, and of what
// they made of it. A task that is over is kept for that a little longer, or a
// distributor could say so faster than anybody can ask.

// TaskName names a task for good: numbers come again after two days.
type TaskName struct {
	Enterprise  uint64        `cbor:"1,keyasint"`
	Distributor uint64        `cbor:"2,keyasint"`
	Task        uint64        `cbor:"3,keyasint"`
	Request     envelope.Hash `cbor:"4,keyasint"`
}

func (t *task) name() TaskName {
	return TaskName{t.number.enterprise, t.number.distributor, t.number.task, t.about.Digest}
}

// last are copies of a task that is over.
type last struct {
	name    TaskName
	packets []Packet
	size    int
	until   int64
}

// Combined names an enterprise's tasks that a combiner of this site made
// signatures of, and that it still has copies of.
func (d *Desk) Combined(enterprise uint64) []TaskName {
	names := []TaskName{}
	for _, t := range d.open {
		if t.number.enterprise == enterprise && slices.ContainsFunc(t.machines, (*machine).hasCombined) {
			names = append(names, t.name())
		}
	}
	for _, x := range d.last {
		if x.name.Enterprise == enterprise {
			names = append(names, x.name)
		}
	}
	return names
}

// Copies are the packets by which a task came, and by which its combiners of this
// site said what they made: none if it is not known (any more).
func (d *Desk) Copies(name TaskName) []Packet {
	if t := d.tasks[number{name.Enterprise, name.Distributor, name.Task}]; t != nil && t.about.Digest == name.Request {
		return d.copies(t)
	}
	if i := slices.IndexFunc(d.last, func(x last) bool { return x.name == name }); i >= 0 {
		return d.last[i].packets
	}
	return nil
}

func (m *machine) hasCombined() bool { return m.combines() && m.result != nil }

func (d *Desk) copies(t *task) []Packet {
	about := Packet{Site: d.cfg.Site, Enterprise: t.number.enterprise, Distributor: t.number.distributor, Task: t.number.task, Request: t.about.Digest}
	p := about
	p.Kind, p.Distribution, p.Message = KindTask, t.packet, t.raw
	out := []Packet{p}
	for _, m := range t.machines {
		if m.hasCombined() {
			p := about
			p.Kind, p.Device, p.Message = KindCombined, m.device, m.result
			out = append(out, p)
		}
	}
	return out
}

// keepLast keeps copies of a task that ends here. The oldest of its enterprise
// give way.
func (d *Desk) keepLast(t *task) {
	if !slices.ContainsFunc(t.machines, (*machine).hasCombined) {
		return
	}
	x := last{name: t.name(), packets: d.copies(t), until: d.now + keepLast}
	for _, p := range x.packets {
		x.size += len(p.Distribution) + len(p.Message)
	}
	d.last = append(slices.DeleteFunc(d.last, func(y last) bool { return y.name == x.name }), x)
	count, size := 0, 0
	for i, y := range slices.Backward(d.last) {
		if y.name.Enterprise != x.name.Enterprise {
			continue
		}
		count++
		if size += y.size; count > 1 && (count > maxLast || size > maxLastOctets) {
			d.last = slices.Delete(d.last, i, i+1)
		}
	}
}

// forgetLast drops what was kept long enough.
func (d *Desk) forgetLast() {
	d.last = slices.DeleteFunc(d.last, func(x last) bool { return x.until <= d.now })
}

// MarshalCopies encodes what a site answers to an output interface that names a
// task: as many packets as fit.
func MarshalCopies(packets []Packet) ([]byte, error) {
	all := [][]byte{}
	size := 0
	for _, p := range packets {
		raw, err := Marshal(p)
		if err != nil {
			return nil, err
		}
		if size += len(raw) + 8; size > maxCopies {
			break
		}
		all = append(all, raw)
	}
	return envelope.Marshal(all)
}

// UnmarshalCopies decodes it: packets of that task and of nothing else.
func UnmarshalCopies(data []byte, name TaskName) ([]Packet, error) {
	var all [][]byte
	if err := envelope.Unmarshal(data, &all); err != nil {
		return nil, err
	}
	var out []Packet
	for _, raw := range all {
		p, err := Unmarshal(bytes.Clone(raw))
		if err != nil {
			return nil, err
		}
		if (p.Kind != KindTask && p.Kind != KindCombined) || (TaskName{p.Enterprise, p.Distributor, p.Task, p.Request}) != name {
			return nil, ErrPacket
		}
		out = append(out, p)
	}
	return out, nil
}

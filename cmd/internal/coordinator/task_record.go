package coordinator

import (
	"bytes"
	"slices"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// taskRecord is what has to survive of a task. Powers are not in it: their
// makers' desks repeat them, or the calculators compute them again.
type taskRecord struct {
	Packet      []byte             `cbor:"1,keyasint"` // a number is used for one task, and stays its own
	Liars       []api.Liar         `cbor:"2,keyasint"`
	Accusations []accusationRecord `cbor:"3,keyasint"`
	Reasons     [][]byte           `cbor:"4,keyasint"` // of accusations, each once
	Claimed     []string           `cbor:"5,keyasint,omitempty"`
}

type accusationRecord struct {
	Combiner   string        `cbor:"1,keyasint"` // device ids
	Calculator string        `cbor:"2,keyasint"`
	Claimed    envelope.Hash `cbor:"3,keyasint"`
	Shown      envelope.Hash `cbor:"4,keyasint"`
	Until      int64         `cbor:"5,keyasint"`
	Reason     int           `cbor:"6,keyasint"` // which, from 0
}

func (r *Request) recordTask() *taskRecord {
	t := r.task
	out := &taskRecord{Packet: t.packet, Liars: t.liars, Claimed: t.claimed}
	for _, a := range t.accusations {
		i := slices.IndexFunc(out.Reasons, func(raw []byte) bool { return bytes.Equal(raw, a.reason) })
		if i < 0 {
			i, out.Reasons = len(out.Reasons), append(out.Reasons, a.reason)
		}
		out.Accusations = append(out.Accusations, accusationRecord{a.combiner.id, a.calculator.id, a.claimed, a.shown, a.until, i})
	}
	return out
}

// resumeTask goes on with the number that the task had. One whose days are over
// meanwhile gets another.
func (r *Request) resumeTask(in *taskRecord) {
	t := r.task
	t.liars, t.claimed = in.Liars, in.Claimed
	if t.take(r, in.Packet) != nil {
		t.packet = nil
	}
	find := func(id string) *device {
		if i := slices.IndexFunc(r.devices, func(d *device) bool { return d.id == id }); i >= 0 {
			return r.devices[i]
		}
		return nil
	}
	for _, x := range in.Accusations {
		combiner, calculator := find(x.Combiner), find(x.Calculator)
		if combiner == nil || calculator == nil || x.Reason < 0 || x.Reason >= len(in.Reasons) {
			continue
		}
		t.accusations = append(t.accusations, r.newAccusation(combiner, calculator, x.Claimed, x.Shown, in.Reasons[x.Reason]))
	}
}

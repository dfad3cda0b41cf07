package tolerant

import (
	"maps"
	"slices"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Config is what a desk works with.
type Config struct {
	State ledger.State
	Site  string // id of the server
	// Illegal are the illegal tasks that an earlier run kept.
	Illegal []api.IllegalTask
	// Checked is what the same server found when it checked the document of a
	// request, if it would find the same with a ledger at a time; nil: the desk
	// checks it.
	Checked func(request, head envelope.Hash, now int64) *document.Checked
}

// Effects are what a step wants done.
type Effects struct {
	Asks []Ask
	// Send are packets for all sites, this one included: each goes on its own
	// channel ([Packet.Channel]) of its enterprise.
	Send []Packet
	// Keep says that the illegal tasks changed: [Desk.Illegal] has to be kept.
	Keep bool
}

// Ask sends a message to a device of this site. Its answer, a COSE_Sign1 of the
// device, which the server has verified, comes back with [Desk.Answer], or its
// silence with [Desk.Silent].
type Ask struct {
	ID      uint64
	Device  string
	Type    string // firmware.Type…
	Payload any    // of that type
}

// Desk is where the calculators and combiners of one site work. It is a pure
// state machine: no clock, no network, no goroutine. It is not safe for
// concurrent use.
type Desk struct {
	cfg         Config
	authorities map[uint64]*authority // by enterprise code
	tasks       map[number]*task
	open        []*task // the same, oldest first
	load        map[uint64]*load
	used        map[number]*use
	order       map[distributor][]number // of used, oldest first
	illegal     []api.IllegalTask        // oldest first
	kinds       map[api.IllegalTask]string
	turned      map[uint64]*refusals // tasks that did not pass
	last        []last               // oldest first
	devices     []*device
	asks        map[uint64]*job
	lastAsk     uint64

	// Of the step under way.
	now     int64
	out     Effects
	unknown map[uint64]int // said since now, by enterprise
}

// authority is an enterprise's, with the machines of this site.
type authority struct {
	code uint64
	key  ledger.Key
	own  map[string]ledger.Holder // by device
	// several task distributors share the room.
	several bool
	// verifier is of the key; nil on a machine that computes wrongly.
	verifier *threshold.Verifier
}

// number names a task among those of two days (B [0107]). What two enterprises
// number alike is not alike.
type number struct{ enterprise, distributor, task uint64 }

type distributor struct{ enterprise, distributor uint64 }

func (n number) owner() distributor { return distributor{n.enterprise, n.distributor} }

func numberOf(p *Packet) number { return number{p.Enterprise, p.Distributor, p.Task} }

// use is what a number stands for.
type use struct {
	request envelope.Hash
	until   int64
	over    bool // done, or given up here
}

// NewDesk makes the desk of a site.
func NewDesk(c Config) *Desk {
	d := &Desk{
		cfg: c, tasks: map[number]*task{}, load: map[uint64]*load{}, used: map[number]*use{}, order: map[distributor][]number{},
		illegal: slices.Clone(c.Illegal), kinds: map[api.IllegalTask]string{}, asks: map[uint64]*job{}, turned: map[uint64]*refusals{},
		unknown: map[uint64]int{},
	}
	d.read()
	return d
}

// read finds this site's machines in the ledger.
func (d *Desk) read() {
	before := d.authorities
	d.authorities = map[uint64]*authority{}
	for _, e := range d.cfg.State.Enterprises() {
		a := &authority{code: e.Enterprise.Code, key: e.Key, own: map[string]ledger.Holder{}, several: len(e.Distributors) > 1}
		for _, h := range e.Key.Holders {
			if row, ok := d.cfg.State.Device(h.Device); ok && row.Server == d.cfg.Site {
				a.own[h.Device] = h
				d.device(h.Device)
			}
		}
		if was := before[a.code]; was != nil && was.verifier != nil { // the key stays for good
			a.verifier = was.verifier
		} else if len(a.own) > 0 { // now, or since the authority has grown
			a.verifier, _ = threshold.NewVerifier(&e.Key.Public)
		}
		d.authorities[a.code] = a
		if d.load[a.code] == nil {
			d.load[a.code] = &load{of: map[uint64]*held{}}
		}
	}
}

// Packet takes a packet from any channel. Whoever calls has compared its
// enterprise and [Packet.Channel] with the subject on which it came.
func (d *Desk) Packet(now int64, p Packet) Effects {
	return d.step(now, func() {
		a := d.authorities[p.Enterprise]
		if a == nil || len(a.own) == 0 || p.check() != nil {
			return
		}
		switch p.Kind {
		case KindTask:
			d.takeTask(a, &p)
		case KindConfirmed:
			d.confirmed(a, &p)
		case KindRejected:
			d.rejected(a, &p)
		case KindDone:
			d.done(&p)
		case KindPowers:
			d.powers(&p)
		case KindCombined:
			d.combined(&p)
		}
	})
}

// Answer takes a device's answer to an ask.
func (d *Desk) Answer(now int64, id uint64, raw []byte) Effects {
	return d.step(now, func() {
		if j := d.finish(id); j != nil {
			d.answered(j, raw)
		}
	})
}

// Silent says that an ask brought no answer.
func (d *Desk) Silent(now int64, id uint64, why string) Effects {
	return d.step(now, func() {
		if j := d.finish(id); j != nil {
			d.silent(j, why)
		}
	})
}

// Awake says that a device is worth asking again at once: its link came up, or
// its officers unlocked it. It may have lost its one-time keys: what it has not
// worked on it is asked for anew, and repeats its offer if that stands.
func (d *Desk) Awake(now int64, device string) Effects {
	return d.step(now, func() {
		for _, t := range d.open {
			if m := t.machine(device); m != nil && m.result == nil && !t.signed && m.called {
				d.askOffer(t, m)
			}
		}
	})
}

// Tick lets time pass. It is called every second or so.
func (d *Desk) Tick(now int64) Effects {
	return d.step(now, func() {
		for _, t := range slices.Clone(d.open) {
			if t.expires <= d.now {
				d.expired(t)
			}
		}
		d.forget()
	})
}

// Renew says that the ledger has grown. Work goes on; machines that were taken
// away are asked for nothing more.
func (d *Desk) Renew(now int64, s ledger.State) Effects {
	return d.step(now, func() {
		d.cfg.State = s
		d.read()
		for _, t := range d.open {
			a := d.authorities[t.number.enterprise]
			t.machines = slices.DeleteFunc(t.machines, func(m *machine) bool {
				h, ok := a.own[m.device]
				if !ok || h.Layer != m.holder.Layer || h.Index != m.holder.Index {
					m.gone = true
					return true
				}
				m.holder, m.answered = h, 0 // it may have other officers, and another offer for them
				return false
			})
			// The powers of a calculator that is gone are those of nobody now.
			maps.DeleteFunc(t.powers, func(j uint64, _ []byte) bool {
				_, ok := a.key.Machine(ledger.LayerCalculator, j)
				return !ok
			})
			d.combineAll(t)
		}
	})
}

func (d *Desk) step(now int64, event func()) Effects {
	if now > d.now {
		d.now = now
		clear(d.unknown)
	}
	d.out = Effects{}
	event()
	d.pump()
	return d.out
}

// send broadcasts a packet about a task.
func (d *Desk) send(n number, request envelope.Hash, p Packet) {
	p.Site, p.Enterprise, p.Distributor, p.Task, p.Request = d.cfg.Site, n.enterprise, n.distributor, n.task, request
	d.out.Send = append(d.out.Send, p)
}

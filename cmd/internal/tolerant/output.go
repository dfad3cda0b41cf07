package tolerant

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Output is the output interface as a machine of its own (B [0038], Fig. 2): it
// listens to what the task distributor gives out and to what combiners make of
// it, verifies both, and keeps what was signed. It trusts neither: a distributor
// that has a certificate signed cannot keep it to itself, and a combiner whose
// signature does not verify is named (B [0051], [0116]). It sends nothing on the
// channels.
//
// It is a pure state machine: no clock, no network, no goroutine. It is not safe
// for concurrent use.
type Output struct {
	cfg         OutputConfig
	authorities map[uint64]*listened // by enterprise code
	tasks       map[TaskName]*watched
	order       map[distributor][]TaskName // of tasks, oldest first
	numbers     map[number]*stands         // what the tasks' numbers stand for
	open        []*task                    // that wait for signatures, oldest first
	load        map[uint64]*load           // of those, by enterprise
	issued      map[envelope.Hash]*issued
	kept        map[uint64]*shelf  // the same, by enterprise
	fresh       []*issued          // those whose record is in memory
	copying     map[TaskName]int64 // when it may be asked for again

	// Of the step under way.
	now int64
	out OutputEffects
}

// OutputConfig is what an output interface works with.
type OutputConfig struct {
	State ledger.State
	Site  string // id of the server
	// Enterprises are the codes of those it listens to. What the ledger does not
	// know yet it may bring.
	Enterprises []uint64
}

// OutputEffects are what a step wants done.
type OutputEffects struct {
	// Keep has to be made durable, and then [Output.Kept] called: whoever asks is
	// told only what is. What was not is handed out again.
	Keep []Keep
	// Forget has its time behind it, or gives way to what is newer.
	Forget []envelope.Hash
	// Fetch asks sites for their copies: each of them is a packet.
	Fetch  []Fetch
	Alarms []api.Alarm
}

// Keep is what is known of a request that was signed. A later version takes the
// place of an earlier one.
type Keep struct {
	Issued  api.Issued
	Version uint64
}

// Fetch names a task of which a combiner of a site made signatures.
type Fetch struct {
	Site string // id of the server
	TaskName
}

// listened is an authority.
type listened struct {
	key      ledger.Key
	verifier *threshold.Verifier
}

// watched is a task that a distributor gave out. One number may stand for two, if
// he lies: then both are watched.
type watched struct {
	facts   firmware.Distribution
	until   int64
	t       *task    // nil: its signatures are here, or it gave way
	unsound bool     // its signatures would be no use
	named   []string // combiners that sent wrong ones
}

// stands is what a number stands for.
type stands struct {
	request envelope.Hash // the first
	tasks   int
	twice   bool // it was told that there are two
}

// NewOutput makes one.
func NewOutput(c OutputConfig) *Output {
	o := &Output{
		cfg: c, tasks: map[TaskName]*watched{}, order: map[distributor][]TaskName{}, numbers: map[number]*stands{}, load: map[uint64]*load{},
		issued: map[envelope.Hash]*issued{}, kept: map[uint64]*shelf{}, copying: map[TaskName]int64{},
	}
	o.read()
	return o
}

func (o *Output) read() {
	before := o.authorities
	o.authorities = map[uint64]*listened{}
	for _, code := range o.cfg.Enterprises {
		e, ok := o.cfg.State.Enterprise(code)
		if !ok {
			continue
		}
		a := &listened{key: e.Key}
		if was := before[code]; was != nil { // the key stays for good
			a.verifier = was.verifier
		} else if v, err := threshold.NewVerifier(&e.Key.Public); err == nil {
			a.verifier = v
		} else {
			continue // a machine that computes wrongly judges nobody
		}
		o.authorities[code] = a
		if o.load[code] == nil {
			o.load[code] = &load{of: map[uint64]*held{}}
		}
	}
}

// Packet takes a packet from B1 or B3, or a copy of one. Whoever calls has
// compared its enterprise and [Packet.Channel] with the subject on which it came.
func (o *Output) Packet(now int64, p Packet) OutputEffects {
	return o.step(now, func() {
		a := o.authorities[p.Enterprise]
		if a == nil || p.check() != nil {
			return
		}
		switch p.Kind {
		case KindTask:
			o.task(a, &p)
		case KindCombined:
			o.combined(a, &p)
		case KindDone:
			o.done(a, &p)
		}
	})
}

// Combined takes a site's word that combiners of its own made signatures of
// these tasks ([Desk.Combined]), and says which of them are not known here. They
// are to be asked for one after the other: the word is not signed.
func (o *Output) Combined(now int64, site string, names []TaskName) OutputEffects {
	return o.step(now, func() {
		for _, n := range names[:min(len(names), maxCombined)] {
			if w := o.tasks[n]; o.authorities[n.Enterprise] != nil && o.issued[n.Request] == nil && (w == nil || !w.unsound) {
				o.out.Fetch = append(o.out.Fetch, Fetch{site, n})
			}
		}
	})
}

// Tick lets time pass. It is called every second or so.
func (o *Output) Tick(now int64) OutputEffects {
	return o.step(now, func() {
		for _, t := range slices.Clone(o.open) {
			if t.expires <= o.now {
				o.drop(t)
			}
		}
		for who, order := range o.order {
			for len(order) > 0 && o.tasks[order[0]].until <= o.now {
				o.forgetTask(order[0])
				order = order[1:]
			}
			if o.order[who] = order; len(order) == 0 {
				delete(o.order, who)
			}
		}
		for name, at := range o.copying {
			if at <= o.now {
				delete(o.copying, name)
			}
		}
		for _, is := range slices.Clone(o.fresh) {
			o.due(is)
		}
		for _, x := range o.kept {
			for len(x.all) > 0 && x.all[0].seen+KeepIssued <= o.now {
				o.forget(x.all[0])
			}
		}
	})
}

// Renew says that the ledger has grown.
func (o *Output) Renew(now int64, s ledger.State) OutputEffects {
	return o.step(now, func() {
		o.cfg.State = s
		o.read()
	})
}

func (o *Output) step(now int64, event func()) OutputEffects {
	o.now = max(o.now, now)
	o.out = OutputEffects{}
	event()
	return o.out
}

// alarm tells of what a distributor or a combiner does. What it does again is of the
// same kind.
func (o *Output) alarm(device string, who distributor, kind, format string, args ...any) {
	o.out.Alarms = append(o.out.Alarms, api.Alarm{
		At: o.now, Device: device, Kind: fmt.Sprintf("output interface: %d %d: %s", who.enterprise, who.distributor, kind),
		Text: "output interface: " + fmt.Sprintf(format, args...),
	})
}

// task takes the distributor's broadcast, or somebody's copy of it.
func (o *Output) task(a *listened, p *Packet) {
	name := nameOf(p)
	w := o.tasks[name]
	if w != nil && (w.t != nil || w.unsound || o.issued[p.Request] != nil) {
		return
	}
	dist, err := firmware.VerifyDistribution(o.cfg.State, p.Distribution, o.now)
	if err != nil || (TaskName{dist.Enterprise, dist.Distributor, dist.Task, dist.Request}) != name {
		return
	}
	if o.issued[p.Request] != nil {
		o.watch(name, dist)
		return
	}
	t := &task{number: numberOf(p), distribution: *dist, packet: bytes.Clone(p.Distribution), raw: bytes.Clone(p.Message)}
	c := Config{State: o.cfg.State}
	v, err := t.authentic(&c)
	if err != nil {
		return
	}
	// As of when it was given out: a copy may come much later, and whether machines
	// accept the document now is for them to say.
	err = t.verify(&c, &authority{code: name.Enterprise, key: a.key}, v, min(dist.Created, o.now))
	var illegal *illegalError
	if errors.As(err, &illegal) {
		o.watch(name, dist).unsound = true
		o.alarm("", name.number().owner(), "illegal: "+illegal.kind, "illegal task %d of distributor %d of enterprise %d, request %s: %s", name.Task, name.Distributor, name.Enterprise, name.Request, document.Escape(clip(illegal.Error())))
		return
	}
	if err != nil || !o.admit(a, t) {
		return
	}
	o.open = append(o.open, t)
	o.watch(name, dist).t = t
}

func nameOf(p *Packet) TaskName { return TaskName{p.Enterprise, p.Distributor, p.Task, p.Request} }

func (n TaskName) number() number { return number{n.Enterprise, n.Distributor, n.Task} }

// watch remembers what a number stands for, and tells if it does for two requests
// (B [0107]).
func (o *Output) watch(name TaskName, dist *firmware.Distribution) *watched {
	if w := o.tasks[name]; w != nil {
		return w
	}
	n := name.number()
	who := n.owner()
	if order := o.order[who]; len(order) >= outputNumbers {
		o.forgetTask(order[0])
		o.order[who] = order[1:]
	}
	w := &watched{facts: *dist, until: dist.Created + firmware.TaskPeriod}
	o.tasks[name] = w
	o.order[who] = append(o.order[who], name)
	x := o.numbers[n]
	if x == nil {
		x = &stands{request: name.Request}
		o.numbers[n] = x
	}
	if x.tasks++; x.request != name.Request && !x.twice {
		x.twice = true
		o.alarm("", who, "number", "distributor %d of enterprise %d gave number %d to two requests, %s and %s", n.distributor, n.enterprise, n.task, x.request, name.Request)
	}
	return w
}

func (o *Output) forgetTask(name TaskName) {
	if w := o.tasks[name]; w.t != nil {
		o.drop(w.t)
	}
	delete(o.tasks, name)
	if x := o.numbers[name.number()]; x.tasks > 1 {
		x.tasks--
	} else {
		delete(o.numbers, name.number())
	}
}

// admit makes room for a task that waits. Those of the distributor that has most
// give way, oldest first.
func (o *Output) admit(a *listened, t *task) bool {
	l := o.load[t.number.enterprise]
	t.room = len(t.raw) + len(t.packet) + int(t.distribution.Documents)*messageRoom/4 // of a document a few digests are kept besides
	for l.tasks+1 > outputTasks || l.octets+t.room > outputOctets {
		most, octets := uint64(0), -1
		for d, h := range l.of {
			if h.tasks > 0 && (h.octets > octets || h.octets == octets && d < most) {
				most, octets = d, h.octets
			}
		}
		i := slices.IndexFunc(o.open, func(x *task) bool {
			return x.number.owner() == distributor{t.number.enterprise, most}
		})
		if i < 0 {
			return false
		}
		o.drop(o.open[i])
	}
	l.add(t.number.distributor, 1, t.room)
	return true
}

// drop ends the waiting of a task.
func (o *Output) drop(t *task) {
	if w := o.tasks[t.name()]; w != nil {
		w.t = nil
	}
	o.open = slices.DeleteFunc(o.open, func(x *task) bool { return x == t })
	o.load[t.number.enterprise].add(t.number.distributor, -1, -t.room)
}

// combined takes what a combiner made.
func (o *Output) combined(a *listened, p *Packet) {
	w, is := o.tasks[nameOf(p)], o.issued[p.Request]
	if w == nil || w.t == nil && is == nil && !w.unsound {
		if is == nil {
			o.missed(a, p)
		}
		return
	}
	c, err := firmware.VerifyCombined(o.cfg.State, &a.key, &w.facts, p.Message)
	if err != nil || w.unsound {
		return
	}
	if is != nil { // a document has one signature only: see Desk.verified
		if signaturesHash(c.Signatures) != is.signatures {
			o.name(w, c, is)
		} else if is.record != nil && !is.settled && !slices.Contains(is.record.Combiners, c.Device) {
			is.record.Combiners = append(is.record.Combiners, c.Device)
			o.keep(is)
		}
		return
	}
	switch verdict := o.judge(a, w.t, c.Signatures); verdict {
	case wrong:
		o.name(w, c, nil)
	case right:
		o.release(w, c.Signatures, c.Device)
	}
}

// missed asks for the task that a combiner speaks of. Packets are not signed, but
// what is in this one is: nobody can have us ask for what was never combined.
func (o *Output) missed(a *listened, p *Packet) {
	name := nameOf(p)
	if o.copying[name] > o.now || len(o.copying) >= maxCopying {
		return
	}
	u, err := envelope.Parse(p.Message)
	if err != nil {
		return
	}
	var x firmware.Combined
	if envelope.Unmarshal(u.UnverifiedPayload(), &x) != nil || len(x.Signatures) > max(1, document.MaxBatch(&a.key)) {
		return
	}
	as := firmware.Distribution{
		Enterprise: p.Enterprise, Distributor: p.Distributor, Task: p.Task, Request: p.Request, Documents: uint64(len(x.Signatures)),
	}
	c, err := firmware.VerifyCombined(o.cfg.State, &a.key, &as, p.Message)
	if err != nil || c.Made+firmware.TaskPeriod <= o.now {
		return
	}
	if row, ok := o.cfg.State.Device(c.Device); ok {
		o.copying[name] = o.now + copyAgain
		o.out.Fetch = append(o.out.Fetch, Fetch{row.Server, name})
	}
}

// done takes the distributor's word that a task is over. The signatures in it
// speak for themselves.
func (o *Output) done(a *listened, p *Packet) {
	w := o.tasks[nameOf(p)]
	if w == nil {
		return
	}
	if w.t != nil && o.judge(a, w.t, p.Signatures) == right {
		o.release(w, p.Signatures, "")
	}
	is := o.issued[p.Request]
	if is == nil || is.record == nil || is.settled || signaturesHash(p.Signatures) != is.signatures {
		return
	}
	is.record.Done, is.settled = o.now, true
	o.keep(is)
}

type verdict int

const (
	unsure verdict = iota // it is heard again
	wrong
	right
)

// judge verifies the signatures of all documents.
func (o *Output) judge(a *listened, t *task, signatures [][]byte) verdict {
	x, err := t.checked.EncodedMessages(t.about.Digest)
	if err != nil || len(x) != len(signatures) {
		return unsure
	}
	switch err := a.verifier.VerifyAll(x, signatures); {
	case err == nil:
		return right
	case errors.Is(err, threshold.ErrSignature):
		return wrong
	}
	return unsure
}

// name tells of a combiner that signed with its token for what does not verify.
func (o *Output) name(w *watched, c *firmware.Combined, is *issued) {
	if slices.Contains(w.named, c.Device) {
		return
	}
	w.named = append(w.named, c.Device)
	o.alarm(c.Device, distributor{enterprise: c.Enterprise}, "signature", "combiner %d (%s) of enterprise %d sent a signature that does not verify, in task %d of distributor %d", c.Number, c.Device, c.Enterprise, c.Task, c.Distributor)
	if is != nil && is.record != nil && !is.settled {
		is.record.Wrong = w.named
		o.keep(is)
	}
}

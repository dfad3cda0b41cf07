package coordinator

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// task is a request of a certificate authority in two layers. The coordinator
// is its task distributor and its output interface (B [0097]): it broadcasts,
// and takes what comes. It never chooses machines and need not know which of
// them work.
type task struct {
	enterprise  uint64 // code
	distributor uint64 // number of this server
	packet      []byte // the distribution in force, raw; nil: none yet
	facts       firmware.Distribution
	retry       int64 // of a number, if there was none to be had
	text        string

	// Desks that do not know the task (any more) are told of it anew, now and
	// then.
	unknown   map[*device]bool
	unknownAt int64
	unknownIn int64

	noed   bool // the noes were said once more at the end
	dones  int  // broadcasts of the end so far
	doneAt int64

	accusations []*accusation
	liars       []api.Liar
	claimed     []string // calculators that only the combiner says took part in the signatures
	out         int      // machines that take no part, when it was looked at last; -1: it was not
}

// machine is what the distributor knows of a device of the route as calculator
// or combiner.
type machine struct {
	result []byte        // its powers or its signature, raw: the first that verified as its own
	y      envelope.Hash // of the powers
	proved envelope.Hash // powers that it proved right; zero: none
	sent   bool          // its confirmation went out at least once
	asked  bool          // for proofs
	doubts []*device     // whose powers were here when it found no signature
	trial  *trial        // of whom it suspects
	failed envelope.Hash // the last refusal that counted
	tries  int64         // times that it was told something in vain
	noes   int           // broadcasts of its operator's no so far
	noAt   int64         // the next
}

func (r *Request) layered() bool { return r.task != nil }

func (d *device) calculates() bool { return d.holder.Layer == ledger.LayerCalculator }

// newTask is made with the request.
func (r *Request) newTask() error {
	e, ok := r.State.EnterpriseOf(r.key.ID)
	if !ok {
		return fmt.Errorf("key %s belongs to no enterprise", r.key.ID)
	}
	number, ok := e.DistributorOf(r.Site)
	switch {
	case !ok:
		return fmt.Errorf("server %s gives out no tasks of enterprise %d (%s): send the request to one of %v", r.Site, e.Enterprise.Code, e.Enterprise.Name, distributors(e))
	case r.Distribution == nil:
		return errors.New("this server gives out no tasks")
	}
	r.task = &task{enterprise: e.Enterprise.Code, distributor: number, unknown: map[*device]bool{}, out: -1}
	return nil
}

func distributors(e ledger.Dealing) []string {
	var servers []string
	for _, x := range e.Distributors {
		servers = append(servers, x.Server)
	}
	return servers
}

// Packet takes a packet of a broadcast channel. Those of other requests, tasks
// and channels are passed over, and so is everything if the key is not shared
// in two layers.
func (r *Request) Packet(now int64, channel string, p tolerant.Packet) Effects {
	return r.step(now, func() {
		t := r.task
		if t == nil || channel != p.Channel() || p.Request != r.digest || t.packet == nil ||
			p.Enterprise != t.facts.Enterprise || p.Distributor != t.facts.Distributor || p.Task != t.facts.Task {
			return
		}
		i := slices.IndexFunc(r.devices, func(d *device) bool { return d.id == p.Device })
		if i < 0 {
			return
		}
		d := r.devices[i]
		switch p.Kind {
		case tolerant.KindAck:
			r.acknowledged(d, p.Message)
		case tolerant.KindFailed:
			r.machineFailed(d, p)
		case tolerant.KindUnknown:
			t.unknown[d] = true
		case tolerant.KindPowers:
			r.takePowers(d, p.Message)
		case tolerant.KindCombined:
			r.takeCombined(d, p)
		}
	})
}

// Renew says that the ledger has grown. Machines of the route that were taken
// away are waited for no longer, and what others of them make under the new
// ledger is understood.
func (r *Request) Renew(now int64, s ledger.State) Effects {
	return r.step(now, func() {
		r.State = s
		if !r.layered() {
			return
		}
		r.key, _ = s.Key(r.key.ID) // keys stay for good
		r.task.out = -1
		for _, d := range r.devices {
			r.findMachine(d)
			r.findOfficers(d)
		}
	})
}

const textOutdated = "its officers have changed: it makes a new one-time key"

// advanceTask does what the state of a task allows now.
func (r *Request) advanceTask() {
	r.judgeAll()
	if r.state == api.StateOpen {
		r.feasibleTask()
	}
	if r.state == api.StateOpen {
		r.refreshTask()
		if r.distribute() {
			r.repeatTask()
			r.confirm()
			r.sayNo()
		}
		return
	}
	r.sayNo()
	if r.unsettled() {
		r.demandProofs()
		return
	}
	if r.owesNo() { // before desks hear that it is done, and forget the task
		r.repeatTask() // for those that do not know it any more
		return
	}
	r.sayDone()
	r.closeDevices()
}

// unsettled reports whether a task that has its signature still waits for the
// word of machines: while they are asked for proofs their one-time keys stay.
func (r *Request) unsettled() bool {
	return r.layered() && r.state == api.StateDone && (len(r.task.accusations) > 0 || r.now < r.finished+lateFor+r.work())
}

// distribute makes the packet that gives the task its number, or the next one
// when the number's days are over (B [0107]).
func (r *Request) distribute() bool {
	t := r.task
	if t.packet != nil && r.now < t.facts.Expires {
		return true
	}
	if r.now < t.retry {
		return false
	}
	if t.packet != nil && r.Checked(r.State.Head(), r.now) == nil {
		// Machines look at the document as it is now: validity that begins in the
		// past is acceptable for a while only.
		in, err := r.whole()
		if err == nil {
			_, err = document.CheckIn(r.State, in, r.now)
		}
		if err != nil {
			r.finish(api.StateFailed, "it waited too long: "+clip(err.Error()))
			return false
		}
	}
	expires := min(r.request.Expires, r.now+firmware.TaskPeriod-answerSkew) // the server reads its clock once more
	raw, err := r.Distribution(&r.key, r.digest, r.checked, expires)
	if err == nil {
		err = t.take(r, raw)
	}
	if err != nil {
		t.retry = r.now + refusalWait
		t.text = "the task has no number: " + clip(err.Error())
		r.dirty = true
		return false
	}
	t.text, r.dirty = "", true
	for _, d := range r.devices { // what was made under another number counts no more
		d.machine = machine{}
		d.retry, d.wait = 0, 0
	}
	return true
}

// take makes a packet the one in force.
func (t *task) take(r *Request, raw []byte) error {
	facts, err := firmware.VerifyDistribution(r.State, raw, r.now)
	if err != nil {
		return err
	}
	switch {
	case facts.Enterprise != t.enterprise || facts.Distributor != t.distributor || facts.Request != r.digest:
		return errors.New("the packet is for another task")
	case !bytes.Equal(facts.Hash, r.checked.Digest()) || facts.Documents != uint64(len(r.x)):
		return errors.New("the packet is for another document")
	}
	t.packet, t.facts = bytes.Clone(raw), *facts
	return nil
}

// refreshTask drops what has expired. A machine whose work is here needs no
// operators any more.
func (r *Request) refreshTask() {
	for _, d := range r.devices {
		if d.out() || d.machine.result != nil {
			continue
		}
		if d.offer != nil && d.offer.Offer().Expires <= r.now {
			r.dropOffer(d, "its one-time key expired")
		}
		r.dropExpired(d)
	}
}

// broadcast sends a packet about the task.
func (r *Request) broadcast(p tolerant.Packet) {
	t := r.task
	p.Site, p.Enterprise, p.Distributor, p.Task, p.Request = r.Site, t.facts.Enterprise, t.facts.Distributor, t.facts.Task, r.digest
	r.actions = append(r.actions, Broadcast{Channel: p.Channel(), Packet: p})
}

// pause leaves a machine alone for a while because nothing is heard of it. That
// is no news to record. Packets are lost: for the first minute the pauses are
// short. Later it is a machine that does not work, and they grow.
func (r *Request) pause(d *device) {
	d.machine.tries++
	d.wait = min(max(silenceWait, 2*d.wait), shortWait)
	if n := d.machine.tries - shortTries; n > 0 {
		d.wait = min(int64(shortWait)<<min(n, 16), waitMax)
	}
	d.retry = r.now + d.wait
}

// moved shortens the pauses again, since the channels bring something: others
// may be missing because a packet was lost.
func (r *Request) moved() {
	for _, d := range r.devices {
		if d.machine.tries == 0 || d.out() || !d.calculates() && d.offer != nil {
			continue // a combiner waits for powers
		}
		d.machine.tries, d.wait, d.retry = 0, 0, min(d.retry, r.now+1)
	}
}

// lacking reports whether a machine is to be asked for its acknowledgement.
func (r *Request) lacking(d *device) bool {
	return !d.out() && d.offer == nil && d.machine.result == nil && r.now >= d.retry
}

// repeatTask broadcasts the task while machines are missing that may come yet,
// with growing pauses.
func (r *Request) repeatTask() {
	t := r.task
	var lacking []*device
	for _, d := range r.devices {
		if r.state == api.StateOpen && r.lacking(d) {
			lacking = append(lacking, d)
			r.pause(d)
		}
	}
	again := len(t.unknown) > 0 && r.now >= t.unknownAt
	if len(lacking) == 0 && !again {
		return
	}
	p := tolerant.Packet{Kind: tolerant.KindTask, Distribution: t.packet, Message: r.raw}
	for _, d := range r.devices {
		if !slices.Contains(lacking, d) {
			p.Acked = append(p.Acked, d.id)
		}
	}
	r.broadcast(p)
	if !again {
		return
	}
	t.unknownIn = min(max(1, 2*t.unknownIn), waitMax)
	t.unknownAt = r.now + t.unknownIn
	for d := range t.unknown {
		d.retry = 0 // its confirmation follows, or its no
		if d.machine.noAt = 0; r.state == api.StateOpen {
			d.machine.noes = 0
		}
	}
	clear(t.unknown)
}

// confirm says which machines' operators agreed, until what they make is here.
func (r *Request) confirm() {
	repeated := false
	for _, d := range r.devices {
		if d.out() || !d.complete() || r.now < d.retry {
			continue
		}
		doubt := r.accused(d)
		if d.machine.result != nil && doubt == nil {
			continue
		}
		repeated = repeated || d.machine.sent && !d.calculates()
		r.sendConfirmed(d, doubt)
	}
	if !repeated {
		return
	}
	// A combiner that was told and has not combined may lack powers: they are
	// known here, whoever made them and can or cannot repeat them.
	for _, d := range r.devices {
		if d.calculates() && d.machine.result != nil && !d.wrong {
			r.broadcast(tolerant.Packet{Kind: tolerant.KindPowers, Device: d.id, Message: d.machine.result})
		}
	}
}

// sayNo says which machines' operators did not agree, for their sites to keep the
// task as illegal (B [0113]). Nobody acknowledges it, and packets are lost: it is
// repeated with growing pauses, and a few times more when the task is over.
func (r *Request) sayNo() {
	t := r.task
	if t.packet == nil || r.now >= t.facts.Expires {
		return // desks have dropped it
	}
	if r.state != api.StateOpen && !t.noed {
		t.noed = true
		for _, d := range r.devices {
			d.machine.noes, d.machine.noAt = 0, 0
		}
	}
	for _, d := range r.devices {
		m := &d.machine
		if d.no == nil || m.noes >= r.noTimes() || r.now < m.noAt {
			continue
		}
		m.noAt = r.now + silenceWait<<m.noes
		m.noes++
		r.broadcast(tolerant.Packet{Kind: tolerant.KindRejected, Device: d.id, Message: d.no})
	}
}

func (r *Request) noTimes() int {
	if r.state == api.StateOpen {
		return noTimes
	}
	return lastNoTimes
}

// owesNo reports whether a no of a task that is over has to be said again.
func (r *Request) owesNo() bool {
	t := r.task
	return t.packet != nil && r.now < t.facts.Expires && slices.ContainsFunc(r.devices, func(d *device) bool {
		return d.no != nil && (!t.noed || d.machine.noes < lastNoTimes)
	})
}

// sendConfirmed says that the operators of a machine agree; with a doubt, that it
// has to prove its powers.
func (r *Request) sendConfirmed(d *device, doubt *accusation) {
	p := tolerant.Packet{Kind: tolerant.KindConfirmed, Device: d.id, Offer: d.offerRaw}
	if doubt != nil {
		p.Doubt = doubt.reason
	}
	for _, g := range d.approvals {
		p.Approvals = append(p.Approvals, g.raw)
	}
	r.broadcast(p)
	d.machine.sent, d.machine.asked = true, d.machine.asked || doubt != nil
	r.pause(d)
	d.retry += r.work()
}

// work is how long a machine may take over the documents of the task, in seconds.
func (r *Request) work() int64 { return int64(len(r.x)) / documentsInSecond }

// sayDone tells desks that a task has its signature, a few times.
func (r *Request) sayDone() {
	t := r.task
	if r.state != api.StateDone || t.packet == nil || t.dones >= doneTimes || r.now < t.doneAt || r.now >= r.request.Expires {
		return
	}
	t.dones++
	t.doneAt = r.now + silenceWait<<t.dones
	r.broadcast(tolerant.Packet{Kind: tolerant.KindDone, Signatures: r.signatures})
}

// busyTask reports whether a finished task has something left to do.
func (r *Request) busyTask() bool {
	if !r.layered() || r.now >= r.request.Expires {
		return false
	}
	return r.owesNo() || r.state == api.StateDone && (r.unsettled() || r.task.packet != nil && r.task.dones < doneTimes)
}

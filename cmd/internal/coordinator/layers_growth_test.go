package coordinator_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// revisions of a small authority: 2 of 3 calculators (device-1 to device-3) and 2
// combiners (device-4 and device-5), in a system with room to grow. They are
// made once.
var revisions struct {
	sync.Once
	first, grown, left *revision
}

type revision struct {
	sys ledgertest.System
	a   *ledgertest.Authority
}

func small(t *testing.T) (*world, *ledgertest.Authority) {
	t.Helper()
	revisions.Do(func() {
		printed(t)
		sys := *dealt.bare
		a := sys.Authority(t, ledgertest.SmallPlan(1))
		next := func(p ledgertest.Plan) *revision {
			copied := sys
			return &revision{a: copied.Extend(t, a, p), sys: copied}
		}
		revisions.first = &revision{sys, a}
		revisions.grown = next(ledgertest.GrownPlan(1))
		revisions.left = next(ledgertest.SmallPlan(1).Without([]uint64{1}, []uint64{1}))
	})
	sys := revisions.first.sys
	return newWorldOf(t, &sys, revisions.first.a), revisions.first.a
}

// revise enters the next revision of the authority and tells everybody, sites in
// turn, while packets are on their way.
func (w *world) revise(next *revision) {
	w.t.Helper()
	w.sys.State = next.sys.State
	for _, d := range w.devices {
		d.Join(next.a)
	}
	for _, s := range w.sys.Genesis.Servers {
		w.event(func() { w.carry(s.ID, w.desks[s.ID].Renew(w.now, w.sys.State)) })
	}
	for _, g := range w.tasks {
		w.event(func() { g.do(g.r.Renew(w.now, w.sys.State)) })
	}
}

// TestGrowth: a calculator and a combiner come while a task is under way; the
// task does not notice, and the next one may be done by them alone with one of
// the others (B9).
func TestGrowth(t *testing.T) {
	for at := 1; at < 90; at += 8 {
		w, a := small(t)
		var first *given
		w.before = func(n int) {
			if n == at && first != nil {
				w.revise(revisions.grown)
			}
		}
		first = w.start("server-1", w.request(a))
		w.settle()
		first.signed()
		w.pass(30)
		w.over()
		if at != 41 {
			continue
		}
		w.fault(coordtest.Silent, device(2), device(3), device(4), device(5))
		second := w.start("server-2", w.request(revisions.grown.a))
		w.settle()
		out := second.signed()
		if want := []string{"device-1", "device-6", "device-7"}; !slices.Equal(out.Attempts[0].Devices, want) {
			t.Errorf("signed by %v", out.Attempts[0].Devices)
		}
	}
}

// TestRemoval: a calculator and a combiner are taken away while a task is under
// way that names them. It is done by the others, also after restarts.
func TestRemoval(t *testing.T) {
	for at := 1; at < 90; at += 10 {
		for _, restart := range []bool{false, true} {
			if restart && at%20 == 1 {
				continue
			}
			w, a := small(t)
			var g *given
			w.before = func(n int) {
				switch {
				case g == nil:
				case n == at:
					w.revise(revisions.left)
				case n == at+8 && restart:
					g.restart()
					for _, s := range w.sys.Genesis.Servers {
						w.restartDesk(s.ID)
					}
				}
			}
			g = w.start("server-1", w.request(a))
			w.pass(100)
			out := g.signed()
			if at < 10 {
				for _, d := range out.Attempts[0].Devices {
					if d == "device-1" || d == "device-4" {
						t.Errorf("at %d: %s was taken away and signed", at, d)
					}
				}
			}
		}
	}
}

// TestOtherOfficers: a revision brings a machine other officers while a task waits
// for the old ones. The machine makes a new offer for them, whatever the old ones
// have said, and nobody waits for the end of the first.
func TestOtherOfficers(t *testing.T) {
	w, a := small(t)
	sys := *w.sys
	next := sys.DealNext(t, a, ledgertest.SmallPlan(1))
	for i := range next.Dealing.Officers {
		if o := &next.Dealing.Officers[i]; o.Device == device(1) {
			o.Person = strings.Replace(o.Person, "1", "7", 1)
			o.Card = sys.Persons[o.Person].Card().Serial
		}
	}
	for i := range next.Dealing.Key.Holders {
		if h := &next.Dealing.Key.Holders[i]; h.Device == device(1) {
			h.Version++
		}
	}
	sys.Confirm(t, &next.Dealing)
	sys.Enter(t, next)
	for _, said := range []bool{false, true} {
		w, a := small(t)
		w.fault(coordtest.Silent, device(3))
		w.silent["officer-1b"], w.silent["officer-1a"] = true, !said
		g := w.start("server-1", w.request(a))
		w.pass(3)
		if x := g.r.Tracking().Devices[0]; !x.Offered || len(x.Approved) == 1 != said {
			t.Fatalf("%+v", x)
		}
		if said {
			w.revise(&revision{sys, next})
			w.pass(3)
		} else { // somebody repeats the old offer before the new one is there
			w.fault(coordtest.Silent, device(1))
			w.revise(&revision{sys, next})
			w.settle()
			i := slices.IndexFunc(w.seen, func(p tolerant.Packet) bool { return p.Kind == tolerant.KindAck && p.Device == device(1) })
			w.broadcast("server-3", w.seen[i])
			w.settle()
			w.fault(coordtest.Good, device(1))
			w.pass(20)
		}
		out := g.signed()
		if who := out.Devices[0].Approved; !slices.Equal(who, []string{"Officer 7a", "Officer 7b"}) {
			t.Errorf("approved by %v", who)
		}
		w.pass(60)
		if !g.r.Idle() {
			t.Error("not idle")
		}
	}
}

// TestRemovedTooMany: a request whose machines were all taken away is over.
func TestRemovedTooMany(t *testing.T) {
	w, a := small(t)
	w.hush(device(2), device(3), device(4), device(5))
	g := w.start("server-1", w.request(a, device(1), device(2), device(4)))
	w.settle()
	w.revise(revisions.left)
	w.settle()
	if out := g.r.Tracking(); out.State != api.StateFailed || !strings.Contains(out.Text, "calculator 1 (device-1) was taken away") {
		t.Errorf("%s: %s", out.State, out.Text)
	}
}

// TestNewNumber: a number is a task's for two days. A request that waits longer
// for its operators goes on under another (B [0107]).
func TestNewNumber(t *testing.T) {
	w, a := small(t)
	w.hush(numbers(1, 5)...)
	w.life = 1000
	g := w.start("server-1", coordtest.LayersRequest(t, w.sys, a, w.now, 5*86400))
	w.pass(1)
	g.restart()
	w.pass(1)
	if n := g.r.Tracking().Task; n != 1001 {
		t.Fatalf("task %d after a restart", n)
	}
	w.now += 1000
	clear(w.silent)
	for i := range 5 {
		g.approveAll(device(i + 1))
	}
	w.pass(60)
	out := g.signed()
	if out.Task != 1002 {
		t.Errorf("task %d", out.Task)
	}
	w.over()
	// The combiners' operators had not confirmed it under its first number.
	for _, kept := range w.kept {
		for _, x := range kept {
			if x.Task != 1001 || x.Device != "device-4" && x.Device != "device-5" {
				t.Errorf("%+v", x)
			}
		}
	}
	if len(w.kept) != 2 {
		t.Errorf("%+v", w.kept)
	}
}

// TestWaitedTooLong: no number is spent on a document that machines would refuse.
func TestWaitedTooLong(t *testing.T) {
	w, a := small(t)
	w.hush(numbers(1, 5)...)
	g := w.start("server-1", coordtest.LayersRequest(t, w.sys, a, w.now, 5*86400))
	w.pass(1)
	w.now += 3 * 86400
	w.pass(1)
	if out := g.r.Tracking(); out.State != api.StateFailed || !strings.Contains(out.Text, "waited too long") || out.Task != 1001 {
		t.Errorf("%s: %s", out.State, out.Text)
	}
}

// TestNoNumber: a server that cannot give out numbers says so, and goes on when
// it can.
func TestNoNumber(t *testing.T) {
	w, a := small(t)
	raw := w.request(a)
	w.down["server-1"] = true
	g := w.start("server-1", raw)
	_ = g
	w.pass(20)
	clear(w.down)
	w.pass(60)
	g.signed()
}

// TestHostile: what anybody on the channels may keep and send again, or make up,
// undoes nothing that operators did, and names nobody.
func TestHostile(t *testing.T) {
	w, a := small(t)
	w.hush(device(3), device(5))
	w.fault(coordtest.Refuser, device(2))
	g := w.start("server-1", w.request(a))
	w.pass(20)
	old := slices.Clone(w.seen)
	w.devices[device(1)].Restart() // its offer of then is worth nothing
	w.carry("server-1", w.desks["server-1"].Awake(w.now, device(1)))
	g.do(g.r.Awake(w.now, device(1)))
	w.pass(20)
	w.fault(coordtest.Good, device(2))
	approvals := func() (n int) {
		for _, d := range g.r.Tracking().Devices {
			n += len(d.Approved)
		}
		return n
	}
	before := approvals()
	var offer, approvals1 = []byte(nil), [][]byte(nil)
	for _, p := range w.seen {
		switch {
		case p.Kind == tolerant.KindAck && p.Device == device(3):
			offer = offerOf(t, p)
		case p.Kind == tolerant.KindConfirmed && p.Device == device(1):
			approvals1 = p.Approvals
		}
	}
	mixed := old[0]
	mixed.Kind, mixed.Device, mixed.Distribution, mixed.Message, mixed.Acked = tolerant.KindConfirmed, device(3), nil, nil, nil
	mixed.Offer, mixed.Approvals = offer, approvals1
	w.broadcast("server-3", mixed) // the device fails the test if it is asked
	for range 3 {
		for _, p := range old {
			w.broadcast("server-3", p)
			for _, other := range []string{"device-1", "device-2", "device-3", "device-4", "device-5", "device-9"} {
				if p.Device != "" {
					p.Device = other
					w.broadcast("server-3", p)
				}
			}
			for _, kind := range []string{tolerant.KindPowers, tolerant.KindCombined, tolerant.KindAck, tolerant.KindRejected} {
				if len(p.Message) > 0 && p.Device != "" {
					w.broadcast("server-3", tolerant.Packet{
						Kind: kind, Site: "server-3", Enterprise: p.Enterprise, Distributor: p.Distributor, Task: p.Task, Request: p.Request,
						Device: p.Device, Message: p.Message,
					})
				}
			}
		}
		for i := 1; i <= 5; i++ {
			junk := old[0]
			junk.Kind, junk.Device, junk.Distribution, junk.Message, junk.Acked, junk.Text = tolerant.KindFailed, device(i), nil, nil, nil, "it is dead"
			w.broadcast("server-3", junk)
			junk.Kind, junk.Text = tolerant.KindUnknown, ""
			w.broadcast("server-3", junk)
			junk.Kind, junk.Device, junk.Signatures = tolerant.KindDone, "", [][]byte{make([]byte, 256)}
			w.broadcast("server-3", junk)
		}
		w.settle()
	}
	if after := approvals(); after < before {
		t.Errorf("%d approvals of %d are left", after, before)
	}
	clear(w.silent)
	for i := range 5 {
		g.approveAll(device(i + 1))
	}
	w.pass(60)
	g.signed()
	w.over()
	if len(w.kept) > 0 {
		t.Errorf("illegal: %+v", w.kept)
	}
}

func offerOf(t *testing.T, ack tolerant.Packet) []byte {
	t.Helper()
	u, err := envelope.Parse(ack.Message)
	if err != nil {
		t.Fatal(err)
	}
	var in firmware.Offered
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &in); err != nil {
		t.Fatal(err)
	}
	return in.Offer
}

// TestOldWords: an offer that is gone, and a refusal of then, do not come back;
// nor does a word on another channel or of another task count.
func TestOldWords(t *testing.T) {
	w, a := small(t)
	w.hush(numbers(1, 5)...)
	g := w.start("server-1", w.request(a))
	w.settle()
	task := g.r.Tracking().Task
	refusal := func() tolerant.Packet {
		return tolerant.Packet{
			Kind: tolerant.KindFailed, Site: "server-1", Enterprise: 1, Distributor: 1, Task: task, Request: g.r.Digest(), Device: device(1),
			Message: w.devices[device(1)].Sign(firmware.TypeRefusal, firmware.Refusal{
				Request: g.r.Digest(), Device: device(1), Code: firmware.CodeOffer, Text: "the one-time key is gone", Type: firmware.TypePowersTask,
			}, [16]byte{3}),
		}
	}
	standing := func() (bool, int) {
		d := g.r.Tracking().Devices[0]
		return d.Offered, len(d.Approved)
	}
	first := w.seen[slices.IndexFunc(w.seen, func(p tolerant.Packet) bool { return p.Kind == tolerant.KindAck && p.Device == device(1) })]
	old := refusal()
	w.pass(5)
	w.devices[device(1)].Restart()
	w.carry("server-1", w.desks["server-1"].Awake(w.now, device(1)))
	w.settle()
	delete(w.silent, "officer-1a")
	g.approveAll(device(1))
	w.settle()
	if offered, n := standing(); !offered || n != 1 {
		t.Fatal(offered, n)
	}
	now := refusal()
	other := now
	other.Task++
	g.do(g.r.Packet(w.now, tolerant.B1, first))
	g.do(g.r.Packet(w.now, tolerant.B1, old))
	g.do(g.r.Packet(w.now, tolerant.B2, now))
	g.do(g.r.Packet(w.now, tolerant.B1, other))
	if offered, n := standing(); !offered || n != 1 {
		t.Errorf("undone: %v, %d approvals", offered, n)
	}
	w.fault(coordtest.Silent, device(1))
	g.do(g.r.Packet(w.now, tolerant.B1, now))
	if offered, _ := standing(); offered {
		t.Error("a refusal of now does not count")
	}
	g.do(g.r.Packet(w.now, tolerant.B1, first))
	if offered, _ := standing(); offered {
		t.Error("an offer that is gone counts again")
	}
}

// TestTwoWords: who signed two different powers for one task has convicted
// itself, also if nobody asked.
func TestTwoWords(t *testing.T) {
	w, a := small(t)
	w.hush(device(4), device(5))
	g := w.start("server-1", w.request(a))
	w.settle()
	p := w.seen[slices.IndexFunc(w.seen, func(p tolerant.Packet) bool { return p.Kind == tolerant.KindPowers && p.Device == device(2) })]
	u, err := envelope.Parse(p.Message)
	if err != nil {
		t.Fatal(err)
	}
	var x firmware.Powers
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &x); err != nil {
		t.Fatal(err)
	}
	p.Message = w.devices[device(2)].Sign(firmware.TypePowers, x, [16]byte{4})
	g.do(g.r.Packet(w.now, tolerant.B2, p))
	if out := g.r.Tracking(); len(out.Wrong) > 0 {
		t.Fatalf("the same powers, signed once more: %v", out.Liars)
	}
	x.Y[0], x.Y[1] = x.Y[1], x.Y[0]
	p.Message = w.devices[device(2)].Sign(firmware.TypePowers, x, [16]byte{5})
	g.do(g.r.Packet(w.now, tolerant.B2, p))
	if out := g.r.Tracking(); !slices.Equal(out.Wrong, []string{device(2)}) || !strings.Contains(out.Liars[0].Text, "two different powers") {
		t.Errorf("%+v", out.Liars)
	}
}

// TestProgress: when something arrives, what is missing is asked for at once.
func TestProgress(t *testing.T) {
	w, a := small(t)
	w.hush(device(2), device(3))
	w.cut = func(p tolerant.Packet, _ string) bool {
		return p.Kind == tolerant.KindConfirmed && p.Device == device(1)
	}
	g := w.start("server-1", w.request(a))
	w.pass(20)
	for n := len(w.seen); len(w.seen) == n; { // until its confirmation was repeated, in vain
		w.pass(1)
	}
	w.cut = nil
	clear(w.silent)
	g.approveAll(device(2))
	w.pass(2)
	g.signed()
}

// TestFlood: packets that ask for repetitions do not bring more and more of
// them.
func TestFlood(t *testing.T) {
	w, a := small(t)
	w.hush(numbers(1, 3)...)
	g := w.start("server-1", w.request(a))
	w.pass(5)
	before := len(w.seen)
	p := tolerant.Packet{Kind: tolerant.KindUnknown, Site: "server-3", Enterprise: 1, Distributor: 1, Task: 1001, Request: g.r.Digest(), Device: device(1)}
	for range 100 {
		for range 50 {
			g.do(g.r.Packet(w.now, tolerant.B1, p))
		}
		w.pass(1)
	}
	if n := len(w.seen) - before; n > 60 {
		t.Errorf("%d packets in 100 s", n)
	}
	// On another channel, or of another task, they are nobody's.
	q := p
	q.Task++
	for _, e := range []int{len(g.r.Packet(w.now, tolerant.B2, p).Actions), len(g.r.Packet(w.now, tolerant.B1, q).Actions)} {
		if e != 0 {
			t.Errorf("%d actions", e)
		}
	}
}

// TestOtherHash: powers that name another hash under the same number are seen.
func TestOtherHash(t *testing.T) {
	w, a := small(t)
	g := w.start("server-1", w.request(a))
	w.pass(30)
	out := g.signed()
	// The same calculator, lied to by another distributor with that number.
	h, _ := w.sys.State.HolderOf(a.Dealing.Key.ID, device(1))
	x := w.start("server-1", w.request(a))
	task := x.r.Tracking().Task
	body := firmware.Powers{
		Enterprise: 1, Distributor: out.Distributor, Task: task, Request: x.r.Digest(), Hash: make([]byte, 32), Key: a.Dealing.Key.ID, Device: device(1),
		Share: h.Share, Number: h.Index, Y: [][]byte{make([]byte, 256), make([]byte, 256)}, Officers: []string{}, Made: w.now,
	}
	raw := w.devices[device(1)].Sign(firmware.TypePowers, body, [16]byte{2})
	w.before = func(n int) {
		if n%40 == 20 {
			w.broadcast("server-1", tolerant.Packet{
				Kind: tolerant.KindPowers, Site: "server-1", Enterprise: 1, Distributor: out.Distributor, Task: task, Request: x.r.Digest(), Device: device(1), Message: raw,
			})
		}
	}
	w.pass(30)
	x.signed()
	found := 0
	for _, kept := range w.kept {
		for _, k := range kept {
			if k.Task == task && k.Request == x.r.Digest() && k.Device == device(1) && strings.Contains(k.Why, "another hash") {
				found++
			}
		}
	}
	if found == 0 {
		t.Errorf("%+v", w.kept)
	}
}

package coordinator_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// world runs distributors and desks of five sites against emulated machines and
// officers, over channels that lose, double, delay and reorder what is
// broadcast. Time is the test's.
type world struct {
	t       testing.TB
	sys     *ledgertest.System
	now     int64
	devices map[string]*coordtest.Device
	desks   map[string]*tolerant.Desk
	kept    map[string][]api.IllegalTask // by site: what is on the disk
	tasks   []*given
	number  uint64
	life    int64 // of a number, if it is not two days
	events  []func()
	rng     *mathrand.Rand // nil: everything in order
	// Of the channels, in percent, and the longest delay in seconds.
	lost, doubled int
	delay         int64
	late          map[int64][]func() // by second
	cut           func(p tolerant.Packet, site string) bool
	silent        map[string]bool                           // officers who do nothing
	down          map[string]bool                           // sites
	count         int                                       // of events
	before        func(n int)                               // each event
	answer        func(device, typ string, payload any) any // what it says instead
	seen          []tolerant.Packet
	slow          int64 // seconds that machines work
	doubts        *coordinator.Doubts
	elsewhere     time.Duration // spent by devices and officers
}

// away is for what servers do not do.
func (w *world) away() func() {
	began := time.Now()
	return func() { w.elsewhere += time.Since(began) }
}

// given is a task with its distributor.
type given struct {
	w      *world
	site   string
	key    string
	raw    []byte
	r      *coordinator.Request
	record []byte
	inbox  map[string]coordinator.Present
	epoch  int // rises at a restart: answers to what was asked before are lost
}

// dealt is a system of eight devices without an authority, and the same with the
// worked example of B. States are immutable, so that a copy of a system goes its
// own way.
var dealt struct {
	sync.Once
	bare, sys *ledgertest.System
	a         *ledgertest.Authority
}

func printed(t *testing.T) (*ledgertest.System, *ledgertest.Authority) {
	t.Helper()
	dealt.Do(func() {
		dealt.bare = ledgertest.New(t, ledgertest.WithDevices(8))
		copied := *dealt.bare
		dealt.sys, dealt.a = &copied, copied.Authority(t, ledgertest.PrintedPlan(1))
	})
	return dealt.sys, dealt.a
}

// newWorld is one with an authority of 3 of 5 calculators (device-1 to device-5)
// and 3 combiners (device-6 to device-8).
func newWorld(t *testing.T) (*world, *ledgertest.Authority) {
	t.Helper()
	sys, a := printed(t)
	return newWorldOf(t, sys, a), a
}

func newWorldOf(t testing.TB, sys *ledgertest.System, authorities ...*ledgertest.Authority) *world {
	t.Helper()
	w := &world{
		t: t, sys: sys, now: max(sys.Now, sys.State.Time()), devices: map[string]*coordtest.Device{}, desks: map[string]*tolerant.Desk{},
		kept: map[string][]api.IllegalTask{}, late: map[int64][]func(){}, silent: map[string]bool{}, down: map[string]bool{}, number: 1000,
	}
	for _, row := range sys.Genesis.Devices {
		w.devices[row.ID] = coordtest.NewDevice(t, sys, row.ID, func() int64 { return w.now })
		for _, a := range authorities {
			w.devices[row.ID].Join(a)
		}
	}
	for _, s := range sys.Genesis.Servers {
		w.restartDesk(s.ID)
	}
	return w
}

func (w *world) restartDesk(site string) {
	w.desks[site] = tolerant.NewDesk(tolerant.Config{State: w.sys.State, Site: site, Illegal: w.kept[site]})
}

func (w *world) config(site string) coordinator.Config {
	var doubts func(func(*coordinator.Doubts))
	if w.doubts != nil {
		doubts = func(use func(*coordinator.Doubts)) { use(w.doubts) }
	}
	return coordinator.Config{
		State: w.sys.State, Site: site, Rand: rand.Reader, Doubts: doubts,
		Distribution: func(key *ledger.Key, request envelope.Hash, checked *document.Checked, expires int64) ([]byte, error) {
			w.number++
			if w.life > 0 {
				expires = min(expires, w.now+w.life)
			}
			return w.distribution(site, key, w.number, request, checked, expires), nil
		},
	}
}

// distribution is what a server signs as task distributor.
func (w *world) distribution(site string, key *ledger.Key, number uint64, request envelope.Hash, checked *document.Checked, expires int64) []byte {
	w.t.Helper()
	e, ok := w.sys.State.EnterpriseOf(key.ID)
	if !ok {
		w.t.Fatal("no enterprise")
	}
	who, _ := e.DistributorOf(site)
	body, err := envelope.Marshal(firmware.Distribution{
		Enterprise: e.Enterprise.Code, Distributor: who, Task: number, Request: request, Hash: checked.Digest(), Documents: uint64(len(checked.Parts())), Created: w.now, Expires: expires,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := envelope.Sign(rand.Reader, w.sys.Servers[site].Sign, envelope.Header{
		Type: firmware.TypeDistribution, Version: firmware.MessageVersion, System: w.sys.State.System(), Key: key.ID, Epoch: key.Epoch,
		Created: w.now, Expires: expires,
	}, body)
	if err != nil {
		w.t.Fatal(err)
	}
	return raw
}

// start hands a request to a distributor.
func (w *world) start(site string, raw []byte) *given {
	w.t.Helper()
	g := &given{w: w, site: site, raw: raw, inbox: map[string]coordinator.Present{}}
	if u, err := envelope.Parse(raw); err == nil {
		g.key = u.Header().Key
	}
	r, err := coordinator.New(w.config(site), raw, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	g.r = r
	w.tasks = append(w.tasks, g)
	g.do(r.Start(w.now))
	return g
}

// restart kills the distributor and makes it again from its record.
func (g *given) restart() {
	w := g.w
	w.t.Helper()
	r, err := coordinator.Resume(w.config(g.site), g.raw, g.record, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	g.r = r
	g.epoch++
	g.do(r.Start(w.now))
}

func (g *given) do(e coordinator.Effects) {
	w := g.w
	if e.Record != nil {
		g.record = e.Record
	}
	for _, a := range e.Actions {
		switch a := a.(type) {
		case coordinator.Ask:
			epoch := g.epoch
			w.event(func() {
				if raw, ok := w.exchange(a.Device, a.Type, a.Payload); g.epoch != epoch {
				} else if !ok {
					g.do(g.r.Silent(w.now, a.ID, "it has no link"))
				} else {
					g.do(g.r.Answer(w.now, a.ID, raw))
				}
			})
		case coordinator.Present:
			g.inbox[a.Device] = a
			w.event(func() { g.approveAll(a.Device) })
			g.do(g.r.Presented(w.now, a, true))
		case coordinator.Broadcast:
			if a.Channel != a.Packet.Channel() {
				w.t.Errorf("%s on %s", a.Packet.Kind, a.Channel)
			}
			w.broadcast(g.site, a.Packet)
		}
	}
}

func (w *world) carry(site string, e tolerant.Effects) {
	desk := w.desks[site]
	if e.Keep {
		w.kept[site] = desk.Illegal()
	}
	for _, p := range e.Send {
		w.broadcast(site, p)
	}
	for _, a := range e.Asks {
		later := w.event
		if w.slow > 0 && a.Type != firmware.TypeOfferAsk {
			later = func(f func()) { w.late[w.now+w.slow] = append(w.late[w.now+w.slow], f) }
		}
		later(func() {
			raw, ok := w.exchange(a.Device, a.Type, a.Payload)
			switch {
			case w.desks[site] != desk: // restarted
			case !ok:
				w.carry(site, desk.Silent(w.now, a.ID, "it has no link"))
			default:
				w.carry(site, desk.Answer(w.now, a.ID, raw))
			}
		})
	}
}

func (w *world) exchange(device, typ string, payload any) ([]byte, bool) {
	body, err := envelope.Marshal(payload)
	if err != nil {
		w.t.Fatal(err)
	}
	defer w.away()()
	d := w.devices[device]
	answer, out, ok := d.Handle(typ, body)
	if !ok {
		return nil, false
	}
	if w.answer != nil {
		out = w.answer(device, answer, out)
	}
	return d.Sign(answer, out, [16]byte{1}), true
}

func (w *world) event(f func()) { w.events = append(w.events, f) }

// broadcast brings a packet to all sites, or to some of them, now or later.
func (w *world) broadcast(from string, p tolerant.Packet) {
	w.t.Helper()
	raw, err := tolerant.Marshal(p)
	if err != nil {
		w.t.Fatalf("%+v: %v", p, err)
	}
	w.seen = append(w.seen, p)
	if w.down[from] {
		return
	}
	for _, s := range w.sys.Genesis.Servers {
		copies := 1
		if w.rng != nil && w.rng.IntN(100) < w.doubled {
			copies = 2
		}
		for range copies {
			if w.rng != nil && w.rng.IntN(100) < w.lost || w.cut != nil && w.cut(p, s.ID) {
				continue
			}
			deliver := func() { w.deliver(s.ID, raw) }
			if w.rng != nil && w.delay > 0 {
				if after := w.rng.Int64N(w.delay + 1); after > 0 {
					w.late[w.now+after] = append(w.late[w.now+after], deliver)
					continue
				}
			}
			w.event(deliver)
		}
	}
}

func (w *world) deliver(site string, raw []byte) {
	if w.down[site] {
		return
	}
	p, err := tolerant.Unmarshal(raw)
	if err != nil {
		w.t.Fatal(err)
	}
	w.carry(site, w.desks[site].Packet(w.now, p))
	for _, g := range w.tasks {
		if g.site == site && g.r.Digest() == p.Request {
			g.do(g.r.Packet(w.now, p.Channel(), p))
		}
	}
}

// approveAll lets officers of a device approve what is in their inbox.
func (g *given) approveAll(device string) {
	w := g.w
	w.t.Helper()
	for _, it := range g.inbox[device].Items {
		if w.silent[it.Person] {
			continue
		}
		if _, ok := w.sys.State.HolderOf(g.key, device); !ok {
			continue // his workstation knows that the machine was taken away
		}
		back := w.away()
		word := coordtest.Approve(w.t, w.sys, w.sys.Persons[it.Person], it.Content, w.now, "")
		back()
		_, e, err := g.r.Approve(w.now, word)
		var ahead *approval.UnknownHeadError
		if errors.As(err, &ahead) { // this server has not heard yet that the ledger grew
			w.event(func() { g.approveAll(device) })
			return
		}
		if err != nil {
			w.t.Fatalf("approval of %s at %s: %v", it.Person, device, err)
		}
		g.do(e)
		return // the inbox is another one now
	}
}

// settle lets everybody do what there is to do at this second.
func (w *world) settle() {
	w.t.Helper()
	for n := 0; len(w.events) > 0; n++ {
		if n > 20000 {
			w.t.Fatal("the simulation does not come to rest")
		}
		i := 0
		if w.rng != nil {
			i = w.rng.IntN(len(w.events))
		}
		f := w.events[i]
		w.events = slices.Delete(w.events, i, i+1)
		w.count++
		if w.before != nil {
			w.before(w.count)
		}
		f()
	}
}

// pass lets time pass, second by second, until all tasks are idle.
func (w *world) pass(seconds int64) {
	w.t.Helper()
	w.settle()
	for range seconds {
		w.now++
		for _, s := range w.sys.Genesis.Servers {
			w.carry(s.ID, w.desks[s.ID].Tick(w.now))
		}
		idle := true
		for _, g := range w.tasks {
			g.do(g.r.Tick(w.now))
			idle = idle && g.r.Idle()
		}
		w.events = append(w.events, w.late[w.now]...)
		delete(w.late, w.now)
		w.settle()
		if idle {
			return
		}
	}
}

// until lets time pass until something is so.
func (w *world) until(what string, so func() bool) {
	w.t.Helper()
	for range 100 {
		if so() {
			return
		}
		w.pass(1)
	}
	w.t.Fatalf("not %s: %s", what, w.tasks[0].r.Tracking().Text)
}

func (w *world) fault(f coordtest.Fault, devices ...string) {
	for _, d := range devices {
		w.devices[d].SetFault(f)
	}
}

// officersOf a device do nothing.
func (w *world) hush(devices ...string) {
	for _, d := range devices {
		for _, p := range w.sys.Officers(d) {
			w.silent[p.ID] = true
		}
	}
}

// signed checks that a task came to its end, and that exactly those are named
// who lied.
func (g *given) signed(liars ...string) api.Tracking {
	g.w.t.Helper()
	t := g.r.Tracking()
	if t.State != api.StateDone || len(t.Signatures) == 0 || len(t.Documents) == 0 {
		g.w.t.Fatalf("not signed: %s: %s\n%+v", t.State, t.Text, t.Attempts)
	}
	if !slices.Equal(slices.Sorted(slices.Values(t.Wrong)), liars) && len(t.Wrong)+len(liars) > 0 {
		g.w.t.Errorf("named %v, who lied were %v\n%+v", t.Wrong, liars, t.Liars)
	}
	var named []string
	for _, l := range t.Liars {
		named = append(named, l.Device)
	}
	if !slices.Equal(slices.Sorted(slices.Values(named)), slices.Sorted(slices.Values(t.Wrong))) {
		g.w.t.Errorf("liars %v, wrong %v", named, t.Wrong)
	}
	return t
}

// over checks that nothing is left of any task, but what is to be seen.
func (w *world) over() {
	w.t.Helper()
	for _, g := range w.tasks {
		if !g.r.Idle() {
			w.t.Errorf("not idle: %s", g.r.Tracking().Text)
		}
		for id, p := range g.inbox {
			if len(p.Items) > 0 {
				w.t.Errorf("the officers of %s are still asked", id)
			}
		}
		for _, x := range g.r.Tracking().Devices {
			if d := w.devices[x.Device]; d.Fault == coordtest.Good && x.Offered && !d.Closed(g.r.Digest()) {
				w.t.Errorf("device %s was not told that the request is closed", d.ID)
			}
		}
	}
	for site, desk := range w.desks {
		if open := desk.Tasks(); len(open) > 0 {
			w.t.Errorf("the desk of %s still works on %+v", site, open)
		}
	}
}

func (w *world) request(a *ledgertest.Authority, devices ...string) []byte {
	w.t.Helper()
	return coordtest.LayersRequest(w.t, w.sys, a, w.now, 3600, devices...)
}

func numbers(from, to int) (ids []string) {
	for i := from; i <= to; i++ {
		ids = append(ids, fmt.Sprintf("device-%d", i))
	}
	return ids
}

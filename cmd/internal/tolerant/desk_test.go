package tolerant

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// site is one site with a calculator, device-1, that works for two enterprises.
// What tasks make of many sites is tested in package coordinator.
type site struct {
	t    testing.TB
	sys  *ledgertest.System
	a, b *ledgertest.Authority
	desk *Desk
	now  int64
}

func newSite(t testing.TB) *site {
	t.Helper()
	dealt.Do(func() {
		dealt.sys = ledgertest.New(t)
		dealt.a, dealt.b = dealt.sys.Authority(t, ledgertest.SmallPlan(1)), dealt.sys.Authority(t, ledgertest.SmallPlan(2))
	})
	s := &site{t: t, sys: dealt.sys, a: dealt.a, b: dealt.b, now: dealt.sys.State.Time()}
	s.restart()
	return s
}

// dealt is made once: no test changes it.
var dealt struct {
	sync.Once
	sys  *ledgertest.System
	a, b *ledgertest.Authority
}

func (s *site) restart() {
	var c Config
	if s.desk != nil {
		c.Illegal = s.desk.Illegal()
	}
	c.State, c.Site = s.sys.State, "server-1"
	s.desk = NewDesk(c)
}

// task is the broadcast of a task by server-2, distributor 2 of both.
func (s *site) task(a *ledgertest.Authority, number uint64, raw []byte, spoil ...func(*firmware.Distribution)) Packet {
	s.t.Helper()
	u, err := envelope.Parse(raw)
	if err != nil {
		s.t.Fatal(err)
	}
	var req document.Request
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &req); err != nil {
		s.t.Fatal(err)
	}
	d := firmware.Distribution{
		Enterprise: a.Dealing.Enterprise.Code, Distributor: 2, Task: number, Request: u.UnverifiedDigest(), Documents: 1, Created: s.now, Expires: req.Expires,
	}
	if checked, err := document.CheckIn(s.sys.State, &req, s.now); err == nil {
		d.Hash, d.Documents = checked.Digest(), uint64(len(checked.Parts()))
	} else { // not of this authority
		d.Hash = make([]byte, 32)
	}
	for _, f := range spoil {
		f(&d)
	}
	body, err := envelope.Marshal(d)
	if err != nil {
		s.t.Fatal(err)
	}
	packet, err := envelope.Sign(rand.Reader, s.sys.Servers["server-2"].Sign, envelope.Header{
		Type: firmware.TypeDistribution, Version: firmware.MessageVersion, System: s.sys.State.System(), Key: a.Dealing.Key.ID, Epoch: 1,
		Created: d.Created, Expires: d.Expires,
	}, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return Packet{
		Kind: KindTask, Site: "server-2", Enterprise: d.Enterprise, Distributor: 2, Task: number, Request: d.Request, Distribution: packet, Message: raw,
	}
}

func (s *site) request(a *ledgertest.Authority) []byte {
	s.t.Helper()
	return coordtest.LayersRequest(s.t, s.sys, a, s.now, 3600)
}

// real are packets that mean something to the desk.
func (s *site) real() []Packet {
	p := s.task(s.a, 1, s.request(s.a))
	done, no := p, p
	done.Kind, done.Distribution, done.Message, done.Signatures = KindDone, nil, nil, [][]byte{make([]byte, 256)}
	no.Kind, no.Distribution, no.Device = KindRejected, nil, "device-1"
	sure := no
	sure.Kind, sure.Offer, sure.Approvals, sure.Message = KindConfirmed, p.Message, [][]byte{p.Message}, nil
	powers, combined := no, no
	powers.Kind, combined.Kind = KindPowers, KindCombined
	return []Packet{p, done, no, sure, powers, combined}
}

func kindsOf(packets []Packet) string {
	var out []string
	for _, p := range packets {
		out = append(out, p.Kind)
	}
	return strings.Join(out, " ")
}

// TestRepetition: a task is asked for once; its repetition repeats what the
// device said, and asks it again only when that is old or was a no.
func TestRepetition(t *testing.T) {
	s := newSite(t)
	d := coordtest.NewDevice(t, s.sys, "device-1", func() int64 { return s.now })
	d.Join(s.a)
	p := s.task(s.a, 1, s.request(s.a))
	answer := func(asks []Ask) string {
		t.Helper()
		if len(asks) != 1 || asks[0].Device != "device-1" || asks[0].Type != firmware.TypeOfferAsk {
			t.Fatalf("%+v", asks)
		}
		body, err := envelope.Marshal(asks[0].Payload)
		if err != nil {
			t.Fatal(err)
		}
		typ, out, ok := d.Handle(asks[0].Type, body)
		if !ok {
			return kindsOf(s.desk.Silent(s.now, asks[0].ID, "no link").Send)
		}
		e := s.desk.Answer(s.now, asks[0].ID, d.Sign(typ, out, [16]byte{1}))
		if more := s.desk.Answer(s.now, asks[0].ID, nil); len(more.Asks)+len(more.Send) > 0 {
			t.Errorf("an answer counted twice: %+v", more)
		}
		return kindsOf(e.Send)
	}
	d.SetFault(coordtest.Silent)
	asks := s.desk.Packet(s.now, p).Asks
	if e := s.desk.Packet(s.now, p); len(e.Asks)+len(e.Send) > 0 {
		t.Errorf("asked again while it is being asked: %+v", e)
	}
	if got := answer(asks); got != KindFailed {
		t.Errorf("silence: %s", got)
	}
	d.SetFault(coordtest.Locked)
	if got := answer(s.desk.Packet(s.now, p).Asks); got != KindAck {
		t.Errorf("refusal: %s", got)
	}
	d.SetFault(coordtest.Good)
	if got := answer(s.desk.Packet(s.now, p).Asks); got != KindAck {
		t.Errorf("offer: %s", got)
	}
	if e := s.desk.Packet(s.now, p); len(e.Asks) > 0 || kindsOf(e.Send) != KindAck {
		t.Errorf("repeated: %+v", e)
	}
	s.now += repeatFor
	if got := answer(s.desk.Packet(s.now, p).Asks); got != KindAck {
		t.Errorf("later: %s", got)
	}
	p.Acked = []string{"device-1"}
	if e := s.desk.Packet(s.now+60, p); len(e.Asks)+len(e.Send) > 0 {
		t.Errorf("acknowledged unasked: %+v", e)
	}
	if open := s.desk.Tasks(); len(open) != 1 || !slices.Equal(open[0].Devices, []string{"device-1"}) || !strings.Contains(open[0].State, "waits for its operators") {
		t.Errorf("%+v", open)
	}
}

// TestIllegal: what a distributor signed and is not right is kept to be seen for
// two days, also after a restart; what anybody may have made up is passed over.
func TestIllegal(t *testing.T) {
	s := newSite(t)
	first, other := s.request(s.a), s.request(s.a)
	if e := s.desk.Packet(s.now, s.task(s.a, 1, first)); len(e.Asks) != 1 || e.Keep {
		t.Fatalf("%+v", e)
	}
	if e := s.desk.Packet(s.now, s.task(s.b, 1, s.request(s.b))); len(e.Asks) != 1 || e.Keep {
		t.Errorf("another enterprise's number 1: %+v", e)
	}
	for name, x := range map[string]struct {
		p   Packet
		why string
	}{
		"number":   {s.task(s.a, 1, other), "its number is that of request"},
		"hash":     {s.task(s.a, 2, other, func(d *firmware.Distribution) { d.Hash[0] ^= 1 }), "its hash is not"},
		"document": {s.task(s.a, 3, coordtest.CertificateRequest(t, s.sys, "set", s.now, 3600)), "not for this authority"},
	} {
		before := len(s.desk.Illegal())
		e := s.desk.Packet(s.now, x.p)
		if len(e.Asks) > 0 || !e.Keep {
			t.Errorf("%s: %+v", name, e)
		}
		all := s.desk.Illegal()
		if len(all) != before+1 || !strings.Contains(all[before].Why, x.why) || all[before].Request != x.p.Request || all[before].Task != x.p.Task || all[before].Seen != s.now {
			t.Errorf("%s: %+v", name, all)
		}
		if e := s.desk.Packet(s.now, x.p); e.Keep {
			t.Errorf("%s is news again", name)
		}
	}
	for name, spoil := range map[string]func(*Packet){
		"another signer":  func(p *Packet) { p.Distribution[len(p.Distribution)-1] ^= 1 },
		"another number":  func(p *Packet) { p.Task = 77 },
		"another request": func(p *Packet) { p.Message = other },
		"another name":    func(p *Packet) { p.Request[0] ^= 1 },
		"distributor":     func(p *Packet) { p.Distributor = 1 },
		"enterprise":      func(p *Packet) { p.Enterprise = 2 },
		"stranger":        func(p *Packet) { p.Enterprise = 3 },
		"malformed":       func(p *Packet) { p.Text = "hello" },
	} {
		p := s.task(s.a, 5, s.request(s.a))
		spoil(&p)
		if e := s.desk.Packet(s.now, p); e.Keep || len(e.Asks)+len(e.Send) > 0 {
			t.Errorf("%s: %+v", name, e)
		}
	}
	s.restart()
	if n := len(s.desk.Illegal()); n != 3 {
		t.Errorf("%d illegal tasks after a restart", n)
	}
	if e := s.desk.Tick(s.now + KeepIllegal - 1); e.Keep {
		t.Error("forgotten too early")
	}
	if e := s.desk.Tick(s.now + KeepIllegal); !e.Keep || len(s.desk.Illegal()) != 0 {
		t.Errorf("not forgotten: %+v", s.desk.Illegal())
	}
	if len(s.desk.kinds) != 0 {
		t.Errorf("kinds of none: %v", s.desk.kinds)
	}
}

// TestManyIllegal: they push out the oldest of their own enterprise.
func TestManyIllegal(t *testing.T) {
	s := newSite(t)
	s.desk.outlaw(number{2, 1, 1}, envelope.Hash{2}, "", "", "of the other")
	for i := range uint64(maxIllegal + 50) {
		s.desk.outlaw(number{1, 1, i + 1}, envelope.Hash{1}, "", "kind", "many")
	}
	all := s.desk.Illegal()
	if len(all) != maxIllegal+1 || all[0].Enterprise != 2 || all[1].Task != 51 || all[maxIllegal].Task != maxIllegal+50 ||
		len(s.desk.kinds) != maxIllegal+1 || s.desk.KindOf(all[1]) != "kind" {
		t.Errorf("%d, from %+v", len(all), all[:2])
	}
}

// TestRoom: one enterprise fills the desk for itself only, and room comes back.
func TestRoom(t *testing.T) {
	s := newSite(t)
	l := s.desk.load[1]
	for _, full := range []held{{tasks: maxTasks}, {octets: maxOctets}} {
		l.held = full
		if e := s.desk.Packet(s.now, s.task(s.a, 1, s.request(s.a))); len(e.Asks) > 0 {
			t.Errorf("with %+v: %+v", full, e)
		}
	}
	if e := s.desk.Packet(s.now, s.task(s.b, 1, s.request(s.b))); len(e.Asks) != 1 {
		t.Errorf("the other enterprise: %+v", e)
	}
	l.held = held{tasks: maxTasks - 1}
	p := s.task(s.a, 1, s.request(s.a))
	if e := s.desk.Packet(s.now, p); len(e.Asks) != 1 {
		t.Errorf("%+v", e)
	}
	s.desk.Tick(s.now + 3600)
	if l.held != (held{tasks: maxTasks - 1}) || *l.by(2) != (held{}) || len(s.desk.Tasks()) != 0 {
		t.Errorf("%+v", *l)
	}
	if s.now += 3600; len(s.desk.Packet(s.now, p).Asks) > 0 {
		t.Error("a task was taken up whose time is over")
	}
}

// TestCrowd: a distributor that gives one request any number of tasks leaves room
// for the enterprise's other distributors.
func TestCrowd(t *testing.T) {
	s := newSite(t)
	raw := s.request(s.a)
	l := s.desk.load[1]
	size := len(raw) + len(s.task(s.a, 1, raw).Distribution)
	for n := uint64(1); n < 4; n++ {
		l.held, *l.by(2) = held{}, held{}
		l.add(2, maxTasks/2-2, size)
		for i := range 3 * n {
			s.desk.Packet(s.now, s.task(s.a, 100*n+i, raw))
		}
		if got := l.by(2).tasks; got != maxTasks/2 {
			t.Errorf("one distributor has %d tasks open", got)
		}
		s.restart()
		l = s.desk.load[1]
	}
	l.add(2, maxTasks/2, 0)
	if l.crowds(1, 1, size) || l.full(1, size) {
		t.Error("the other distributor has no room")
	}
	l.add(1, maxTasks/4, 0)
	if !l.crowds(1, maxTasks/4, 0) {
		t.Error("two have all")
	}
	if l = (&load{of: map[uint64]*held{}}); !l.crowds(1, 0, maxOctets+1) || l.crowds(1, 1, maxOctets/2) {
		t.Error("octets")
	}
}

// TestNumbers are forgotten with their days, and the oldest when they are too
// many.
func TestNumbers(t *testing.T) {
	s := newSite(t)
	for i := range uint64(maxNumbers + 10) {
		s.desk.use(number{1, 2, i + 1}, &firmware.Distribution{Request: envelope.Hash{1}, Created: s.now})
	}
	s.desk.use(number{2, 2, 1}, &firmware.Distribution{Request: envelope.Hash{1}, Created: s.now})
	if n := len(s.desk.used); n != maxNumbers+1 || s.desk.used[number{1, 2, 10}] != nil || s.desk.used[number{1, 2, 11}] == nil {
		t.Errorf("%d numbers", n)
	}
	s.desk.Tick(s.now + firmware.TaskPeriod)
	if len(s.desk.used) != 0 || len(s.desk.order) != 0 {
		t.Errorf("%d numbers are left", len(s.desk.used))
	}
}

// TestTurns: a device is sent a few messages at a time; what operators confirmed
// comes first, and one enterprise's many tasks do not keep another's waiting.
func TestTurns(t *testing.T) {
	s := newSite(t)
	raw := s.request(s.a)
	var asks []Ask
	for i := range uint64(20) {
		asks = append(asks, s.desk.Packet(s.now, s.task(s.a, i+1, raw)).Asks...)
	}
	if len(asks) != maxAtOnce {
		t.Fatalf("%d messages at once", len(asks))
	}
	other := s.task(s.b, 1, s.request(s.b))
	if e := s.desk.Packet(s.now, other); len(e.Asks) != 0 {
		t.Fatalf("%+v", e)
	}
	turn := 0
	for ; len(asks) > 0; turn++ {
		e := s.desk.Silent(s.now, asks[0].ID, "")
		asks = append(asks[1:], e.Asks...)
		if len(asks) > maxAtOnce {
			t.Fatalf("%d messages at once", len(asks))
		}
		u, err := envelope.Parse(asks[len(asks)-1].Payload.(firmware.OfferAsk).Request)
		if err != nil {
			t.Fatal(err)
		}
		if u.UnverifiedDigest() == other.Request {
			break
		}
	}
	if turn > 2 {
		t.Errorf("the other enterprise waited for %d", turn)
	}
	// An urgent one overtakes them all.
	m := s.desk.tasks[number{1, 2, 20}].machines[0]
	m.offer, m.working = []byte("offer"), true
	s.desk.enqueue(s.desk.tasks[number{1, 2, 20}], m, firmware.TypePowersTask)
	if e := s.desk.Silent(s.now, asks[0].ID, ""); len(e.Asks) != 1 || e.Asks[0].Type != firmware.TypePowersTask {
		t.Errorf("%+v", e)
	}
}

// TestUnknown: a desk that lost its memory says so, not without end, and not of
// devices of others.
func TestUnknown(t *testing.T) {
	s := newSite(t)
	all := s.real()
	no, p := all[2], all[3]
	n := 0
	for i := range 3 * maxUnknown {
		p.Task, no.Task = uint64(i+1), uint64(i+1)
		n += len(s.desk.Packet(s.now, p).Send) + len(s.desk.Packet(s.now, no).Send)
	}
	if n != maxUnknown {
		t.Errorf("%d in a second", n)
	}
	other := p
	other.Enterprise = 2
	if e := s.desk.Packet(s.now, other); kindsOf(e.Send) != KindUnknown {
		t.Errorf("another enterprise is not heard: %+v", e)
	}
	if e := s.desk.Packet(s.now+1, p); kindsOf(e.Send) != KindUnknown || e.Send[0].Device != "device-1" || e.Send[0].Site != "server-1" {
		t.Errorf("%+v", e)
	}
	p.Device = "device-2"
	if e := s.desk.Packet(s.now+2, p); len(e.Send) > 0 {
		t.Errorf("%+v", e)
	}
}

// TestRenewed: a desk that knew no authority finds its machines when they are
// dealt.
func TestRenewed(t *testing.T) {
	s := newSite(t)
	plain := ledgertest.New(t)
	d := NewDesk(Config{State: plain.State, Site: "server-1"})
	p := s.task(s.a, 1, s.request(s.a))
	if e := d.Packet(s.now, p); len(e.Asks) > 0 {
		t.Fatalf("%+v", e)
	}
	d.Renew(s.now, s.sys.State)
	if e := d.Packet(s.now, p); len(e.Asks) != 1 {
		t.Errorf("%+v", e)
	}
	if got := fmt.Sprint(d.Packet(s.now, p).Asks); got != "[]" {
		t.Error(got)
	}
}

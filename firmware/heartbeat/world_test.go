package heartbeat

import (
	"container/heap"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// A world is some devices, copies of them, their sources and a network, all on
// one true time. Everything in it follows from its seed.
type world struct {
	t    *testing.T
	rng  *rand.Rand
	set  *setting
	mode mode
	name string // for the report
	step int
	last string // what happened last

	now int64 // true time, nanoseconds
	q   events
	seq int

	stations []*wStation
	bodies   []*body
	links    map[string]*link
	tape     []packet // the latest messages, in any order
	hoard    []packet
	words    []*VerifiedRevoke // revocations that were sent

	opened     map[[16]byte]bool            // instances that officers opened, or that the ceremony listed
	superseded map[string]map[[16]byte]bool // by station: instances that may never get a beat again
}

// mode is what a run has in it.
type mode struct {
	calm   bool // nobody is hostile and nothing is lost: no device may fall silent
	crypto bool // messages are sealed and opened for real
	liars  bool // sources say what is not so, with their own keys
	busy   bool // much happens to devices, and little time passes
	steps  int
}

// setting is a system with policies for some of its devices. It serves many
// worlds.
type setting struct {
	sys     *ledgertest.System
	state   ledger.State
	guarded []string
	ids     []string             // of stations
	first   map[string]*Instance // those of the ceremony
	agree   *ecdh.PublicKey      // stands for any instance's where nothing is sealed
}

func newSetting(t *testing.T, rng *rand.Rand, calm bool) *setting {
	set := &setting{first: map[string]*Instance{}}
	var options []ledgertest.Option
	for i := range 1 + rng.IntN(3) {
		id := fmt.Sprintf("device-%d", i+1)
		inst, err := NewInstance(cryptorand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		set.guarded, set.first[id] = append(set.guarded, id), inst
		p := newPolicy(rng, id, calm)
		options = append(options, ledgertest.WithHeartbeat(p, id), ledgertest.WithInstance(id, inst.ID()))
		for _, s := range p.Sources {
			if !slices.Contains(set.ids, s) {
				set.ids = append(set.ids, s)
			}
		}
		set.agree = inst.Agree().PublicKey()
	}
	set.sys = ledgertest.New(t, options...)
	set.state = set.sys.State
	return set
}

func newPolicy(rng *rand.Rand, device string, calm bool) ledger.Heartbeat {
	pool := []string{
		"message-1", "message-2", "sequence-1", "sequence-2", "satellite-1", "satellite-2",
		"device-1", "device-2", "device-4", "device-5",
	}
	pool = slices.DeleteFunc(pool, func(id string) bool { return id == device })
	rng.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
	p := ledger.Heartbeat{Sources: pool[:1+rng.IntN(6)]}
	p.Needed = 1 + rng.Uint64N(uint64(len(p.Sources)))
	p.Period = []uint64{50, 200, 1000, 1000, 3000, ledger.MaxPeriod}[rng.IntN(6)]
	n := []uint64{3, 4, 5, 8, 20, 100}[rng.IntN(6)]
	if calm { // a policy that the sources can keep, and within the first minute
		p.Period, n = []uint64{50, 200, 1000}[rng.IntN(3)], []uint64{4, 5, 8, 20}[rng.IntN(4)]
	}
	p.Lease = n*p.Period + rng.Uint64N(p.Period)
	for _, id := range p.Sources {
		switch kindOf(id) {
		case ledger.SourceMessage:
			p.Minimum = 1 + rng.Uint64N(min(n, 6, ledger.MaxFirst/p.Period))
			if calm {
				p.Minimum = 1 + rng.Uint64N(n-3)
			}
		case ledger.SourceSequence:
			p.Loss = rng.Uint64N(min(n, 3))
			if rng.IntN(8) == 0 {
				p.Loss = rng.Uint64N(n)
			}
		}
	}
	return p
}

func kindOf(id string) string {
	for _, k := range []string{ledger.SourceMessage, ledger.SourceSequence} {
		if len(id) > len(k) && id[:len(k)] == k {
			return k
		}
	}
	return ledger.SourceSatellite
}

// machine is a computer: its clocks, and whether it runs.
type machine struct {
	w      *world
	base   int64 // boot-time clock at since
	since  int64
	ppm    int64
	skew   int64 // wall clock: seconds off
	asleep int64 // true time up to which nothing runs; the boot-time clock goes on
}

func (m *machine) boot() int64 {
	d := m.w.now - m.since
	return m.base + d + d/1000*m.ppm/1000
}

func (m *machine) wall() int64 { return ledgertest.Epoch + 3600 + m.w.now/1e9 + m.skew }

// until is the true time until the boot-time clock shows t. Late by a little if
// the clock is not true, and never early.
func (m *machine) until(t int64) int64 {
	d := max(0, t-m.boot())
	if m.ppm != 0 {
		d += d/1000 + 1
	}
	return d
}

// restart begins the boot-time clock anew.
func (m *machine) restart() {
	m.base, m.since = 1e9+m.w.rng.Int64N(1e10), m.w.now
}

// wStation is a source, or a device in its part as a satellite.
type wStation struct {
	w       *world
	id      string
	m       *machine
	cfg     StationConfig
	st      *Station
	ref     refStation
	stored  []byte // what is on its disk
	ticks   int    // the tick that counts
	latest  int64  // the latest time that its wall clock ever showed
	every   map[string]int64
	beatKey *ecdsa.PrivateKey
	epoch   uint64
}

// body is a device, or a copy of one, from when it is made to the end of the
// world. Its token and its log can be copied; its instance cannot.
type body struct {
	w        *world
	n        int
	device   string
	policy   ledger.Heartbeat
	kinds    map[string]string
	m        *machine
	thief    bool // opened by nobody
	instance *Instance
	id       [16]byte
	sign     []byte
	agree    []byte
	proof    evidence

	mon    *Monitor // nil: locked
	ref    refMonitor
	gen    int
	reopen int64            // not before
	made   map[string]int64 // when a source last made a beat for it, on its clock
	lied   map[string]bool
	keys   map[string]*VerifiedKey

	log, oldLog   uint64
	head, oldHead envelope.Hash // old: a snapshot of its disk
}

// evidence is what a device shows of its officers' word, and what it is worth.
type evidence struct {
	real *approval.Enrolment
	ref  *refEvidence
}

// packet is a message on its way, and what the world knows of it.
type packet struct {
	to      string // a station; empty: the device that beat names
	c       *VerifiedChallenge
	proof   evidence
	beat    *Beat
	genuine bool
	lie     bool
	forged  bool // whoever opens it has to refuse it
	epoch   uint64
	frame   []byte
}

// link is the way between a device and a station, in one direction.
type link struct {
	delay, jitter, last int64
	loss, double, hoard float64
	reorders            bool
}

type event struct {
	at  int64
	seq int
	do  func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

func (w *world) after(d int64, do func()) {
	w.seq++
	heap.Push(&w.q, event{w.now + max(0, d), w.seq, do})
}

func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("model: divergence after %d steps of %s, at %s: %s", w.step, w.name, w.last, fmt.Sprintf(format, args...))
}

func (w *world) hash() (h [32]byte) {
	for i := 0; i < 32; i += 8 {
		v := w.rng.Uint64()
		for j := range 8 {
			h[i+j] = byte(v >> (8 * j))
		}
	}
	return h
}

func (w *world) bytes(n int) []byte {
	var b []byte
	for len(b) < n {
		h := w.hash()
		b = append(b, h[:]...)
	}
	return b[:n]
}

func newWorld(t *testing.T, name string, rng *rand.Rand, set *setting, mode mode) *world {
	w := &world{
		t: t, name: name, rng: rng, set: set, mode: mode, links: map[string]*link{},
		opened: map[[16]byte]bool{}, superseded: map[string]map[[16]byte]bool{},
	}
	for _, id := range set.guarded {
		b := w.newBody(id)
		b.use(set.first[id])
		w.opened[b.id] = true
		b.reopen = 3e9
		b.open()
	}
	for _, id := range set.ids {
		w.newStation(id)
	}
	return w
}

func (w *world) newMachine(ppm int64) *machine {
	m := &machine{w: w, ppm: ppm}
	m.restart()
	return m
}

func (w *world) newStation(id string) {
	s := &wStation{w: w, id: id, cfg: StationConfig{ID: id}, every: map[string]int64{}}
	if w.chance(0.7) { // quartz: far apart, but within the guard
		s.m = w.newMachine(w.rng.Int64N(801) - 400)
	} else {
		s.m = w.newMachine(0)
	}
	kind := kindOf(id)
	if kind == ledger.SourceSequence {
		s.cfg.Secret = w.bytes(32)
	}
	s.cfg.Restored = !w.mode.calm && w.chance(0.1)
	if _, ok := w.set.state.Source(id); ok && w.mode.crypto {
		s.rotate()
	}
	s.ref = refStation{id: id, kind: kind, restored: s.cfg.Restored, ceremony: map[string][16]byte{}}
	for _, d := range w.set.state.Devices() {
		if d.Heartbeat != nil && slices.Contains(d.Heartbeat.Sources, id) {
			s.ref.ceremony[d.ID], s.every[d.ID] = d.Instance, int64(d.Heartbeat.Period)*1e6
		}
	}
	w.superseded[id] = map[[16]byte]bool{}
	w.stations = append(w.stations, s)
	s.start()
}

// rotate gives a source another beat key.
func (s *wStation) rotate() {
	s.epoch++
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		s.w.t.Fatal(err)
	}
	s.beatKey = key
	s.cfg.Certificate, err = SignKey(cryptorand.Reader, s.w.set.sys.Sources[s.id].Sign, Key{
		Source: s.id, Epoch: s.epoch, Sign: ledgertest.SPKI(s.w.t, key.Public()), Created: s.m.wall(),
	})
	if err != nil {
		s.w.t.Fatal(err)
	}
	if s.st != nil {
		s.st.SetCertificate(s.cfg.Certificate)
	}
}

// start is a process that begins with what is on the disk.
func (s *wStation) start() {
	st, err := NewStation(s.cfg, s.w.set.state, s.stored)
	if err != nil {
		s.w.fail("station %s does not start: %v", s.id, err)
	}
	s.st = st
	s.ticks++
	s.ref.restart()
	s.check()
}

// check compares what the station shows with the reference.
func (s *wStation) check() {
	all := s.st.Devices()
	if len(all) != len(s.ref.ceremony) {
		s.w.fail("station %s shows %d devices of %d", s.id, len(all), len(s.ref.ceremony))
	}
	for _, got := range all {
		k := s.ref.known(got.Device)
		if got.Instance != k.instance || got.Log != k.log || got.Enrolled != k.enrolled || got.Revoked != k.revoked {
			s.w.fail("station %s knows device %s as %+v, not as %+v", s.id, got.Device, got, k)
		}
	}
}

// tick sends what is due.
func (s *wStation) tick(n int) {
	if n != s.ticks {
		return
	}
	if d := s.m.asleep - s.w.now; d > 0 {
		s.w.after(d, func() { s.tick(n) })
		return
	}
	s.due()
	s.schedule()
}

func (s *wStation) schedule() {
	if next := s.st.Next(); next != 0 {
		s.ticks++
		n := s.ticks
		// At least a nanosecond later: a slot is never due twice.
		s.w.after(max(1, s.m.until(next)), func() { s.tick(n) })
	}
}

func (s *wStation) due() {
	w := s.w
	w.last = fmt.Sprintf("beats of %s", s.id)
	boot := s.m.boot()
	outs := s.st.Due(boot)
	devices, nonces, slots := s.ref.due(boot, s.every)
	if len(outs) != len(devices) {
		w.fail("%s sends %d beats, not %d: %+v; heard %+v, sent %+v", s.id, len(outs), len(devices), outs, s.ref.heard, s.ref.slots)
	}
	kind := KindMessage
	if s.ref.kind == ledger.SourceSequence {
		kind = KindValue
	}
	for i := range outs {
		b := &outs[i].Beat
		if b.Device != devices[i] || b.Slot != slots[i] || b.Nonce != nonces[i] || b.Kind != kind || b.Source != s.id ||
			b.Instance != s.ref.known(b.Device).instance {
			w.fail("%s sends %s %d to %s, not %s %d to %s", s.id, b.Kind, b.Slot, b.Device, kind, slots[i], devices[i])
		}
		s.speak(&outs[i])
	}
}

// speak sends a beat. Here the rules that matter are checked once more, by what
// the world knows and the station may not.
func (s *wStation) speak(o *Out) {
	w, b := s.w, &o.Beat
	p := packet{beat: b, genuine: true, epoch: s.epoch}
	if b.Kind != KindRefusal {
		if !w.opened[b.Instance] {
			w.fail("%s beats for an instance of %s that no officers opened", s.id, b.Device)
		}
		if w.superseded[s.id][b.Instance] {
			w.fail("%s beats for an instance of %s that was silenced or superseded", s.id, b.Device)
		}
		for _, x := range w.bodies {
			if x.id == b.Instance {
				x.made[s.id] = x.m.boot()
			}
		}
	}
	if w.mode.crypto {
		p.frame = s.seal(o)
	}
	w.send(s.id, p)
}

func (s *wStation) seal(o *Out) []byte {
	key := s.beatKey
	if key == nil {
		key = s.w.set.sys.Devices[s.id].Sign
	}
	frame, err := SealBeat(cryptorand.Reader, key, s.w.set.state, o, s.m.wall())
	if err != nil {
		s.w.t.Fatal(err)
	}
	return frame
}

// hear takes a challenge.
func (s *wStation) hear(p packet) {
	w := s.w
	w.last = fmt.Sprintf("a challenge of %s to %s", p.c.Device, s.id)
	c := p.c
	if w.mode.crypto {
		var err error
		if c, err = OpenChallenge(w.set.state, p.frame, s.agree()); (err == nil) == p.forged {
			w.fail("%s opens a challenge, forged %v: %v", s.id, p.forged, err)
		}
	}
	if p.forged {
		return
	}
	s.latest = max(s.latest, s.m.wall())
	in := Inputs{s.m.wall(), s.m.boot()}
	before := s.ref.known(c.Device)
	v := s.ref.judge(in.Now, &c.Challenge, p.proof.ref)
	out, stored, err := s.st.Answer(in, c)
	if v.silent {
		if out != nil || stored != nil || err == nil {
			w.fail("%s answers, where silence is the rule", s.id)
		}
		return
	}
	if len(v.codes) > 0 {
		if err != nil || out == nil || out.Beat.Kind != KindRefusal || !slices.Contains(v.codes, out.Beat.Code) || stored != nil {
			w.fail("%s does not refuse a challenge of %s for %v: %+v, %v", s.id, c.Device, v.codes, out, err)
		}
		s.answered(out, c)
		s.speak(out)
		return
	}
	if out != nil && out.Beat.Kind == KindRefusal {
		w.fail("%s refuses a challenge of %s without reason: %s", s.id, c.Device, out.Beat.Text)
	}
	changed := before.instance != v.fact.instance || before.log != v.fact.log || before.head != v.fact.head
	if changed && stored == nil {
		w.fail("%s believes device %s without writing it down", s.id, c.Device)
	}
	// A crash: before the table is on the disk, or before the answer leaves.
	crash := !w.mode.calm && w.chance(0.02)
	if crash && w.chance(0.5) {
		s.start()
		return
	}
	if stored != nil {
		s.stored = stored
	}
	s.ref.believe(in.Boot, &c.Challenge, v.fact)
	if before.instance != v.fact.instance {
		w.superseded[s.id][before.instance] = true
	}
	if crash {
		s.start()
		return
	}
	asked := s.ref.kind == ledger.SourceSatellite || slices.Contains(c.Begin, s.id)
	if !asked {
		if out != nil || err != nil {
			w.fail("%s answers, and was not asked: %v", s.id, err)
		}
		return
	}
	if err != nil || out == nil || out.Beat.Kind != KindAnswer {
		w.fail("%s does not answer device %s: %v", s.id, c.Device, err)
	}
	s.answered(out, c)
	if oneWay := s.ref.kind != ledger.SourceSatellite; oneWay != (out.Beat.Slots == SeriesSlots) ||
		(s.ref.kind == ledger.SourceSequence) != (!out.Beat.Value.IsZero()) {
		w.fail("%s answers with %+v", s.id, out.Beat)
	}
	s.speak(out)
	s.schedule()
}

// answered checks that an answer is for whom it should be.
func (s *wStation) answered(o *Out, c *VerifiedChallenge) {
	b := &o.Beat
	if b.Source != s.id || b.Device != c.Device || b.Instance != c.Instance() || b.Nonce != c.Nonce || o.To == nil || !o.To.Equal(c.agree) || o.Re != c.id {
		s.w.fail("%s answers another challenge: %+v", s.id, b)
	}
}

func (s *wStation) agree() ecdh.KeyExchanger {
	if p, ok := s.w.set.sys.Sources[s.id]; ok {
		return p.Agree
	}
	return s.w.set.sys.Devices[s.id].Agree
}

// revoke silences the station for a device: at the machine, or by a message.
func (s *wStation) revoke(device string, v *VerifiedRevoke) {
	w := s.w
	s.latest = max(s.latest, s.m.wall())
	in := Inputs{s.m.wall(), s.m.boot()}
	before := s.ref.known(device)
	var stored []byte
	var err error
	var digest envelope.Hash
	if v == nil {
		w.last = fmt.Sprintf("%s is silenced for %s at the machine", s.id, device)
		stored, err = s.st.Revoke(device, in)
	} else {
		w.last = fmt.Sprintf("%s is silenced for %s by message", s.id, device)
		digest = v.digest
		again := s.ref.carriedOut(digest)
		if in.Now >= v.Expires || v.Created > in.Now+revokeSkew || again && s.latest >= v.Expires {
			return // not let in, or forgotten since
		}
		var r *Revoked
		r, stored, err = s.st.TakeRevoke(in, v)
		if err == nil && (r.Device != device || r.Source != s.id || r.Revocation != digest) {
			w.fail("another revocation is confirmed: %+v", r)
		}
		if again {
			if err != nil || stored != nil {
				w.fail("%s carries a revocation out twice", s.id)
			}
			s.check()
			return
		}
		if stored == nil {
			w.fail("%s confirms a revocation that is on no disk", s.id)
		}
	}
	if err != nil {
		w.fail("%s cannot be silenced: %v", s.id, err)
	}
	if w.chance(0.1) { // a crash before it is on the disk, and before anybody was told
		s.start()
		return
	}
	if stored != nil {
		s.stored = stored
	}
	s.ref.revoke(device, in.Now, digest)
	if before.revoked == 0 && stored == nil {
		w.fail("%s is silenced for %s in memory alone", s.id, device)
	}
	w.superseded[s.id][before.instance] = true
	s.check()
}

// newBody is a device with the present disk of nobody.
func (w *world) newBody(device string) *body {
	d, _ := w.set.state.Device(device)
	b := &body{w: w, n: len(w.bodies), device: device, policy: *d.Heartbeat, kinds: map[string]string{}, m: w.newMachine(0)}
	for _, id := range b.policy.Sources {
		b.kinds[id] = kindOf(id)
	}
	w.bodies = append(w.bodies, b)
	return b
}

func (b *body) period() int64 { return int64(b.policy.Period) * 1e6 }
func (b *body) lease() int64  { return int64(b.policy.Lease) * 1e6 }

// use gives it an instance.
func (b *body) use(i *Instance) {
	if i != nil {
		pub, err := i.sign.PublicKey.Bytes()
		if err != nil {
			b.w.t.Fatal(err)
		}
		b.instance, b.sign, b.agree = i, pub, i.Agree().PublicKey().Bytes()
	} else {
		b.sign, b.agree = b.w.bytes(65), b.w.bytes(65)
	}
	c := Challenge{Sign: b.sign, Agree: b.agree}
	b.id, b.mon, b.proof = c.Instance(), nil, evidence{}
	b.made, b.lied, b.keys = map[string]int64{}, map[string]bool{}, map[string]*VerifiedKey{}
	b.gen++
}

// renew is a lock-down: the instance is gone, and another one waits for the
// officers.
func (b *body) renew() {
	if b.w.mode.crypto {
		i, err := NewInstance(cryptorand.Reader)
		if err != nil {
			b.w.t.Fatal(err)
		}
		b.use(i)
	} else {
		b.use(nil)
	}
	b.grow()
}

// grow adds a record to its log, and mostly has all sources see it.
func (b *body) grow() {
	b.log, b.head = b.log+1, b.w.hash()
	if b.mon != nil && b.w.chance(0.8) {
		b.mon.News()
		b.ref.news = true
	}
}

// open begins a monitor.
func (b *body) open() {
	boot := b.m.boot()
	b.mon = NewMonitor(b.device, b.policy, b.kinds, boot)
	b.ref = refMonitor{policy: b.policy, kinds: b.kinds, opened: boot}
	b.gen++
	b.check()
	b.wake(0)
}

// enrol is the word of the device's officers, who may be careless: restored
// says that they take back whatever disk it has; quorum that they are enough.
func (b *body) enrol(restored, quorum bool) {
	w := b.w
	at := ledgertest.Epoch + 3600 + w.now/1e9
	if !w.mode.calm {
		at += w.rng.Int64N(5) - 2
		if w.mode.busy && w.chance(0.5) {
			at -= at % 16 // a clock with coarse steps: words of the same second
		}
		if w.chance(0.05) {
			at += []int64{-200, 200, 299, 400, -31_536_000, 31_536_000}[w.rng.IntN(6)]
		}
	}
	r := &refEvidence{b.device, b.id, at, b.log, b.head, restored, quorum}
	// When the device asked is by its own clock, and decides nothing here.
	b.proof = evidence{enrolment(w.t, w.set.sys, r, b.m.wall()), r}
	if quorum {
		w.opened[b.id] = true
	}
	b.grow()
}

// enrolment is the evidence as devices show it.
func enrolment(t testing.TB, sys *ledgertest.System, r *refEvidence, now int64) *approval.Enrolment {
	t.Helper()
	sign := func(key *ecdsa.PrivateKey, typ string, created, expires int64, payload any) []byte {
		body, err := envelope.Marshal(payload)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := envelope.Sign(cryptorand.Reader, key, envelope.Header{
			Type: typ, Version: approval.Version, System: sys.State.System(), LedgerHead: sys.State.Head(), Created: created, Expires: expires,
		}, body)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	e := &approval.Enrolment{Offer: sign(sys.Devices[r.device].Boot, approval.TypeUnlockOffer, now, now+3600, approval.UnlockOffer{
		Device: r.device, Instance: r.instance, Public: sys.Devices[r.device].Agree.PublicKey().Bytes(), Created: now, Expires: now + 3600,
		Log: r.log, LogHead: r.head,
	})}
	u, err := envelope.Parse(e.Offer)
	if err != nil {
		t.Fatal(err)
	}
	officers := sys.Officers(r.device)
	for i := range officers {
		who := officers[i]
		if !r.quorum {
			who = officers[0] // one officer twice
		}
		// The first of them speaks at r.at.
		e.Approvals = append(e.Approvals, sign(who.Card().Sign, approval.TypeUnlockApproval, r.at+int64(i), r.at+3600, approval.UnlockApproval{
			Device: r.device, Offer: u.UnverifiedDigest(), Piece: "piece", Created: r.at + int64(i), Expires: r.at + 3600,
			// Taken back only if each of them says so.
			Restored: r.restored || i == 0 && r.at%2 == 0,
		}))
	}
	return e
}

// wake looks at the device d nanoseconds from now, and then whenever its
// monitor says.
func (b *body) wake(d int64) {
	gen := b.gen
	b.w.after(d, func() { b.tick(gen, true) })
}

func (b *body) tick(gen int, again bool) {
	if gen != b.gen || b.mon == nil {
		return
	}
	w := b.w
	if d := b.m.asleep - w.now; d > 0 {
		w.after(d, func() { b.tick(gen, again) })
		return
	}
	boot := b.m.boot()
	nonce := w.hash()
	w.last = fmt.Sprintf("device %s (%d) looks", b.device, b.n)
	to, begin, due := b.ref.ask(boot, nonce)
	c, got, ok := b.mon.Challenge(boot, nonce)
	if ok != due || !slices.Equal(got, to) || ok && (!slices.Equal(c.Begin, begin) || c.Nonce != nonce || c.Device != b.device || c.Counter != uint64(len(b.ref.sent))) {
		w.fail("it asks %v (%v): %+v; it should ask %v (%v) to begin %v", got, ok, c, to, due, begin)
	}
	b.check()
	if ok {
		b.challenge(c, to)
	}
	if !again {
		return
	}
	if b.ref.over(boot) {
		b.locked()
		return
	}
	late := int64(0)
	if !w.mode.calm && w.chance(0.1) {
		late = w.rng.Int64N(b.period())
	}
	b.wake(max(1, b.mon.Next()-boot) + late)
}

// challenge completes a challenge and sends it.
func (b *body) challenge(c *Challenge, to []string) {
	w := b.w
	c.Log, c.LogHead, c.Enrolment = b.log, b.head, b.proof.real
	proof := b.proof
	if !w.mode.calm && w.chance(0.05) {
		c.Enrolment, proof = nil, evidence{}
	}
	v := &VerifiedChallenge{id: [16]byte(w.bytes(16)), agree: w.set.agree}
	var frame []byte
	if w.mode.crypto {
		if err := b.instance.Complete(cryptorand.Reader, c); err != nil {
			w.t.Fatal(err)
		}
		var err error
		frame, err = SealChallenge(cryptorand.Reader, w.set.sys.Devices[b.device].Sign, w.set.state, to, c, b.m.wall())
		if err != nil {
			w.t.Fatal(err)
		}
	} else {
		c.Sign, c.Agree = b.sign, b.agree
	}
	v.Challenge = *c
	for _, id := range to {
		w.send(b.device, packet{to: id, c: v, proof: proof, frame: frame})
	}
}

// get takes a beat.
func (b *body) get(p packet) {
	w := b.w
	w.last = fmt.Sprintf("%s %d of %s at device %s (%d)", p.beat.Kind, p.beat.Slot, p.beat.Source, b.device, b.n)
	if b.mon == nil || b.instance == nil && w.mode.crypto {
		return
	}
	beat := p.beat
	if w.mode.crypto {
		got, key, err := OpenBeat(w.set.state, b.instance, b.device, p.frame, b.keys)
		old := b.keys[beat.Source] != nil && p.epoch != 0 && p.epoch < b.keys[beat.Source].Epoch
		unknown := beat.Key == nil && p.epoch != 0 && (b.keys[beat.Source] == nil || b.keys[beat.Source].Epoch != p.epoch)
		if refuse := p.forged || beat.Instance != b.id || old || unknown; (err == nil) == refuse {
			w.fail("opened a beat, forged %v, for this instance %v, of an older key %v, of an unknown key %v: %v",
				p.forged, beat.Instance == b.id, old, unknown, err)
		}
		if err != nil {
			return
		}
		beat, b.keys[got.Source] = got, key
	} else if p.forged || beat.Instance != b.id {
		return
	}
	boot := b.m.boot()
	want := b.ref.take(boot, beat, p.genuine)
	err := b.mon.Accept(boot, beat)
	_, refused := err.(*RefusedError)
	if got := err == nil || refused; got != want || refused && beat.Kind != KindRefusal {
		w.fail("taken %v, not %v: %v; beat %+v, %d ns after opening", got, want, err, beat, boot-b.ref.opened)
	}
	if want && p.lie {
		b.lied[beat.Source] = true
	}
	b.check()
}

// check compares what the device believes with the reference, and with what the
// world knows: no lease without beats that were made.
func (b *body) check() {
	w, r := b.w, &b.ref
	boot := b.m.boot()
	until := b.mon.Until()
	if want := r.until(); until != want {
		w.fail("lease of device %s (%d) ends %d ns after opening, not %d", b.device, b.n, until-r.opened, want-r.opened)
	}
	if got, want := b.mon.Over(boot), r.over(boot); got != want {
		w.fail("lease of device %s (%d) over %v, not %v", b.device, b.n, got, want)
	}
	if got, want := b.mon.Lock(), r.lock(); got != want {
		w.fail("device %s (%d) locks at %d, not at %d", b.device, b.n, got-r.opened, want-r.opened)
	}
	for _, s := range b.mon.Sources(boot) {
		if want := r.end(s.ID); s.Until != want {
			w.fail("%s has granted to %d ns after opening, not %d", s.ID, s.Until-r.opened, want-r.opened)
		}
	}
	// The Needed-th latest of the moments at which sources made a beat, and one
	// lease: whatever the network did, and whatever the rules say.
	var made []int64
	for _, id := range b.policy.Sources {
		if b.lied[id] {
			made = append(made, boot) // it is as alive as it wants to be
		} else if at, ok := b.made[id]; ok {
			made = append(made, at)
		}
	}
	slices.Sort(made)
	slices.Reverse(made)
	if until != 0 && (len(made) < int(b.policy.Needed) || until > made[b.policy.Needed-1]+b.lease()) {
		w.fail("lease of device %s (%d) outlives its sources: to %d ns after opening, with %v made", b.device, b.n, until-r.opened, made)
	}
	if w.mode.calm {
		if b.mon.Over(boot) {
			w.fail("device %s fell silent, and nothing was lost", b.device)
		}
		if wait := int64(b.policy.Minimum+3) * b.period(); until == 0 && boot-r.opened > wait+b.period() {
			w.fail("device %s waits for its first lease since %d ns", b.device, boot-r.opened)
		}
	}
}

// send gives a message to the network.
func (w *world) send(from string, p packet) {
	to := p.to
	if to == "" {
		to = p.beat.Device
	}
	l := w.link(from, to)
	if len(w.tape) < 256 {
		w.tape = append(w.tape, p)
	} else {
		w.tape[w.rng.IntN(len(w.tape))] = p
	}
	if w.chance(l.loss) {
		return
	}
	if w.chance(l.hoard) {
		w.hoard = append(w.hoard, p)
		return
	}
	for {
		d := l.delay
		if l.jitter > 0 {
			d += w.rng.Int64N(l.jitter)
		}
		if !l.reorders {
			d = max(d, l.last+1-w.now)
			l.last = w.now + d
		}
		w.after(d, func() { w.deliver(p) })
		if !w.chance(l.double) {
			return
		}
	}
}

// link is made at first use, and changes with the weather.
func (w *world) link(from, to string) *link {
	l := w.links[from+" "+to]
	if l == nil {
		l = &link{}
		w.weather(l, w.periodOf(from, to))
		w.links[from+" "+to] = l
	}
	return l
}

func (w *world) periodOf(ids ...string) int64 {
	for _, b := range w.bodies {
		if slices.Contains(ids, b.device) {
			return b.period()
		}
	}
	return 1e9
}

func (w *world) weather(l *link, period int64) {
	*l = link{delay: period / 50, jitter: period / 10, last: l.last}
	if w.mode.calm {
		return
	}
	switch w.rng.IntN(8) {
	case 0: // gone
		l.loss = 1
	case 1: // bad
		l.loss, l.double = 0.3, 0.2
	case 2: // slow
		l.delay = w.rng.Int64N(4 * period)
	case 3: // out of order
		l.jitter, l.reorders, l.double = 3*period, true, 0.3
	case 6: // so slow that a device asks again
		l.jitter, l.reorders = 8*period, true
	case 4: // kept back
		l.hoard = 0.5
	case 5: // to the nanosecond
		l.delay, l.jitter = 0, 0
	}
}

func (w *world) deliver(p packet) {
	if p.to != "" {
		for _, s := range w.stations {
			if s.id != p.to {
				continue
			}
			if d := s.m.asleep - w.now; d > 0 {
				w.after(d, func() { w.deliver(p) })
				return
			}
			s.hear(p)
		}
		return
	}
	for _, b := range w.bodies {
		if b.device == p.beat.Device {
			if d := b.m.asleep - w.now; d > 0 {
				w.after(d, func() { b.get(p) })
				continue
			}
			b.get(p)
		}
	}
}

// run goes on for a number of steps: something that was due, or something that
// somebody does.
func (w *world) run() {
	for _, s := range w.stations {
		s.schedule()
	}
	for w.step = 1; w.step <= w.mode.steps; w.step++ {
		rate := 0.12
		switch {
		case w.mode.calm:
			rate = 0.02
		case w.mode.busy, w.mode.crypto:
			rate = 0.25
		}
		if w.q.Len() == 0 || w.chance(rate) {
			w.act()
			continue
		}
		e := heap.Pop(&w.q).(event)
		w.now = max(w.now, e.at)
		e.do()
	}
}

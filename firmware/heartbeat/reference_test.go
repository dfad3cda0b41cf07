package heartbeat

import (
	"maps"
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// The rules of the heartbeat once more, from their text (design §7, rows A24 to
// A27, the comments of this package), without regard to cost. The reference
// keeps all that ever happened and works everything out anew at each question.
// It shares no code with what it is compared with.

// refMonitor is everything that happened to a device from one opening to the
// next. Times are on the device's boot-time clock.
type refMonitor struct {
	policy ledger.Heartbeat
	kinds  map[string]string
	opened int64
	polls  []int64 // when it looked whether a challenge is due, and one was
	sent   []refChallenge
	taken  []refTaken // what was taken, in order
	broken []Beat     // values before which too many in a row were lost
	news   bool       // all sources are to see how its log has grown
}

type refChallenge struct {
	at    int64
	nonce [32]byte
	begin []string
}

// refTaken is a beat that counted when it arrived, or a refusal.
type refTaken struct {
	at      int64
	beat    Beat
	genuine bool // value and slot are as the source's sequence has them
	asked   int64
	ends    int64 // what it grants alone; nothing for messages and refusals
	slotAt  int64
}

const refGrace = 60_000_000_000

func (r *refMonitor) period() int64 { return int64(r.policy.Period) * 1_000_000 }
func (r *refMonitor) lease() int64  { return int64(r.policy.Lease) * 1_000_000 }

// challenge is the one with a nonce, and how many were sent after it.
func (r *refMonitor) challenge(nonce [32]byte) (c refChallenge, after int, ok bool) {
	for i := len(r.sent) - 1; i >= 0; i-- {
		if r.sent[i].nonce == nonce {
			return r.sent[i], len(r.sent) - 1 - i, true
		}
	}
	return c, 0, false
}

// slotTime: a slot begins k periods after the challenge that began the series,
// less 500 ppm, and not after its beat arrived.
func (r *refMonitor) slotTime(anchor int64, slot uint64, arrived int64) int64 {
	far := int64(slot) * r.period()
	t := anchor + far - far*500/1_000_000
	if t > arrived {
		t = arrived
	}
	return t
}

// end is up to when a source has granted.
func (r *refMonitor) end(source string) int64 {
	var end int64
	var slots []int64
	for i := range r.taken {
		x := &r.taken[i]
		if x.beat.Source != source {
			continue
		}
		if x.ends > end {
			end = x.ends
		}
		if x.beat.Kind == KindMessage {
			slots = append(slots, x.slotAt)
		}
	}
	// Row A24: Minimum messages have to fall into a lease. It ends one lease
	// after the first of the Minimum latest.
	if n := int(r.policy.Minimum); len(slots) >= n && len(slots) > 0 {
		slices.Sort(slots)
		if t := slots[len(slots)-n] + r.lease(); t > end {
			end = t
		}
	}
	return end
}

// until is the end of the lease: the last moment before which at least Needed
// sources grant. What is over when it arrives begins none.
func (r *refMonitor) until() int64 {
	var ends []int64
	for _, s := range r.policy.Sources {
		ends = append(ends, r.end(s))
	}
	var until int64
	for _, e := range ends {
		granting := uint64(0)
		for _, other := range ends {
			if other >= e {
				granting++
			}
		}
		if granting >= r.policy.Needed && e > until {
			until = e
		}
	}
	for i := len(r.taken) - 1; i >= 0; i-- {
		if r.taken[i].beat.Kind != KindRefusal {
			if until <= r.taken[i].at {
				return 0
			}
			break
		}
	}
	return until
}

func (r *refMonitor) lock() int64 {
	if u := r.until(); u != 0 {
		return u
	}
	return r.opened + refGrace
}

// over for good: nothing is taken after the end, so it never moves again.
func (r *refMonitor) over(now int64) bool { return now >= r.lock() }

// series is the run of one-way beats that a source is in: its last answer that
// was taken, unless the series broke off since.
func (r *refMonitor) series(source string) *refTaken {
	for i := len(r.taken) - 1; i >= 0; i-- {
		if x := &r.taken[i]; x.beat.Source == source && x.beat.Kind == KindAnswer {
			if slices.ContainsFunc(r.broken, func(b Beat) bool { return b.Source == source && b.Nonce == x.beat.Nonce }) {
				return nil
			}
			return x
		}
	}
	return nil
}

// take decides about a beat, and notes it if it counts.
func (r *refMonitor) take(now int64, b *Beat, genuine bool) bool {
	if r.over(now) || !slices.Contains(r.policy.Sources, b.Source) {
		return false
	}
	kind := r.kinds[b.Source]
	x := refTaken{at: now, beat: *b, genuine: genuine}
	switch b.Kind {
	case KindRefusal, KindAnswer:
		// To a challenge that is waited for: one lease, and among the last 64.
		// The first word of a source to it counts.
		c, after, ok := r.challenge(b.Nonce)
		if !ok || after >= 64 || now >= c.at+r.lease() {
			return false
		}
		for i := range r.taken {
			y := &r.taken[i]
			if y.beat.Source == b.Source && y.beat.Nonce == b.Nonce && (y.beat.Kind == KindAnswer || y.beat.Kind == KindRefusal) {
				return false
			}
		}
		x.asked = c.at
		if b.Kind == KindRefusal {
			break
		}
		if kind == ledger.SourceSatellite || kind == ledger.SourceSequence {
			x.ends = c.at + r.lease()
		}
		if kind == ledger.SourceSatellite {
			break
		}
		if !slices.Contains(c.begin, b.Source) || b.Slots < 1 || b.Slots > 512 {
			return false
		}
		if s := r.series(b.Source); s != nil && c.at <= s.asked {
			return false
		}
	case KindMessage, KindValue:
		if b.Kind == KindMessage && kind != ledger.SourceMessage || b.Kind == KindValue && kind != ledger.SourceSequence {
			return false
		}
		s := r.series(b.Source)
		if s == nil || s.beat.Nonce != b.Nonce || b.Slot < 1 || b.Slot > s.beat.Slots {
			return false
		}
		x.asked, x.slotAt = s.asked, r.slotTime(s.asked, b.Slot, now)
		last := uint64(0)
		for i := range r.taken {
			y := &r.taken[i]
			if y.beat.Source != b.Source || y.beat.Kind != b.Kind || y.beat.Nonce != b.Nonce {
				continue
			}
			if y.beat.Slot == b.Slot {
				return false
			}
			last = max(last, y.beat.Slot)
		}
		if b.Kind == KindMessage {
			if x.slotAt+r.lease() <= now {
				return false
			}
			break
		}
		// Row A25: in order, at most Loss in a row lost, and of the sequence
		// that the series' answer belongs to.
		if b.Slot > last+r.policy.Loss+1 {
			r.broken = append(r.broken, *b)
			return false
		}
		if b.Slot < last || !genuine || !s.genuine {
			return false
		}
		x.ends = x.slotAt + r.lease()
	default:
		return false
	}
	r.taken = append(r.taken, x)
	return true
}

// ask is the challenge that is due, if there is one.
func (r *refMonitor) ask(now int64, nonce [32]byte) (to, begin []string, due bool) {
	if r.over(now) || len(r.polls) > 0 && now < r.polls[len(r.polls)-1]+r.period() {
		return nil, nil, false
	}
	for _, id := range r.policy.Sources {
		if r.kinds[id] == ledger.SourceSatellite {
			to = append(to, id)
		} else if r.wants(id, now) {
			to, begin = append(to, id), append(begin, id)
		} else if r.news {
			to = append(to, id)
		}
	}
	r.polls, r.news = append(r.polls, now), false
	if len(to) > 0 {
		r.sent = append(r.sent, refChallenge{now, nonce, begin})
	}
	return to, begin, len(to) > 0
}

func (r *refMonitor) wants(source string, now int64) bool {
	asked := int64(-1)
	for _, c := range r.sent {
		if slices.Contains(c.begin, source) {
			asked = c.at
		}
	}
	answered := slices.ContainsFunc(r.taken, func(x refTaken) bool {
		return x.beat.Source == source && x.beat.Kind == KindAnswer && x.asked == asked
	})
	if asked >= 0 && !answered {
		return 2*(now-asked) >= r.lease()
	}
	s := r.series(source)
	if s == nil {
		return true
	}
	heard := s.asked
	for i := range r.taken {
		if x := &r.taken[i]; x.beat.Source == source && x.beat.Kind != KindRefusal && x.at > heard {
			heard = x.at
		}
	}
	return 4*(now-s.asked) >= 3*int64(s.beat.Slots)*r.period() || now-heard >= 3*r.period()
}

// refStation is everything that ever happened at a station and was on its disk
// before anybody was told, and what happened since its process began.
type refStation struct {
	id, kind string
	restored bool
	ceremony map[string][16]byte // the instances of those devices whose policy names it
	facts    []refFact

	heard []refHeard // since the start: challenges that were not refused, revocations
	slots []refSlot  // since the start: one-way beats that were sent
}

// refFact is a challenge by an instance that was believed, or a revocation.
type refFact struct {
	device   string
	revoked  int64 // by the station's clock; 0: a challenge
	digest   envelope.Hash
	instance [16]byte
	log      uint64
	head     envelope.Hash
	enrolled int64
}

type refHeard struct {
	device   string
	revoked  bool
	instance [16]byte
	counter  uint64
	at       int64
	begin    bool
	nonce    [32]byte
}

type refSlot struct {
	series int // index in heard
	slot   uint64
}

// refEvidence is what officers did, whoever shows it.
type refEvidence struct {
	device   string
	instance [16]byte
	at       int64
	log      uint64
	head     envelope.Hash
	restored bool
	quorum   bool // enough officers of this device, and their signatures are good
}

// refKnown is what a station believes of a device.
type refKnown struct {
	instance [16]byte
	enrolled int64
	log      uint64
	head     envelope.Hash
	revoked  int64
	past     [][16]byte
}

func (r *refStation) known(device string) refKnown {
	var k refKnown
	if !r.restored {
		k.instance = r.ceremony[device]
	}
	for i := range r.facts {
		f := &r.facts[i]
		switch {
		case f.device != device:
		case f.revoked != 0:
			// Its clock may have been set back: it is silent for whomever
			// officers opened until now, in any case.
			k.revoked = max(k.revoked, f.revoked, k.enrolled)
		case f.instance == k.instance:
			k.log, k.head = f.log, f.head
		default:
			if k.instance != [16]byte{} {
				k.past = append(k.past, k.instance)
			}
			k.instance, k.enrolled, k.log, k.head, k.revoked = f.instance, f.enrolled, f.log, f.head, 0
		}
	}
	return k
}

// verdict of a station on a challenge.
type verdict struct {
	silent bool     // no answer
	codes  []string // refused, for one of these reasons
	fact   refFact
}

func (r *refStation) judge(now int64, c *Challenge, e *refEvidence) verdict {
	id := c.Instance()
	if _, ok := r.ceremony[c.Device]; !ok {
		return verdict{silent: true}
	}
	for i := len(r.heard) - 1; i >= 0; i-- {
		h := &r.heard[i]
		if h.device != c.Device {
			continue
		}
		if h.revoked || h.instance != id {
			break
		}
		if c.Counter <= h.counter {
			return verdict{silent: true}
		}
	}
	k := r.known(c.Device)
	older := func(log uint64, head envelope.Hash) bool {
		return log < k.log || log == k.log && k.log > 0 && head != k.head
	}
	v := verdict{fact: refFact{device: c.Device, instance: id, log: c.Log, head: c.LogHead}}
	if id == k.instance {
		if k.revoked != 0 {
			v.codes = append(v.codes, CodeRevoked)
		}
		if older(c.Log, c.LogHead) {
			v.codes = append(v.codes, CodeBehind)
		}
		v.fact.enrolled = k.enrolled
		return v
	}
	if e == nil || !e.quorum || e.device != c.Device || e.instance != id || e.at > now+300 || e.at < k.enrolled || slices.Contains(k.past, id) {
		v.codes = append(v.codes, CodeInstance)
	}
	if e == nil {
		return v
	}
	if k.revoked != 0 && e.at <= k.revoked {
		v.codes = append(v.codes, CodeRevoked)
	}
	// What the officers saw, and what it shows now.
	if c.Log < e.log || !e.restored && (older(c.Log, c.LogHead) || older(e.log, e.head)) {
		v.codes = append(v.codes, CodeBehind)
	}
	v.fact.enrolled = e.at
	return v
}

// believe notes a challenge that was not refused.
func (r *refStation) believe(boot int64, c *Challenge, f refFact) {
	k := r.known(c.Device)
	if k.instance != f.instance || k.log != f.log || k.head != f.head {
		r.facts = append(r.facts, f)
	}
	r.heard = append(r.heard, refHeard{
		device: c.Device, instance: f.instance, counter: c.Counter, at: boot, begin: slices.Contains(c.Begin, r.id), nonce: c.Nonce,
	})
}

func (r *refStation) revoke(device string, now int64, digest envelope.Hash) {
	r.facts = append(r.facts, refFact{device: device, revoked: max(now, 1), digest: digest})
	r.heard = append(r.heard, refHeard{device: device, revoked: true})
}

// carriedOut: a revocation that was confirmed before is not carried out again.
func (r *refStation) carriedOut(digest envelope.Hash) bool {
	return slices.ContainsFunc(r.facts, func(f refFact) bool { return f.revoked != 0 && f.digest == digest })
}

// series are the indices of the series that go on for a device, the oldest
// first: the last three that it asked for.
func (r *refStation) series(device string) (all []int) {
	k := r.known(device)
	for i := len(r.heard) - 1; i >= 0 && k.revoked == 0 && len(all) < 3; i-- {
		h := &r.heard[i]
		if h.device != device {
			continue
		}
		if h.revoked || h.instance != k.instance {
			break
		}
		if h.begin && r.kind != ledger.SourceSatellite {
			all = append([]int{i}, all...)
		}
	}
	return all
}

// due are the devices that get a one-way beat now, with its slot, in the order
// of their ids.
func (r *refStation) due(boot int64, every map[string]int64) (devices []string, nonces [][32]byte, slots []uint64) {
	for _, device := range slices.Sorted(maps.Keys(r.ceremony)) {
		for _, i := range r.series(device) {
			k := uint64((boot - r.heard[i].at) / every[device])
			if k < 1 || k > 512 || slices.ContainsFunc(r.slots, func(s refSlot) bool { return s.series == i && s.slot >= k }) {
				continue
			}
			r.slots = append(r.slots, refSlot{i, k})
			devices, nonces, slots = append(devices, device), append(nonces, r.heard[i].nonce), append(slots, k)
		}
	}
	return devices, nonces, slots
}

// restart forgets what is in memory.
func (r *refStation) restart() { r.heard, r.slots = nil, nil }

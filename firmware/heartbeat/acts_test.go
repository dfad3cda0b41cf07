package heartbeat

import (
	cryptorand "crypto/rand"
	"fmt"
	"maps"
	"slices"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// What happens in a world besides messages and time: what officers, operators,
// thieves, power supplies and message servers do.

// act does something.
func (w *world) act() {
	b := w.bodies[w.rng.IntN(len(w.bodies))]
	s := w.stations[w.rng.IntN(len(w.stations))]
	if w.mode.calm {
		switch w.rng.IntN(20) {
		case 0:
			if w.now < b.reopen {
				return // nobody's clock may show the same second
			}
			w.last, b.reopen = "reopened", w.now+3e9
			b.renew()
			b.enrol(false, true)
			b.open()
		case 1:
			w.setClock(b.m, 31_536_000)
			w.setClock(s.m, 31_536_000)
		case 2:
			if w.mode.crypto && s.beatKey != nil {
				s.rotate()
			}
		default:
			b.grow()
		}
		return
	}
	n := w.rng.IntN(30)
	switch {
	case w.mode.crypto && w.chance(0.4):
		n = 27 + w.rng.IntN(3)
	case w.mode.busy && w.chance(0.6):
		n = []int{5, 5, 5, 19, 20, 21, 21, 22, 22, 23, 24, 24}[w.rng.IntN(12)]
	case w.mode.liars && w.chance(0.4):
		n = 25
	}
	switch n {
	case 0, 1:
		b.grow()
	case 2, 3, 4:
		for _, name := range slices.Sorted(maps.Keys(w.links)) {
			if w.chance(0.3) {
				w.weather(w.links[name], b.period())
			}
		}
	case 5, 6, 7, 8, 9:
		w.replay()
	case 10, 11, 12:
		w.release()
	case 13, 14, 15:
		w.edge(b)
	case 16, 17:
		w.pause(b, s)
	case 18:
		w.setClock(b.m, []int64{-31_536_000, 31_536_000, -b.m.skew}[w.rng.IntN(3)])
	case 19:
		w.setClock(s.m, []int64{-31_536_000, 31_536_000, -s.m.skew}[w.rng.IntN(3)])
	case 20:
		w.last = "a process of " + s.id + " ends"
		s.check()
		if w.chance(0.5) {
			s.m.restart()
		}
		s.start()
	case 21:
		w.silence(s)
	case 22:
		w.disk(b)
	case 23:
		w.copyOf(b)
	case 24:
		w.last = "restart"
		b.restart()
	case 25, 26:
		if w.mode.liars {
			w.lie(b)
		}
	case 27, 28:
		if w.mode.crypto {
			w.forge(b)
		}
	case 29:
		if w.mode.crypto && s.beatKey != nil {
			s.rotate()
		}
	}
}

// locked waits until somebody comes for a device whose lease is over.
func (b *body) locked() {
	gen := b.gen
	b.w.after(b.w.rng.Int64N(2*b.lease())+b.w.rng.Int64N(4e9), func() {
		if b.gen == gen {
			b.restart()
		}
	})
}

// restart is a new start of its process, or of its machine. The instance is
// gone, and officers come; or a thief goes on with what he has.
func (b *body) restart() {
	w := b.w
	if w.chance(0.5) {
		b.m.restart()
	}
	shown := b.proof // what was recorded of an instance before
	b.renew()
	gen := b.gen
	wait := w.rng.Int64N(b.lease()) + w.rng.Int64N(3e9)
	if w.mode.busy && w.chance(0.7) {
		wait = w.rng.Int64N(2e8) // clocks show the same second
	}
	w.after(wait, func() {
		if b.gen != gen {
			return
		}
		switch {
		case b.thief && w.chance(0.7):
			if w.chance(0.5) {
				b.proof = shown
			}
		case w.chance(0.1):
			b.enrol(w.chance(0.5), false)
		default:
			// Careful officers know an older disk when they see it.
			b.enrol(b.log < b.oldLog && w.chance(0.5) || w.chance(0.1), true)
			if b.log > 3 && w.chance(0.1) { // another disk than they saw
				b.log, b.head = b.log-1-w.rng.Uint64N(3), w.hash()
			}
		}
		b.open()
	})
}

// replay sends something once more, to where it belongs or elsewhere.
func (w *world) replay() {
	if len(w.tape) == 0 {
		return
	}
	p := w.tape[w.rng.IntN(len(w.tape))]
	w.last = "a replay"
	if p.to != "" && !w.mode.crypto && w.chance(0.2) {
		// The seal names each recipient; any of them may get it late.
		if d := p.c.Device; slices.Contains(w.bodyOf(d).policy.Sources, p.to) {
			p.to = w.bodyOf(d).policy.Sources[w.rng.IntN(len(w.bodyOf(d).policy.Sources))]
		}
	}
	w.deliver(p)
}

func (w *world) bodyOf(device string) *body {
	return w.bodies[slices.IndexFunc(w.bodies, func(b *body) bool { return b.device == device })]
}

// release lets go of what was kept back: some of it, much later, or at once.
func (w *world) release() {
	w.last = "what was kept back comes"
	all := w.hoard
	w.hoard = nil
	for _, p := range all {
		switch w.rng.IntN(4) {
		case 0:
			w.after(w.rng.Int64N(3600e9), func() { w.deliver(p) })
		case 1:
			w.hoard = append(w.hoard, p)
		default:
			w.deliver(p)
		}
	}
}

// edge has something arrive at the very nanosecond at which it matters, or one
// before or after.
func (w *world) edge(b *body) {
	if b.mon == nil {
		return
	}
	r := &b.ref
	moments := []int64{r.lock(), r.opened + refGrace}
	for _, c := range r.sent[max(0, len(r.sent)-6):] {
		moments = append(moments, c.at+b.lease(), c.at+b.lease()/2)
	}
	var mine []packet
	for _, p := range append(w.tape[:len(w.tape):len(w.tape)], w.hoard...) {
		if p.beat != nil && p.beat.Instance == b.id {
			mine = append(mine, p)
		}
	}
	if len(mine) == 0 {
		return
	}
	boot := b.m.boot()
	for range 4 {
		p := mine[w.rng.IntN(len(mine))]
		at := moments[w.rng.IntN(len(moments))]
		if c, _, ok := r.challenge(p.beat.Nonce); ok && w.chance(0.7) {
			at = c.at + b.lease()
			if p.beat.Slot > 0 {
				at = r.slotTime(c.at, p.beat.Slot, 1<<62)
				if w.chance(0.7) {
					at += b.lease()
				}
				if w.mode.liars && w.chance(0.5) {
					// Another slot, that is about to be a lease old and was never
					// taken: of messages that were lost.
					beat := *p.beat
					beat.Slot = w.rng.Uint64N(beat.Slot + 2)
					at = r.slotTime(c.at, beat.Slot, 1<<62) + b.lease()
					p = packet{beat: &beat, lie: true, genuine: beat.Slot == p.beat.Slot}
					if w.mode.crypto {
						continue
					}
				}
			}
		}
		if at += w.rng.Int64N(3) - 1; at >= boot {
			w.after(at-boot, func() { w.deliver(p) })
			gen := b.gen
			w.after(at-boot, func() { b.tick(gen, false) })
		}
	}
}

// pause stops a machine, or the process on it, for a while: often for about a
// lease, sometimes for as long as a series.
func (w *world) pause(b *body, s *wStation) {
	m := b.m
	if w.chance(0.5) {
		m = s.m
	}
	w.last = "a pause"
	d := w.rng.Int64N(2 * b.lease())
	if w.chance(0.05) {
		d = w.rng.Int64N(600 * b.period())
	}
	m.asleep = w.now + d
}

func (w *world) setClock(m *machine, d int64) {
	w.last = "a wall clock is set"
	m.skew = max(-31_536_000, min(31_536_000, m.skew+d))
}

// silence has an operator revoke, at the machine or by a message; or replays a
// message that did.
func (w *world) silence(s *wStation) {
	if len(s.ref.ceremony) == 0 {
		return
	}
	devices := w.set.guarded
	device := devices[w.rng.IntN(len(devices))]
	if device == s.id {
		return
	}
	var v *VerifiedRevoke
	switch w.rng.IntN(4) {
	case 0: // at the machine
	case 1, 2:
		var mine []*VerifiedRevoke
		for _, x := range w.words {
			if x.Source == s.id {
				mine = append(mine, x)
			}
		}
		if len(mine) > 0 {
			v = mine[w.rng.IntN(len(mine))]
			s.revoke(v.Device, v)
			return
		}
		fallthrough
	default:
		now := ledgertest.Epoch + 3600 + w.now/1e9
		v = &VerifiedRevoke{
			Revoke: Revoke{Device: device, Source: s.id, Created: now, Expires: now + 1 + w.rng.Int64N(MaxRevokeLife)}, digest: w.hash(),
		}
		w.words = append(w.words, v)
		if w.chance(0.3) { // two people at once
			s.revoke(device, nil)
		}
	}
	s.revoke(device, v)
}

// disk takes a snapshot of a device's disk, or puts one back.
func (w *world) disk(b *body) {
	if b.oldLog == 0 || w.chance(0.5) {
		b.oldLog, b.oldHead = b.log, b.head
		return
	}
	switch w.rng.IntN(5) {
	case 0: // under a process that goes on
		w.last = "another disk, of the same length"
		b.head = w.hash()
	case 1:
		w.last = "an older disk under a process"
		b.log, b.head, b.oldLog, b.oldHead = b.oldLog, b.oldHead, b.log, b.head
	default:
		w.last = "an older disk"
		b.log, b.head, b.oldLog, b.oldHead = b.oldLog, b.oldHead, b.log, b.head
		b.restart()
	}
}

// copyOf starts a copy of a device, token and disk, elsewhere.
func (w *world) copyOf(b *body) {
	if len(w.bodies) >= 5 {
		return
	}
	w.last = "a copy of " + b.device
	c := w.newBody(b.device)
	c.thief, c.log, c.head, c.proof = true, b.log, b.head, b.proof
	shown := b.proof
	c.restart()
	if w.chance(0.5) {
		c.proof = shown
		c.open()
	}
}

// lie has a source say what is not so. Its word binds it alone.
func (w *world) lie(b *body) {
	if b.mon == nil {
		return
	}
	var mine []packet
	for _, p := range w.tape {
		if p.beat != nil && p.beat.Instance == b.id && !p.lie {
			mine = append(mine, p)
		}
	}
	if len(mine) == 0 {
		return
	}
	p := mine[w.rng.IntN(len(mine))]
	was, beat := p.beat, *p.beat
	p.beat, p.lie = &beat, true
	n := w.rng.IntN(7)
	switch n {
	case 0:
		beat.Slot = w.rng.Uint64N(514)
	case 6: // the next beat of the series that goes on, before its time
		s := b.ref.series(beat.Source)
		if s == nil {
			return
		}
		last := uint64(0)
		for _, x := range b.ref.taken {
			if x.beat.Source == beat.Source && x.beat.Nonce == s.beat.Nonce {
				last = max(last, x.beat.Slot)
			}
		}
		beat = Beat{
			Source: beat.Source, Device: b.device, Instance: b.id, Kind: KindMessage, Nonce: s.beat.Nonce,
			Slot: last + 1 + w.rng.Uint64N(b.policy.Loss+2), Value: s.beat.Value,
		}
		switch {
		case b.kinds[beat.Source] == ledger.SourceSequence:
			beat.Kind = KindValue
		case w.chance(0.5):
			beat.Slot += 3 + w.rng.Uint64N(20)
		case w.chance(0.3): // one after the last
			beat.Slot = s.beat.Slots + 1
		}
		if w.chance(0.5) {
			beat.Value = w.hash()
		}
	case 1:
		beat.Value = w.hash()
	case 2:
		beat.Kind = []string{KindAnswer, KindMessage, KindValue, KindRefusal, "other", ""}[w.rng.IntN(6)]
	case 3:
		beat.Nonce = w.hash()
		if n := len(b.ref.sent); n > 0 && w.chance(0.7) {
			beat.Nonce = b.ref.sent[w.rng.IntN(n)].nonce
		}
	case 4:
		// Its length is its own affair; its values are still of its sequence.
		beat.Slots = []uint64{0, 1, 5, 511, 512, 513, 1 << 63}[w.rng.IntN(7)]
	case 5:
		beat.Source = []string{"", "device-3", "message-9", b.device}[w.rng.IntN(4)]
	}
	// Whether it is of the sequence all the same.
	p.genuine = beat.Source == was.Source && beat.Kind == was.Kind && beat.Nonce == was.Nonce && beat.Value == was.Value &&
		(beat.Slot == was.Slot || beat.Kind == KindAnswer)
	if w.mode.crypto {
		for _, s := range w.stations {
			if s.id == beat.Source && w.has(b) {
				p.epoch = s.epoch
				beat.Key = s.cfg.Certificate
				p.frame = s.seal(&Out{Beat: beat, To: b.instance.Agree().PublicKey()})
				w.last = "a lie"
				b.get(p)
			}
		}
		return
	}
	w.last = "a lie"
	b.get(p)
}

func (w *world) has(b *body) bool { return b.mon != nil && b.instance != nil }

// forge makes what whoever opens it has to refuse.
func (w *world) forge(b *body) {
	if !w.has(b) {
		return
	}
	w.last = "a forgery"
	id := b.policy.Sources[w.rng.IntN(len(b.policy.Sources))]
	s := w.stations[slices.IndexFunc(w.stations, func(s *wStation) bool { return s.id == id })]
	c := Challenge{Device: b.device, Counter: 1 << 40, Nonce: w.hash(), Log: b.log, LogHead: b.head}
	seal := func(token string, boot bool) packet {
		d := w.set.sys.Devices[token]
		key := d.Sign
		if boot {
			key = d.Boot
		}
		frame, err := SealChallenge(cryptorand.Reader, key, w.set.state, []string{id}, &c, b.m.wall())
		if err != nil {
			w.t.Fatal(err)
		}
		return packet{to: id, c: &VerifiedChallenge{Challenge: c}, forged: true, frame: frame}
	}
	complete := func() {
		if err := b.instance.Complete(cryptorand.Reader, &c); err != nil {
			w.t.Fatal(err)
		}
	}
	if len(b.ref.sent) > 0 {
		c.Nonce = b.ref.sent[len(b.ref.sent)-1].nonce
	}
	beat := Beat{Source: id, Device: b.device, Instance: b.id, Kind: KindAnswer, Nonce: c.Nonce, Slots: SeriesSlots, Key: s.cfg.Certificate}
	out := &Out{Beat: beat, To: b.instance.Agree().PublicKey()}
	other := w.stations[w.rng.IntN(len(w.stations))]
	switch n := w.rng.IntN(9); n {
	case 0: // a thief of the disk, with the boot key
		complete()
		s.hear(seal(b.device, true))
	case 1: // a thief of the token, who knows the instance's public keys
		i, err := NewInstance(cryptorand.Reader)
		if err != nil {
			w.t.Fatal(err)
		}
		if err := i.Complete(cryptorand.Reader, &c); err != nil {
			w.t.Fatal(err)
		}
		c.Sign, c.Agree = b.sign, b.agree
		s.hear(seal(b.device, false))
	case 2: // something was changed after the instance proved it
		complete()
		switch w.rng.IntN(4) {
		case 0:
			c.Counter++
		case 1:
			c.Log++
		case 2:
			c.Begin = append(c.Begin, id)
		case 3:
			c.Nonce = w.hash()
		}
		s.hear(seal(b.device, false))
	case 3: // one device in the name of another
		complete()
		s.hear(seal("device-4", false))
	case 4: // a source in the name of another, or the device in that of a source
		if other == s {
			return
		}
		b.get(packet{beat: &beat, forged: true, epoch: s.epoch, frame: other.seal(out)})
	case 5:
		i := slices.IndexFunc(w.stations, func(x *wStation) bool { return x != s && x.beatKey != nil })
		if i < 0 || s.beatKey == nil {
			return
		}
		other = w.stations[i]
		out.Beat.Key = other.cfg.Certificate
		b.get(packet{beat: &out.Beat, forged: true, epoch: s.epoch, frame: other.seal(out)})
	case 6: // to this instance's key, of another instance or device
		out.Beat.Instance = [16]byte(w.bytes(16))
		b.get(packet{beat: &out.Beat, forged: true, epoch: s.epoch, frame: s.seal(out)})
	case 7:
		out.Beat.Device = "device-4"
		b.get(packet{beat: &beat, forged: true, epoch: s.epoch, frame: s.seal(out)})
	case 8: // a bit
		frame := s.seal(out)
		frame[w.rng.IntN(len(frame))] ^= 1 << w.rng.IntN(8)
		b.get(packet{beat: &beat, forged: true, epoch: s.epoch, frame: frame})
	default:
		panic(fmt.Sprint(n))
	}
}

package heartbeat

import (
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/ledger"
)

// Monitor is what a device believes of its beats, from the moment when it was
// opened to the end of its lease, which is final: the next lease begins with
// the next opening, by the officers. All times are on the device's boot-time
// clock in nanoseconds. It is not safe for concurrent use.
type Monitor struct {
	device  string
	policy  ledger.Heartbeat
	period  int64
	lease   int64
	sources []*source // in the order of the policy

	start   int64
	until   int64 // end of the lease; 0 before the first
	over    bool
	next    int64 // when a challenge is due
	news    bool  // the next one goes to every source
	counter uint64
	sent    []sent
}

// sent is a challenge that may still be answered.
type sent struct {
	nonce    [32]byte
	at       int64
	answered []string
	begin    []string
}

// source is one source as the monitor sees it.
type source struct {
	id, kind string
	until    int64 // what it has granted so far
	heard    int64 // when something of it was accepted last; 0: never
	refusal  string

	series *series
	asked  int64   // when a series was asked for that has not begun; 0: none is wanted
	times  []int64 // slot times of messages, newest first, at most Minimum
}

// series is a run of one-way beats, counted from its anchor.
type series struct {
	nonce  [32]byte
	anchor int64 // when the challenge was sent that began it
	slots  uint64
	chain  chain    // kind sequence
	taken  []uint64 // slots of kind message that were accepted, newest first, at most one lease's worth
}

// Errors of Accept. Whatever the error, the lease is as if nothing had come.
var (
	ErrOver     = errors.New("heartbeat: the lease is over: the device's officers have to open it")
	ErrUnasked  = errors.New("heartbeat: it answers no challenge that this device waits for")
	ErrNoSeries = errors.New("heartbeat: it is of no series that goes on")
	ErrOld      = errors.New("heartbeat: its slot is over, or was taken before")
	ErrLost     = errors.New("heartbeat: more values in a row were lost than the policy allows")
	ErrValue    = errors.New("heartbeat: the value is not of the sequence")
)

// A RefusedError is a source's refusal to beat.
type RefusedError struct{ Source, Code, Text string }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("heartbeat: source %s refuses: %s (%s)", e.Source, e.Text, e.Code)
}

// NewMonitor begins at the moment when the device was opened. kinds names the
// kind of each source of the policy; devices answer as satellites.
func NewMonitor(device string, p ledger.Heartbeat, kinds map[string]string, boot int64) *Monitor {
	const ms = 1_000_000
	m := &Monitor{device: device, policy: p, period: int64(p.Period) * ms, lease: int64(p.Lease) * ms, start: boot, next: boot}
	for _, id := range p.Sources {
		m.sources = append(m.sources, &source{id: id, kind: kinds[id]})
	}
	return m
}

// Until is the end of the lease: nothing may be released at or after it. 0
// means that there was none yet.
func (m *Monitor) Until() int64 { return m.until }

// Lock is when the token has to be locked unless another beat comes: at the
// end of the lease, or of the wait for the first one.
func (m *Monitor) Lock() int64 {
	if m.until == 0 {
		return m.start + Grace
	}
	return m.until
}

// Over reports whether the lease has ended. It never goes on after that,
// whatever arrives.
func (m *Monitor) Over(boot int64) bool {
	m.over = m.over || boot >= m.Lock()
	return m.over
}

// Challenge is the query that is due at boot, with the ids of those it goes
// to. The caller fills in who it is, and sends it.
func (m *Monitor) Challenge(boot int64, nonce [32]byte) (c *Challenge, to []string, due bool) {
	if m.Over(boot) || boot < m.next {
		return nil, nil, false
	}
	out := sent{nonce: nonce, at: boot}
	for _, s := range m.sources {
		switch {
		case s.kind == ledger.SourceSatellite:
		case m.wantsSeries(s, boot):
			s.asked = boot
			out.begin = append(out.begin, s.id)
		case m.news:
		default:
			continue
		}
		to = append(to, s.id)
	}
	m.next, m.news = boot+m.period, false
	m.forget(boot)
	if len(to) == 0 {
		return nil, nil, false
	}
	m.sent = append(m.sent, out)
	m.counter++
	return &Challenge{Device: m.device, Counter: m.counter, Nonce: nonce, Begin: out.begin}, to, true
}

// News has the next challenge go to sources, too, that are asked for nothing:
// they are to see how the device's log has grown, for its older copies.
func (m *Monitor) News() { m.news = true }

// Next is when the monitor has to be looked at next: for a challenge, or for
// the end.
func (m *Monitor) Next() int64 { return min(m.next, m.Lock()) }

// wantsSeries: there is none, it has run for three quarters of its length, or
// it broke off. One that was asked for is waited for half a lease: every
// question makes the source begin anew, and an answer that takes longer would
// come too late for each.
func (m *Monitor) wantsSeries(s *source, boot int64) bool {
	if s.asked != 0 {
		return boot-s.asked >= m.lease/2
	}
	return s.series == nil ||
		boot-s.series.anchor >= int64(s.series.slots)*m.period/4*3 ||
		boot-max(s.heard, s.series.anchor) >= silentPeriods*m.period
}

// forget drops challenges whose answers would grant nothing any more.
func (m *Monitor) forget(boot int64) {
	m.sent = slices.DeleteFunc(m.sent, func(x sent) bool { return x.at+m.lease <= boot })
	if n := len(m.sent); n >= maxSent {
		m.sent = slices.Delete(m.sent, 0, n-maxSent+1)
	}
}

// Accept takes a beat that its source signed and that was sealed to this
// instance of the device. Any error leaves the lease as it is.
func (m *Monitor) Accept(boot int64, b *Beat) error {
	if m.Over(boot) {
		return ErrOver
	}
	i := slices.IndexFunc(m.sources, func(s *source) bool { return s.id == b.Source })
	if i < 0 {
		return fmt.Errorf("heartbeat: %.64q is not a source of device %s", b.Source, m.device)
	}
	s := m.sources[i]
	var err error
	switch {
	case b.Kind == KindRefusal:
		return m.refused(boot, s, b)
	case b.Kind == KindAnswer:
		err = m.answer(boot, s, b)
	case b.Kind == KindMessage && s.kind == ledger.SourceMessage:
		err = m.message(boot, s, b)
	case b.Kind == KindValue && s.kind == ledger.SourceSequence:
		err = m.value(boot, s, b)
	default:
		err = fmt.Errorf("heartbeat: source %s of kind %s sends no beat of kind %.16q", s.id, s.kind, b.Kind)
	}
	if err != nil {
		return err
	}
	s.heard, s.refusal = boot, ""
	// What ends before it begins is no lease: a device that still waits for its
	// first one goes on waiting.
	if end := m.quorum(); end > boot {
		m.until = max(m.until, end)
	}
	return nil
}

// refused notes a refusal of a challenge that is waited for; anything else
// could be an old one, replayed.
func (m *Monitor) refused(boot int64, s *source, b *Beat) error {
	x := m.asked(boot, b.Nonce)
	if x == nil || slices.Contains(x.answered, s.id) {
		return ErrUnasked
	}
	x.answered = append(x.answered, s.id)
	// A corrupt source's text goes into every report of this device's, and an
	// empty one would pass for no refusal.
	if s.refusal = clip(b.Text); s.refusal == "" {
		s.refusal = "no reason given"
	}
	return &RefusedError{s.id, clip(b.Code), s.refusal}
}

// asked is the challenge with a nonce, if its answer would still grant anything.
func (m *Monitor) asked(boot int64, nonce [32]byte) *sent {
	i := slices.IndexFunc(m.sent, func(x sent) bool { return x.nonce == nonce && x.at+m.lease > boot })
	if i < 0 {
		return nil
	}
	return &m.sent[i]
}

// answer takes an answer to a challenge. It counts from the moment when the
// challenge was sent, however long it was on its way.
func (m *Monitor) answer(boot int64, s *source, b *Beat) error {
	x := m.asked(boot, b.Nonce)
	if x == nil || slices.Contains(x.answered, s.id) {
		return ErrUnasked
	}
	if s.kind == ledger.SourceSatellite {
		x.answered = append(x.answered, s.id)
		s.until = max(s.until, x.at+m.lease)
		return nil
	}
	if !slices.Contains(x.begin, s.id) || b.Slots == 0 || b.Slots > SeriesSlots {
		return ErrUnasked
	}
	// An answer to an older challenge would put an older series in the place of
	// one that the source has begun since.
	if s.series != nil && x.at <= s.series.anchor {
		return ErrUnasked
	}
	x.answered = append(x.answered, s.id)
	if s.asked <= x.at {
		s.asked = 0 // else the source has begun another since, in the place of this one
	}
	s.series = &series{nonce: b.Nonce, anchor: x.at, slots: b.Slots, chain: chain{last: b.Value}}
	if s.kind == ledger.SourceSequence { // value 0: made after the challenge, like an answer
		s.until = max(s.until, x.at+m.lease)
	}
	return nil
}

// slotTime is when a slot of a series begins on this device's clock: no later
// than its beat was made, if the source's clock is not fast by more than the
// drift, and never in the future.
func (m *Monitor) slotTime(boot int64, r *series, slot uint64) int64 {
	d := int64(slot) * m.period
	return min(r.anchor+d-d/drift, boot)
}

func (s *source) in(b *Beat) (*series, error) {
	r := s.series
	if r == nil || r.nonce != b.Nonce {
		return nil, ErrNoSeries
	}
	if b.Slot == 0 || b.Slot > r.slots {
		return nil, ErrOld
	}
	return r, nil
}

// message takes a beat of kind message: the source is alive while Minimum of
// them fall into a lease (row A24).
func (m *Monitor) message(boot int64, s *source, b *Beat) error {
	r, err := s.in(b)
	if err != nil {
		return err
	}
	at := m.slotTime(boot, r, b.Slot)
	if slices.Contains(r.taken, b.Slot) || at+m.lease <= boot {
		return ErrOld
	}
	r.taken = append(r.taken, b.Slot)
	r.taken = slices.DeleteFunc(r.taken, func(k uint64) bool { return m.slotTime(boot, r, k)+m.lease <= boot })
	s.times = append(s.times, at)
	slices.SortFunc(s.times, func(a, b int64) int { return int(max(-1, min(1, b-a))) })
	if n := int(m.policy.Minimum); len(s.times) >= n {
		s.times = s.times[:n]
		s.until = max(s.until, s.times[n-1]+m.lease)
	}
	return nil
}

// value takes an element of a sequence (row A25).
func (m *Monitor) value(boot int64, s *source, b *Beat) error {
	r, err := s.in(b)
	if err != nil {
		return err
	}
	if err := r.chain.accept(m.device, b.Slot, b.Value, m.policy.Loss); err != nil {
		if errors.Is(err, ErrLost) {
			s.series = nil // none of the rest will be taken: ask for another
		}
		return err
	}
	s.until = max(s.until, m.slotTime(boot, r, b.Slot)+m.lease)
	return nil
}

// quorum is the moment up to which at least Needed sources have spoken: the
// Needed-th latest of their ends.
func (m *Monitor) quorum() int64 {
	ends := make([]int64, len(m.sources))
	for i, s := range m.sources {
		ends[i] = s.until
	}
	slices.Sort(ends)
	if n := len(ends) - int(m.policy.Needed); n >= 0 && n < len(ends) {
		return ends[n]
	}
	return 0
}

// States of a source, for people.
const (
	StateSpeaks  = "speaks"
	StateWaiting = "waiting" // nothing was granted yet
	StateSilent  = "silent"
	StateRefuses = "refuses"
)

// SourceView is a source as the device sees it.
type SourceView struct {
	ID, Kind string
	State    string
	Text     string // why it refuses
	Until    int64  // what it has granted; 0: nothing
}

// Sources are the monitor's sources at boot, in the order of the policy.
func (m *Monitor) Sources(boot int64) []SourceView {
	out := make([]SourceView, len(m.sources))
	for i, s := range m.sources {
		v := SourceView{ID: s.id, Kind: s.kind, Text: s.refusal, Until: s.until}
		switch {
		case s.refusal != "":
			v.State = StateRefuses
		case s.until == 0 && boot-m.start < Grace: // it may hear of the opening, or of the system, just now
			v.State = StateWaiting
		case boot-max(s.heard, m.start) >= silentPeriods*m.period || s.until <= boot:
			v.State = StateSilent
		default:
			v.State = StateSpeaks
		}
		out[i] = v
	}
	return out
}

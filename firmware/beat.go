package firmware

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// challenge asks the sources for beats, when that is due.
func (m *Machine) challenge(c *ctx) error {
	var nonce [32]byte
	if _, err := io.ReadFull(c.Rand, nonce[:]); err != nil {
		return faulty(CodeInternal, err)
	}
	if m.told != m.state.head {
		m.monitor.News()
	}
	q, to, due := m.monitor.Challenge(c.Boot, nonce)
	if !due {
		return nil
	}
	// Only what is durable: a source would hold a device that crashed now to
	// records that it does not have.
	q.Log, q.LogHead = m.state.count, m.state.head
	m.told = m.state.head
	if slices.ContainsFunc(to, func(id string) bool { return !m.welcome[id] }) {
		q.Enrolment = m.enrolment
	}
	if err := m.instance.Complete(c.Rand, q); err != nil {
		return faulty(CodeInternal, err)
	}
	frame, err := heartbeat.SealChallenge(c.Rand, m.cfg.Local.Sign, m.state.ledger, to, q, c.Now)
	if err != nil {
		return faulty(CodeInternal, err)
	}
	c.effect.Send = append(c.effect.Send, frame)
	return nil
}

// isBeat reports whether a frame claims to be a beat. Beats do not come from
// the message server and are not sealed to the token.
func isBeat(frame []byte) bool { return claims(frame, heartbeat.TypeBeat) }

// isPeers reports whether a frame claims to be another device's challenge.
func isPeers(frame []byte) bool { return claims(frame, heartbeat.TypeChallenge) }

func claims(frame []byte, typ string) bool {
	h, err := envelope.Peek(frame)
	return err == nil && h.Type == typ
}

// beat takes a beat. Beats that come twice or too late are no news: a server
// may make any number of them.
func (m *Machine) beat(c *ctx, frame []byte) error {
	if m.monitor == nil || m.instance == nil {
		return nil
	}
	b, key, err := heartbeat.OpenBeat(m.state.ledger, m.instance, m.cfg.Local.ID, frame, m.keys)
	if err != nil {
		return err
	}
	// The key first: a beat that counts must not have been made with one that
	// this device could forget.
	if err := m.learn(c, key); err != nil {
		return err
	}
	err = m.monitor.Accept(c.Boot, b)
	var refused *heartbeat.RefusedError
	switch {
	case errors.As(err, &refused):
		delete(m.welcome, b.Source) // show it the enrolment once more
		if m.refused[b.Source] == refused.Code {
			return nil
		}
		m.refused[b.Source] = refused.Code
		return err
	case errors.Is(err, heartbeat.ErrOld), errors.Is(err, heartbeat.ErrUnasked), errors.Is(err, heartbeat.ErrNoSeries), errors.Is(err, heartbeat.ErrOver):
		return nil
	case err != nil:
		return err
	}
	m.welcome[b.Source] = true
	delete(m.refused, b.Source)
	return nil
}

// learn remembers a beat key, durably if it is of a later epoch than any that
// was seen: from then on an earlier one is worth nothing here.
func (m *Machine) learn(c *ctx, k *heartbeat.VerifiedKey) error {
	if k.Epoch == 0 { // a device's own
		return nil
	}
	if k.Epoch > m.state.epochs[k.Source] {
		if !m.mayRotate(c.Now, k.Source) {
			return fmt.Errorf("source %s comes with more than %d new beat keys in an hour", k.Source, maxRotations)
		}
		if err := c.add(recBeatKey, beatKeyBody{Source: k.Source, Epoch: k.Epoch}); err != nil {
			return err
		}
		c.note(fmt.Sprintf("source %s speaks with its beat key %d", k.Source, k.Epoch))
	}
	m.keys[k.Source] = k
	return nil
}

// mayRotate holds the log to a size: a corrupt source, which certifies its own
// keys, could otherwise end every device that names it with a new key in each
// beat, whatever the others say.
func (m *Machine) mayRotate(now int64, source string) bool {
	r := m.rotations[source]
	if now-r.since >= rotationWindow {
		r = rotation{since: now}
	}
	r.n++
	m.rotations[source] = r
	return r.n <= maxRotations
}

// rotation counts a source's new beat keys.
type rotation struct {
	since int64 // begin of the window in which they are counted
	n     int
}

// knownEpochs are the beat keys that a device knows of when it starts: not the
// keys, which sources bring with their answers, but what they may not be older
// than.
func knownEpochs(s *state) map[string]*heartbeat.VerifiedKey {
	out := map[string]*heartbeat.VerifiedKey{}
	for id, epoch := range s.epochs {
		out[id] = &heartbeat.VerifiedKey{Key: heartbeat.Key{Source: id, Epoch: epoch}}
	}
	return out
}

// enrolled keeps what the officers said, for the sources that have to see it.
func (m *Machine) enrolled(offer []byte, approvals [][]byte) {
	m.enrolment = &approval.Enrolment{Offer: offer, Approvals: approvals}
}

// report tells the message server how this device is, whenever that changes.
func (m *Machine) report(c *ctx) {
	now := map[string]string{"": m.phase(c.draft.state)}
	if m.monitor != nil {
		for _, s := range m.monitor.Sources(c.Boot) {
			now[s.ID] = s.State + s.Text
		}
		if m.monitor.Until() == 0 {
			now[""] += " waiting"
		}
	}
	if maps.Equal(now, m.reported) {
		return
	}
	s, ok := m.server()
	if !ok {
		return
	}
	agree, err := envelope.ParseAgreementKey(s.Agree)
	if err != nil {
		return
	}
	frame, err := m.answer(c, agree, TypeStatus, m.describe(c.draft.state, c.Boot))
	if err != nil {
		c.note("cannot report: " + err.Error())
		return
	}
	m.reported = now
	c.effect.Send = append(c.effect.Send, frame)
}

func (m *Machine) server() (ledger.Server, bool) {
	d, ok := m.self()
	if !ok {
		return ledger.Server{}, false
	}
	return m.state.ledger.Server(d.Server)
}

// leaseStatus describes the lease for people.
func (m *Machine) leaseStatus(s *state, boot int64) *LeaseStatus {
	d, _ := s.ledger.Device(m.cfg.Local.ID)
	if d.Heartbeat == nil {
		return nil
	}
	out := &LeaseStatus{
		Needed: d.Heartbeat.Needed, Sources: []SourceStatus{}, Silence: m.silence.total / 1e9, Destroy: int64(d.Heartbeat.Destroy),
		Armed: s.ledger.MayDestroy(d.ID), Maintained: s.ledger.Maintained(d.ID, m.seen),
	}
	if m.monitor == nil {
		return out
	}
	left := func(until int64) int64 { return max(0, until-boot) / 1_000_000 }
	out.Left = left(m.monitor.Until())
	for _, v := range m.monitor.Sources(boot) {
		out.Sources = append(out.Sources, SourceStatus{ID: v.ID, Kind: v.Kind, State: v.State, Text: v.Text, Left: left(v.Until)})
	}
	return out
}

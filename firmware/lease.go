package firmware

import (
	"fmt"

	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// Lease is what the process around the interpreter enforces between two steps,
// by the boot-time clock in nanoseconds: no partial signature is released at
// or after Until, and at Lock the token is locked, whatever else goes on.
type Lease struct {
	Guarded bool  // false: the ledger asks for no beats, and the rest is zero
	Until   int64 // 0: no beat has come yet
	Lock    int64 // 0: the token is locked already, or there is nothing to lock
}

// Lease is read after each step.
func (m *Machine) Lease() Lease {
	switch {
	case m.policy() == nil:
		return Lease{}
	case m.monitor == nil:
		return Lease{Guarded: true}
	}
	return Lease{true, m.monitor.Until(), m.monitor.Lock()}
}

// policy is the ledger's for this device, nil if it needs no beats.
func (m *Machine) policy() *ledger.Heartbeat {
	d, ok := m.self()
	if !ok {
		return nil
	}
	return d.Heartbeat
}

// leased refuses work for which the share is used while there is no lease. The
// last word is the release gate's, which reads the clock when the answer is
// handed over.
func (m *Machine) leased(c *ctx) error {
	if m.policy() == nil {
		return nil
	}
	if m.monitor == nil || m.monitor.Until() == 0 {
		return refuse(CodeLease, "device %s waits for its beats: 'privyseal heartbeat status %s' shows which sources speak", m.cfg.Local.ID, m.cfg.Local.ID)
	}
	if m.monitor.Over(c.Boot) {
		return refuse(CodeLease, "the lease of device %s is over: its officers open it with 'privyseal officer unlock %s'", m.cfg.Local.ID, m.cfg.Local.ID)
	}
	return nil
}

// watch begins to count a lease: the device was opened just now. The instance
// is the one that its officers, or the ceremony, opened.
func (m *Machine) watch(s *state, boot int64) {
	m.monitor, m.welcome, m.refused = nil, map[string]bool{}, map[string]string{}
	d, ok := s.ledger.Device(m.cfg.Local.ID)
	if !ok || d.Heartbeat == nil {
		return
	}
	kinds := map[string]string{}
	for _, id := range d.Heartbeat.Sources {
		kinds[id] = ledger.SourceSatellite // a device answers as one
		if src, ok := s.ledger.Source(id); ok {
			kinds[id] = src.Kind
		}
	}
	m.monitor = heartbeat.NewMonitor(d.ID, *d.Heartbeat, kinds, boot)
}

// lapse does what is left to do when the lease is over: the process has closed
// the gate and locked the token already, or does it now.
func (m *Machine) lapse(c *ctx) error {
	// A beat that was taken in the last moment may come too late for the
	// process, which locks by the lease as it last read it.
	if m.monitor == nil || !m.monitor.Over(c.Boot) && !m.cfg.Token.Locked() {
		return nil
	}
	why := "the beats stopped"
	if m.monitor.Until() == 0 {
		why = fmt.Sprintf("no lease within %d s of the opening", heartbeat.Grace/1e9)
	}
	for _, s := range m.monitor.Sources(c.Boot) {
		if s.State != heartbeat.StateSpeaks {
			why += fmt.Sprintf("; %s %s", s.ID, s.State)
		}
	}
	c.note("locked: " + why)
	if err := m.LockDown(); err != nil {
		return faulty(CodeInternal, err)
	}
	return c.add(recLocked, lockedBody{Reason: clip(why, 256)})
}

// Next is when [Machine.Tick] is due, on the boot-time clock; 0: not before
// another message.
func (m *Machine) Next() int64 {
	switch {
	case m.policy() == nil || m.state.destroyed:
		return 0
	case m.monitor != nil:
		return m.monitor.Next()
	case m.mayDestroy():
		return m.silence.boot + silenceTick
	}
	return 0
}

// Tick is a step that time alone brings: challenges, reports, limits that have
// passed. Called early it does nothing. The caller, who locked the token when
// the lease was over, calls it right after.
func (m *Machine) Tick(in Inputs) Effects {
	var e Effects
	c := m.step(in, &e)
	if m.policy() == nil || m.state.destroyed {
		return m.end(c)
	}
	if err := m.tick(c); err != nil {
		c.note(err.Error())
	}
	m.report(c)
	return m.end(c)
}

func (m *Machine) tick(c *ctx) error {
	if err := m.lapse(c); err != nil {
		return err
	}
	if err := m.countSilence(c); err != nil {
		return err
	}
	if m.monitor == nil || m.cfg.Token.Locked() {
		return nil
	}
	return m.challenge(c)
}

// silence counts powered time without a lease, for the second limit.
type silence struct {
	boot, up int64 // clocks at the last count
	total    int64 // nanoseconds
}

func (m *Machine) mayDestroy() bool {
	return m.state.genesis != nil && m.state.ledger.MayDestroy(m.cfg.Local.ID)
}

// mayComeToDestroy reports whether the ledger has a second limit for this
// device, armed or not: backups go on record while the token is open, and no
// officer hands in the PIN again for that.
func (m *Machine) mayComeToDestroy(s *state) bool {
	d, ok := s.ledger.Device(m.cfg.Local.ID)
	return ok && d.Heartbeat != nil && d.Heartbeat.Destroy > 0
}

// countSilence adds the time since the last count. Only time in which this
// process ran counts: a step that comes late was slept through, by the machine
// or by the process, and counts as one tick.
func (m *Machine) countSilence(c *ctx) error {
	n := &m.silence
	passed := min(c.Up-n.up, silenceTick)
	n.boot, n.up = c.Boot, c.Up
	limit := int64(0)
	if p := m.policy(); p != nil && m.mayDestroy() {
		limit = int64(p.Destroy) * 1e9
	}
	switch {
	case limit == 0, m.state.ledger.Maintained(m.cfg.Local.ID, c.Now):
		return nil // suspended: neither counted nor forgotten
	case m.monitor != nil && m.monitor.Until() > c.Boot:
		n.total = 0
		if m.state.silence == 0 {
			return nil
		}
		return c.add(recSilence, silenceBody{0})
	case passed <= 0:
		return nil
	}
	n.total += passed
	if n.total >= limit {
		c.effect.Destroy = true
		c.note(fmt.Sprintf("no beats for %d s of powered time: the shares are destroyed", n.total/1e9))
		if err := m.LockDown(); err != nil {
			c.note("locking: " + err.Error())
		}
		return c.add(recDestroyed, silenceBody{n.total})
	}
	// Durable now and then: a restart may cost the last part of it.
	if n.total-m.state.silence < limit/silenceSteps {
		return nil
	}
	return c.add(recSilence, silenceBody{n.total})
}

// Destroy destroys the shares and their keys in the token. The caller calls it
// when the record of the decision is durable, and again at each start while
// [Machine.Destroyed]: a crash in between leaves it to the next.
func (m *Machine) Destroy() error {
	if !m.state.destroyed {
		return fmt.Errorf("firmware: nothing has decided to destroy the shares of device %s", m.cfg.Local.ID)
	}
	var objects []string
	for _, k := range m.state.ledger.Keys() {
		if h, ok := m.state.ledger.HolderOf(k.ID, m.cfg.Local.ID); ok {
			objects = append(objects, ceremony.ShareObject(h.Share))
		}
	}
	objects = append(objects, m.state.slotObjects()...)
	return m.cfg.Token.Destroy(objects)
}

// Destroyed reports whether the second limit has passed. Only a restore brings
// the device back.
func (m *Machine) Destroyed() bool { return m.state.destroyed }

package firmware

import (
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// A device answers the challenges of those whose policy names it, while its own
// token is open (row A27). It asks for no lease of its own first: devices that
// answer each other would never begin.

// satellite is this device's station, made when it is first needed.
func (m *Machine) satellite() (*heartbeat.Station, error) {
	if m.station != nil {
		return m.station, m.station.SetLedger(m.state.ledger)
	}
	st, err := heartbeat.NewStation(heartbeat.StationConfig{ID: m.cfg.Local.ID}, m.state.ledger, m.cfg.Seen)
	if err != nil {
		return nil, faulty(CodeInternal, err)
	}
	m.station = st
	return st, m.recall(st)
}

// recall silences a station again for whom its device's journal says that it
// was silenced and not taken back since. The station's own table is a file on
// its own: an older one in its place, or none, must not make it forget.
func (m *Machine) recall(st *heartbeat.Station) error {
	for _, k := range st.Devices() {
		at, told := m.state.silenced[k.Device]
		if !told || k.Enrolled > at || k.Revoked >= at {
			continue
		}
		if _, err := st.Revoke(k.Device, heartbeat.Inputs{Now: at}); err != nil {
			return faulty(CodeInternal, err)
		}
	}
	return nil
}

// revokedAt is since when a station is silent for a device, 0 if it is not.
func revokedAt(st *heartbeat.Station, device string) int64 {
	for _, k := range st.Devices() {
		if k.Device == device {
			return k.Revoked
		}
	}
	return 0
}

// forgetPeers is for a device whose officers took it back with an older disk:
// what it knew of others is as old, and worth nothing. It beats for nobody whom
// officers do not open from now on.
func (m *Machine) forgetPeers(c *ctx) error {
	st, err := heartbeat.NewStation(heartbeat.StationConfig{ID: m.cfg.Local.ID, Restored: true}, m.state.ledger, nil)
	if err != nil {
		return faulty(CodeInternal, err)
	}
	// It may have been told to be silent for one of them, and has forgotten.
	in := heartbeat.Inputs{Now: c.Now, Boot: c.Boot}
	for _, d := range st.Devices() {
		if _, err := st.Revoke(d.Device, in); err != nil {
			return faulty(CodeInternal, err)
		}
	}
	if c.effect.Seen, err = st.Stored(); err != nil {
		return faulty(CodeInternal, err)
	}
	m.station = st
	return nil
}

// challenged answers another device.
func (m *Machine) challenged(c *ctx, v *envelope.Verified) error {
	if m.Phase() != PhaseReady {
		return m.wrongPhase()
	}
	for source, code := range m.refused {
		// With a lease, enough others disagree: one source alone silences nobody.
		if code == heartbeat.CodeBehind && m.Lease().Until == 0 {
			return refuse(CodeLease, "source %s says that this device has an older disk: what it knows of others is older too", source)
		}
	}
	d, ok := m.state.ledger.DeviceOfKey(v.Signer())
	if !ok {
		return refuse(CodeMessage, "a challenge by no device of the system")
	}
	q, err := heartbeat.VerifyChallenge(d.ID, v)
	if err != nil {
		return faulty(CodeMessage, err)
	}
	st, err := m.satellite()
	if err != nil {
		return err
	}
	out, table, err := st.Answer(heartbeat.Inputs{Now: c.Now, Boot: c.Boot}, q)
	if err != nil {
		return faulty(CodeMessage, err)
	}
	c.effect.Seen = table
	if out == nil {
		return nil
	}
	frame, err := heartbeat.SealBeat(c.Rand, m.cfg.Local.Sign, m.state.ledger, out, c.Now)
	if err != nil {
		return faulty(CodeInternal, err)
	}
	c.effect.Send = append(c.effect.Send, frame)
	return nil
}

// silenced takes an officer's word to answer a device no more.
func (m *Machine) silenced(c *ctx, v *envelope.Verified) error {
	if m.Phase() != PhaseReady {
		return m.wrongPhase()
	}
	id, ok := m.state.ledger.Identity(v.Signer())
	if !ok || id.Kind != ledger.OwnerPerson || id.Use != ledger.UseSign {
		return refuse(CodeMessage, "a revocation that no person's card signed")
	}
	r, err := heartbeat.VerifyRevoke(m.state.ledger, m.cfg.Local.ID, id.Owner, v, c.Now)
	if err != nil {
		return faulty(CodeMessage, err)
	}
	st, err := m.satellite()
	if err != nil {
		return err
	}
	before := revokedAt(st, r.Device)
	done, table, err := st.TakeRevoke(heartbeat.Inputs{Now: c.Now, Boot: c.Boot}, r)
	if err != nil {
		return faulty(CodeMessage, err)
	}
	c.effect.Seen = table
	// Once until its officers take the device back: whoever may silence it does
	// not fill the journal.
	if at := revokedAt(st, r.Device); before == 0 && at != 0 {
		if err := c.add(recSilenced, silencedBody{Device: r.Device, At: at}); err != nil {
			return faulty(CodeInternal, err)
		}
	}
	c.note("answers device " + r.Device + " no more, at the word of " + r.Person)
	frame, err := heartbeat.SealRevoked(c.Rand, m.cfg.Local.Sign, m.state.ledger, r, done, c.Now)
	if err != nil {
		return faulty(CodeInternal, err)
	}
	c.effect.Send = append(c.effect.Send, frame)
	return nil
}

package ledger

import (
	"fmt"
	"slices"
)

// checkSources runs after checkServers, checkPersons and checkCeremony, whose rows it looks up.
func (t *tables) checkSources() error {
	g := &t.genesis
	for i, s := range g.Sources {
		if err := t.claimID("source", s.ID); err != nil {
			return err
		}
		where := fmt.Sprintf("source %q", s.ID)
		t.sources[s.ID] = i
		if err := checkName("name", s.Name, maxName); err != nil {
			return invalid(where, "%v", err)
		}
		if s.Kind != SourceMessage && s.Kind != SourceSequence && s.Kind != SourceSatellite {
			return invalid(where, "kind %.32q is unknown: %s, %s or %s", s.Kind, SourceMessage, SourceSequence, SourceSatellite)
		}
		if _, ok := t.servers[s.Server]; !ok {
			return invalid(where, "server %.64q is unknown", s.Server)
		}
		if err := t.register(Identity{Kind: OwnerSource, Owner: s.ID}, keyOf{UseSign, s.Sign}, keyOf{UseAgree, s.Agree}); err != nil {
			return invalid(where, "%v", err)
		}
		if len(s.Operators) == 0 {
			return invalid(where, "has no operator: nobody could silence it")
		}
		if len(s.Operators) > maxOperators {
			return invalid(where, "has %d operators, at most %d", len(s.Operators), maxOperators)
		}
		for j, id := range s.Operators {
			p, ok := t.persons[id]
			switch {
			case !ok:
				return invalid(where, "operator %.64q is not among the persons", id)
			case slices.Contains(s.Operators[:j], id):
				return invalid(where, "operator %q is listed twice", id)
			case len(g.Persons[p].Cards) == 0:
				return invalid(where, "operator %q has no card, and only a card silences", id)
			case id == g.Ceremony.Administrator:
				return invalid(where, "the temporary administrator's power ends with the ceremony: he cannot operate a source")
			}
		}
	}
	return nil
}

// checkHeartbeats runs after checkKeys, whose holders it counts.
func (t *tables) checkHeartbeats() error {
	instances := make(map[[16]byte]string)
	for i := range t.genesis.Devices {
		d := &t.genesis.Devices[i]
		where := fmt.Sprintf("device %q, heartbeat", d.ID)
		if (d.Instance == [16]byte{}) != (d.Heartbeat == nil) {
			return invalid(where, "a device has an instance if and only if it has a policy")
		}
		if d.Heartbeat == nil {
			continue
		}
		if other, ok := instances[d.Instance]; ok {
			return invalid(where, "instance is also that of device %q", other)
		}
		instances[d.Instance] = d.ID
		if d.Unattended {
			return invalid(where, "an unattended device would open itself again after every lock: choose one")
		}
		message, sequence, err := t.checkSourcesOf(d)
		if err != nil {
			return invalid(where, "%v", err)
		}
		if err := d.Heartbeat.Validate(message, sequence); err != nil {
			return invalid(where, "%v", err)
		}
	}
	return t.checkDestruction()
}

// checkSourcesOf looks the sources of a device's policy up, and reports whether sources of the one-way kinds are among them.
func (t *tables) checkSourcesOf(d *Device) (message, sequence bool, err error) {
	h := d.Heartbeat
	for j, id := range h.Sources {
		if slices.Contains(h.Sources[:j], id) {
			return false, false, fmt.Errorf("source %.64q is listed twice", id)
		}
		if id == d.ID {
			return false, false, fmt.Errorf("a device cannot be its own satellite")
		}
		if i, ok := t.sources[id]; ok {
			message = message || t.genesis.Sources[i].Kind == SourceMessage
			sequence = sequence || t.genesis.Sources[i].Kind == SourceSequence
			continue
		}
		i, ok := t.devices[id]
		if !ok {
			return false, false, fmt.Errorf("source %.64q is neither a source nor a device", id)
		}
		if t.genesis.Devices[i].Unattended {
			return false, false, fmt.Errorf("satellite %q is unattended: a stolen one would go on answering", id)
		}
	}
	return message, sequence, nil
}

// Validate refuses numbers that no device could keep or that would keep no thief out. message and sequence say whether a source of that
// kind is among the policy's. Whether the sources are there at all is not looked at.
func (h *Heartbeat) Validate(message, sequence bool) error {
	n := uint64(len(h.Sources))
	switch {
	case n == 0 || n > MaxSourcesOfDevice:
		return fmt.Errorf("%d sources where 1 to %d are possible", n, MaxSourcesOfDevice)
	case h.Needed == 0 || h.Needed > n:
		return fmt.Errorf("%d of %d sources are needed: 1 to %d are possible", h.Needed, n, n)
	case h.Period < MinPeriod || h.Period > MaxPeriod:
		return fmt.Errorf("period is %d ms, %d to %d are possible", h.Period, MinPeriod, MaxPeriod)
	case h.Lease > MaxLease:
		return fmt.Errorf("lease is %d ms, at most %d", h.Lease, MaxLease)
	case h.Lease < MinLeasePeriods*h.Period:
		return fmt.Errorf("lease of %d ms is less than %d periods of %d ms: one lost beat would lock the token", h.Lease, MinLeasePeriods, h.Period)
	}
	slots := h.Lease / h.Period // beats that fit into a lease
	switch {
	case message && h.Minimum == 0:
		return fmt.Errorf("minimum is 0, yet a source of kind %s is named: at least 1", SourceMessage)
	case !message && h.Minimum != 0:
		return fmt.Errorf("minimum is %d, yet no source of kind %s is named: 0", h.Minimum, SourceMessage)
	case h.Minimum > slots:
		return fmt.Errorf("minimum is %d, yet only %d beats fit into a lease", h.Minimum, slots)
	case h.Minimum*h.Period > MaxFirst:
		return fmt.Errorf("%d beats take %d ms: at most %d ms, for the device waits no longer for its first lease", h.Minimum, h.Minimum*h.Period, MaxFirst)
	case !sequence && h.Loss != 0:
		return fmt.Errorf("loss is %d, yet no source of kind %s is named: 0", h.Loss, SourceSequence)
	case h.Loss >= slots:
		return fmt.Errorf("loss is %d, at most %d: the value after those lost must fall into the lease of %d periods", h.Loss, slots-1, slots)
	case h.Destroy == 0:
		return nil
	case h.Destroy < MinDestroy || h.Destroy > MaxDestroy:
		return fmt.Errorf("destroys after %d s, %d to %d are possible, 0 for never", h.Destroy, MinDestroy, MaxDestroy)
	case h.Destroy*1000 < MinDestroyLeases*h.Lease:
		return fmt.Errorf("destroys after %d s, less than %d leases of %d ms", h.Destroy, MinDestroyLeases, h.Lease)
	}
	return nil
}

// checkDestruction keeps T devices of each key from ever destroying their shares, so that no failure of all beats at once can lose a
// key, whatever becomes of the backups (design §7: fewer than n − t + 1).
func (t *tables) checkDestruction() error {
	for i := range t.genesis.Keys {
		k := &t.genesis.Keys[i]
		n := uint64(0)
		for _, h := range k.Holders {
			if hb := t.genesis.Devices[t.devices[h.Device]].Heartbeat; hb != nil && hb.Destroy > 0 {
				n++
			}
		}
		if n > k.N-k.T {
			return invalid(fmt.Sprintf("key %q", k.ID),
				"%d of its %d devices may destroy their shares, which would leave %d where %d sign: at most %d may", n, k.N, k.N-n, k.T, k.N-k.T)
		}
	}
	return nil
}

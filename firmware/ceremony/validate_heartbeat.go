package ceremony

import (
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

func (p *Plan) validateSources() error {
	if len(p.Sources) > MaxSources {
		return planErr("sources", "at most %d are possible, not %d", MaxSources, len(p.Sources))
	}
	ids, keys := p.ids(), map[string]string{}
	for _, s := range p.Servers {
		keys[string(s.Sign)], keys[string(s.Agree)] = "server "+s.ID, "server "+s.ID
	}
	for _, s := range p.Sources {
		where := "source " + s.ID
		if err := checkID(where, s.ID); err != nil {
			return err
		}
		if err := checkName(where, s.Name); err != nil {
			return err
		}
		if other, ok := ids[s.ID]; ok {
			return planErr(where, "its id is also that of %s", other)
		}
		ids[s.ID] = where
		switch s.Kind {
		case ledger.SourceMessage, ledger.SourceSequence, ledger.SourceSatellite:
		default:
			return planErr(where, "kind %q is none of message, sequence, satellite", s.Kind)
		}
		if p.server(s.Server) == nil {
			return planErr(where, "its server %q is not in the plan", s.Server)
		}
		if _, err := envelope.ParseSigningKey(s.Sign); err != nil {
			return planErr(where, "signature key: %v", err)
		}
		if _, err := envelope.ParseAgreementKey(s.Agree); err != nil {
			return planErr(where, "agreement key: %v", err)
		}
		for _, k := range [][]byte{s.Sign, s.Agree} {
			if other, ok := keys[string(k)]; ok {
				return planErr(where, "a key of it is also one of %s: every role has its own key", other)
			}
			keys[string(k)] = where
		}
		if err := p.validateOperators(where, s.Operators); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plan) validateOperators(where string, operators []string) error {
	if len(operators) == 0 || len(operators) > MaxOperators {
		return planErr(where, "1 to %d operators, who may silence it, are possible, not %d", MaxOperators, len(operators))
	}
	for i, id := range operators {
		x := p.person(id)
		switch {
		case x == nil:
			return planErr(where, "operator %q is not among the persons", id)
		case len(x.Cards) == 0:
			return planErr(where, "operator %s has no card, and only a card silences", id)
		case id == p.Administrator:
			return planErr(where, "the temporary administrator may not be an operator")
		case slices.Contains(operators[:i], id):
			return planErr(where, "operator %s is named twice", id)
		}
	}
	return nil
}

// ids are all ids of the plan but those of the sources, and whose they are.
func (p *Plan) ids() map[string]string {
	out := map[string]string{}
	for _, s := range p.Servers {
		out[s.ID] = "server " + s.ID
	}
	for _, d := range p.Devices {
		out[d.ID] = "device " + d.ID
	}
	for _, x := range p.Persons {
		out[x.ID] = "person " + x.ID
	}
	for _, k := range p.Keys {
		out[k.ID] = "key " + k.ID
	}
	return out
}

// validateHeartbeats asks of policies what the ledger will ask. Who plans to
// destroy shares learns here what would be left of a key.
func (p *Plan) validateHeartbeats() error {
	for i := range p.Devices {
		if d := &p.Devices[i]; d.Heartbeat != nil {
			if err := p.validateHeartbeat("device "+d.ID+": heartbeat", d); err != nil {
				return err
			}
		}
	}
	for _, k := range p.Keys {
		n := uint64(0)
		for _, id := range k.Devices {
			if h := p.device(id).Heartbeat; h != nil && h.Destroy > 0 {
				n++
			}
		}
		if all := uint64(len(k.Devices)); n > all-k.T {
			return planErr("key "+k.ID, "%d of its %d devices may destroy their shares, which would leave %d where %d sign; at most %d may: set destroy of the others to never",
				n, all, all-n, k.T, all-k.T)
		}
	}
	return nil
}

func (p *Plan) validateHeartbeat(where string, d *PlanDevice) error {
	if d.Unattended {
		return planErr(where, "an unattended device would open itself again after every lock; choose one")
	}
	message, sequence := false, false
	for i, id := range d.Heartbeat.Sources {
		if id == d.ID {
			return planErr(where, "a device cannot be its own satellite")
		}
		if slices.Contains(d.Heartbeat.Sources[:i], id) {
			return planErr(where, "source %s is named twice", id)
		}
		if s := find(p.Sources, func(s *ledger.Source) bool { return s.ID == id }); s != nil {
			message = message || s.Kind == ledger.SourceMessage
			sequence = sequence || s.Kind == ledger.SourceSequence
			continue
		}
		switch other := p.device(id); {
		case other == nil:
			return planErr(where, "%q is neither a source nor a device of the plan", id)
		case other.Unattended:
			return planErr(where, "satellite %s is unattended: a stolen one would go on answering", id)
		}
	}
	if err := d.Heartbeat.Validate(message, sequence); err != nil {
		return planErr(where, "%v", err)
	}
	return nil
}

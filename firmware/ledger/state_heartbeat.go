package ledger

import (
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// Source looks a heartbeat source up by id. Devices that answer as satellites are not among them: see [State.Device].
func (s State) Source(id string) (Source, bool) {
	t := s.tables()
	i, ok := t.sources[id]
	if !ok {
		return Source{}, false
	}
	return t.genesis.Sources[i].clone(), true
}

// Sources are all heartbeat sources, in the order of the genesis.
func (s State) Sources() []Source { return cloneAll(s.tables().genesis.Sources, Source.clone) }

// SourceOfKey is the source that holds a key, whatever its use. Beat keys are not in the tables: their source certifies them.
func (s State) SourceOfKey(id envelope.KeyID) (Source, bool) {
	i, ok := s.Identity(id)
	if !ok || i.Kind != OwnerSource {
		return Source{}, false
	}
	return s.Source(i.Owner)
}

// MaySilence reports whether a person may, alone, have a source silenced for a device: an operator of the source, or an officer of the
// device whose row has not expired at now. Where the source is another device that answers as a satellite, an officer of either may.
// One person suffices, because silence takes nothing but time; coming back takes the officers' quorum (design §7). An enterprise's
// officers may not: they would stop the others at the device.
//
// It does not ask whether the device's policy names the source: to silence too much is safe.
func (s State) MaySilence(source, device, person string, now int64) bool {
	t := s.tables()
	if _, ok := t.devices[device]; !ok || source == device {
		return false
	}
	if _, ok := t.persons[person]; !ok {
		return false
	}
	officerAt := func(d string) bool {
		return slices.ContainsFunc(t.genesis.Officers, func(o Officer) bool {
			return o.Person == person && o.Device == d && now < o.Expires
		})
	}
	if i, ok := t.sources[source]; ok {
		return slices.Contains(t.genesis.Sources[i].Operators, person) || officerAt(device)
	}
	if _, ok := t.devices[source]; ok {
		return officerAt(source) || officerAt(device)
	}
	return false
}

// Backups are the tested off-line backups on record for a device's shares, by share id; at most one for each share.
func (s State) Backups(device string) []Backup {
	var out []Backup
	for _, b := range s.backups {
		if b.Device == device {
			out = append(out, b)
		}
	}
	return out
}

// MayDestroy reports whether a device may destroy its shares once its second limit is reached: its policy says so, and a tested backup
// of each of its shares is on record, those of enterprises included. That enough other devices remain for each key holds for every
// valid genesis and dealing.
// Whether a notice suspends it is another question: [State.Maintained].
func (s State) MayDestroy(device string) bool {
	t := s.tables()
	i, ok := t.devices[device]
	if !ok {
		return false
	}
	if h := t.genesis.Devices[i].Heartbeat; h == nil || h.Destroy == 0 {
		return false
	}
	shares, missing := s.backedUp(device)
	return shares > 0 && len(missing) == 0 // one that holds none has nothing to destroy
}

// MissingBackups are the ids of the shares of a device of which no backup is on record.
func (s State) MissingBackups(device string) []string {
	_, missing := s.backedUp(device)
	return missing
}

func (s State) backedUp(device string) (shares int, missing []string) {
	for _, k := range s.allKeys() {
		h, ok := holderOf(k, device)
		if !ok {
			continue
		}
		shares++
		if !slices.ContainsFunc(s.backups, func(b Backup) bool { return b.Device == device && b.Share == h.Share }) {
			missing = append(missing, h.Share)
		}
	}
	return shares, missing
}

// Maintained reports whether a maintenance notice holds at now for a device. It suspends the second limit, never the first.
func (s State) Maintained(device string, now int64) bool { return len(s.Notices(device, now)) > 0 }

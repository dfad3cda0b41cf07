package ledger

import (
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// authority is the row of an enterprise, with what its past forbids. Once in a State it is never written.
type authority struct {
	dealing Dealing
	// machines are all there ever were, in the order in which they came. Those that are gone still know what they were dealt.
	machines []machine
	// distributors are all numbers ever given.
	distributors []Distributor
	// entered are the digests of all revisions, and counted all that any of them counts.
	entered []envelope.Hash
	counted []Counted
}

type machine struct {
	row   Holder // the last
	dealt int64  // when this version of its share was
	gone  bool
	// combinations are all that a combiner was ever dealt.
	combinations []grouping.Combination
}

func (s State) authority(code uint64) *authority {
	for _, a := range s.authorities {
		if a.dealing.Enterprise.Code == code {
			return a
		}
	}
	return nil
}

// Enterprises are the authorities in two layers as they stand, by enterprise code.
func (s State) Enterprises() []Dealing {
	var out []Dealing
	for _, a := range s.authorities {
		out = append(out, a.dealing.clone())
	}
	return out
}

// Enterprise looks the authority of an enterprise up by the enterprise's code.
func (s State) Enterprise(code uint64) (Dealing, bool) {
	if a := s.authority(code); a != nil {
		return a.dealing.clone(), true
	}
	return Dealing{}, false
}

// EnterpriseOf looks an authority up by the id of its key.
func (s State) EnterpriseOf(key string) (Dealing, bool) {
	for _, a := range s.authorities {
		if a.dealing.Key.ID == key {
			return a.dealing.clone(), true
		}
	}
	return Dealing{}, false
}

// WasMachine reports whether a device is a machine of an authority in two layers, by the id of its key, or was one at any time. A request
// that names one that was taken away since goes on without it.
func (s State) WasMachine(key, device string) bool {
	for _, a := range s.authorities {
		if a.dealing.Key.ID == key {
			return slices.ContainsFunc(a.machines, func(m machine) bool { return m.row.Device == device })
		}
	}
	return false
}

// EverDealt is an authority's grouping with all machines there ever were and all that combiners were ever dealt, by revisions and by what
// they count. Who took a machine away still knows it: growth has to be safe beside it. It may have more machines than a grouping in force.
func (s State) EverDealt(code uint64) (grouping.Grouping, bool) {
	a := s.authority(code)
	if a == nil {
		return grouping.Grouping{}, false
	}
	ever := everDealt(&a.dealing.Key.Layers.Grouping, a.machines, a.counted)
	ever.Combiners = cloneAll(ever.Combiners, cloneGroup)
	return *ever, true
}

// Counted are all dealings of an authority that were given out and never entered, as far as its revisions say.
func (s State) Counted(code uint64) []Counted {
	if a := s.authority(code); a != nil {
		return cloneAll(a.counted, Counted.clone)
	}
	return nil
}

// WasEntered reports whether a dealing, by its digest, is a revision of an authority, in force or past.
func (s State) WasEntered(code uint64, dealing envelope.Hash) bool {
	a := s.authority(code)
	return a != nil && slices.Contains(a.entered, dealing)
}

// EverMachines are all machines that an authority has or had, in the order in which they came, and then those that only counted dealings
// had. No device is there twice, and no number in its layer.
func (s State) EverMachines(code uint64) []Machine {
	a := s.authority(code)
	if a == nil {
		return nil
	}
	var out []Machine
	for _, m := range a.machines {
		out = append(out, Machine{m.row.Layer, m.row.Index, m.row.Device})
	}
	for _, c := range a.counted {
		for _, m := range c.Machines {
			if !slices.Contains(out, m) {
				out = append(out, m)
			}
		}
	}
	return out
}

// Given are the machines to which a counted dealing of an authority gave something that no revision did, as far as s knows.
func (s State) Given(code uint64, c *Counted) []Machine {
	a := s.authority(code)
	var out []Machine
	for _, m := range c.Machines {
		known := a != nil && slices.ContainsFunc(a.machines, func(x machine) bool { return x.row.Layer == m.Layer && x.row.Index == m.Number })
		gave := m.Layer == LayerCombiner && slices.ContainsFunc(c.Combiners, func(g grouping.Group) bool { return g.Number == m.Number })
		if !known || gave {
			out = append(out, m)
		}
	}
	return out
}

// withAuthority is s with one row new or replaced. States share what they have in common: all slices are new.
func (s State) withAuthority(a *authority) State {
	old := s.authority(a.dealing.Enterprise.Code)
	next := slices.Clone(s.authorities)
	i := slices.IndexFunc(next, func(x *authority) bool { return x.dealing.Enterprise.Code >= a.dealing.Enterprise.Code })
	switch {
	case i < 0:
		next = append(next, a)
	case next[i] == old:
		next[i] = a
	default:
		next = slices.Insert(next, i, a)
	}
	s.authorities = next
	if old != nil {
		// The record of a backup is of a version of a share: what was dealt again has none, nor what is gone.
		s.backups = slices.DeleteFunc(slices.Clone(s.backups), func(b Backup) bool {
			was, ok := old.share(b.Share)
			now, still := a.share(b.Share)
			return ok && (!still || was.Version != now.Version)
		})
	}
	return s
}

// share is the row of a share, by its id.
func (a *authority) share(id string) (Holder, bool) {
	for _, h := range a.dealing.Key.Holders {
		if h.Share == id {
			return h, true
		}
	}
	return Holder{}, false
}

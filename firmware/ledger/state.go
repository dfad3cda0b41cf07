package ledger

import (
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// State is the tables after some number of entries. It is immutable: methods return copies, and [ApplyVerified] returns a new State.
// The zero State knows nobody, has height 0 and approves nothing.
type State struct {
	t       *tables
	system  envelope.Hash
	chain   *link
	notices []Notice
	backups []Backup // by share id
	// authorities are ascending by enterprise code. A new revision is a new row in a new slice: states that were made before keep theirs.
	authorities []*authority
}

// link is one position of the hash chain. States that share a past share its links.
type link struct {
	prev     *link
	position uint64
	hash     envelope.Hash // of the entry; the system's id at position 0
	created  int64
}

// New is the state right after the genesis.
func New(v *VerifiedGenesis) State {
	return State{t: v.t, system: v.system, chain: &link{hash: v.system, created: v.t.genesis.Created}}
}

var noTables = new(tables)

func (s State) tables() *tables {
	if s.t == nil {
		return noTables
	}
	return s.t
}

// System is the system's id, the hash of the genesis.
func (s State) System() envelope.Hash { return s.system }

// Head is the hash of the last entry, or the system's id if there is none.
func (s State) Head() envelope.Hash {
	if s.chain == nil {
		return envelope.Hash{}
	}
	return s.chain.hash
}

// Height is the number of entries.
func (s State) Height() uint64 {
	if s.chain == nil {
		return 0
	}
	return s.chain.position
}

// Time is when the last entry (or the genesis) was created. A device's clock never falls below it (design §5).
func (s State) Time() int64 {
	if s.chain == nil {
		return 0
	}
	return s.chain.created
}

// Knows reports whether head is the head of this chain now or at an earlier time, and its position. It walks the chain, which in
// the life of a system grows to some thousands of commands.
func (s State) Knows(head envelope.Hash) (position uint64, ok bool) {
	for l := s.chain; l != nil; l = l.prev {
		if l.hash == head {
			return l.position, true
		}
	}
	return 0, false
}

// HashAt is the hash of the entry at a position; position 0 is the genesis.
func (s State) HashAt(position uint64) (envelope.Hash, bool) {
	for l := s.chain; l != nil && l.position >= position; l = l.prev {
		if l.position == position {
			return l.hash, true
		}
	}
	return envelope.Hash{}, false
}

// Genesis is a copy of the tables as the ceremony made them.
func (s State) Genesis() Genesis { return s.tables().genesis.clone() }

// Name is the system's name.
func (s State) Name() string { return s.tables().genesis.Name }

// Ceremony records how the system began.
func (s State) Ceremony() Ceremony { return s.tables().genesis.Ceremony.clone() }

// Firmware is the SHA-256 of the binary that devices run.
func (s State) Firmware() envelope.Hash { return s.tables().genesis.Firmware }

// Server looks a message server up by id.
func (s State) Server(id string) (Server, bool) {
	t := s.tables()
	i, ok := t.servers[id]
	if !ok {
		return Server{}, false
	}
	return t.genesis.Servers[i].clone(), true
}

// Servers are all message servers, in the order of the genesis.
func (s State) Servers() []Server { return cloneAll(s.tables().genesis.Servers, Server.clone) }

// Device looks a device up by id.
func (s State) Device(id string) (Device, bool) {
	t := s.tables()
	i, ok := t.devices[id]
	if !ok {
		return Device{}, false
	}
	return t.genesis.Devices[i].clone(), true
}

// Devices are all devices, in the order of the genesis.
func (s State) Devices() []Device { return cloneAll(s.tables().genesis.Devices, Device.clone) }

// Person looks a person up by id.
func (s State) Person(id string) (Person, bool) {
	t := s.tables()
	i, ok := t.persons[id]
	if !ok {
		return Person{}, false
	}
	return t.genesis.Persons[i].clone(), true
}

// Persons are all persons, in the order of the genesis.
func (s State) Persons() []Person { return cloneAll(s.tables().genesis.Persons, Person.clone) }

// Models are the approved models.
func (s State) Models() []Model { return cloneAll(s.tables().genesis.Models, Model.clone) }

// Key looks a key up by id: a master key of the genesis, or an enterprise's.
func (s State) Key(id string) (Key, bool) {
	k := s.key(id)
	if k == nil {
		return Key{}, false
	}
	return k.clone(), true
}

// key is the row itself, which nobody may write to; nil if there is none.
func (s State) key(id string) *Key {
	t := s.tables()
	if i, ok := t.keys[id]; ok {
		return &t.genesis.Keys[i]
	}
	for _, a := range s.authorities {
		if a.dealing.Key.ID == id {
			return &a.dealing.Key
		}
	}
	return nil
}

// allKeys are the rows of all keys, which nobody may write to.
func (s State) allKeys() []*Key {
	t := s.tables()
	var all []*Key
	for i := range t.genesis.Keys {
		all = append(all, &t.genesis.Keys[i])
	}
	for _, a := range s.authorities {
		all = append(all, &a.dealing.Key)
	}
	return all
}

// Keys are all keys: those of the genesis in its order, then the enterprises' by code.
func (s State) Keys() []Key {
	var out []Key
	for _, k := range s.allKeys() {
		out = append(out, k.clone())
	}
	return out
}

// LedgerKey is the system-wide authority.
func (s State) LedgerKey() (Key, bool) {
	t := s.tables()
	if len(t.genesis.Keys) == 0 {
		return Key{}, false
	}
	return t.genesis.Keys[t.ledgerKey].clone(), true
}

// HolderOf says which share of a key a device holds.
func (s State) HolderOf(key, device string) (Holder, bool) {
	k := s.key(key)
	if k == nil {
		return Holder{}, false
	}
	return holderOf(k, device)
}

// OfficersOf are the officers in whose custody a device is and whose rows have not expired at now: they unlock it. They are rows of the
// genesis. Those of an enterprise, which may be one of many at the device, are not among them: they approve for its key ([State.OfficersFor])
// and open nothing but its share.
func (s State) OfficersOf(device string, now int64) []Officer {
	return officers(s.tables().genesis.Officers, func(o *Officer) bool { return o.Device == device && now < o.Expires })
}

// OfficersFor are the officers of a device that may approve for a key at now. Each is another person.
func (s State) OfficersFor(key, device string, now int64) []Officer {
	return s.officers(func(o *Officer) bool { return o.Device == device && now < o.Expires && slices.Contains(o.Keys, key) })
}

// Registrations are all rows of a person, those for enterprises and expired ones included. There may be several for one device: one of
// the genesis and one of each enterprise, each for its own keys and with a card of its own.
func (s State) Registrations(person string) []Officer {
	return s.officers(func(o *Officer) bool { return o.Person == person })
}

func (s State) officers(match func(*Officer) bool) []Officer {
	out := officers(s.tables().genesis.Officers, match)
	for _, a := range s.authorities {
		out = append(out, officers(a.dealing.Officers, match)...)
	}
	return out
}

func officers(rows []Officer, match func(*Officer) bool) []Officer {
	var out []Officer
	for i := range rows {
		if match(&rows[i]) {
			out = append(out, rows[i].clone())
		}
	}
	return out
}

// Identity says whose key it is, whatever its role.
func (s State) Identity(id envelope.KeyID) (Identity, bool) {
	i, ok := s.tables().identities[id]
	return i, ok
}

// PersonOfKey is the person who holds a key, with the card that holds it: the zero Card for a software key. Look at the key's use
// before you believe what it signed ([State.Identity]).
func (s State) PersonOfKey(id envelope.KeyID) (Person, Card, bool) {
	i, ok := s.Identity(id)
	if !ok || i.Kind != OwnerPerson {
		return Person{}, Card{}, false
	}
	p, _ := s.Person(i.Owner)
	for _, c := range p.Cards {
		if c.Serial == i.Card {
			return p, c, true
		}
	}
	return p, Card{}, true
}

// DeviceOfKey is the device that holds a key, whatever its use.
func (s State) DeviceOfKey(id envelope.KeyID) (Device, bool) {
	i, ok := s.Identity(id)
	if !ok || i.Kind != OwnerDevice {
		return Device{}, false
	}
	return s.Device(i.Owner)
}

// ServerOfKey is the message server that holds a key, whatever its use.
func (s State) ServerOfKey(id envelope.KeyID) (Server, bool) {
	i, ok := s.Identity(id)
	if !ok || i.Kind != OwnerServer {
		return Server{}, false
	}
	return s.Server(i.Owner)
}

// SamePerson reports whether two keys belong to one person, on whatever cards. Keys that belong to nobody are nobody's.
func (s State) SamePerson(a, b envelope.KeyID) bool {
	x, ok := s.Identity(a)
	y, ok2 := s.Identity(b)
	return ok && ok2 && x.Kind == OwnerPerson && y.Kind == OwnerPerson && x.Owner == y.Owner
}

// Notices are the maintenance notices that hold at now for a device: its own and those for all.
func (s State) Notices(device string, now int64) []Notice {
	var out []Notice
	for _, n := range s.notices {
		if (n.Device == "" || n.Device == device) && n.From <= now && now < n.Until {
			out = append(out, n)
		}
	}
	return out
}

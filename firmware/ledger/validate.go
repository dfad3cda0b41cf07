package ledger

import (
	"fmt"
	"strings"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// tables are a validated genesis with its indexes. They are never written after newTables.
type tables struct {
	genesis    Genesis
	identities map[envelope.KeyID]Identity
	devices    map[string]int // index into genesis.Devices, by id; likewise below
	servers    map[string]int
	sources    map[string]int
	persons    map[string]int
	keys       map[string]int
	cards      map[uint32]string // serial → person
	ledgerKey  int

	ids map[string]string // lower-case id → what has it
}

// Validate refuses a genesis that breaks a rule of the system, with an *InvalidError (or *VersionError) that names the rule.
// A genesis with any ambiguity is refused too: it is made once, and nobody can correct it.
func (g *Genesis) Validate() error {
	_, err := newTables(*g)
	return err
}

func invalid(where string, format string, args ...any) error {
	return &InvalidError{Where: where, Why: fmt.Sprintf(format, args...)}
}

// newTables validates g and indexes it. It keeps g: callers hand over a copy of their own.
func newTables(g Genesis) (*tables, error) {
	t := &tables{
		genesis:    g,
		identities: make(map[envelope.KeyID]Identity),
		devices:    make(map[string]int),
		servers:    make(map[string]int),
		sources:    make(map[string]int),
		persons:    make(map[string]int),
		keys:       make(map[string]int),
		cards:      make(map[uint32]string),
		ids:        make(map[string]string),
	}
	if g.Version != GenesisVersion {
		return nil, &VersionError{What: "genesis", Got: g.Version, Want: GenesisVersion}
	}
	for _, check := range []func() error{
		t.checkHead, t.checkCounts, t.checkModels, t.checkServers, t.checkDevices, t.checkPersons, t.checkCeremony,
		t.checkSources, t.checkKeys, t.checkOfficers, t.checkQuorums, t.checkHeartbeats,
	} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// claimID takes an id out of the one namespace. Ids that differ only in case are one: people read them aloud.
func (t *tables) claimID(what, id string) error {
	max := maxID
	if what == "share" {
		max = maxShareID
	}
	if err := checkID(id, max); err != nil {
		return invalid(what, "%v", err)
	}
	where := fmt.Sprintf("%s %q", what, id)
	if other, ok := t.ids[strings.ToLower(id)]; ok {
		return invalid(where, "id is also that of %s", other)
	}
	t.ids[strings.ToLower(id)] = where
	return nil
}

func (t *tables) checkHead() error {
	g := &t.genesis
	if err := checkName("name", g.Name, maxName); err != nil {
		return invalid("system", "%v", err)
	}
	if err := checkTime("created", g.Created); err != nil {
		return invalid("system", "%v", err)
	}
	if g.Firmware.IsZero() {
		return invalid("system", "hash of the firmware is zero")
	}
	return nil
}

func (t *tables) checkCounts() error {
	g := &t.genesis
	for _, c := range []struct {
		what           string
		got, low, high int
	}{
		{"servers", len(g.Servers), 1, maxServers},
		{"devices", len(g.Devices), 1, maxDevices},
		{"persons", len(g.Persons), 1, maxPersons},
		{"officers", len(g.Officers), 1, maxOfficers},
		{"models", len(g.Models), 0, maxModels},
		{"keys", len(g.Keys), 1, maxKeys},
		{"sources", len(g.Sources), 0, maxSources},
		{"witnesses", len(g.Ceremony.Witnesses), 1, maxWitnesses},
	} {
		if c.got < c.low || c.got > c.high {
			return invalid("system", "%d %s where %d to %d are possible", c.got, c.what, c.low, c.high)
		}
	}
	return nil
}

// checkCeremony runs after checkPersons, since it looks the administrator up.
func (t *tables) checkCeremony() error {
	g, c := &t.genesis, &t.genesis.Ceremony
	const where = "ceremony"
	if c.File.IsZero() {
		return invalid(where, "hash of the reviewed file is zero")
	}
	if c.Attempt == 0 {
		return invalid(where, "attempt is 0, attempts count from 1")
	}
	if err := checkTime("not-before", c.NotBefore); err != nil {
		return invalid(where, "%v", err)
	}
	if err := checkTime("not-after", c.NotAfter); err != nil {
		return invalid(where, "%v", err)
	}
	if c.NotAfter <= c.NotBefore || c.NotAfter-c.NotBefore > maxAdminWindow {
		return invalid(where, "administrator's window of %d s: it must be positive and at most %d h", c.NotAfter-c.NotBefore, maxAdminWindow/3600)
	}
	if g.Created < c.NotBefore || g.Created >= c.NotAfter {
		return invalid(where, "genesis was created outside the administrator's window")
	}
	seen := make(map[string]bool)
	for _, w := range c.Witnesses {
		if err := checkName("witness", w, maxName); err != nil {
			return invalid(where, "%v", err)
		}
		if seen[w] {
			return invalid(where, "witness %q is listed twice", w)
		}
		seen[w] = true
	}
	if _, ok := t.persons[c.Administrator]; !ok {
		return invalid(where, "administrator %.64q is not among the persons", c.Administrator)
	}
	id, ok := t.identities[c.AdminKey]
	if !ok || id.Kind != OwnerPerson || id.Owner != c.Administrator || id.Use != UseSign {
		return invalid(where, "administrator's key is not the signature key of a card of %q", c.Administrator)
	}
	return nil
}

func (t *tables) checkServers() error {
	routes := make(map[string]string)
	for i, s := range t.genesis.Servers {
		if err := t.claimID("server", s.ID); err != nil {
			return err
		}
		where := fmt.Sprintf("server %q", s.ID)
		t.servers[s.ID] = i
		if err := checkName("name", s.Name, maxName); err != nil {
			return invalid(where, "%v", err)
		}
		owner := Identity{Kind: OwnerServer, Owner: s.ID}
		if err := t.register(owner, keyOf{UseSign, s.Sign}, keyOf{UseAgree, s.Agree}); err != nil {
			return invalid(where, "%v", err)
		}
		if s.TLS.IsZero() {
			return invalid(where, "hash of the TLS key is zero")
		}
		if err := checkASCII("url", s.URL, maxText); err != nil {
			return invalid(where, "%v", err)
		}
		if !strings.HasPrefix(s.URL, "https://") || len(s.URL) == len("https://") {
			return invalid(where, "url %q does not begin with https://", s.URL)
		}
		if s.Route == "" {
			continue // dials out, is not dialled
		}
		if err := checkASCII("route", s.Route, maxText); err != nil {
			return invalid(where, "%v", err)
		}
		if !strings.Contains(s.Route, ":") {
			return invalid(where, "route %q is not host:port", s.Route)
		}
		if other, ok := routes[s.Route]; ok {
			return invalid(where, "route %q is also that of server %q", s.Route, other)
		}
		routes[s.Route] = s.ID
	}
	return nil
}

func (t *tables) checkDevices() error {
	serials := make(map[string]string)
	names := make(map[string]string)
	for i, d := range t.genesis.Devices {
		if err := t.claimID("device", d.ID); err != nil {
			return err
		}
		where := fmt.Sprintf("device %q", d.ID)
		t.devices[d.ID] = i
		for _, f := range [][2]string{{"name", d.Name}, {"serial", d.Serial}, {"model", d.Model}} {
			if err := checkName(f[0], f[1], maxName); err != nil {
				return invalid(where, "%v", err)
			}
		}
		if other, ok := names[strings.ToLower(d.Name)]; ok {
			return invalid(where, "logical name %q is also that of device %q", d.Name, other)
		}
		names[strings.ToLower(d.Name)] = d.ID
		if other, ok := serials[d.Model+"\x00"+d.Serial]; ok {
			return invalid(where, "model and serial are also those of device %q", other)
		}
		serials[d.Model+"\x00"+d.Serial] = d.ID
		if _, ok := t.servers[d.Server]; !ok {
			return invalid(where, "server %.64q is unknown", d.Server)
		}
		// A firmware that differs stops the ceremony (row A8); this is its last barrier.
		if d.Firmware != t.genesis.Firmware {
			return invalid(where, "firmware %v differs from the system's %v", d.Firmware, t.genesis.Firmware)
		}
		keys := []keyOf{{UseSign, d.Sign}, {UseAgree, d.Agree}}
		if len(d.Boot) > 0 || !d.Unattended {
			keys = append(keys, keyOf{UseBoot, d.Boot})
		}
		if err := t.register(Identity{Kind: OwnerDevice, Owner: d.ID}, keys...); err != nil {
			return invalid(where, "%v", err)
		}
		if err := t.checkDeviceCertificates(&d); err != nil {
			return invalid(where, "%v", err)
		}
		// The upper bound of UnlockQuorum needs the officers: checkQuorums.
		switch {
		case d.Unattended && d.UnlockQuorum != 0:
			return invalid(where, "unattended, yet %d officers are to unlock it: choose one", d.UnlockQuorum)
		case !d.Unattended && d.UnlockQuorum < MinQuorum:
			return invalid(where, "unlock quorum is %d, at least %d", d.UnlockQuorum, MinQuorum)
		}
	}
	return nil
}

func (t *tables) checkPersons() error {
	names := make(map[string]string)
	for i, p := range t.genesis.Persons {
		if err := t.claimID("person", p.ID); err != nil {
			return err
		}
		where := fmt.Sprintf("person %q", p.ID)
		t.persons[p.ID] = i
		if err := checkName("name", p.Name, maxName); err != nil {
			return invalid(where, "%v", err)
		}
		// Refusals name persons, and one human entered twice would be two towards a quorum.
		if other, ok := names[strings.ToLower(p.Name)]; ok {
			return invalid(where, "name %q is also that of person %q: one person is one row, another needs a distinguishing mark", p.Name, other)
		}
		names[strings.ToLower(p.Name)] = p.ID
		if p.Title != "" {
			if err := checkName("title", p.Title, maxName); err != nil {
				return invalid(where, "%v", err)
			}
		}
		if len(p.Cards) == 0 && len(p.Software) == 0 {
			return invalid(where, "has neither a card nor a software key")
		}
		if len(p.Cards) > maxCards {
			return invalid(where, "has %d cards, at most %d", len(p.Cards), maxCards)
		}
		for _, c := range p.Cards {
			where := fmt.Sprintf("person %q, card %d", p.ID, c.Serial)
			if c.Serial == 0 {
				return invalid(where, "serial is zero")
			}
			if other, ok := t.cards[c.Serial]; ok {
				return invalid(where, "is also a card of person %q", other)
			}
			t.cards[c.Serial] = p.ID
			if err := checkName("model", c.Model, maxName); err != nil {
				return invalid(where, "%v", err)
			}
			owner := Identity{Kind: OwnerPerson, Owner: p.ID, Card: c.Serial}
			if err := t.register(owner, keyOf{UseSign, c.Sign}, keyOf{UseAgree, c.Agree}); err != nil {
				return invalid(where, "%v", err)
			}
			if err := t.checkCardAttestation(&c); err != nil {
				return invalid(where, "%v", err)
			}
		}
		if len(p.Software) > 0 {
			if err := t.register(Identity{Kind: OwnerPerson, Owner: p.ID}, keyOf{UseSoftware, p.Software}); err != nil {
				return invalid(where, "%v", err)
			}
		}
	}
	return nil
}

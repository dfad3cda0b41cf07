package ceremony

import (
	"cmp"
	"crypto/x509"
	"maps"
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Validate refuses a plan that cannot become a sound genesis, and names the
// entry at fault. It repeats none of the ledger's own checks on keys that do
// not exist yet; it makes those that can be made on paper, before anybody
// travels to the ceremony.
func (p *Plan) Validate() error {
	for _, check := range []func() error{
		p.validateHead, p.validateServers, p.validateDevices, p.validatePersons, p.validateOfficers, p.validateKeys,
		p.validateSources, p.validateHeartbeats,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plan) validateHead() error {
	if err := checkName("system", p.Name); err != nil {
		return err
	}
	if p.Hours == 0 || p.Hours > MaxHours {
		return planErr("hours", "temporary certificates must hold between 1 and %d hours, not %d", MaxHours, p.Hours)
	}
	if p.OfficerDays == 0 {
		return planErr("officer_days", "must say for how many days officers are registered")
	}
	if len(p.Witnesses) == 0 {
		return planErr("witnesses", "name at least one witness")
	}
	for _, w := range p.Witnesses {
		if err := checkName("witness", w); err != nil {
			return err
		}
	}
	for _, m := range p.Models {
		if m.Kind != "card" && m.Kind != "device" {
			return planErr("model "+m.Model, "kind %q is neither card nor device", m.Kind)
		}
		if _, err := x509.ParseCertificate(m.Root); err != nil {
			return planErr("model "+m.Model, "root certificate: %v", err)
		}
	}
	return nil
}

func (p *Plan) validateServers() error {
	seen := map[string]bool{}
	for _, s := range p.Servers {
		where := "server " + s.ID
		if err := checkID(where, s.ID); err != nil {
			return err
		}
		if seen[s.ID] {
			return planErr(where, "named twice")
		}
		seen[s.ID] = true
		if _, err := envelope.ParseSigningKey(s.Sign); err != nil {
			return planErr(where, "signature key: %v", err)
		}
		if _, err := envelope.ParseAgreementKey(s.Agree); err != nil {
			return planErr(where, "agreement key: %v", err)
		}
	}
	return nil
}

func (p *Plan) validateDevices() error {
	if len(p.Devices) == 0 || len(p.Devices) > MaxDevices {
		return planErr("devices", "between 1 and %d are possible, not %d", MaxDevices, len(p.Devices))
	}
	seen := map[string]bool{}
	for _, d := range p.Devices {
		where := "device " + d.ID
		if err := checkID(where, d.ID); err != nil {
			return err
		}
		if err := checkName(where, d.Name); err != nil {
			return err
		}
		if seen[d.ID] {
			return planErr(where, "named twice")
		}
		seen[d.ID] = true
		if p.server(d.Server) == nil {
			return planErr(where, "its server %q is not in the plan", d.Server)
		}
		switch d.Use {
		case "token", "host", "auto":
		default:
			return planErr(where, "use %q is none of token, host, auto", d.Use)
		}
		officers := uint64(len(p.officersOf(d.ID)))
		if d.UnlockQuorum < 2 {
			return planErr(where, "unlock quorum %d: at least 2 officers must be needed", d.UnlockQuorum)
		}
		if d.UnlockQuorum > officers {
			return planErr(where, "unlock quorum %d is more than its %d officers", d.UnlockQuorum, officers)
		}
	}
	if !seen[p.Lead] {
		return planErr("lead", "%q is not a device of the plan", p.Lead)
	}
	return nil
}

func (p *Plan) validatePersons() error {
	if len(p.Persons) > MaxPersons {
		return planErr("persons", "at most %d are possible, not %d", MaxPersons, len(p.Persons))
	}
	ids, cards := map[string]bool{}, map[uint32]string{}
	for _, x := range p.Persons {
		where := "person " + x.ID
		if err := checkID(where, x.ID); err != nil {
			return err
		}
		if err := checkName(where, x.Name); err != nil {
			return err
		}
		if ids[x.ID] {
			return planErr(where, "named twice")
		}
		ids[x.ID] = true
		if len(x.Cards) == 0 && len(x.Software) == 0 {
			return planErr(where, "has neither a card nor a software key")
		}
		if len(x.Software) > 0 {
			if _, err := envelope.ParseSigningKey(x.Software); err != nil {
				return planErr(where, "software key: %v", err)
			}
		}
		for _, c := range x.Cards {
			if other, ok := cards[c]; ok {
				return planErr(where, "card %d belongs to %s already", c, other)
			}
			cards[c] = x.ID
		}
	}
	a := p.person(p.Administrator)
	if a == nil || len(a.Cards) == 0 {
		return planErr("administrator", "%q is not a person with a card", p.Administrator)
	}
	return nil
}

func (p *Plan) validateOfficers() error {
	type post struct{ person, device string }
	seen := map[post]bool{}
	for _, o := range p.Officers {
		where := "officer " + o.Person
		x := p.person(o.Person)
		switch {
		case x == nil:
			return planErr(where, "is not among the persons")
		case !slices.Contains(x.Cards, o.Card):
			return planErr(where, "card %d is not his", o.Card)
		case p.device(o.Device) == nil:
			return planErr(where, "device %q is not in the plan", o.Device)
		case o.Person == p.Administrator:
			return planErr(where, "the temporary administrator may not be an officer")
		case o.Class != "officer" && o.Class != "administrator":
			return planErr(where, "class %q is neither officer nor administrator", o.Class)
		case seen[post{o.Person, o.Device}]:
			return planErr(where, "serves device %s twice: a person counts once, however many cards he has", o.Device)
		}
		seen[post{o.Person, o.Device}] = true
	}
	return nil
}

func (p *Plan) validateKeys() error {
	if len(p.Keys) == 0 || len(p.Keys) > MaxKeys {
		return planErr("keys", "between 1 and %d are possible, not %d", MaxKeys, len(p.Keys))
	}
	seen, ledgers := map[string]bool{}, 0
	for i := range p.Keys {
		k := &p.Keys[i]
		where := "key " + k.ID
		if err := checkID(where, k.ID); err != nil {
			return err
		}
		if err := checkName(where, k.Name); err != nil {
			return err
		}
		if seen[k.ID] {
			return planErr(where, "named twice")
		}
		seen[k.ID] = true
		if k.Family == "ledger" {
			ledgers++
		}
		if err := p.validateKey(where, k); err != nil {
			return err
		}
	}
	if ledgers != 1 {
		return planErr("keys", "exactly one key of family ledger is the system-wide authority, not %d", ledgers)
	}
	return nil
}

func (p *Plan) validateKey(where string, k *PlanKey) error {
	split := k.Split()
	if err := split.Validate(); err != nil {
		return planErr(where, "%v", err)
	}
	if split.T < 2 {
		return planErr(where, "t = %d: one device alone must never sign", split.T)
	}
	switch k.Family {
	case "ledger", "certificate", "file":
	default:
		return planErr(where, "family %q is none of ledger, certificate, file", k.Family)
	}
	switch k.Bits {
	case 2048, 3072, 4096:
	default:
		return planErr(where, "%d bits: choose 2048, 3072 or 4096", k.Bits)
	}
	// A device in the middle of a chain advances only what comes with a
	// proof, and proofs are sound only over safe primes (design.md §5.3).
	if k.Scheme == threshold.Multiplicative && k.T > 2 && !k.SafePrimes {
		return planErr(where, "sequential signing by more than two devices needs safe primes")
	}
	if k.Family == "ledger" && k.AcknowledgedFaults() < 1 && !p.AcknowledgeNoFault {
		return planErr(where, "%d of %d tolerates no lying device (f = 2q−n−1 = %d); choose a larger quorum or acknowledge it",
			k.T, len(k.Devices), k.AcknowledgedFaults())
	}
	if len(k.Algorithms) == 0 {
		return planErr(where, "name at least one algorithm")
	}
	for _, a := range k.Algorithms {
		if threshold.Algorithm(a).Hash() == 0 {
			return planErr(where, "algorithm %q is none of RS256, RS384, RS512, PS256, PS384, PS512", a)
		}
	}
	switch certifies := k.Family != ledger.FamilyFile; {
	case certifies && k.RootDays == 0:
		return planErr(where, "root_days: say for how long its root certificate holds")
	case certifies && k.MaxDays == 0:
		return planErr(where, "max_days: say for how long it may certify at most")
	case !certifies && (k.RootDays != 0 || k.MaxDays != 0):
		return planErr(where, "a key for files certifies nothing: leave out root_days and max_days")
	case k.AllowDigest && certifies:
		return planErr(where, "allow_digest: only files may be signed blind")
	}
	if k.Quorum < 2 {
		return planErr(where, "a quorum of %d officers is refused: at least 2", k.Quorum)
	}
	if k.Threshold < 2 || k.Threshold > k.Quorum {
		return planErr(where, "%d pieces open a share: must be at least 2 and at most the quorum of %d", k.Threshold, k.Quorum)
	}
	serves := map[string]string{}
	for i, id := range k.Devices {
		if p.device(id) == nil {
			return planErr(where, "device %q is not in the plan", id)
		}
		if slices.Index(k.Devices, id) != i {
			return planErr(where, "device %s holds two shares", id)
		}
		officers := p.officersOf(id)
		if uint64(len(officers)) < k.Quorum {
			return planErr(where, "device %s has %d officers, its quorum is %d", id, len(officers), k.Quorum)
		}
		for _, o := range officers {
			if other, ok := serves[o.Person]; ok && !p.SharedOfficers {
				return planErr(where, "%s serves both %s and %s", o.Person, other, id)
			}
			serves[o.Person] = id
		}
	}
	return nil
}

// Split gives the key's scheme with its t of n.
func (k *PlanKey) Split() threshold.Split {
	return threshold.Split{Scheme: k.Scheme, T: k.T, N: uint64(len(k.Devices))}
}

// AcknowledgedFaults is f = 2q − n − 1, the number of lying devices that a
// quorum of q of n tolerates in a vote (design.md §4); below 0 for less than
// a majority.
func (k *PlanKey) AcknowledgedFaults() int { return 2*int(k.T) - len(k.Devices) - 1 }

func checkName(where, s string) error {
	if s == "" {
		return planErr(where, "has no name")
	}
	if len(s) > MaxNameLen {
		return planErr(where, "name is longer than %d bytes", MaxNameLen)
	}
	for _, r := range s {
		if r < 0x20 || r == 0x7f {
			return planErr(where, "name has a control character")
		}
	}
	return nil
}

// checkID holds ids to what is safe in file names, subjects and URLs.
func checkID(where, s string) error {
	if s == "" || len(s) > 32 {
		return planErr(where, "an id has 1 to 32 characters")
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return planErr(where, "an id has lower-case letters, digits and hyphens only")
		}
	}
	return nil
}

func (p *Plan) server(id string) *ledger.Server {
	return find(p.Servers, func(s *ledger.Server) bool { return s.ID == id })
}
func (p *Plan) device(id string) *PlanDevice {
	return find(p.Devices, func(d *PlanDevice) bool { return d.ID == id })
}
func (p *Plan) person(id string) *PlanPerson {
	return find(p.Persons, func(x *PlanPerson) bool { return x.ID == id })
}
func (p *Plan) key(id string) *PlanKey {
	return find(p.Keys, func(k *PlanKey) bool { return k.ID == id })
}

func (p *Plan) officersOf(device string) []PlanOfficer {
	var out []PlanOfficer
	for _, o := range p.Officers {
		if o.Device == device {
			out = append(out, o)
		}
	}
	return out
}

func find[T any](s []T, ok func(*T) bool) *T {
	for i := range s {
		if ok(&s[i]) {
			return &s[i]
		}
	}
	return nil
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

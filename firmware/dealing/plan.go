package dealing

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// Plan is the reviewed file by which a distributor deals. It holds no secrets.
// The plan of an extension states everything anew: machines that the ledger has
// and the plan lacks are taken away.
type Plan struct {
	Enterprise ledger.Enterprise
	Key        PlanKey
	// Need is t, the number of calculators that sign together with one combiner.
	Need uint64
	// SubKeys is l, the number of sub-keys of a calculator; 0 means the smallest
	// that is found.
	SubKeys uint64
	// Resist is the coalition that shall learn nothing. The zero value means one
	// combiner with any Need − 1 calculators; nothing less can be asked for.
	Resist Resist
	// Spare is how many combiners may fail, whichever they are, with every machine
	// set still served.
	Spare uint64
	// Redundant is how many combinations each combiner may have besides those
	// that are needed for that.
	Redundant    uint64
	Calculators  []Machine // ascending by number
	Combiners    []Machine // ascending by number
	Quorum       uint64    // officers who must approve, at each machine
	Pieces       uint64    // of them that open a share
	Officers     []Officer
	OfficerDays  uint64 // for which officers are registered
	Distributors []ledger.Distributor
	Operator     string // person who confirms the dealing with a card
	// Reserve says who keeps the reserve. nil: then exactly one of NoReserve (there
	// is to be none) and KeepReserve (an extension that deals nothing leaves the
	// one there is) says that this is meant.
	Reserve                *Keepers
	NoReserve, KeepReserve bool
}

// PlanKey is the authority's key.
type PlanKey struct {
	ID         string
	Name       string // common name of its root certificate
	Bits       uint64
	SafePrimes bool
	Algorithms []string // the first signs the root certificate
	MaxDays    uint64   // longest validity it may certify
	RootDays   uint64   // validity of its root certificate
}

// Resist is a coalition's size.
type Resist struct{ Combiners, Calculators uint64 }

// Machine gives a number in a layer to a device.
type Machine struct {
	Number uint64
	Device string
	// Again has an extension deal its share anew although nothing about it
	// changes, because the device lost it.
	Again bool
}

// Officer gives a person's card to a machine. Card 0 means the card with which
// he is registered elsewhere, or the only one he has.
type Officer struct {
	Person string
	Card   uint32
	Device string
	Class  string // "officer" (also if empty) or "administrator"
}

// Keepers hold the pieces of a reserve's key.
type Keepers struct {
	Need    uint64 // cards that open it
	Persons []Keeper
}

// Keeper is a person with a piece. Card is as in [Officer].
type Keeper struct {
	Person string
	Card   uint32
}

// A PlanError names what is wrong in a plan. Path is the place, in the words of
// the file: "calculators.2.device" is the device of the third calculator.
type PlanError struct {
	Path string
	What string
}

func (e *PlanError) Error() string { return "plan: " + e.Path + ": " + e.What }

func planErr(path, format string, args ...any) error {
	return &PlanError{Path: path, What: fmt.Sprintf(format, args...)}
}

// at is the path of a list's item.
func at(list string, i int, field ...string) string {
	return strings.Join(append([]string{list, fmt.Sprint(i)}, field...), ".")
}

// Validate makes the checks that can be made on paper.
func (p *Plan) Validate() error {
	for _, check := range []func() error{p.checkKey, p.checkMachines, p.checkOfficers, p.checkRoles, p.checkReserve} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plan) checkKey() error {
	k := &p.Key
	switch {
	case p.Enterprise.Code < 1 || p.Enterprise.Code > ledger.MaxEnterpriseCode:
		return planErr("enterprise.code", "%d: choose one from 1 to %d", p.Enterprise.Code, ledger.MaxEnterpriseCode)
	case !printable(p.Enterprise.Name):
		return planErr("enterprise.name", "%q: a name has 1 to %d bytes that print, without space around", p.Enterprise.Name, maxName)
	case !isID(k.ID):
		return planErr("key.id", "%q: an id has 1 to %d letters, digits and -_.:@#+, and begins with a letter or digit", k.ID, maxID)
	case !printable(k.Name):
		return planErr("key.name", "%q: the common name of the root certificate has 1 to %d bytes that print, without space around", k.Name, maxName)
	case !slices.Contains([]uint64{2048, 3072, 4096}, k.Bits):
		return planErr("key.bits", "%d: choose 2048, 3072 or 4096", k.Bits)
	case len(k.Algorithms) == 0:
		return planErr("key.algorithms", "name at least one of RS256, RS384, RS512, PS256, PS384, PS512")
	case k.MaxDays == 0:
		return planErr("key.max_days", "say for how many days it may certify at most")
	case k.RootDays == 0 || k.RootDays > MaxRootDays:
		return planErr("key.root_days", "say for how many days its root certificate holds, 1 to %d", MaxRootDays)
	}
	for i, a := range k.Algorithms {
		if threshold.Algorithm(a).Hash() == 0 {
			return planErr(at("key.algorithms", i), "%q is none of RS256, RS384, RS512, PS256, PS384, PS512", a)
		}
		if slices.Index(k.Algorithms, a) != i {
			return planErr(at("key.algorithms", i), "%s is named twice", a)
		}
	}
	return nil
}

// printable reports whether people can be shown a name without being deceived:
// before there is a dealing that the ledger refuses, there is a screen.
func printable(name string) bool {
	return name != "" && len(name) <= maxName && utf8.ValidString(name) && strings.TrimSpace(name) == name &&
		!strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

func isID(s string) bool {
	return len(s) >= 1 && len(s) <= maxID && !strings.ContainsRune("-_.:@#+", rune(s[0])) && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.:@#+", r))
	})
}

func (p *Plan) checkMachines() error {
	seen := map[string]string{}
	for _, layer := range []struct {
		name     string
		machines []Machine
		max      int
	}{{"calculators", p.Calculators, grouping.MaxCalculators}, {"combiners", p.Combiners, grouping.MaxCombiners}} {
		if len(layer.machines) < 1 || len(layer.machines) > layer.max {
			return planErr(layer.name, "%d of them: 1 to %d are possible", len(layer.machines), layer.max)
		}
		var last uint64
		for i, m := range layer.machines {
			switch here, ok := seen[m.Device]; {
			case m.Number <= last || m.Number > grouping.MaxNumber:
				return planErr(at(layer.name, i, "number"), "%d: numbers ascend, from 1 to %d", m.Number, grouping.MaxNumber)
			case m.Device == "":
				return planErr(at(layer.name, i, "device"), "is missing")
			case ok:
				return planErr(at(layer.name, i, "device"), "%s is %s already: a device is one machine of an enterprise", m.Device, here)
			}
			last = m.Number
			seen[m.Device] = fmt.Sprintf("%s %d", strings.TrimSuffix(layer.name, "s"), m.Number)
		}
	}
	k := uint64(len(p.Calculators))
	switch {
	case p.Need < 2:
		return planErr("need", "%d calculators: no signature may depend on one machine, at least 2", p.Need)
	case p.Need > k:
		return planErr("need", "%d calculators, but there are only %d", p.Need, k)
	case p.SubKeys > grouping.MaxKeys:
		return planErr("sub_keys", "%d: at most %d; leave it out for the smallest that is found", p.SubKeys, grouping.MaxKeys)
	case p.Spare >= uint64(len(p.Combiners)):
		return planErr("spare", "%d of %d combiners cannot all fail: one has to be left", p.Spare, len(p.Combiners))
	case p.Redundant > MaxRedundant:
		return planErr("redundant", "%d: at most %d", p.Redundant, MaxRedundant)
	}
	r := p.resist()
	switch {
	case r.Combiners < 1 || r.Combiners > uint64(len(p.Combiners)):
		return planErr("resist.combiners", "%d: from 1 to the %d combiners", r.Combiners, len(p.Combiners))
	case r.Calculators > p.Need-1:
		return planErr("resist.calculators", "%d: any %d calculators and one combiner sign, so at most %d can be resisted", r.Calculators, p.Need, p.Need-1)
	case r.Combiners == 1 && r.Calculators < p.Need-1:
		return planErr("resist.calculators", "%d: one combiner must learn nothing with %d calculators, that is what a threshold is", r.Calculators, p.Need-1)
	}
	return nil
}

// resist is what the plan asks for, with the default spelled out.
func (p *Plan) resist() Resist {
	if p.Resist == (Resist{}) {
		return Resist{Combiners: 1, Calculators: p.Need - 1}
	}
	return p.Resist
}

func (p *Plan) checkOfficers() error {
	type post struct{ person, device string }
	seen, count := map[post]bool{}, map[string]uint64{}
	for i, o := range p.Officers {
		switch {
		case o.Person == "":
			return planErr(at("officers", i, "person"), "is missing")
		case !p.has(o.Device):
			return planErr(at("officers", i, "device"), "%q is no machine of this plan", o.Device)
		case o.Class != "" && o.Class != ledger.ClassOfficer && o.Class != ledger.ClassAdministrator:
			return planErr(at("officers", i, "class"), "%q is neither %s nor %s", o.Class, ledger.ClassOfficer, ledger.ClassAdministrator)
		case seen[post{o.Person, o.Device}]:
			return planErr(at("officers", i), "%s serves %s twice: a person counts once, however many cards he has", o.Person, o.Device)
		}
		seen[post{o.Person, o.Device}] = true
		count[o.Device]++
	}
	switch {
	case p.Quorum < ledger.MinQuorum:
		return planErr("quorum", "%d officers: at least %d must approve", p.Quorum, ledger.MinQuorum)
	case p.Pieces < 2 || p.Pieces > p.Quorum:
		return planErr("pieces", "%d pieces open a share: at least 2, and at most the quorum of %d", p.Pieces, p.Quorum)
	case p.OfficerDays == 0 || p.OfficerDays > MaxOfficerDays:
		return planErr("officer_days", "say for how many days officers are registered, 1 to %d", MaxOfficerDays)
	}
	for _, m := range p.machines() {
		if count[m.Device] < p.Quorum {
			return planErr("officers", "%s has %d, and its quorum is %d: add officers for it", m.Device, count[m.Device], p.Quorum)
		}
	}
	return nil
}

func (p *Plan) checkRoles() error {
	if len(p.Distributors) < 1 || len(p.Distributors) > ledger.MaxDistributors {
		return planErr("distributors", "%d of them: 1 to %d message servers give out tasks", len(p.Distributors), ledger.MaxDistributors)
	}
	for i, d := range p.Distributors {
		if d.Number < 1 || d.Number > ledger.MaxDistributorNumber {
			return planErr(at("distributors", i, "number"), "%d: choose one from 1 to %d", d.Number, ledger.MaxDistributorNumber)
		}
		for _, other := range p.Distributors[:i] {
			if other.Number == d.Number || other.Server == d.Server {
				return planErr(at("distributors", i), "number %d or server %s is named twice", d.Number, d.Server)
			}
		}
	}
	if p.Operator == "" {
		return planErr("operator", "is missing: the person who confirms the dealing with a card")
	}
	return nil
}

func (p *Plan) checkReserve() error {
	r := p.Reserve
	switch {
	case r == nil && p.NoReserve == p.KeepReserve:
		return planErr("reserve", "say who keeps it, or \"reserve: none\": then no machine can be added to this authority, ever")
	case r == nil:
		return nil
	case p.NoReserve || p.KeepReserve:
		return planErr("reserve", "keepers, or one word, not both")
	case r.Need < MinReserveNeed:
		return planErr("reserve.need", "%d: at least %d cards must be needed, since they open the whole key", r.Need, MinReserveNeed)
	case uint64(len(r.Persons)) < r.Need:
		return planErr("reserve.persons", "%d of them, and %d are needed", len(r.Persons), r.Need)
	case len(r.Persons) > maxKeepers:
		return planErr("reserve.persons", "%d of them: at most %d", len(r.Persons), maxKeepers)
	}
	for i, x := range r.Persons {
		if slices.IndexFunc(r.Persons, func(y Keeper) bool { return y.Person == x.Person }) != i {
			return planErr(at("reserve.persons", i), "%s is named twice", x.Person)
		}
	}
	return nil
}

// machines are the calculators, then the combiners.
func (p *Plan) machines() []Machine { return slices.Concat(p.Calculators, p.Combiners) }

func (p *Plan) has(device string) bool {
	return slices.ContainsFunc(p.machines(), func(m Machine) bool { return m.Device == device })
}

// Devices are the devices of all machines, calculators first.
func (p *Plan) Devices() []string {
	var out []string
	for _, m := range p.machines() {
		out = append(out, m.Device)
	}
	return out
}

func numbers(machines []Machine) []uint64 {
	var out []uint64
	for _, m := range machines {
		out = append(out, m.Number)
	}
	return out
}

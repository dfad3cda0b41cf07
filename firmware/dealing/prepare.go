package dealing

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// Inputs are what the distributor's machine gives.
type Inputs struct {
	Now  int64 // unix seconds
	Rand io.Reader
	// Isolated says that the machine had no network, as far as it could tell.
	Isolated bool
	// Abandoned are extensions of this authority that were given out, or may have
	// been, and never came into force: see [Abandoned].
	Abandoned []ledger.Dealing
}

// Prepared is a dealing of which all is settled but the secrets. Only [Prepare]
// makes one.
type Prepared struct {
	// Grouping is who is to hold which combinations.
	Grouping grouping.Grouping
	// Searched says how the grouping was found, for people.
	Searched string
	// Warnings are what the operator should know before confirming.
	Warnings []string

	state       ledger.State
	plan        *Plan
	row         *ledger.Dealing // in force; nil for a new authority
	officers    []ledger.Officer
	keepers     []keeper
	invitations map[string]*firmware.VerifiedInvitation // by device
	machines    []ledger.Holder
	fresh       map[string]bool  // devices that get a share, or a new version of theirs
	known       []ledger.Counted // by revisions in the ledger
	abandoned   []Abandoned
}

// keeper is a person's card that a piece of the reserve's key is sealed to.
type keeper struct {
	person string
	card   ledger.Card
}

// ErrNoAuthority and ErrAuthority tell a first dealing from an extension.
var (
	ErrNoAuthority = errors.New("this enterprise has no authority in the ledger yet: deal one")
	ErrAuthority   = errors.New("this enterprise has its authority already: extend it, or choose another enterprise code")
)

// A ClockError is a distributor's clock that is behind what it is shown.
type ClockError struct{ Now, Seen int64 }

func (e *ClockError) Error() string {
	return fmt.Sprintf("this machine's clock says %d, and what is on the medium was made at %d: set the clock", e.Now, e.Seen)
}

// Prepare checks a plan against the ledger and the invitations, and groups the
// combinations. Whether it prepares a first dealing or an extension is for the
// ledger to say ([Prepared.Revision]). Nothing secret exists yet. progress may
// be nil.
func Prepare(in Inputs, s ledger.State, p *Plan, invitations [][]byte, progress func(string)) (*Prepared, error) {
	d, err := Draft(in, s, p, progress)
	if err != nil {
		return nil, err
	}
	return d, d.invite(in, invitations)
}

// Draft is Prepare without the invitations: what can be said before the devices
// are asked. What it returns cannot be dealt.
func Draft(in Inputs, s ledger.State, p *Plan, progress func(string)) (*Prepared, error) {
	if progress == nil {
		progress = func(string) {}
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if in.Now+ClockSkew < s.Time() {
		return nil, &ClockError{Now: in.Now, Seen: s.Time()}
	}
	d := &Prepared{state: s, plan: p, invitations: map[string]*firmware.VerifiedInvitation{}, fresh: map[string]bool{}}
	if row, ok := s.Enterprise(p.Enterprise.Code); ok {
		d.row, d.known = &row, s.Counted(p.Enterprise.Code)
	}
	for _, check := range []func(in Inputs) error{d.checkRow, d.checkMachines, d.takeAbandoned, d.register, d.checkRoles, d.keep} {
		if err := check(in); err != nil {
			return nil, err
		}
	}
	if err := d.group(progress); err != nil {
		return nil, err
	}
	if err := d.hold(); err != nil {
		return nil, err
	}
	if err := d.count(); err != nil {
		return nil, err
	}
	return d, d.rehearse(in)
}

// Revision is the number that the dealing will have: 1 for a new authority.
func (d *Prepared) Revision() uint64 {
	if d.row == nil {
		return 1
	}
	return d.row.Revision + 1
}

// Plan is what was prepared for.
func (d *Prepared) Plan() *Plan { return d.plan }

// InForce is the row that an extension follows; nil for a new authority.
func (d *Prepared) InForce() *ledger.Dealing { return d.row }

// Machines are the rows to come, calculators first.
func (d *Prepared) Machines() []ledger.Holder { return slices.Clone(d.machines) }

// Officers are the rows to come.
func (d *Prepared) Officers() []ledger.Officer { return slices.Clone(d.officers) }

// Fresh reports whether a device gets a share with this dealing, its first or a
// new version. The others keep theirs, and need no invitation.
func (d *Prepared) Fresh(device string) bool { return d.fresh[device] }

// NeedsReserve reports whether the secrets of the dealing in force are needed.
func (d *Prepared) NeedsReserve() bool {
	return d.row != nil && (len(d.fresh) > 0 || d.plan.Reserve != nil)
}

// checkRow holds an extension to what cannot change.
func (d *Prepared) checkRow(Inputs) error {
	p := d.plan
	if d.row == nil {
		if _, ok := d.state.Key(p.Key.ID); ok {
			return planErr("key.id", "there is a key %q already: choose another", p.Key.ID)
		}
		for i, m := range p.Calculators {
			if m.Number != uint64(i+1) {
				return planErr(at("calculators", i, "number"), "%d: a new authority's calculators are numbered 1, 2, 3 …", m.Number)
			}
		}
		for i, m := range p.Combiners {
			if m.Number != uint64(i+1) {
				return planErr(at("combiners", i, "number"), "%d: a new authority's combiners are numbered 1, 2, 3 …", m.Number)
			}
		}
		if p.KeepReserve {
			return planErr("reserve", "a new authority has none to keep")
		}
		if p.Need == uint64(len(p.Calculators)) {
			return planErr("need", "all of %d calculators: plan for more than are needed, so that one may fail", p.Need)
		}
		return nil
	}
	k := &d.row.Key
	for _, f := range []struct {
		path      string
		same      bool
		in, force any
	}{
		{"enterprise.name", p.Enterprise.Name == d.row.Enterprise.Name, p.Enterprise.Name, d.row.Enterprise.Name},
		{"key.id", p.Key.ID == k.ID, p.Key.ID, k.ID},
		{"key.name", p.Key.Name == k.Name, p.Key.Name, k.Name},
		{"key.bits", p.Key.Bits == uint64(k.Public.Bits()), p.Key.Bits, k.Public.Bits()},
		{"key.safe_primes", p.Key.SafePrimes == k.SafePrimes, p.Key.SafePrimes, k.SafePrimes},
		{"key.algorithms", slices.Equal(p.Key.Algorithms, k.Algorithms), p.Key.Algorithms, k.Algorithms},
		{"key.max_days", p.Key.MaxDays == k.MaxDays, p.Key.MaxDays, k.MaxDays},
		{"need", p.Need == k.T, p.Need, k.T},
		{"sub_keys", p.SubKeys == 0 || p.SubKeys == k.Layers.Grouping.L, p.SubKeys, k.Layers.Grouping.L},
	} {
		if !f.same {
			return planErr(f.path, "%v, and in force is %v, which an extension does not change", f.in, f.force)
		}
	}
	if d.row.Reserve == nil && !p.NoReserve {
		return planErr("reserve", "this authority was dealt without one, and none can be made now: write \"reserve: none\"")
	}
	return nil
}

func (d *Prepared) checkMachines(Inputs) error {
	for _, layer := range d.layers() {
		for i, m := range layer.machines {
			if _, ok := d.state.Device(m.Device); !ok {
				return planErr(at(layer.name, i, "device"), "the system has no device %q", m.Device)
			}
			if d.row == nil {
				continue
			}
			if h, ok := d.row.Key.Machine(layer.number, m.Number); ok && h.Device != m.Device {
				return planErr(at(layer.name, i, "device"), "number %d is %s in the ledger: another device is another machine, with a number of its own", m.Number, h.Device)
			}
		}
	}
	return nil
}

// layer is one layer of the plan.
type layer struct {
	name     string
	number   uint64
	machines []Machine
}

func (d *Prepared) layers() []layer {
	return []layer{{"calculators", ledger.LayerCalculator, d.plan.Calculators}, {"combiners", ledger.LayerCombiner, d.plan.Combiners}}
}

// register finds the officers' cards.
func (d *Prepared) register(in Inputs) error {
	p := d.plan
	serves := map[string]string{}
	for i, o := range p.Officers {
		card, err := d.card(at("officers", i), o.Person, o.Card)
		if err != nil {
			return err
		}
		if other, ok := serves[o.Person]; ok && !d.state.Genesis().SharedOfficers {
			return planErr(at("officers", i), "%s serves %s too: in this system a person serves one device of a key", o.Person, other)
		}
		serves[o.Person] = o.Device
		class := o.Class
		if class == "" {
			class = ledger.ClassOfficer
		}
		d.officers = append(d.officers, ledger.Officer{
			Person: o.Person, Card: card.Serial, Device: o.Device, Class: class,
			Expires: in.Now + int64(p.OfficerDays)*86400, Keys: []string{p.Key.ID},
		})
	}
	return nil
}

// card is the card meant by a serial number, or by none.
func (d *Prepared) card(path, person string, serial uint32) (ledger.Card, error) {
	x, ok := d.state.Person(person)
	switch {
	case !ok:
		return ledger.Card{}, planErr(path+".person", "the system knows no person %q", person)
	case len(x.Cards) == 0:
		return ledger.Card{}, planErr(path+".person", "%s has no card", person)
	case serial == 0 && len(x.Cards) == 1:
		return x.Cards[0], nil
	}
	if serial == 0 {
		for _, o := range d.state.Registrations(person) {
			if serial != 0 && o.Card != serial {
				return ledger.Card{}, planErr(path+".card", "%s is registered with several cards: say which", person)
			}
			serial = o.Card
		}
	}
	for _, c := range x.Cards {
		if c.Serial == serial {
			return c, nil
		}
	}
	if serial == 0 {
		return ledger.Card{}, planErr(path+".card", "%s has several cards: say which", person)
	}
	return ledger.Card{}, planErr(path+".card", "%d is no card of %s", serial, person)
}

func (d *Prepared) checkRoles(Inputs) error {
	for i, x := range d.plan.Distributors {
		if _, ok := d.state.Server(x.Server); !ok {
			return planErr(at("distributors", i, "server"), "the system has no message server %q", x.Server)
		}
	}
	operator, ok := d.state.Person(d.plan.Operator)
	switch {
	case !ok:
		return planErr("operator", "the system knows no person %q", d.plan.Operator)
	case len(operator.Cards) == 0:
		return planErr("operator", "%s has no card to confirm with", d.plan.Operator)
	case d.plan.Operator == d.state.Ceremony().Administrator:
		return planErr("operator", "%s was the temporary administrator, whose power ended with the ceremony", d.plan.Operator)
	}
	return nil
}

// keep finds the keepers' cards.
func (d *Prepared) keep(Inputs) error {
	if d.plan.Reserve == nil {
		return nil
	}
	for i, k := range d.plan.Reserve.Persons {
		card, err := d.card(at("reserve.persons", i), k.Person, k.Card)
		if err != nil {
			return err
		}
		d.keepers = append(d.keepers, keeper{k.Person, card})
	}
	return nil
}

// hold makes the machines' rows.
func (d *Prepared) hold() error {
	p := d.plan
	var again error // what a machine in force would need
	comes := false  // a machine is new
	for _, layer := range d.layers() {
		for i, m := range layer.machines {
			pieces := uint64(0)
			for _, o := range d.officers {
				if o.Device == m.Device {
					pieces++
				}
			}
			h := ledger.Holder{
				Index: m.Number, Share: shareID(p.Key.ID, layer.number, m.Number), Device: m.Device, Quorum: p.Quorum, Pieces: pieces,
				Threshold: p.Pieces, Layer: layer.number, Version: 1,
			}
			old, kept := ledger.Holder{}, false
			if d.row != nil {
				old, kept = d.row.Key.Machine(layer.number, m.Number)
			}
			// The key of a share at rest is in pieces with the officers there were when
			// it was dealt: whoever changes them deals the share again.
			h.Version = old.Version
			switch {
			case !kept:
				h.Version, d.fresh[m.Device] = 1, true
			case m.Again || d.grows(layer.number, m.Number) || h != old || !d.sameOfficers(m.Device):
				h.Version, d.fresh[m.Device] = old.Version+1, true
			}
			if kept && d.fresh[m.Device] && again == nil {
				again = planErr(at(layer.name, i), "%s would get a new share, as its officers, quorum, pieces or combinations differ from the ledger's, and no reserve is opened for that", m.Device)
			}
			comes = comes || !kept
			d.machines = append(d.machines, h)
		}
	}
	switch {
	case again != nil && !comes && (d.row.Reserve == nil || p.KeepReserve):
		return again
	case d.row != nil && d.row.Reserve == nil && len(d.fresh) > 0:
		return planErr("reserve", "this authority has none, so no machine can be added and no combination dealt: take machines away only")
	case p.KeepReserve && len(d.fresh) > 0:
		return planErr("reserve", "shares are dealt, so the reserve in force grows old: say who keeps the new one, or \"reserve: none\"")
	}
	return nil
}

func shareID(key string, layer, number uint64) string {
	if layer == ledger.LayerCalculator {
		return fmt.Sprintf("%s.calculator-%d", key, number)
	}
	return fmt.Sprintf("%s.combiner-%d", key, number)
}

// sameOfficers compares a device's officers and their cards with the ledger's.
func (d *Prepared) sameOfficers(device string) bool {
	cards := func(rows []ledger.Officer) []string {
		var out []string
		for _, o := range rows {
			if o.Device == device {
				out = append(out, fmt.Sprintf("%s %d", o.Person, o.Card))
			}
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(cards(d.officers), cards(d.row.Officers))
}

// invite takes the invitations: one of each device that gets a share.
func (d *Prepared) invite(in Inputs, raw [][]byte) error {
	for i, r := range raw {
		v, err := firmware.VerifyInvitation(d.state, r, in.Now)
		if err != nil {
			return fmt.Errorf("invitation %d: %w", i+1, err)
		}
		x := v.Invitation()
		switch {
		case x.Enterprise != d.plan.Enterprise.Code:
			return fmt.Errorf("the invitation of device %s is for enterprise %d, the plan is of enterprise %d: invite again", x.Device, x.Enterprise, d.plan.Enterprise.Code)
		case !d.plan.has(x.Device):
			return fmt.Errorf("device %s sent an invitation and is no machine of the plan", x.Device)
		case d.invitations[x.Device] != nil:
			return fmt.Errorf("there are two invitations of device %s: invite again", x.Device)
		}
		d.invitations[x.Device] = v
	}
	for _, m := range d.machines {
		if d.fresh[m.Device] && d.invitations[m.Device] == nil {
			return fmt.Errorf("the invitation of device %s is missing: invite again", m.Device)
		}
	}
	return nil
}

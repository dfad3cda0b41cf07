package medium

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/firmware/dealing"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// View is an authority in two layers as people and programs read it: one that is
// to be dealt, was dealt, or is in the ledger.
type View struct {
	Enterprise uint64  `json:"enterprise"`
	Name       string  `json:"name"`
	Revision   uint64  `json:"revision"`
	Key        ViewKey `json:"key"`
	Need       uint64  `json:"need"` // calculators that sign
	SubKeys    uint64  `json:"sub_keys"`
	// Spare is how many combiners may fail, whichever they are, with every machine
	// set still served.
	Spare        uint64        `json:"spare"`
	Machines     []ViewMachine `json:"machines"`
	Officers     []ViewOfficer `json:"officers"`
	Distributors []ViewServer  `json:"distributors"`
	Operator     string        `json:"operator"`
	Created      int64         `json:"created,omitempty"`  // 0: not yet
	Isolated     *bool         `json:"isolated,omitempty"` // absent: not yet
	// Reserve is how many persons keep the reserve, 0: there is none.
	Reserve   uint64    `json:"reserve"`
	Keepers   []string  `json:"keepers,omitempty"`
	Opens     uint64    `json:"opens,omitempty"` // how many of them open it
	Collusion Collusion `json:"collusion"`
	// Abandoned are the dealings that were given out and never came into force, and
	// that this one counts; Counted are the digests of those that the ledger counted
	// already.
	Abandoned []ViewAbandoned `json:"abandoned,omitempty"`
	Counted   []string        `json:"counted,omitempty"`
	Warnings  []string        `json:"warnings"`

	table grouping.Table
}

// ViewAbandoned is a dealing that was given out and never came into force.
type ViewAbandoned struct {
	Digest   string `json:"digest"`
	Revision uint64 `json:"revision"`
	// Created and Operator, who confirmed it, are absent where it is not at hand.
	Created  int64  `json:"created,omitempty"`
	Operator string `json:"operator,omitempty"`
	// Machines are those that the ledger has not, and those that it gave what
	// neither the ledger nor the dealing that counts it does.
	Machines []string `json:"machines"`
	// Again says that all it gave out is given out again.
	Again bool `json:"again"`
}

// ViewKey is the key. SPKI is empty before there is one.
type ViewKey struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	Bits       uint64   `json:"bits"`
	SafePrimes bool     `json:"safe_primes"`
	Algorithms []string `json:"algorithms"`
	MaxDays    uint64   `json:"max_days"`
	SPKI       string   `json:"spki_sha256,omitempty"`
}

// ViewMachine is a calculator or combiner.
type ViewMachine struct {
	Layer        string   `json:"layer"`
	Number       uint64   `json:"number"`
	Device       string   `json:"device"`
	Name         string   `json:"name"`
	Server       string   `json:"server"`
	Share        string   `json:"share"`
	Version      uint64   `json:"version"`
	Quorum       uint64   `json:"quorum"`
	Combinations []string `json:"combinations,omitempty"` // of a combiner
	// Dealt says that it gets a share with this dealing; absent where that is not
	// known.
	Dealt *bool `json:"dealt,omitempty"`
}

// ViewOfficer is an officer of a machine.
type ViewOfficer struct {
	Person  string `json:"person"`
	Name    string `json:"name"`
	Device  string `json:"device"`
	Card    uint32 `json:"card"`
	Class   string `json:"class"`
	Expires int64  `json:"expires"`
}

// ViewServer is a task distributor.
type ViewServer struct {
	Number uint64 `json:"number"`
	Server string `json:"server"`
	Name   string `json:"name"`
}

// Collusion is the collusion table.
type Collusion struct {
	Cells []CollusionCell `json:"cells"`
	Weak  []string        `json:"weak"` // who learns what, with as few as possible
}

// CollusionCell is what so many combiners with so many calculators learn at
// most; "?" if there were too many coalitions to look at.
type CollusionCell struct {
	Combiners   uint64 `json:"combiners"`
	Calculators uint64 `json:"calculators"`
	Coalitions  uint64 `json:"coalitions"`
	Weak        uint64 `json:"weak"`
	Learns      string `json:"learns"`
}

// ViewPrepared is what is about to be dealt.
func ViewPrepared(s ledger.State, d *dealing.Prepared) *View {
	p := d.Plan()
	v := &View{
		Enterprise: p.Enterprise.Code, Name: p.Enterprise.Name, Revision: d.Revision(), Need: p.Need,
		Key:      ViewKey{ID: p.Key.ID, Name: p.Key.Name, Bits: p.Key.Bits, SafePrimes: p.Key.SafePrimes, Algorithms: p.Key.Algorithms, MaxDays: p.Key.MaxDays},
		Operator: person(s, p.Operator), Warnings: slices.Clone(d.Warnings),
	}
	if row := d.InForce(); row != nil {
		v.Key.SPKI = spki(&row.Key)
	}
	v.fill(s, &d.Grouping, d.Machines(), d.Officers(), p.Distributors)
	for i := range v.Machines {
		fresh := d.Fresh(v.Machines[i].Device)
		v.Machines[i].Dealt = &fresh
	}
	switch {
	case p.KeepReserve:
		v.keep(s, d.InForce().Reserve)
	case p.Reserve != nil:
		v.Reserve, v.Opens = uint64(len(p.Reserve.Persons)), p.Reserve.Need
		for _, k := range p.Reserve.Persons {
			v.Keepers = append(v.Keepers, person(s, k.Person))
		}
	}
	for _, a := range d.Abandoned() {
		x := ViewAbandoned{Digest: a.Digest.String(), Revision: a.Revision, Machines: machines(a.Given), Again: a.Again}
		if a.Dealing != nil {
			x.Created, x.Operator = a.Dealing.Created, person(s, a.Dealing.Operator)
		}
		v.Abandoned = append(v.Abandoned, x)
	}
	v.before(s, nil)
	v.warn(s)
	return v
}

// ViewDealing is what was dealt. reserve is nil where it is not at hand.
func ViewDealing(s ledger.State, d *ledger.Dealing, reserve *dealing.Reserve) *View {
	k := &d.Key
	v := &View{
		Enterprise: d.Enterprise.Code, Name: d.Enterprise.Name, Revision: d.Revision, Need: k.T,
		Key: ViewKey{
			ID: k.ID, Name: k.Name, Bits: uint64(k.Public.Bits()), SafePrimes: k.SafePrimes, Algorithms: k.Algorithms, MaxDays: k.MaxDays, SPKI: spki(k),
		},
		Operator: person(s, d.Operator), Created: d.Created, Isolated: &d.Isolated,
	}
	v.keep(s, d.Reserve)
	if reserve != nil && !keeps(d.Reserve, reserve) {
		v.Warnings = append(v.Warnings, fmt.Sprintf("the reserve that lies with it is of other keepers, or opens with other than %d of them", v.Opens))
	}
	for _, c := range d.Counted {
		v.Abandoned = append(v.Abandoned, ViewAbandoned{
			Digest: c.Dealing.String(), Revision: c.Revision, Machines: machines(s.Given(d.Enterprise.Code, &c)), Again: len(c.Combiners) == 0,
		})
	}
	v.before(s, d.Counted)
	if k.Layers == nil { // never in a ledger; a forged medium may say so
		v.Warnings = append(v.Warnings, "it is no dealing in two layers")
		return v
	}
	v.fill(s, &k.Layers.Grouping, k.Holders, d.Officers, d.Distributors)
	v.warn(s)
	return v
}

// keep says who keeps a reserve.
func (v *View) keep(s ledger.State, r *ledger.Reserve) {
	if r == nil {
		return
	}
	v.Reserve, v.Opens = uint64(len(r.Keepers)), r.Need
	for _, k := range r.Keepers {
		v.Keepers = append(v.Keepers, person(s, k.Person))
	}
}

// keeps reports whether a reserve is kept as a dealing says.
func keeps(r *ledger.Reserve, by *dealing.Reserve) bool {
	return r != nil && r.Need == by.Need && slices.EqualFunc(r.Keepers, by.Pieces, func(k ledger.Keeper, p dealing.ReservePiece) bool {
		return k.Person == p.Person && k.Card == p.Card
	})
}

// before lists what the ledger counts but for what this dealing brought.
func (v *View) before(s ledger.State, own []ledger.Counted) {
	for _, c := range s.Counted(v.Enterprise) {
		if !slices.ContainsFunc(own, func(o ledger.Counted) bool { return o.Dealing == c.Dealing }) {
			v.Counted = append(v.Counted, c.Dealing.String())
		}
	}
}

func machines(list []ledger.Machine) []string {
	out := []string{}
	for _, m := range list {
		out = append(out, fmt.Sprintf("%s %d (%s)", Layer(m.Layer), m.Number, m.Device))
	}
	return out
}

func (v *View) fill(s ledger.State, g *grouping.Grouping, holders []ledger.Holder, officers []ledger.Officer, distributors []ledger.Distributor) {
	v.SubKeys = g.L
	for _, h := range holders {
		m := ViewMachine{Layer: Layer(h.Layer), Number: h.Index, Device: h.Device, Share: h.Share, Version: h.Version, Quorum: h.Quorum}
		if d, ok := s.Device(h.Device); ok {
			m.Name, m.Server = d.Name, d.Server
		}
		for _, c := range g.Combiners {
			for _, a := range c.Combinations {
				if h.Layer == ledger.LayerCombiner && c.Number == h.Index {
					m.Combinations = append(m.Combinations, a.String())
				}
			}
		}
		v.Machines = append(v.Machines, m)
	}
	for _, o := range officers {
		x := ViewOfficer{Person: o.Person, Device: o.Device, Card: o.Card, Class: o.Class, Expires: o.Expires}
		if p, ok := s.Person(o.Person); ok {
			x.Name = p.Name
		}
		v.Officers = append(v.Officers, x)
	}
	for _, d := range distributors {
		x := ViewServer{Number: d.Number, Server: d.Server}
		if srv, ok := s.Server(d.Server); ok {
			x.Name = srv.Name
		}
		v.Distributors = append(v.Distributors, x)
	}
	v.Collusion = Collusion{Cells: []CollusionCell{}, Weak: []string{}}
	if g.Validate() != nil {
		return
	}
	v.Spare = g.Spare()
	v.table = g.Table()
	for _, c := range v.table.Cells {
		learns := "?"
		if c.Worst.Modulus != nil {
			learns = c.Worst.String()
		}
		v.Collusion.Cells = append(v.Collusion.Cells, CollusionCell{c.Combiners, c.Calculators, c.Coalitions, c.Weak, learns})
	}
	for _, w := range v.table.Weak {
		v.Collusion.Weak = append(v.Collusion.Weak, w.String())
	}
}

// warn says what whoever trusts the authority should know.
func (v *View) warn(s ledger.State) {
	say := func(format string, args ...any) { v.Warnings = append(v.Warnings, fmt.Sprintf(format, args...)) }
	if v.Isolated != nil && !*v.Isolated {
		say("it was dealt on a machine that had a network, or might have had one")
	}
	if v.Reserve == 0 {
		say("there is no reserve: machines can be taken away, and none can be added, ever")
	}
	if !v.Key.SafePrimes {
		say("ordinary primes: a calculator's proof that its powers are right is sound only over safe primes, so one that lies may not be named for certain")
	}
	server := map[string]string{} // by machine
	for _, m := range v.Machines {
		if d, ok := s.Device(m.Device); ok && d.Unattended {
			say("%s %d (%s) is unattended: it unlocks itself", m.Layer, m.Number, m.Device)
		}
		server[fmt.Sprint(m.Layer, m.Number)] = m.Server
	}
	for _, w := range v.table.Weak {
		sites := map[string]bool{}
		for _, n := range w.Combiners {
			sites[server[fmt.Sprint("combiner", n)]] = true
		}
		for _, n := range w.Calculators {
			sites[server[fmt.Sprint("calculator", n)]] = true
		}
		if len(sites) == 1 {
			for site := range sites {
				say("%s, and all of them stand at one site, %s", w, site)
			}
		}
	}
	if v.Warnings == nil {
		v.Warnings = []string{}
	}
}

// Layer names a layer's machines.
func Layer(n uint64) string {
	if n == ledger.LayerCalculator {
		return "calculator"
	}
	return "combiner"
}

func person(s ledger.State, id string) string {
	if p, ok := s.Person(id); ok {
		return fmt.Sprintf("%s (%s)", p.Name, p.ID)
	}
	return id
}

func spki(k *ledger.Key) string {
	der, err := document.SPKI(&k.Public)
	if err != nil {
		return ""
	}
	return envelope.KeyIDOfSPKI(der).String()
}

// Lines say it to people, a line each.
func (v *View) Lines() []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	field := func(label, format string, args ...any) { say("%-13s%s", label, fmt.Sprintf(format, args...)) }
	field("enterprise", "%d, %s", v.Enterprise, v.Name)
	what := "revision " + fmt.Sprint(v.Revision)
	if v.Revision == 1 {
		what = "the first dealing"
	}
	if v.Created != 0 {
		what += ", of " + clock(v.Created)
	}
	field("dealing", "%s", what)
	primes := "ordinary primes"
	if v.Key.SafePrimes {
		primes = "safe primes"
	}
	field("key", "%s: %s, RSA %d, %s, %s, certifies for %d days at most", v.Key.ID, v.Key.Name, v.Key.Bits, primes, strings.Join(v.Key.Algorithms, " "), v.Key.MaxDays)
	if v.Key.SPKI != "" {
		field("", "SHA-256 of the public key %s", v.Key.SPKI)
	}
	for _, d := range v.Distributors {
		field("distributor", "%d: %s (%s)", d.Number, d.Server, d.Name)
	}
	field("operator", "%s", v.Operator)
	if v.Isolated != nil && *v.Isolated {
		field("isolated", "yes: the distributor's machine had no network")
	}
	if v.Reserve > 0 {
		field("reserve", "any %d of %d open it: %s", v.Opens, v.Reserve, strings.Join(v.Keepers, ", "))
	}
	for _, a := range v.Abandoned {
		if a.Created != 0 {
			field("counted", "revision %d of %s, given out and never entered, confirmed by %s", a.Revision, clock(a.Created), a.Operator)
		} else {
			field("counted", "revision %d, given out and never entered", a.Revision)
		}
		field("", "digest %s", a.Digest)
		if len(a.Machines) > 0 {
			field("", "dealt to %s", strings.Join(a.Machines, ", "))
		}
		if a.Again {
			field("", "all of it is given out again")
		} else if v.Created == 0 {
			field("", "keep its dealing.cbor until this is in the ledger, which then counts it for ever")
		}
	}
	for _, digest := range v.Counted {
		field("counted", "in the ledger: %s, given out and never entered", digest)
	}
	for _, w := range v.Warnings {
		field("WARNING", "%s", w)
	}
	say("\nMachines: any %d calculators sign with one combiner that serves them", v.Need)
	switch v.Spare {
	case 0:
		say("  no combiner may fail: then some calculators are served by none")
	case 1:
		say("  one combiner may fail, whichever it is")
	default:
		say("  %d combiners may fail, whichever they are", v.Spare)
	}
	for _, m := range v.Machines {
		holds := fmt.Sprintf("%d sub-keys", v.SubKeys)
		if m.Layer == "combiner" {
			holds = fmt.Sprintf("%d combinations", len(m.Combinations))
		}
		line := fmt.Sprintf("  %-10s %-4d %s (%s) at %s: %s, %d officers must approve", m.Layer, m.Number, m.Device, m.Name, m.Server, holds, m.Quorum)
		switch {
		case m.Dealt != nil && *m.Dealt && m.Version > 1:
			line += fmt.Sprintf("; gets a new share, version %d", m.Version)
		case m.Dealt != nil && *m.Dealt:
			line += "; gets its share"
		case m.Dealt != nil:
			line += "; keeps its share"
		}
		out = append(out, line)
		var officers []string
		for _, o := range v.Officers {
			if o.Device == m.Device {
				officers = append(officers, fmt.Sprintf("%s (%s, card %d, until %s)", o.Name, o.Person, o.Card, clock(o.Expires)[:10]))
			}
		}
		say("  %-15s officers %s", "", strings.Join(officers, ", "))
		for part := range slices.Chunk(m.Combinations, 6) {
			say("  %-15s %s", "", strings.Join(part, " "))
		}
	}
	say("\nWho learns what of the private exponent d, together")
	for line := range strings.Lines(v.table.String()) {
		out = append(out, "  "+strings.TrimRight(line, "\n"))
	}
	return out
}

func clock(unix int64) string { return time.Unix(unix, 0).UTC().Format("2006-01-02 15:04:05 UTC") }

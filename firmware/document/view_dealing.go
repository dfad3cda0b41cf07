package document

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// maxTable is for how many machines an officer is shown which coalitions are
// weak: the table of more takes too long for a device, and nobody reads it.
const maxTable = 10

// dealingView shows whom an authority in two layers belongs to, which machines
// hold it, who approves for it, and what changes. Row B3: which coalitions learn
// the key must be seen before anybody agrees.
func dealingView(v *View, s ledger.State, d *ledger.Dealing) {
	k := &d.Key
	old, revision := s.Enterprise(d.Enterprise.Code)
	if !revision {
		v.raw("effect", "brings a new certificate authority, shared in two layers")
	} else {
		v.raw("effect", fmt.Sprintf("replaces revision %d of a certificate authority shared in two layers", old.Revision))
	}
	v.text("enterprise", fmt.Sprintf("%d, %s", d.Enterprise.Code, d.Enterprise.Name))
	v.raw("revision", fmt.Sprint(d.Revision))
	// What was read aloud at the distributor: whoever carried the medium could
	// have exchanged it, for a dealing that another person's card confirmed.
	if digest, err := d.Digest(); err == nil {
		v.raw("digest of the dealing", digest.String())
	}
	v.text("key", fmt.Sprintf("%s, %s", k.ID, k.Name))
	v.raw("public key", fmt.Sprintf("RSA %d bits, exponent %d", k.Public.Bits(), k.Public.E))
	if spki, err := SPKI(&k.Public); err == nil {
		sum := sha256.Sum256(spki)
		v.raw("SHA-256 of the key", hex.EncodeToString(sum[:]))
	}
	if r, err := parseRoot(k.Certificate, k); err == nil {
		v.raw("root valid", "from "+formatTime(r.tbs.NotBefore), "until "+formatTime(r.tbs.NotAfter))
	}
	v.raw("certifies for", fmt.Sprintf("at most %d days, with %s", k.MaxDays, strings.Join(k.Algorithms, ", ")))
	v.raw("dealt", formatTime(d.Created))
	v.text("confirmed by", person(s, d.Operator))
	v.section("Machines")
	v.raw("needed", fmt.Sprintf("any %d calculators, and a combiner that serves them", k.T))
	var gone []string
	was := make(map[string]ledger.Holder)
	for _, h := range old.Key.Holders {
		was[h.Device] = h
		if _, ok := k.Machine(h.Layer, h.Index); !ok {
			gone = append(gone, machine(s, h))
		}
	}
	for _, h := range k.Holders {
		line := []string{machine(s, h), fmt.Sprintf("%d officers approve, %d of %d pieces open the share", h.Quorum, h.Threshold, h.Pieces)}
		before, ok := was[h.Device]
		switch {
		case revision && !ok:
			line = append(line, "new")
		case revision && before.Version != h.Version:
			line = append(line, fmt.Sprintf("its share is dealt again, as version %d", h.Version))
		}
		for _, o := range d.Officers {
			if o.Device == h.Device {
				line = append(line, fmt.Sprintf("%s %s, card %d, until %s", o.Class, person(s, o.Person), o.Card, formatTime(o.Expires)))
			}
		}
		v.text(fmt.Sprintf("%s %d", layerOf(h), h.Index), line...)
		if row, ok := s.Device(h.Device); ok && row.Unattended {
			v.warn("device %s is unattended: it opens itself, without officers", Escape(h.Device))
		}
	}
	if gone != nil {
		v.text("taken away, for good", gone...)
	}
	var distributors []string
	for _, x := range d.Distributors {
		distributors = append(distributors, fmt.Sprintf("%d: server %s", x.Number, x.Server))
	}
	v.text("task distributors", distributors...)
	if d.Isolated {
		v.raw("dealt off line", "yes, as far as the distributor's machine could tell")
	} else {
		v.warn("the distributor's machine had a network when it dealt: whoever was in it has the whole key")
	}
	reserveView(v, s, d.Reserve)
	countedView(v, s, d)
	v.section("Who learns the key")
	groupingView(v, &k.Layers.Grouping)
}

// reserveView shows who has the whole key beside the machines.
func reserveView(v *View, s ledger.State, r *ledger.Reserve) {
	if r == nil {
		v.raw("reserve", "none: machines can be lost, and never added")
		return
	}
	lines := []string{fmt.Sprintf("all secrets, encrypted: any %d of %d persons open it, and then have the key:", r.Need, len(r.Keepers))}
	for _, k := range r.Keepers {
		lines = append(lines, fmt.Sprintf("%s, card %d", person(s, k.Person), k.Card))
	}
	v.text("reserve", lines...)
}

// countedView shows which dealings were given out and never entered, as the
// operator says: those that this one tells the ledger of, and those that it knows.
func countedView(v *View, s ledger.State, d *ledger.Dealing) {
	for _, c := range d.Counted {
		v.text("counted", countedLines(s, d, &c)...)
	}
	for _, c := range s.Counted(d.Enterprise.Code) {
		v.raw("counted before", fmt.Sprintf("dealing %v, revision %d, never entered", c.Dealing, c.Revision))
	}
}

func countedLines(s ledger.State, d *ledger.Dealing, c *ledger.Counted) []string {
	lines := []string{fmt.Sprintf("dealing %v, revision %d, never entered, given to devices:", c.Dealing, c.Revision)}
	for _, m := range s.Given(d.Enterprise.Code, c) {
		h := ledger.Holder{Layer: m.Layer, Index: m.Number}
		line := fmt.Sprintf("%s, as %s %d", m.Device, layerOf(h), m.Number)
		if row, ok := s.Device(m.Device); ok {
			line = fmt.Sprintf("%s, %s, as %s %d", m.Device, row.Name, layerOf(h), m.Number)
		}
		if now, ok := d.Key.Machine(m.Layer, m.Number); !ok || now.Device != m.Device {
			line += ", which is no machine of this dealing"
		}
		lines = append(lines, line)
	}
	if len(lines) == 1 {
		lines[0] = fmt.Sprintf("dealing %v, revision %d, never entered, gave out nothing but what this one does", c.Dealing, c.Revision)
	}
	return lines
}

func groupingView(v *View, g *grouping.Grouping) {
	v.raw("alone", fmt.Sprintf("a combiner with fewer than %d calculators learns nothing, nor do all combiners, nor do all calculators", g.T))
	var uncovered *grouping.UncoveredError
	if errors.As(g.Check(), &uncovered) {
		v.warn("calculators %s are enough by number, yet no combiner serves them: what was lost is missed", strings.Join(numbers(uncovered.Calculators), ", "))
	}
	if n := len(g.Calculators) + len(g.Combiners); n > maxTable {
		v.raw("coalitions", fmt.Sprintf("of several combiners with calculators among %d machines: see the distributor's table", n))
		return
	}
	var weak []string
	for _, w := range g.Table().Weak {
		weak = append(weak, w.String())
	}
	if weak == nil {
		weak = []string{fmt.Sprintf("none with fewer than %d calculators", g.T)}
	}
	v.raw("coalitions that do", weak...)
}

func numbers(in []uint64) []string {
	var out []string
	for _, n := range in {
		out = append(out, fmt.Sprint(n))
	}
	return out
}

func layerOf(h ledger.Holder) string {
	if h.Layer == ledger.LayerCombiner {
		return "combiner"
	}
	return "calculator"
}

func machine(s ledger.State, h ledger.Holder) string {
	d, _ := s.Device(h.Device)
	return fmt.Sprintf("%s %d: device %s, %s, share %s", layerOf(h), h.Index, h.Device, d.Name, h.Share)
}

func person(s ledger.State, id string) string {
	p, _ := s.Person(id)
	return fmt.Sprintf("%s (%s)", p.Name, id)
}

package ledger

import (
	"bytes"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// Copies, so that no caller can change a State through what it was given. A public value that is copied by every lookup costs
// microseconds; a table that changes under a verification could cost the system.

func cloneAll[T any](in []T, clone func(T) T) []T {
	if in == nil {
		return nil
	}
	out := make([]T, len(in))
	for i, v := range in {
		out[i] = clone(v)
	}
	return out
}

func (g Genesis) clone() Genesis {
	g.Ceremony = g.Ceremony.clone()
	g.Servers = cloneAll(g.Servers, Server.clone)
	g.Devices = cloneAll(g.Devices, Device.clone)
	g.Persons = cloneAll(g.Persons, Person.clone)
	g.Officers = cloneAll(g.Officers, Officer.clone)
	g.Models = cloneAll(g.Models, Model.clone)
	g.Keys = cloneAll(g.Keys, Key.clone)
	g.Sources = cloneAll(g.Sources, Source.clone)
	return g
}

func (c Ceremony) clone() Ceremony {
	c.Witnesses = slices.Clone(c.Witnesses)
	return c
}

func (s Server) clone() Server {
	s.Sign, s.Agree = bytes.Clone(s.Sign), bytes.Clone(s.Agree)
	return s
}

func (d Device) clone() Device {
	d.Sign, d.Agree, d.Boot = bytes.Clone(d.Sign), bytes.Clone(d.Agree), bytes.Clone(d.Boot)
	d.SignCert, d.AgreeCert = cloneAll(d.SignCert, bytes.Clone), cloneAll(d.AgreeCert, bytes.Clone)
	d.Heartbeat = d.Heartbeat.clone()
	return d
}

func (h *Heartbeat) clone() *Heartbeat {
	if h == nil {
		return nil
	}
	c := *h
	c.Sources = slices.Clone(h.Sources)
	return &c
}

func (s Source) clone() Source {
	s.Sign, s.Agree = bytes.Clone(s.Sign), bytes.Clone(s.Agree)
	s.Operators = slices.Clone(s.Operators)
	return s
}

func (p Person) clone() Person {
	p.Cards = cloneAll(p.Cards, Card.clone)
	p.Software = bytes.Clone(p.Software)
	return p
}

func (c Card) clone() Card {
	c.Sign, c.Agree = bytes.Clone(c.Sign), bytes.Clone(c.Agree)
	c.AttestSign, c.AttestAgree = bytes.Clone(c.AttestSign), bytes.Clone(c.AttestAgree)
	c.Intermediate = bytes.Clone(c.Intermediate)
	return c
}

func (o Officer) clone() Officer {
	o.Keys = slices.Clone(o.Keys)
	return o
}

func (m Model) clone() Model {
	m.Root = bytes.Clone(m.Root)
	return m
}

func (k Key) clone() Key {
	k.Public.N = bytes.Clone(k.Public.N)
	k.Algorithms = slices.Clone(k.Algorithms)
	k.Certificate = bytes.Clone(k.Certificate)
	k.Commitment.G = bytes.Clone(k.Commitment.G)
	k.Commitment.V = slices.Clone(k.Commitment.V)
	for i := range k.Commitment.V {
		k.Commitment.V[i].Value = bytes.Clone(k.Commitment.V[i].Value)
	}
	k.Holders = slices.Clone(k.Holders)
	if k.Layers != nil {
		l := *k.Layers
		l.H, l.V = bytes.Clone(l.H), cloneAll(l.V, bytes.Clone)
		l.Grouping.Calculators = slices.Clone(l.Grouping.Calculators)
		l.Grouping.Combiners = cloneAll(l.Grouping.Combiners, cloneGroup)
		k.Layers = &l
	}
	return k
}

func cloneGroup(g grouping.Group) grouping.Group {
	g.Combinations = cloneAll(g.Combinations, slices.Clone)
	return g
}

func (d Dealing) clone() Dealing {
	d.Key = d.Key.clone()
	d.Distributors = slices.Clone(d.Distributors)
	d.Officers = cloneAll(d.Officers, Officer.clone)
	if d.Reserve != nil {
		d.Reserve = &Reserve{Need: d.Reserve.Need, Keepers: slices.Clone(d.Reserve.Keepers)}
	}
	d.Confirmation = bytes.Clone(d.Confirmation)
	d.Counted = cloneAll(d.Counted, Counted.clone)
	return d
}

package firmwaretest

import (
	"crypto/rand"
	"crypto/x509"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/share"
)

// Unattended lets the devices of a ledgertest system unlock themselves, as
// those of Commissioned do.
func Unattended(g *ledger.Genesis) {
	for i := range g.Devices {
		g.Devices[i].Unattended, g.Devices[i].UnlockQuorum = true, 0
	}
}

// Commissioned is a device of a ledgertest system that is Unattended: the
// interpreter before a real token, with the identity keys of that system, which
// are in software. It went through no ceremony, but its journal says so; the
// shares of the genesis are not in its token.
func Commissioned(t testing.TB, s *ledgertest.System, id string, now func() time.Time, options ...Option) *Device {
	t.Helper()
	return commissioned(t, s, id, now, nil, options...)
}

// Attended is Commissioned for a device of a system that is not Unattended: its
// officers hold its PIN in pieces, and it starts locked.
func Attended(t testing.TB, s *ledgertest.System, id string, now func() time.Time, options ...Option) *Device {
	t.Helper()
	return commissioned(t, s, id, now, func(d *Device, p *ceremony.Pending) {
		pin, err := share.NewPIN(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		defer pin.Wipe()
		var officers []ceremony.Custodian
		for _, o := range s.State.OfficersOf(id, s.Now) {
			officers = append(officers, ceremony.Custodian{
				ID: ceremony.PieceID(share.PurposePIN, id, "", o.Person), Person: o.Person, Agree: ledgertest.SPKI(t, s.Persons[o.Person].Card().Agree.PublicKey()),
			})
		}
		row, _ := s.State.Device(id)
		if p.Pieces, err = ceremony.Cut(rand.Reader, share.PurposePIN, id, "", pin.Reveal(), int(row.UnlockQuorum), officers); err != nil {
			t.Fatal(err)
		}
		p.PIN = share.PINCheck(pin)
		// As after a crash in the commissioning: Restart sets it.
		if err := d.cfg.Token.PutObject(ceremony.PINObject, 1, pin.Reveal()); err != nil {
			t.Fatal(err)
		}
	}, options...)
}

func commissioned(t testing.TB, s *ledgertest.System, id string, now func() time.Time, before func(*Device, *ceremony.Pending), options ...Option) *Device {
	t.Helper()
	keys := s.Devices[id]
	boot, err := x509.MarshalPKIXPublicKey(keys.Boot.Public())
	if err != nil {
		t.Fatal(err)
	}
	identity := func(c *firmware.Config) {
		c.Local.Sign, c.Local.Agree, c.Local.Boot, c.Agree, c.Boot = keys.Sign, keys.Agree.PublicKey(), boot, keys.Agree, keys.Boot
	}
	d := NewMaker(t).New(t, id, now, append([]Option{identity}, options...)...)
	p := ceremony.Pending{Genesis: s.Bundle.Genesis}
	if before != nil {
		before(d, &p)
	}
	bundle, err := envelope.Marshal(s.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	pending, err := envelope.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	d.record(t, s.Genesis.Created, "prepared", pending)
	d.record(t, s.Genesis.Created, "commissioned", bundle)
	d.Restart(t)
	return d
}

// record appends a record to the journal, as if the device had.
func (d *Device) record(t testing.TB, at int64, kind string, body []byte) {
	t.Helper()
	r := firmware.Record{Kind: kind, At: at, Body: body}
	if n := len(d.Journal); n > 0 {
		r.Prev = envelope.HashOf("privyseal device record", d.Journal[n-1])
	}
	raw, err := envelope.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	d.Journal = append(d.Journal, raw)
}

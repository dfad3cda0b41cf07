package firmwaretest

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
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
	keys := s.Devices[id]
	boot, err := x509.MarshalPKIXPublicKey(keys.Boot.Public())
	if err != nil {
		t.Fatal(err)
	}
	identity := func(c *firmware.Config) {
		c.Local.Sign, c.Local.Agree, c.Local.Boot, c.Agree, c.Boot = keys.Sign, keys.Agree.PublicKey(), boot, keys.Agree, keys.Boot
	}
	d := NewMaker(t).New(t, id, now, append([]Option{identity}, options...)...)
	bundle, err := envelope.Marshal(s.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	pending, err := envelope.Marshal(ceremony.Pending{Genesis: s.Bundle.Genesis})
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

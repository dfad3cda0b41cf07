package ledgertest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// manyOfDevice is how many persons of [WithManyPersons] are there for each device: with its two officers as many as a device may have.
const manyOfDevice = ledger.MaxOfficersOfDevice - 2

// WithManyPersons adds persons with long ids, for ledgers that grow long ([System.Long]).
func WithManyPersons() Option {
	return func(g *ledger.Genesis) {
		for i := 1; i <= Devices; i++ {
			for j := range manyOfDevice {
				id := longID(i, j)
				p, err := newPair(id)
				if err != nil {
					panic(err) // of a fixed hash
				}
				g.Persons = append(g.Persons, ledger.Person{ID: id, Name: id, Cards: []ledger.Card{{
					Serial: uint32(10_000*i + j), Model: "Software card", Sign: spki(p.Sign.Public()), Agree: spki(p.Agree.PublicKey()),
				}}})
			}
		}
	}
}

func longID(device, n int) string {
	id := fmt.Sprintf("officer-%d-%d-", device, n)
	return id + strings.Repeat("x", 64-len(id))
}

// Long enters n revisions of an authority, each an entry of more than 32 KiB, and returns the entries, encoded. The officers of
// [WithManyPersons] are the bulk of them. They are folded into s.State.
func (s *System) Long(t testing.TB, n int) [][]byte {
	t.Helper()
	d := s.Deal(t, SmallPlan(3)).Dealing
	d.Key.Holders = slices.Clone(d.Key.Holders)
	for i := range d.Key.Holders {
		h := &d.Key.Holders[i]
		h.Pieces += manyOfDevice
		var device int
		if _, err := fmt.Sscanf(h.Device, "device-%d", &device); err != nil {
			t.Fatal(err)
		}
		for j := range manyOfDevice {
			d.Officers = append(d.Officers, ledger.Officer{
				Person: longID(device, j), Card: uint32(10_000*device + j), Device: h.Device, Class: ledger.ClassOfficer,
				Expires: Epoch + 10*365*86400, Keys: []string{d.Key.ID},
			})
		}
	}
	var entries [][]byte
	for range n {
		s.Confirm(t, &d)
		a := &Authority{Dealing: d}
		s.Enter(t, a)
		raw, err := envelope.Marshal(&a.Entry)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, raw)
		d.Revision++
	}
	return entries
}

package ceremony_test

import (
	"bytes"
	"testing"

	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// TestBuildGenesis: everyone who verified the same roster computes the same
// bytes, and any fact that was agreed on changes them.
func TestBuildGenesis(t *testing.T) {
	r := newRoom(t)
	last := &r.plan.Devices[1]
	last.Unattended = true
	l := r.locals["d1"] // "auto"
	l.InToken = false
	r.locals["d1"] = l
	o, open := r.open(t)
	x := r.roster(t, o, open)
	raw := sign(t, r.cards[1].PrivateKey, ceremony.TypeRoster, x)
	keys := ledgertest.Unsigned(t).Genesis.Keys
	build := func(raw []byte, keys []ledger.Key, created int64) (ledger.Genesis, []byte) {
		t.Helper()
		// A verified opening of its own, as each device has.
		o, err := ceremony.VerifyOpen(open, now)
		if err != nil {
			t.Fatal(err)
		}
		v, err := ceremony.VerifyRoster(o, raw, now)
		if err != nil {
			t.Fatal(err)
		}
		g := ceremony.BuildGenesis(v, keys, created)
		b, err := envelope.Marshal(g)
		if err != nil {
			t.Fatal(err)
		}
		return g, b
	}
	g, base := build(raw, keys, now+60)
	if _, again := build(bytes.Clone(raw), keys, now+60); !bytes.Equal(again, base) {
		t.Fatal("the same roster and keys, another genesis")
	}
	x2 := *x
	x2.Identities = append([][]byte{}, x.Identities...)
	x2.Identities[2] = alter(t, r.signs["d3"], x.Identities[2], func(id *ceremony.Identity) {
		id.Boot = ledgertest.SPKI(t, ledgertest.NewSigner(t, "another boot key").Public())
	})
	for name, other := range map[string][]byte{
		"time": second(build(raw, keys, now+61)),
		"keys": second(build(raw, []ledger.Key{keys[1], keys[0], keys[2]}, now+60)),
		"boot": second(build(sign(t, r.cards[1].PrivateKey, ceremony.TypeRoster, &x2), keys, now+60)),
	} {
		if bytes.Equal(other, base) {
			t.Errorf("%s: the same genesis", name)
		}
	}

	if c := g.Ceremony; c.File != r.plan.File || c.Attempt != 1 || c.Administrator != "admin" || c.AdminKey != envelope.KeyIDOfSPKI(r.cards[1].Describe().Sign) || c.NotBefore != now {
		t.Errorf("ceremony: %+v", c)
	}
	for i, want := range []struct {
		inToken, unattended bool
		quorum              uint64
	}{{false, false, 2}, {false, true, 0}, {true, false, 2}} {
		d := g.Devices[i]
		if d.InToken != want.inToken || d.Unattended != want.unattended || d.UnlockQuorum != want.quorum {
			t.Errorf("device %s: in token %t, unattended %t, unlock quorum %d", d.ID, d.InToken, d.Unattended, d.UnlockQuorum)
		}
	}
	if len(g.Officers) != 6 {
		t.Fatalf("%d officers", len(g.Officers))
	}
	for _, f := range g.Officers {
		if f.Expires != now+60+365*86400 || len(f.Keys) != 3 {
			t.Errorf("officer %s: until %d, for %q", f.Person, f.Expires, f.Keys)
		}
	}
	if p := g.Persons[len(g.Persons)-1]; p.ID != "robot" || len(p.Cards) != 0 || len(p.Software) == 0 {
		t.Errorf("the program: %+v", p)
	}
}

func second[A, B any](_ A, b B) B { return b }

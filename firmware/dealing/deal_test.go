package dealing_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/dealing"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// TestDeal deals with a key made on the spot, as the program does, and looks at
// all that comes out with the eyes of those who get it.
func TestDeal(t *testing.T) {
	r := newRig(t, 8)
	p := r.plan()
	var said []string
	out, err := dealing.Deal(r.inputs(), r.State, p, r.invite(p), func(s string) { said = append(said, s) })
	r.check(err)
	k := &out.Dealing.Key
	if err := ledger.CheckDealing(r.State, &out.Dealing, r.now); err == nil {
		t.Error("the ledger takes what nobody confirmed")
	}
	if err := out.Confirm(rand.Reader, r.now, r.State, r.Persons["officer-1a"].Card().Sign); err == nil {
		t.Error("somebody else confirmed")
	}
	r.check(out.Confirm(rand.Reader, r.now, r.State, r.Persons[p.Operator].Card().Sign))
	r.enter(&out.Dealing)
	if d, ok := r.State.Enterprise(7); !ok || d.Revision != 1 || !d.Isolated || d.Reserve == nil || d.Reserve.Need != 2 || len(d.Reserve.Keepers) != 3 || d.Reserve.Keepers[2] != (ledger.Keeper{Person: ledgertest.Requester, Card: 92}) || d.Key.ID != keyID {
		t.Errorf("in the ledger: %+v, %t", d, ok)
	}
	root, err := x509.ParseCertificate(k.Certificate)
	r.check(err)
	if err := root.CheckSignatureFrom(root); err != nil || root.Subject.String() != "CN=Example Bank CA,O=Example Bank" || root.SignatureAlgorithm != x509.SHA256WithRSAPSS {
		t.Errorf("root %s: %v", root.Subject, err)
	}
	if !slices.Contains(said, "making a key") || !slices.ContainsFunc(said, func(s string) bool { return strings.HasPrefix(s, "test signatures: 1 of ") }) {
		t.Errorf("progress %q", said)
	}
	if len(out.Sealed) != 5 {
		t.Fatalf("%d sealed shares", len(out.Sealed))
	}
	r.install(out)
	r.signs(*k)
	for _, h := range k.Holders[1:] {
		if _, err := r.open(out, h.Device, r.oneTime[k.Holders[0].Device]); err == nil {
			t.Errorf("the share of %s opens with another's key", h.Device)
		}
	}
	// Nothing of a share lies open in what leaves the distributor.
	everything, err := envelope.Marshal(&out.Dealing)
	r.check(err)
	everything = append(everything, out.Reserve...)
	for _, s := range out.Sealed {
		everything = append(everything, s...)
	}
	for _, h := range k.Holders {
		for i, part := range r.opened(out, h.Device).Parts {
			if secret := bytes.TrimLeft(part.Reveal(), "\x00"); bytes.Contains(everything, secret[:16]) {
				t.Errorf("part %d of %s lies open", i, h.Device)
			}
		}
	}
	if text, _ := json.Marshal(out); bytes.Contains(text, []byte("Parts")) {
		t.Error("a result has shares in JSON")
	}
	if out.Wipe(); out.Sealed != nil || out.Reserve != nil {
		t.Error("not wiped")
	}
}

// TestExtend adds machines of the reserve, twice, then takes some away without
// it, and adds again, and at every step all that the grouping promises signs.
func TestExtend(t *testing.T) {
	r := newRig(t, 9)
	p := r.plan()
	first := r.deal(p)
	r.install(first)
	r.enter(&first.Dealing)
	extend := func(p *dealing.Plan, reserve []byte, keepers ...string) *dealing.Result {
		t.Helper()
		r.officers(p)
		r.now += 100
		invitations := r.invite(p)
		out, err := dealExtension(r.inputs(), r.State, p, invitations, reserve, r.pieces(reserve, keepers...), nil)
		r.check(err)
		r.check(out.Confirm(rand.Reader, r.now, r.State, r.Persons[p.Operator].Card().Sign))
		r.install(out)
		if string(out.Dealing.Key.Public.N) != string(first.Dealing.Key.Public.N) {
			t.Error("another key")
		}
		r.enter(&out.Dealing)
		r.signs(out.Dealing.Key)
		return out
	}
	p.Calculators = append(p.Calculators, machines(4, "device-6")...)
	p.Combiners = append(p.Combiners, machines(3, "device-7")...)
	second := extend(p, first.Reserve, "officer-2a", "requester")
	if second.Dealing.Revision != 2 || second.Sealed["device-1"] != nil || second.Sealed["device-6"] == nil || second.Sealed["device-7"] == nil {
		t.Errorf("revision %d, sealed for %d", second.Dealing.Revision, len(second.Sealed))
	}
	// The reserve before has not what the ledger has; the newest does.
	p.Redundant = 6
	p.Combiners = append(p.Combiners, machines(4, "device-8")...)
	r.officers(p)
	_, err := dealExtension(r.inputs(), r.State, p, r.invite(p), first.Reserve, r.pieces(first.Reserve, "officer-2a", "requester"), nil)
	wants(t, err, "made before", "take the newest")
	third := extend(p, second.Reserve, "officer-1a", "officer-2a")

	// Away with a calculator and a combiner: nobody's reserve and no invitation is
	// needed, and the reserve there is stays good.
	p.Calculators, p.Combiners = p.Calculators[1:], p.Combiners[1:]
	keepers := p.Reserve
	p.Reserve, p.KeepReserve = nil, true
	r.officers(p)
	fourth, err := dealExtension(r.inputs(), r.State, p, nil, nil, nil, nil)
	r.check(err)
	if len(fourth.Sealed) != 0 || fourth.Reserve != nil || fourth.Dealing.Reserve == nil || len(fourth.Dealing.Reserve.Keepers) != 3 {
		t.Errorf("%d sealed, reserve %t, %v", len(fourth.Sealed), fourth.Reserve != nil, fourth.Dealing.Reserve)
	}
	r.check(fourth.Confirm(rand.Reader, r.now, r.State, r.Persons[p.Operator].Card().Sign))
	r.enter(&fourth.Dealing)
	r.signs(fourth.Dealing.Key)
	p.Reserve, p.KeepReserve = keepers, false
	p.Combiners = append(p.Combiners, machines(5, "device-9")...)
	if fifth := extend(p, third.Reserve, "officer-1a", "requester"); fifth.Dealing.Revision != 5 {
		t.Errorf("revision %d", fifth.Dealing.Revision)
	}
	// Who was there never comes back: he still knows what he was dealt.
	p.Combiners = append(p.Combiners, machines(6, "device-4")...)
	r.officers(p)
	_, err = dealing.Draft(r.inputs(), r.State, p, nil)
	wants(t, err, "device-4", "still knows what it was dealt")
	// Nor does a number, or the number of a distributor at another server.
	p.Combiners = p.Combiners[:len(p.Combiners)-1]
	p.Calculators = append(machines(1, "device-5"), p.Calculators...)
	r.officers(p)
	_, err = dealing.Draft(r.inputs(), r.State, p, nil)
	wants(t, err, "device-5 is calculator 1 already")
	p.Calculators = p.Calculators[1:]
	p.Distributors[0].Server = "server-2"
	r.officers(p)
	_, err = dealing.Draft(r.inputs(), r.State, p, nil)
	wants(t, err, "distributor 1", "server-1")
}

// TestDealAgain gives machines that are there new shares: where officers change,
// whose pieces open them, and where a device lost its own.
func TestDealAgain(t *testing.T) {
	r := newRig(t, 7)
	p := r.plan()
	first := r.deal(p)
	r.install(first)
	r.enter(&first.Dealing)
	p.Officers[0].Person = "officer-6a" // in the place of officer-1a at device-1
	p.Combiners[1].Again = true
	r.now += 100
	d, err := dealing.Prepare(r.inputs(), r.State, p, [][]byte{r.invitation("device-1", nil), r.invitation("device-5", nil)}, nil)
	r.check(err)
	out, err := d.Extend(r.inputs(), first.Reserve, r.pieces(first.Reserve, "officer-1a", "officer-2a"), nil)
	r.check(err)
	r.check(out.Confirm(rand.Reader, r.now, r.State, r.Persons[p.Operator].Card().Sign))
	if len(out.Sealed) != 2 || out.Sealed["device-1"] == nil || out.Sealed["device-5"] == nil {
		t.Errorf("%d sealed", len(out.Sealed))
	}
	for device, version := range map[string]uint64{"device-1": 2, "device-2": 1, "device-4": 1, "device-5": 2} {
		for _, h := range out.Dealing.Key.Holders {
			if h.Device == device && h.Version != version {
				t.Errorf("%s: version %d", device, h.Version)
			}
		}
	}
	r.install(out)
	r.enter(&out.Dealing)
	r.signs(out.Dealing.Key)
	// Without a new reserve nothing is dealt, to nobody.
	p.Reserve, p.KeepReserve = nil, true
	_, err = dealing.Draft(r.inputs(), r.State, p, nil)
	wants(t, err, "combiners.1", "device-5 would get a new share")
	p.Combiners[1].Again, p.Officers[2].Person = false, "officer-6b"
	_, err = dealing.Draft(r.inputs(), r.State, p, nil)
	wants(t, err, "calculators.1", "device-2 would get a new share")
}

// TestSpare: a plan may ask that a combiner can fail, and the one that is dealt
// can.
func TestSpare(t *testing.T) {
	r := newRig(t, 7)
	p := r.plan()
	p.Spare, p.Redundant = 1, 0
	out := r.deal(p)
	g := &out.Dealing.Key.Layers.Grouping
	for _, c := range g.Combiners {
		left, err := g.Without(nil, []uint64{c.Number})
		r.check(err)
		r.check(left.Check())
	}
	// B's sizes with as few sub-keys as possible leave weak coalitions, of which the
	// operator is told the remedy.
	p = r.plan()
	d, err := dealing.Draft(r.inputs(), r.State, p, nil)
	r.check(err)
	advised := slices.ContainsFunc(d.Warnings, func(w string) bool { return strings.Contains(w, "sub_keys: 3") })
	if weak := len(d.Grouping.Table().Weak) > 0; weak != advised {
		t.Errorf("weak coalitions: %t, %q", weak, d.Warnings)
	}
	p.SubKeys = 3
	p.Resist = dealing.Resist{Combiners: 2, Calculators: 1}
	d, err = dealing.Draft(r.inputs(), r.State, p, nil)
	r.check(err)
	if len(d.Grouping.Table().Weak) > 0 || len(d.Warnings) > 0 {
		t.Errorf("%v, %q", d.Grouping.Table(), d.Warnings)
	}
	p.Spare = 2
	_, err = dealing.Draft(r.inputs(), r.State, p, nil)
	wants(t, err, "spare", "one has to be left")
}

// wants looks for words in an error.
func wants(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error where %q is expected", words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v\ndoes not say %q", err, w)
		}
	}
}

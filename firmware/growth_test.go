package firmware_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/firmwaretest"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/hsm"
)

// grownPlan is a SmallPlan with a fourth calculator, device-6.
func grownPlan(t *testing.T, code uint64) ledgertest.Plan {
	t.Helper()
	p := ledgertest.SmallPlan(code)
	p.Grouping = grouping.Grouping{T: 2, L: 2, Calculators: []uint64{1, 2, 3, 4}, Combiners: []grouping.Group{
		ledgertest.Group(1, "11,21", "12,31", "22,32", "31,42"),
		ledgertest.Group(2, "12,22", "11,32", "21,31", "21,41", "11,42"),
	}}
	p.Calculators = append(p.Calculators, "device-6")
	if err := p.Grouping.Check(); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestGrowth: an authority grows, and loses a machine, while it works. What was
// begun before is finished with the shares it was begun with.
func TestGrowth(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.WithDevices(7))
	a := w.authority(1)
	machine := func(id, want string) {
		t.Helper()
		if got := w.machine(id, 1); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
	combine := func(x *task, powers ...[]byte) error {
		t.Helper()
		c, _, err := w.combine("device-4", x.combine("device-4", powers...))
		if err == nil {
			_, err = x.r.checked.Assemble(c.Signatures[0])
		}
		return err
	}
	// One with powers, one with approvals, one with an offer only.
	first := w.begin(a, "first", "device-1", "device-2", "device-4")
	powers := w.mustPowers(first, "device-1", "device-2")
	second := w.begin(a, "second", "device-1", "device-3", "device-4")
	third := w.begin(a, "third", "device-2", "device-3")
	asked, err := w.offer("device-4", third.r)
	w.check(err)

	plan := grownPlan(t, 1)
	b := w.DealNext(t, a, plan)
	w.installAll(b)
	machine("device-4", "ready 1, pending 2")
	machine("device-6", "pending 1")
	machine("device-1", "ready 1") // dealt nothing
	w.check(combine(second, w.mustPowers(second, "device-1", "device-3")...))

	w.enter(b)
	machine("device-4", "superseded 1, ready 2")
	machine("device-5", "ready 2") // nothing was begun there
	machine("device-6", "ready 1")
	w.check(combine(first, powers...))
	w.check(combine(second, w.mustPowers(second, "device-1", "device-3")...))
	// The offer is repeated with the pieces of its share; approvals come now.
	repeated, err := w.offer("device-4", third.r)
	w.check(err)
	if repeated.Digest() != asked.Digest() || !slices.EqualFunc(repeated.pieces, asked.pieces, func(x, y sealedPiece) bool { return x.ID == y.ID }) {
		t.Error("another offer, or other pieces")
	}
	third.offers["device-4"], third.approvals["device-4"] = repeated, w.approve(third.r, repeated)
	w.check(combine(third, w.mustPowers(third, "device-2", "device-3")...))

	// New work uses the new share: combiner 1 serves (3, 4), which it did not.
	w.mustSign(b, "fourth", [2]string{"device-3", "device-6"}, "device-4")
	w.mustSign(b, "fifth", [2]string{"device-1", "device-6"}, "device-5")

	// The old share goes with the last request that was begun with it.
	object := func(i uint64) error { _, _, err := w.devices["device-4"].Token.GetObject(slot(i)); return err }
	w.check(object(0))
	w.Now += 24 * 3600
	machine("device-4", "ready 2")
	if err := object(0); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("the old share's object: %v", err)
	}
	w.mustSign(b, "sixth", [2]string{"device-3", "device-6"}, "device-4")
	w.devices["device-4"].Restart(t)
	machine("device-4", "ready 2")

	// A calculator is taken away: its combinations go, the others move up, and no
	// share is dealt.
	last := w.begin(b, "seventh", "device-1", "device-2", "device-3", "device-4")
	gone := w.mustPowers(last, "device-1", "device-2", "device-3")
	c := w.DealNext(t, b, plan.Without([]uint64{1}, nil))
	w.enter(c)
	machine("device-1", "superseded 1")
	_, err = w.offer("device-1", w.request(c, "eighth", threshold.RS256))
	w.want("no machine any more", err, firmware.CodeShare, "holds no share of key ca-1")
	_, _, err = w.powers("device-1", last.powers("device-1"))
	w.want("no machine any more", err, firmware.CodeShare, "holds no share of key ca-1")
	w.want("powers of what is gone", combine(last, gone[0], gone[1]), firmware.CodeMessage, "powers of 1 calculators")
	stranger := w.lie(gone[1], "device-7", func(*firmware.Powers) {})
	w.want("powers of what never was", combine(last, stranger, gone[1], gone[2]), firmware.CodePartial, "device-7: it is no calculator")
	w.check(combine(last, gone...)) // the others do
	for _, combiner := range []string{"device-4", "device-5"} {
		for _, pair := range [][2]string{{"device-2", "device-3"}, {"device-2", "device-6"}, {"device-3", "device-6"}} {
			if serves(c, combiner, pair) {
				w.mustSign(c, combiner+pair[0]+pair[1], pair, combiner)
			}
		}
	}
	w.Now += 24 * 3600
	machine("device-1", "")
}

// serves reports whether a combiner has a combination of two calculators.
func serves(a *ledgertest.Authority, combiner string, pair [2]string) bool {
	number := func(device string) uint64 {
		i := slices.IndexFunc(a.Dealing.Key.Holders, func(h ledger.Holder) bool { return h.Device == device })
		return a.Dealing.Key.Holders[i].Index
	}
	g := &a.Dealing.Key.Layers.Grouping
	return len(g.Match(number(combiner), []uint64{number(pair[0]), number(pair[1])})) > 0
}

// TestGrowthWithALock: a lock ends what was begun, and with it the old share.
func TestGrowthWithALock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.WithDevices(7))
	a := w.authority(1)
	x := w.begin(a, "first", "device-1", "device-2", "device-4")
	b := w.DealNext(t, a, grownPlan(t, 1))
	w.installAll(b)
	w.enter(b)
	w.devices["device-4"].Restart(t)
	_, _, err := w.combine("device-4", x.combine("device-4", w.mustPowers(x, "device-1", "device-2")...))
	w.want("restarted", err, firmware.CodeOffer, "no one-time key")
	if got := w.machine("device-4", 1); got != "ready 2" {
		t.Errorf("device-4: %q", got)
	}
	w.agree(x, "device-4")
	_, _, err = w.combine("device-4", x.combine("device-4", w.mustPowers(x, "device-1", "device-2")...))
	w.check(err)
}

// TestEnterprises: two on the same devices share nothing: officers, pieces,
// numbers, packets and keys are each one's own.
func TestEnterprises(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.authority(1)
	b := w.Deal(t, ledgertest.SmallPlan(2))
	// Its officers are others: those of the next device.
	for i := range b.Dealing.Officers {
		o := &b.Dealing.Officers[i]
		next := map[byte]byte{'1': '2', '2': '3', '3': '4', '4': '5', '5': '1'}[o.Device[7]]
		o.Person = "officer-" + string(next) + o.Person[9:]
		o.Card = w.Persons[o.Person].Card().Serial
	}
	b.Dealing.Distributors = []ledger.Distributor{{Number: 1, Server: "server-3"}}
	w.Confirm(t, &b.Dealing)
	w.installAll(b)
	w.enter(b)

	x, y := w.begin(a, "www.example.org", "device-1", "device-2", "device-4"), &task{offers: map[string]*offer{}, approvals: map[string][][]byte{}}
	y.r = w.request(b, "www.example.com", threshold.RS256)
	for _, id := range []string{"device-1", "device-2", "device-4"} {
		w.agree(y, id)
	}
	packet := func(server string, code, number uint64, r *request) []byte {
		return w.distributionBy(server, firmware.Distribution{
			Enterprise: code, Distributor: 1, Task: number, Request: r.digest, Hash: r.checked.Digest(), Documents: 1, Created: w.Now, Expires: w.Now + 60,
		}, r.Key)
	}
	// The same number of the same distributor's number serves both.
	x.distribution, y.distribution = packet("server-1", 1, 5, x.r), packet("server-3", 2, 5, y.r)
	px, py := w.mustPowers(x, "device-1", "device-2"), w.mustPowers(y, "device-1", "device-2")
	cx, rawx, err := w.combine("device-4", x.combine("device-4", px...))
	w.check(err)
	cy, _, err := w.combine("device-4", y.combine("device-4", py...))
	w.check(err)
	_, err = x.r.checked.Assemble(cx.Signatures[0])
	w.check(err)
	_, err = y.r.checked.Assemble(cy.Signatures[0])
	w.check(err)

	// Officers. Those of the one approve nothing for the other.
	in := y.powers("device-1")
	in.Approvals = nil
	for _, o := range a.Dealing.Officers {
		if o.Device != "device-1" {
			continue
		}
		// With a piece that he has, of the other enterprise's share.
		i := slices.IndexFunc(x.offers["device-1"].pieces, func(p sealedPiece) bool { return p.Person == o.Person })
		p := x.offers["device-1"].pieces[i]
		card := w.Persons[o.Person].Card()
		piece, err := share.OpenPieceFromCard(card.Agree, share.PieceContext{ID: p.ID, Purpose: p.Purpose, Device: p.Device, Share: p.Share, Card: p.Card}, p.Sealed)
		w.check(err)
		in.Approvals = append(in.Approvals, w.approveWith(o.Person, y.r, y.offers["device-1"], p.ID, piece, y.offers["device-1"].Offer()))
	}
	_, _, err = w.powers("device-1", in)
	w.want("the other's officers", err, firmware.CodeQuorum, "officer-1a")
	for device, o := range y.offers {
		for _, p := range o.pieces {
			if p.Share != o.Offer().Share || slices.ContainsFunc(x.offers[device].pieces, func(q sealedPiece) bool { return q.ID == p.ID || q.Person == p.Person }) {
				t.Errorf("%s: piece %s", device, p.ID)
			}
		}
	}
	// The right officers with the other share's pieces.
	in.Approvals = nil
	for i, o := range []string{"officer-2a", "officer-2b"} {
		piece := share.Piece{Index: uint64(i + 1), Value: threshold.NewSecret(make([]byte, 32))}
		rand.Read(piece.Value.Reveal())
		in.Approvals = append(in.Approvals, w.approveWith(o, y.r, y.offers["device-1"], y.offers["device-1"].pieces[i].ID, piece, y.offers["device-1"].Offer()))
	}
	_, _, err = w.powers("device-1", in)
	w.want("pieces of another share", err, firmware.CodeShare, "pieces")

	// Packets.
	in = y.powers("device-1")
	in.Distribution = packet("server-1", 2, 6, y.r)
	_, _, err = w.powers("device-1", in)
	w.want("the other's distributor", err, firmware.CodeTask, "distributor 1 is server server-3")
	in.Distribution = w.distributionBy("server-1", firmware.Distribution{
		Enterprise: 1, Distributor: 1, Task: 7, Request: y.r.digest, Hash: y.r.checked.Digest(), Documents: 1, Created: w.Now, Expires: w.Now + 60,
	}, x.r.Key)
	_, _, err = w.powers("device-1", in)
	w.want("the other's packet", err, firmware.CodeTask, "key ca-2 is another enterprise's")
	_, _, err = w.combine("device-4", y.combine("device-4", px...))
	w.want("the other's powers", err, firmware.CodePartial, "is for task 5 of distributor 1 of enterprise 1")

	// Messages.
	kb, _ := w.State.Key(b.Dealing.Key.ID)
	pb, err := firmware.VerifyDistribution(w.State, y.distribution, w.Now)
	w.check(err)
	if _, err := firmware.VerifyCombined(w.State, &kb, pb, rawx); err == nil {
		t.Error("a signature of one enterprise passes for the other's")
	}
	// Invitations.
	c := w.Deal(t, ledgertest.SmallPlan(3))
	w.want("the other's invitation", w.install("device-1", w.deal(c, w.invite("device-1", 4), w.dealt(c, "device-1"))), firmware.CodeOffer, "for a dealing of enterprise 3")
}

// TestCrashOfMachines kills a device at each record of the life of a machine,
// once with the record on the disk and once without. What was in force stays so,
// nothing left without its record, and the next try succeeds.
func TestCrashOfMachines(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.WithDevices(7))
	a := w.authority(1)
	plan := grownPlan(t, 1)
	b := w.DealNext(t, a, plan)
	for _, id := range []string{"device-5", "device-6"} {
		w.check(w.installIn(b, id))
	}
	d := w.devices["device-4"]
	crash := func(kind string, persist bool, do func() error) {
		t.Helper()
		broke := 0
		d.Break = func(raw []byte) (bool, error) {
			var r firmware.Record
			w.check(envelope.Unmarshal(raw, &r))
			if r.Kind != kind {
				return true, nil
			}
			broke++
			return persist, firmwaretest.ErrJournal
		}
		if err := do(); !errors.Is(err, firmwaretest.ErrJournal) || broke != 1 {
			t.Fatalf("%s: broke %d times: %v", kind, broke, err)
		}
		d.Break = nil
		d.Restart(t)
	}
	works := func(name, state string) {
		t.Helper()
		if got := w.machine("device-4", 1); got != state {
			t.Errorf("%s: %q, want %q", name, got, state)
		}
		w.mustSign(a, name, [2]string{"device-1", "device-2"}, "device-4")
	}
	install := func() error { return w.installIn(b, "device-4") }
	crash("dealt", false, install)
	works("share stored, record lost", "ready 1")
	crash("dealt", false, install) // what the crash left is no obstacle
	works("once more", "ready 1")
	crash("dealt", true, install)
	works("share stored, answer lost", "ready 1, pending 2")
	w.check(install()) // repeats itself
	works("repeated", "ready 1, pending 2")

	x := w.begin(a, "work", "device-1", "device-2", "device-4")
	powers := w.mustPowers(x, "device-1", "device-2")
	work := func() error {
		w.agree(x, "device-4")
		_, _, err := w.combine("device-4", x.combine("device-4", powers...))
		return err
	}
	crash("combined", false, work)
	crash("combined", true, work)
	w.check(work())

	w.Enter(t, b)
	for id := range w.devices {
		if id != "device-4" {
			w.check(w.catchup(id, b.Entry))
		}
	}
	// The others go ahead: it says that it is behind.
	_, err := w.offer("device-4", w.begin(b, "newer", "device-3", "device-6").r)
	w.want("behind", err, firmware.CodeLedger, "hand it the newer entries")
	entry := func() error { return w.catchup("device-4", b.Entry) }
	crash("entry", false, entry)
	if got := w.machine("device-4", 1); got != "ready 1, pending 2" {
		t.Errorf("entry lost: %q", got)
	}
	crash("entry", true, entry)
	drop := func() error { _, err := w.offer("device-4", w.request(b, "new", threshold.RS256)); return err }
	crash("dropped", false, drop)
	crash("dropped", true, drop)
	works("the old share dropped", "ready 2")
	w.mustSign(b, "grown", [2]string{"device-3", "device-6"}, "device-4")

	// A calculator's record, which makes its number taken.
	d = w.devices["device-1"]
	y := w.begin(b, "calculator", "device-1")
	calculate := func() error {
		w.agree(y, "device-1")
		_, _, err := w.powers("device-1", y.powers("device-1"))
		return err
	}
	crash("powers", false, calculate)
	crash("powers", true, calculate)
	z := w.begin(b, "other", "device-1")
	z.distribution = w.distributionBy("server-1", firmware.Distribution{
		Enterprise: 1, Distributor: 1, Task: w.tasks - 1, Request: z.r.digest, Hash: z.r.checked.Digest(), Documents: 1, Created: w.Now, Expires: w.Now + 60,
	}, z.r.Key)
	_, _, err = w.powers("device-1", z.powers("device-1"))
	w.want("its number", err, firmware.CodeTask, "under this number")
	w.check(calculate())
}

// TestDestroyedMachines: the second limit takes dealt shares too, and what
// crashes left.
func TestDestroyedMachines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.authority(1)
	d := w.devices["device-1"]
	if err := d.Token.PutObject(slot(1), 1, []byte("left by a crash")); err != nil {
		t.Fatal(err)
	}
	body, err := envelope.Marshal(struct {
		Total int64 `cbor:"1,keyasint"`
	}{1})
	w.check(err)
	raw, err := envelope.Marshal(firmware.Record{
		Kind: "destroyed", At: w.Now, Prev: envelope.HashOf("privyseal device record", d.Journal[len(d.Journal)-1]), Body: body,
	})
	w.check(err)
	d.Journal = append(d.Journal, raw)
	d.Restart(t)
	if d.Machine().Phase() != firmware.PhaseDestroyed {
		t.Fatal(d.Machine().Phase())
	}
	for i := range uint64(2) {
		if _, _, err := d.Token.GetObject(slot(i)); !errors.Is(err, hsm.ErrNotFound) {
			t.Errorf("object %d: %v", i, err)
		}
	}
	for _, typ := range []string{firmware.TypeInviteAsk, firmware.TypePowersTask} {
		_, _, err = ask[firmware.Invited](w, "device-1", typ, firmware.InviteAsk{Enterprise: 1}, firmware.TypeInvited)
		w.want(typ, err, firmware.CodePhase, "destroyed")
	}
}

package firmware_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/hsm"
)

// TestInvitations: a one-time key serves one share, once, and is gone in time, at
// a lock and at a restart, and not because somebody asks for another: anybody can.
func TestInvitations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.Deal(t, ledgertest.SmallPlan(1))
	gone := "no one-time key for a dealing of enterprise 1"
	deal := func(device string) firmware.Deal { return w.deal(a, w.invite(device, 1), w.dealt(a, device)) }

	late := deal("device-1")
	w.Now += firmware.InvitationLife
	w.want("expired", w.install("device-1", late), firmware.CodeOffer, gone)
	w.Now -= firmware.InvitationLife

	restarted := deal("device-2")
	w.devices["device-2"].Restart(t)
	w.want("restarted", w.install("device-2", restarted), firmware.CodeOffer, gone)

	locked := deal("device-3")
	_, _, err := ask[firmware.Status](w, "device-3", firmware.TypeLock, firmware.Lock{Device: "device-3", Reason: "test"}, firmware.TypeStatus)
	w.check(err)
	w.want("locked", w.install("device-3", locked), firmware.CodePhase, "locked")
	_, _, err = ask[firmware.Invited](w, "device-3", firmware.TypeInviteAsk, firmware.InviteAsk{Enterprise: 1}, firmware.TypeInvited)
	w.want("invited while locked", err, firmware.CodePhase, "locked")
	w.devices["device-3"].Restart(t)
	w.want("opened again", w.install("device-3", locked), firmware.CodeOffer, gone)

	first := w.invite("device-4", 1)
	older := w.deal(a, first, w.dealt(a, "device-4"))
	w.Now += firmware.InvitationLife/2 - 1
	if w.invite("device-4", 1).Digest() != first.Digest() {
		t.Error("another invitation while the first is new")
	}
	w.Now++
	second := w.invite("device-4", 1)
	if second.Digest() == first.Digest() || second.Invitation().Expires != w.Now+firmware.InvitationLife {
		t.Error("an invitation that ends soon is repeated")
	}
	w.invite("device-4", 2) // another enterprise's leaves it alone
	for range 2 {           // the answer may have been lost
		w.check(w.install("device-4", older))
	}
	b := w.Deal(t, ledgertest.SmallPlan(1))
	w.Confirm(t, &b.Dealing)
	b.Dealing.Officers[0].Expires++
	w.Confirm(t, &b.Dealing)
	for name, used := range map[string]*firmware.VerifiedInvitation{"used": first, "given beside the one that was used": second} {
		w.invite("device-4", 1)
		w.want(name, w.install("device-4", w.deal(b, used, w.dealt(b, "device-4"))), firmware.CodeShare, "not sealed to an invitation")
	}
	w.check(w.installIn(b, "device-4"))

	for _, code := range []uint64{0, ledger.MaxEnterpriseCode + 1} {
		_, _, err = ask[firmware.Invited](w, "device-5", firmware.TypeInviteAsk, firmware.InviteAsk{Enterprise: code}, firmware.TypeInvited)
		w.want("enterprise code", err, firmware.CodeMessage, "enterprise codes")
	}
	for code := range uint64(ledger.MaxEnterprises) {
		w.invite("device-5", code+10)
	}
	w.invite("device-5", 17)
	_, _, err = ask[firmware.Invited](w, "device-5", firmware.TypeInviteAsk, firmware.InviteAsk{Enterprise: 999}, firmware.TypeInvited)
	w.want("one new enterprise too many", err, firmware.CodeOffer, "are open at device device-5")
	w.Enter(t, b)
	w.check(w.catchup("device-5", b.Entry))
	w.invite("device-5", 1) // nobody crowds out one that there is
}

// TestInvitationsVerified: the distributor takes them from devices' tokens only.
func TestInvitationsVerified(t *testing.T) {
	s := ledgertest.New(t)
	point := ledgertest.NewPair(t, "one-time").Agree.PublicKey().Bytes()
	good := firmware.Invitation{Enterprise: 1, Device: "device-1", Instance: [16]byte{1}, Public: point, Created: s.Now, Expires: s.Now + 3600}
	for _, tc := range []struct {
		name, text string
		edit       func(*firmware.Invitation, *envelope.Header)
		boot       bool
		now        int64
	}{
		{name: "good"},
		{name: "by the boot key", text: "no device's token", boot: true},
		{name: "for another device", text: `names device "device-2"`, edit: func(i *firmware.Invitation, _ *envelope.Header) { i.Device = "device-2" }},
		{name: "for no enterprise", text: "is for enterprise 0", edit: func(i *firmware.Invitation, _ *envelope.Header) { i.Enterprise = 0 }},
		{name: "no instance", text: "instance id is zero", edit: func(i *firmware.Invitation, _ *envelope.Header) { i.Instance = [16]byte{} }},
		{name: "no key", text: "not a point", edit: func(i *firmware.Invitation, _ *envelope.Header) { i.Public = make([]byte, 65) }},
		{name: "too long", text: "at most", edit: func(i *firmware.Invitation, h *envelope.Header) {
			i.Expires = s.Now + firmware.InvitationLife + 1
			h.Expires = i.Expires
		}},
		{name: "two times", text: "different times", edit: func(_ *firmware.Invitation, h *envelope.Header) { h.Expires++ }},
		{name: "another system", text: "another system", edit: func(_ *firmware.Invitation, h *envelope.Header) { h.System[0] ^= 1 }},
		{name: "another ledger", text: "bring a newer one", edit: func(_ *firmware.Invitation, h *envelope.Header) { h.LedgerHead[0] ^= 1 }},
		{name: "another type", text: "dealing.invitation", edit: func(_ *firmware.Invitation, h *envelope.Header) { h.Type = "offer" }},
		{name: "expired", text: "ask the device for another", now: s.Now + 3600},
	} {
		in := good
		h := envelope.Header{Type: firmware.TypeInvitation, Version: 1, System: s.State.System(), LedgerHead: s.State.Head(), Created: in.Created, Expires: in.Expires}
		if tc.edit != nil {
			tc.edit(&in, &h)
		}
		body, err := envelope.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		key := s.Devices["device-1"].Sign
		if tc.boot {
			key = s.Devices["device-1"].Boot
		}
		raw, err := envelope.Sign(rand.Reader, key, h, body)
		if err != nil {
			t.Fatal(err)
		}
		v, err := firmware.VerifyInvitation(s.State, raw, max(s.Now, tc.now))
		if tc.text == "" && (err != nil || v.Device() != "device-1") || tc.text != "" && (err == nil || !strings.Contains(err.Error(), tc.text)) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if err == nil {
			if _, err := v.Seal(&firmware.DealtShare{Device: "device-2", Dealing: envelope.Hash{1}}); err == nil {
				t.Error("sealed another device's share")
			}
		}
	}
}

// TestInstallRefused: a device takes its own share of a dealing that could be
// entered, with the right values, and no other.
func TestInstallRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.Deal(t, ledgertest.SmallPlan(1))
	try := func(name, device string, edit func(*firmware.DealtShare), code, text string) {
		t.Helper()
		s := w.dealt(a, device)
		edit(s)
		w.want(name, w.install(device, w.deal(a, w.invite(device, 1), s)), code, text)
	}
	add := func(d threshold.Secret, x int64) threshold.Secret {
		n := new(big.Int).SetBytes(d.Reveal())
		return threshold.NewSecret(n.Add(n, big.NewInt(x)).FillBytes(make([]byte, d.Len())))
	}
	share := firmware.CodeShare
	try("another version", "device-1", func(s *firmware.DealtShare) { s.Version = 2 }, share, "names another version")
	try("another share", "device-1", func(s *firmware.DealtShare) { s.Share = "ca-1.calculator-2" }, share, "names another share id")
	try("another layer", "device-1", func(s *firmware.DealtShare) { s.Layer = 2 }, share, "names another layer")
	try("another number", "device-1", func(s *firmware.DealtShare) { s.Number = 2 }, share, "names another number")
	try("another calculator's sub-keys", "device-1", func(s *firmware.DealtShare) { s.Parts = w.dealt(a, "device-2").Parts }, share, "of calculator 1 is wrong")
	try("a sub-key off by one", "device-1", func(s *firmware.DealtShare) { s.Parts[1] = add(s.Parts[1], 1) }, share, "of calculator 1 is wrong")
	try("a sub-key too few", "device-1", func(s *firmware.DealtShare) { s.Parts = s.Parts[:1] }, share, "of calculator 1 is wrong")
	try("a sub-key too long", "device-1", func(s *firmware.DealtShare) {
		s.Parts[0] = threshold.NewSecret(append([]byte{0}, s.Parts[0].Reveal()...))
	}, share, "of calculator 1 is wrong")
	try("another combiner's parts", "device-4", func(s *firmware.DealtShare) { s.Parts = w.dealt(a, "device-5").Parts }, share, "of combiner 1 is wrong")
	try("a part off by one", "device-4", func(s *firmware.DealtShare) { s.Parts[2] = add(s.Parts[2], -1) }, share, "of combiner 1 is wrong")
	try("parts exchanged", "device-4", func(s *firmware.DealtShare) { s.Parts[0], s.Parts[1] = s.Parts[1], s.Parts[0] }, share, "of combiner 1 is wrong")

	// Sealed to another device's invitation, and for another dealing.
	in := w.deal(a, w.invite("device-2", 1), w.dealt(a, "device-2"))
	w.invite("device-1", 1)
	w.want("another device's", w.install("device-1", in), share, "not sealed to an invitation")
	v := w.invite("device-1", 1)
	s := w.dealt(a, "device-1")
	s.Dealing[0] ^= 1
	w.want("for another dealing", w.install("device-1", w.deal(a, v, s)), share, "not for this dealing")

	// The dealing itself.
	bad := func(name string, edit func(*ledger.Dealing), code, text string) {
		t.Helper()
		b := w.Deal(t, ledgertest.SmallPlan(1))
		edit(&b.Dealing)
		w.want(name, w.installIn(b, "device-1"), code, text)
	}
	bad("not confirmed", func(d *ledger.Dealing) { d.Confirmation = nil }, firmware.CodeLedger, "confirmation")
	bad("changed after the confirmation", func(d *ledger.Dealing) { d.Isolated = false }, firmware.CodeLedger, "another dealing")
	bad("revision 2 of nothing", func(d *ledger.Dealing) { d.Revision = 2; w.Confirm(t, d) }, firmware.CodeLedger, "revision 2")
	bad("an officer's card that nobody has", func(d *ledger.Dealing) { d.Officers[0].Card = 4711; w.Confirm(t, d) }, firmware.CodeLedger, "4711")
	in = w.deal(a, w.invite("device-1", 1), w.dealt(a, "device-1"))
	in.Dealing = append(in.Dealing, 0)
	w.want("trailing bytes", w.install("device-1", in), firmware.CodeMessage, "dealing")
	in.Dealing = nil
	w.want("no dealing", w.install("device-1", in), firmware.CodeMessage, "dealing")
	in = w.deal(a, w.invite("device-1", 1), w.dealt(a, "device-1"))
	in.Sealed = make([]byte, 1<<18)
	w.want("too large", w.install("device-1", in), firmware.CodeMessage, "at most")

	// A device that is no machine of it.
	p := ledgertest.SmallPlan(2)
	p.Grouping.Combiners, p.Combiners = p.Grouping.Combiners[:1], p.Combiners[:1]
	c := w.Deal(t, p)
	s = w.dealt(a, "device-5")
	s.Dealing, _ = c.Dealing.Digest()
	w.want("no machine", w.install("device-5", w.deal(c, w.invite("device-5", 2), s)), share, "is no machine of enterprise 2")

	// After all this the right share is taken, and nothing else was stored.
	for id := range w.devices {
		if got := w.machine(id, 1); got != "" {
			t.Errorf("%s: %q", id, got)
		}
	}
	w.installAll(a)
	w.enter(a)
	w.mustSign(a, "www.example.org", [2]string{"device-3", "device-1"}, "device-5")
	w.want("what is in force already", w.install("device-1", w.deal(changed(w, a), w.invite("device-1", 1), w.dealt(changed(w, a), "device-1"))), share, "deals it nothing")
}

// changed is the next revision of an authority, which deals nothing.
func changed(w *world, a *ledgertest.Authority) *ledgertest.Authority {
	w.t.Helper()
	return w.DealNext(w.t, a, ledgertest.SmallPlan(a.Dealing.Enterprise.Code))
}

// TestDealingsNeverEntered: a share serves nothing without the ledger, and is
// dropped when its dealing cannot come any more.
func TestDealingsNeverEntered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var all []*ledgertest.Authority
	for i := range 5 {
		a := w.Deal(t, ledgertest.SmallPlan(1))
		a.Dealing.Created -= int64(i)
		w.Confirm(t, &a.Dealing)
		all = append(all, a)
	}
	for _, a := range all[:4] {
		w.installAll(a)
	}
	w.want("one pending dealing too many", w.installIn(all[4], "device-1"), firmware.CodeShare, "4 dealings of enterprise 1 that the ledger does not have")
	r := w.request(all[2], "www.example.org", threshold.RS256)
	_, err := w.offer("device-1", r)
	w.want("no key yet", err, firmware.CodeRequest, `key "ca-1" is not in the ledger`)
	w.enter(all[2])
	w.mustSign(all[2], "www.example.org", [2]string{"device-1", "device-2"}, "device-4")
	if got := w.machine("device-1", 1); got != "ready 1" {
		t.Errorf("device-1: %q", got)
	}
	for i := range uint64(5) {
		if _, _, err := w.devices["device-1"].Token.GetObject(slot(i)); (err == nil) != (i == 2) {
			t.Errorf("object %d: %v", i, err)
		}
	}

	// Another enterprise's waits for its entry in vain; the device forgets it.
	b := w.Deal(t, ledgertest.SmallPlan(2))
	w.check(w.installIn(b, "device-1"))
	w.Now += 2 * ledger.ConfirmationLife
	if got := w.machine("device-1", 2); got != "" {
		t.Errorf("device-1 after two months: %q", got)
	}
	if _, _, err := w.devices["device-1"].Token.GetObject(slot(0)); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("its object: %v", err)
	}
	w.mustSign(all[2], "www.example.com", [2]string{"device-1", "device-2"}, "device-4")
}

// slot is the name of a dealt share's object.
func slot(i uint64) string { return fmt.Sprintf("share/dealt/%d", i) }

// TestInstallAfterEntry: the entry may be faster than the medium.
func TestInstallAfterEntry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.Deal(t, ledgertest.SmallPlan(1))
	late := w.deal(a, w.invite("device-2", 1), w.dealt(a, "device-2"))
	for _, id := range []string{"device-1", "device-3", "device-4"} {
		w.check(w.installIn(a, id))
	}
	w.enter(a)
	if got := w.machine("device-2", 1); got != "missing 1" {
		t.Errorf("device-2: %q", got)
	}
	r := w.request(a, "www.example.org", threshold.RS256)
	_, err := w.offer("device-2", r)
	w.want("not installed", err, firmware.CodeShare, "was not installed in device device-2: let the distributor deal it again, as version 2")
	w.mustSign(a, "www.example.org", [2]string{"device-1", "device-3"}, "device-4")
	w.check(w.install("device-2", late))
	w.mustSign(a, "www.example.com", [2]string{"device-1", "device-2"}, "device-4")
}

// TestDealtSharePrints: a dealt share in a refusal or a note would be on paper.
func TestDealtSharePrints(t *testing.T) {
	secret := bytes.Repeat([]byte{0xd7}, 16)
	s := firmware.DealtShare{Parts: []threshold.Secret{threshold.NewSecret(secret)}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%d"} {
		if out := fmt.Sprintf(verb, s) + fmt.Sprintf(verb, &s); strings.Contains(out, "d7d7") || strings.Contains(out, "215 215") || strings.Contains(out, "0xd7") {
			t.Errorf("%s: %s", verb, out)
		}
	}
}

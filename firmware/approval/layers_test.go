package approval_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"testing"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// layered is a world with two enterprises on the same devices. officer-1a serves device-1 for enterprise 1 with the second card (111) and
// another end, and is no officer of enterprise 2, for which officer-6a serves it.
func layered(t *testing.T) *world {
	w := newWorld(t, ledgertest.WithDevices(7))
	one := w.Deal(t, ledgertest.SmallPlan(1))
	one.Dealing.Officers[0].Card, one.Dealing.Officers[0].Expires = 111, w.Now+600
	w.Confirm(t, &one.Dealing)
	w.Enter(t, one)
	two := w.Deal(t, ledgertest.SmallPlan(2))
	two.Dealing.Officers[0].Person, two.Dealing.Officers[0].Card = "officer-6a", 61
	w.Confirm(t, &two.Dealing)
	w.Enter(t, two)
	w.req.Key = "ca-1"
	return w
}

// at signs an approval for a key and share at device-1.
func (w *world) at(k *ecdsa.PrivateKey, key, share string, edit func(*approval.Approval)) []byte {
	w.t.Helper()
	return w.sign(k, func(a *approval.Approval) {
		a.Key, a.Share = key, share
		a.Pieces[0].Piece = share + "#1"
		if edit != nil {
			edit(a)
		}
	})
}

// A person's row for one key, card and end included, says nothing about another key at the same device.
func TestOfficersOfEnterprises(t *testing.T) {
	w := layered(t)
	first, second := w.Persons["officer-1a"].Cards[0].Sign, w.Persons["officer-1a"].Cards[1].Sign
	set := func(key string, raws ...[]byte) error {
		req := w.req
		req.Key = key
		_, err := approval.VerifySet(w.State, req, device, raws, w.Now)
		return err
	}
	const one, two = "ca-1.calculator-1", "ca-2.calculator-1"
	b1, b2 := w.at(w.card("officer-1b"), "ca-1", one, nil), w.at(w.card("officer-1b"), "ca-2", two, nil)
	if err := set("ca-1", w.at(second, "ca-1", one, nil), b1); err != nil {
		t.Error(err)
	}
	if err := set("ca-1", w.at(first, "ca-1", one, nil), b1); !is[*approval.WrongSignerError](err) {
		t.Error("the card of the genesis' row:", err)
	}
	if err := set(key, w.sign(second, nil), w.sign(w.card("officer-1b"), nil)); !is[*approval.WrongSignerError](err) {
		t.Error("the card of the enterprise's row for a key of the genesis:", err)
	}
	if err := set(key, w.sign(first, nil), w.sign(w.card("officer-1b"), nil)); err != nil {
		t.Error(err)
	}
	if err := set("ca-2", w.at(second, "ca-2", two, nil), b2); !is[*approval.NotOfficerError](err) {
		t.Error("an officer of another enterprise:", err)
	}
	if err := set("ca-2", w.at(w.card("officer-6a"), "ca-2", two, nil), b2); err != nil {
		t.Error(err)
	}
	if err := set("ca-1", w.at(w.card("officer-6a"), "ca-1", one, nil), b1); !is[*approval.NotOfficerError](err) {
		t.Error("an officer of another enterprise:", err)
	}
	if err := set("ca-1", b1, b2); !is[*approval.MismatchError](err) {
		t.Error("an approval for another enterprise:", err)
	}
	if err := set("ca-1", w.at(second, "ca-1", two, nil), b1); !is[*approval.MismatchError](err) {
		t.Error("another enterprise's share:", err)
	}
	if err := set("ca-1", b1); !is[*approval.MissingError](err) {
		t.Error("half a set:", err)
	}
	// The end of the row for this key counts.
	late := w.at(second, "ca-1", one, nil)
	w.Now += 601
	if err := set("ca-1", late, b1); !is[*approval.OfficerExpiredError](err) {
		t.Error("expired:", err)
	}
	w.Now -= 601
	a := w.at(second, "ca-1", one, nil)
	if _, err := approval.VerifyChain(w.State, w.req, device, w.at(w.card("officer-1b"), "ca-1", one, prior(a)), nil, w.Now); !is[*approval.ChainError](err) {
		t.Error("a chain:", err)
	}
}

// A machine that was taken away offers nothing, and nobody approves for it.
func TestMachineGone(t *testing.T) {
	w := newWorld(t)
	a := w.Authority(t, ledgertest.SmallPlan(1))
	w.req.Key = "ca-1"
	const share = "ca-1.calculator-1"
	offer := w.offer()
	offer.Key, offer.Share = "ca-1", share
	raw, err := approval.NewOffer(rand.Reader, w.Devices[device].Sign, w.State, offer, [16]byte{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := approval.VerifyOffer(w.State, raw, w.Now); err != nil {
		t.Fatal(err)
	}
	set := [][]byte{w.at(w.card("officer-1a"), "ca-1", share, nil), w.at(w.card("officer-1b"), "ca-1", share, nil)}
	if _, err := approval.VerifySet(w.State, w.req, device, set, w.Now); err != nil {
		t.Fatal(err)
	}
	// A revision that leaves the machine where it is changes nothing for requests on their way.
	a = w.Extend(t, a, ledgertest.SmallPlan(1).Without(nil, []uint64{2}))
	if _, err := approval.VerifyOffer(w.State, raw, w.Now); err != nil {
		t.Error(err)
	}
	if _, err := approval.VerifySet(w.State, w.req, device, set, w.Now); err != nil {
		t.Error(err)
	}
	w.Extend(t, a, ledgertest.SmallPlan(1).Without([]uint64{1}, []uint64{2}))
	if _, err := approval.VerifyOffer(w.State, raw, w.Now); !is[*approval.MismatchError](err) {
		t.Error("offer:", err)
	}
	if _, err := approval.VerifySet(w.State, w.req, device, set, w.Now); !is[*approval.MismatchError](err) {
		t.Error("approvals:", err)
	}
}

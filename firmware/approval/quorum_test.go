package approval_test

import (
	"crypto/ecdsa"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// Clocks may differ by a minute; an approval dated after the end of the request is none.
func TestApprovedAfterTheRequest(t *testing.T) {
	w := newWorld(t)
	w.req.Expires = w.Now + 30
	raw := w.sign(w.card("officer-1a"), func(a *approval.Approval) { a.Created = w.Now + 30 })
	if _, err := approval.Verify(w.State, w.req, device, raw, w.Now); !is[*approval.TimeError](err) || !strings.Contains(err.Error(), "after the request had expired") {
		t.Error(err)
	}
}

// The requester never counts: not with the card he asked with, nor with his other cards, whichever of them is registered.
func TestRequesterNeverCounts(t *testing.T) {
	w := newWorld(t)
	o := w.Persons["officer-1a"] // card 11 is registered, card 111 is not
	other := w.sign(w.card("officer-1b"), nil)
	for _, asks := range o.Cards {
		for _, approves := range o.Cards {
			req := w.req
			req.Requester, req.Signer = "officer-1a", ledgertest.KeyID(t, asks.Sign)
			_, err := approval.VerifySet(w.State, req, device, [][]byte{other, w.sign(approves.Sign, nil)}, w.Now)
			var e *approval.RequesterApprovedError
			if !errors.As(err, &e) || e.Person != "officer-1a" || e.Card != approves.Serial {
				t.Errorf("asked with %d, approved with %d: %v", asks.Serial, approves.Serial, err)
			}
			// Nor is he named among those who could still approve.
			_, err = approval.VerifySet(w.State, req, device, [][]byte{other}, w.Now)
			var m *approval.MissingError
			if !errors.As(err, &m) || len(m.Missing) != 0 || m.Have != 1 || m.Need != 2 {
				t.Errorf("asked with %d: %v", asks.Serial, err)
			}
		}
	}
}

func TestMissing(t *testing.T) {
	w := newWorld(t)
	a := w.sign(w.card("officer-1a"), nil)
	for _, c := range []struct {
		name    string
		raws    [][]byte
		have    int
		missing []string
	}{
		{"none", nil, 0, []string{"Officer 1a", "Officer 1b"}},
		{"one", [][]byte{a}, 1, []string{"Officer 1b"}},
	} {
		_, err := approval.VerifySet(w.State, w.req, device, c.raws, w.Now)
		var m *approval.MissingError
		if !errors.As(err, &m) || m.Need != 2 || m.Have != c.have || !slices.Equal(m.Missing, c.missing) || m.Device != device {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := approval.VerifyChain(w.State, w.req, device, nil, nil, w.Now); !is[*approval.MissingError](err) {
		t.Error("empty chain:", err)
	}
	base := []byte("partial")
	if _, err := approval.VerifyChain(w.State, w.req, device, base, base, w.Now); !is[*approval.MissingError](err) {
		t.Error("nothing but the base:", err)
	}
}

// Persons are counted, not messages.
func TestDuplicates(t *testing.T) {
	w := newWorld(t)
	o := w.card("officer-1a")
	a, again := w.sign(o, nil), w.sign(o, nil)
	for name, raws := range map[string][][]byte{"the same message": {a, a}, "another message": {a, again}} {
		if _, err := approval.VerifySet(w.State, w.req, device, raws, w.Now); !is[*approval.DuplicateError](err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := approval.VerifyChain(w.State, w.req, device, w.sign(o, prior(a)), nil, w.Now); !is[*approval.DuplicateError](err) {
		t.Errorf("in a chain: %v", err)
	}
	if _, err := approval.VerifySet(w.State, w.req, device, make([][]byte, approval.MaxApprovals+1), w.Now); !is[*approval.FormError](err) {
		t.Errorf("a flood: %v", err)
	}
}

func TestOfficerExpires(t *testing.T) {
	w := newWorld(t, func(g *ledger.Genesis) { g.Officers[0].Expires = ledgertest.Epoch + 3700 })
	raws := [][]byte{w.sign(w.card("officer-1a"), nil), w.sign(w.card("officer-1b"), nil)}
	if _, err := approval.VerifySet(w.State, w.req, device, raws, ledgertest.Epoch+3699); err != nil {
		t.Error(err)
	}
	_, err := approval.VerifySet(w.State, w.req, device, raws, ledgertest.Epoch+3700)
	var e *approval.OfficerExpiredError
	if !errors.As(err, &e) || e.Person != "officer-1a" || e.Device != device {
		t.Error(err)
	}
	// And he is not among those who could still approve.
	_, err = approval.VerifySet(w.State, w.req, device, raws[1:], ledgertest.Epoch+3700)
	var m *approval.MissingError
	if !errors.As(err, &m) || len(m.Missing) != 0 {
		t.Error(err)
	}
}

// An officer of the device, but not for this key.
func TestOfficerOfAnotherKey(t *testing.T) {
	w := newWorld(t, func(g *ledger.Genesis) {
		g.Officers[0].Keys = []string{"swa", "files"}
		g.Officers = append(g.Officers, ledger.Officer{Person: "admin2", Card: 95, Device: device, Class: ledger.ClassOfficer,
			Expires: g.Officers[0].Expires, Keys: []string{"certs"}})
		p := ledgertest.NewPair(t, "card 95")
		g.Persons = append(g.Persons, ledger.Person{ID: "admin2", Name: "Third Officer", Cards: []ledger.Card{{
			Serial: 95, Model: "Software card", Sign: ledgertest.SPKI(t, p.Sign.Public()), Agree: ledgertest.SPKI(t, p.Agree.PublicKey()),
		}}})
	})
	_, err := approval.Verify(w.State, w.req, device, w.sign(w.card("officer-1a"), nil), w.Now)
	if !is[*approval.NotOfficerError](err) || !strings.Contains(err.Error(), "not registered for this key") {
		t.Error(err)
	}
	third := w.sign(ledgertest.NewPair(t, "card 95").Sign, nil)
	if _, err := approval.VerifySet(w.State, w.req, device, [][]byte{third, w.sign(w.card("officer-1b"), nil)}, w.Now); err != nil {
		t.Error(err)
	}
}

// One person may serve two devices where the ledger allows it; his word for one is not a word for the other.
func TestSharedOfficer(t *testing.T) {
	w := newWorld(t, func(g *ledger.Genesis) {
		g.SharedOfficers = true
		g.Officers[2].Person, g.Officers[2].Card = "officer-1a", 111
	})
	o := w.Persons["officer-1a"]
	for _, c := range []struct {
		device string
		card   int
		ok     bool
	}{{"device-1", 0, true}, {"device-2", 1, true}, {"device-1", 1, false}, {"device-2", 0, false}} {
		raw := w.sign(o.Cards[c.card].Sign, func(a *approval.Approval) {
			a.Device, a.Share, a.Pieces[0].Device = c.device, "certs."+c.device, c.device
		})
		if _, err := approval.Verify(w.State, w.req, c.device, raw, w.Now); (err == nil) != c.ok {
			t.Errorf("%s with card %d: %v", c.device, o.Cards[c.card].Serial, err)
		}
		other := "device-1"
		if c.device == other {
			other = "device-2"
		}
		if _, err := approval.Verify(w.State, w.req, other, raw, w.Now); !is[*approval.WrongDeviceError](err) {
			t.Errorf("%s's approval at %s: %v", c.device, other, err)
		}
	}
}

// An officer who knows an older head may approve; one who knows a later head stops the device until it has caught up.
func TestLedgerHeads(t *testing.T) {
	w := newWorld(t)
	old := w.State
	raws := [][]byte{w.sign(w.card("officer-1a"), nil), w.sign(w.card("officer-1b"), nil)}
	next, err := ledger.Catchup(w.State, []ledger.SignedEntry{
		w.Entry(t, w.State, ledger.KindNotice, &ledger.Notice{Text: "x", From: w.Now, Until: w.Now + 9}, w.Now),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.State = next
	if _, err := approval.VerifySet(next, w.req, device, raws, w.Now); err != nil {
		t.Error("older head:", err)
	}
	later := w.sign(w.card("officer-1a"), nil)
	if _, err := approval.Verify(old, w.req, device, later, w.Now); !is[*approval.UnknownHeadError](err) {
		t.Error("later head:", err)
	}
}

// Of a minimal quorum nobody can be left out; with all its members, in any order and either form, it is one.
func TestMinimalQuorum(t *testing.T) {
	const officers, quorum = 5, 4
	w := newWorld(t, func(g *ledger.Genesis) {
		for i := range officers - 2 {
			serial := uint32(200 + i)
			name := "extra-" + string(rune('a'+i))
			p := ledgertest.NewPair(t, name)
			g.Persons = append(g.Persons, ledger.Person{ID: name, Name: name, Cards: []ledger.Card{{
				Serial: serial, Model: "Software card", Sign: ledgertest.SPKI(t, p.Sign.Public()), Agree: ledgertest.SPKI(t, p.Agree.PublicKey()),
			}}})
			g.Officers = append(g.Officers, ledger.Officer{Person: name, Card: serial, Device: device, Class: ledger.ClassOfficer,
				Expires: g.Officers[0].Expires, Keys: []string{"certs"}})
		}
		h := &g.Keys[1].Holders[0]
		h.Quorum, h.Pieces, h.Threshold = quorum, officers, 3
	})
	signers := []*ecdsa.PrivateKey{w.card("officer-1a"), w.card("officer-1b")}
	for i := range officers - 2 {
		signers = append(signers, ledgertest.NewPair(t, "extra-"+string(rune('a'+i))).Sign)
	}
	verify := func(order []int, chain bool) error {
		var raws [][]byte
		var last []byte
		for _, i := range order {
			if chain {
				last = w.sign(signers[i], prior(last))
			} else {
				raws = append(raws, w.sign(signers[i], nil))
			}
		}
		var err error
		if chain {
			_, err = approval.VerifyChain(w.State, w.req, device, last, nil, w.Now)
		} else {
			_, err = approval.VerifySet(w.State, w.req, device, raws, w.Now)
		}
		return err
	}
	rapid.Check(t, func(t *rapid.T) {
		order := rapid.Permutation([]int{0, 1, 2, 3, 4}).Draw(t, "order")[:quorum]
		chain := rapid.Bool().Draw(t, "chain")
		if err := verify(order, chain); err != nil {
			t.Fatalf("%v: %v", order, err)
		}
		out := rapid.IntRange(0, quorum-1).Draw(t, "left out")
		fewer := slices.Delete(slices.Clone(order), out, out+1)
		var m *approval.MissingError
		if err := verify(fewer, chain); !errors.As(err, &m) || m.Have != quorum-1 || m.Need != quorum || len(m.Missing) != officers-quorum+1 {
			t.Fatalf("%v without the %d-th: %v", order, out, err)
		}
	})
}

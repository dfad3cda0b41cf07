package approval_test

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// instance is a device's two key pairs in memory.
type instance struct {
	sign  *ecdsa.PrivateKey
	agree *ecdh.PrivateKey
}

func newInstance(t *testing.T) *instance {
	t.Helper()
	sign, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	agree, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &instance{sign, agree}
}

func (i *instance) id(t *testing.T) [16]byte {
	t.Helper()
	pub, err := i.sign.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return approval.InstanceID(pub, i.agree.PublicKey().Bytes())
}

// enrol has officers of the device open an instance.
func (w *world) enrol(i *instance, officers ...string) *approval.Enrolment {
	w.t.Helper()
	t := w.t.(*testing.T)
	sign := func(k *ecdsa.PrivateKey, typ string, payload any) []byte {
		body, err := envelope.Marshal(payload)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := envelope.Sign(rand.Reader, k, envelope.Header{
			Type: typ, Version: approval.Version, System: w.State.System(), Created: w.Now - 20, Expires: w.Now + 600,
		}, body)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	offer := sign(w.Devices[device].Boot, approval.TypeUnlockOffer, approval.UnlockOffer{
		Device: device, Instance: i.id(t), Public: i.agree.PublicKey().Bytes(), Created: w.Now - 20, Expires: w.Now + 600, Log: 9,
	})
	u, err := envelope.Parse(offer)
	if err != nil {
		t.Fatal(err)
	}
	e := &approval.Enrolment{Offer: offer}
	for _, who := range officers {
		e.Approvals = append(e.Approvals, sign(w.Persons[who].Card().Sign, approval.TypeUnlockApproval, approval.UnlockApproval{
			Device: device, Offer: u.UnverifiedDigest(), Piece: "x", Sealed: []byte{1}, Created: w.Now - 20, Expires: w.Now + 600,
		}))
	}
	return e
}

// TestOfferOfACopy: a thief with the device's token makes an offer for a key of
// his own. Officers who approve an honest request must not take it.
func TestOfferOfACopy(t *testing.T) {
	real, thief := newInstance(t), newInstance(t)
	w := newWorld(t, ledgertest.WithHeartbeat(ledgertest.Policy(), device), ledgertest.WithInstance(device, real.id(t)))
	token := w.Devices[device].Sign
	opened := newInstance(t)
	enrolment := w.enrol(opened, "officer-1a", "officer-1b")
	prove := func(by *instance, e *approval.Enrolment) func(*approval.Offer) {
		return func(o *approval.Offer) {
			o.Instance = by.id(t)
			if err := o.Prove(rand.Reader, by.sign, by.agree.PublicKey(), e); err != nil {
				t.Fatal(err)
			}
		}
	}
	for what, edit := range map[string]func(*approval.Offer){
		"of the ceremony": prove(real, nil), "that officers opened": prove(opened, enrolment),
	} {
		if _, err := approval.VerifyOffer(w.State, w.signOffer(token, edit), w.Now); err != nil {
			t.Errorf("the instance %s: %v", what, err)
		}
	}
	good := func(o *approval.Offer) { prove(opened, enrolment)(o) }
	for what, c := range map[string]struct {
		edit func(*approval.Offer)
		want string
	}{
		"no proof":                  {func(o *approval.Offer) { o.Instance = real.id(t) }, "not proved by the device's instance"},
		"his own instance":          {prove(thief, nil), "no officers have opened"},
		"the officers' enrolment":   {prove(thief, enrolment), "of another instance than"},
		"one officer":               {prove(thief, w.enrol(thief, "officer-1a")), "1 of 2 officers"},
		"another device's officers": {prove(thief, w.enrol(thief, "officer-2a", "officer-2b")), "is not an officer of device"},
		"the instance's name": {func(o *approval.Offer) {
			prove(thief, enrolment)(o)
			o.Instance = opened.id(t)
		}, "another instance than it names"},
		"the instance's keys": {func(o *approval.Offer) {
			good(o)
			keys := *o.Proof
			prove(thief, enrolment)(o)
			o.Instance, o.Proof.Sign, o.Proof.Agree = opened.id(t), keys.Sign, keys.Agree
		}, "not proved by the instance that it names"},
		"another one-time key": {func(o *approval.Offer) {
			good(o)
			o.Public = thief.agree.PublicKey().Bytes()
		}, "not proved by the instance that it names"},
		"another request": {func(o *approval.Offer) {
			good(o)
			o.Request[0] ^= 1
		}, "not proved by the instance that it names"},
	} {
		_, err := approval.VerifyOffer(w.State, w.signOffer(token, c.edit), w.Now)
		if !is[*approval.InstanceError](err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want …%s…", what, err, c.want)
		}
	}
	// A device that needs no beats has none to prove.
	w = newWorld(t)
	if _, err := approval.VerifyOffer(w.State, w.signOffer(w.Devices[device].Sign, prove(thief, nil)), w.Now); !is[*approval.InstanceError](err) {
		t.Error("a proof where none is due:", err)
	}
}

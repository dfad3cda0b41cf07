package approval_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

func (w *world) offer() approval.Offer {
	return approval.Offer{
		Request: w.req.Digest, Key: key, Epoch: 1, Device: device, Share: share, Instance: [16]byte{7},
		Public: ledgertest.NewPair(w.t, "one-time").Agree.PublicKey().Bytes(), Created: w.Now - 10, Expires: w.Now + 600,
	}
}

func (w *world) signOffer(k *ecdsa.PrivateKey, edit func(*approval.Offer)) []byte {
	w.t.Helper()
	o := w.offer()
	edit(&o)
	raw, err := approval.NewOffer(rand.Reader, k, w.State, o, [16]byte{})
	if err != nil {
		w.t.Fatal(err)
	}
	return raw
}

func TestOffer(t *testing.T) {
	w := newWorld(t)
	raw := w.signOffer(w.Devices[device].Sign, func(*approval.Offer) {})
	v, err := approval.VerifyOffer(w.State, raw, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	if o := v.Offer(); o.Device != device || !bytes.Equal(v.Public().Bytes(), o.Public) {
		t.Errorf("%+v", o)
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	m, err := u.Verify(&w.Devices[device].Sign.PublicKey)
	if err != nil || m.Digest() != v.Digest() {
		t.Error("digest", err)
	}
	if err := v.For(w.req.Digest); err != nil {
		t.Error(err)
	}
	if err := v.For(envelope.Hash{1}); !is[*approval.WrongRequestError](err) {
		t.Error("for another request:", err)
	}
}

func TestOfferRefused(t *testing.T) {
	w := newWorld(t)
	d := w.Devices[device].Sign
	edit := func(f func(*approval.Offer)) []byte { return w.signOffer(d, f) }
	header := func(f func(*envelope.Header)) []byte {
		return w.raw(d, ptr(w.offer()), func(h *envelope.Header) {
			h.Type, h.Created, h.Expires = approval.TypeOffer, w.Now-10, w.Now+600
			f(h)
		})
	}
	rawEdit := func(f func(*approval.Offer)) []byte {
		o := w.offer()
		f(&o)
		return w.raw(d, &o, func(h *envelope.Header) {
			h.Type, h.Key, h.Epoch, h.Created, h.Expires = approval.TypeOffer, o.Key, o.Epoch, o.Created, o.Expires
		})
	}
	point := w.offer().Public
	none := func(*approval.Offer) {}
	if _, err := approval.VerifyOffer(w.State, header(func(*envelope.Header) {}), w.Now); err != nil {
		t.Fatal("the offer that all others differ from:", err)
	}
	for _, c := range []struct {
		name string
		raw  []byte
		is   func(error) bool
		want string
	}{
		{"rubbish", []byte("rubbish"), nil, "envelope"},
		{"stranger", w.signOffer(ledgertest.NewSigner(t, "stranger"), none), is[*approval.UnknownSignerError], "does not know"},
		{"officer", w.signOffer(w.card("officer-1a"), none), is[*approval.WrongSignerError], "only a device's token"},
		{"server", w.signOffer(w.Servers["server-1"].Sign, none), is[*approval.WrongSignerError], "only a device's token"},
		{"boot key", w.signOffer(w.Devices[device].Boot, none), is[*approval.WrongSignerError], "only a device's token"},
		{"another device", w.signOffer(w.Devices["device-2"].Sign, none), is[*approval.MismatchError], `names device "device-1", expected "device-2"`},
		{"another share", edit(func(o *approval.Offer) { o.Share = "certs.device-2" }), is[*approval.MismatchError], "share"},
		{"unknown key", edit(func(o *approval.Offer) { o.Key = "gold" }), is[*approval.MismatchError], `key "gold"`},
		{"another epoch", edit(func(o *approval.Offer) { o.Epoch = 2 }), is[*approval.MismatchError], `epoch "2"`},
		{"expired", edit(func(o *approval.Offer) { o.Expires = w.Now }), is[*approval.ExpiredError], "expired 0 s ago"},
		{"from the future", edit(func(o *approval.Offer) { o.Created = w.Now + 61 }), is[*approval.TimeError], "in the future"},
		{"another system", header(func(h *envelope.Header) { h.System[0] ^= 1 }), is[*approval.MismatchError], "system"},
		{"unknown head", header(func(h *envelope.Header) { h.LedgerHead[0] ^= 1 }), is[*approval.UnknownHeadError], "catch up"},
		{"header's key", header(func(h *envelope.Header) { h.Key = "files" }), is[*approval.FormError], "different keys"},
		{"header's times", header(func(h *envelope.Header) { h.Expires++ }), is[*approval.FormError], "different times"},
		{"another type", header(func(h *envelope.Header) { h.Type = approval.TypeApproval }), is[*envelope.TypeError], "type"},
		{"another version", header(func(h *envelope.Header) { h.Version = 2 }), is[*envelope.TypeError], "version"},
		{"no request", rawEdit(func(o *approval.Offer) { o.Request = envelope.Hash{} }), is[*approval.FormError], "names no request"},
		{"no share", rawEdit(func(o *approval.Offer) { o.Share = "" }), is[*approval.FormError], "is missing"},
		{"no instance", rawEdit(func(o *approval.Offer) { o.Instance = [16]byte{} }), is[*approval.FormError], "instance id is zero"},
		{"life too long", rawEdit(func(o *approval.Offer) { o.Expires = o.Created + approval.MaxOfferLife + 1 }), is[*approval.FormError], "lives longer"},
		{"no point", rawEdit(func(o *approval.Offer) { o.Public = nil }), is[*approval.FormError], "not a point on P-256"},
		{"point off the curve", rawEdit(func(o *approval.Offer) { o.Public = flip(point, 64) }), is[*approval.FormError], "not a point on P-256"},
		{"point at infinity", rawEdit(func(o *approval.Offer) { o.Public = []byte{0} }), is[*approval.FormError], "not a point on P-256"},
		{"compressed point", rawEdit(func(o *approval.Offer) { o.Public = append([]byte{2 + point[64]&1}, point[1:33]...) }), is[*approval.FormError], "not a point on P-256"},
		{"point with a byte more", rawEdit(func(o *approval.Offer) { o.Public = append(bytes.Clone(point), 0) }), is[*approval.FormError], "not a point on P-256"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := approval.VerifyOffer(w.State, c.raw, w.Now)
			if err == nil || v != nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) || c.is != nil && !c.is(err) {
				t.Errorf("got  %v (%T)\nwant …%s…", err, err, c.want)
			}
		})
	}
	o := w.offer()
	o.Public[64] ^= 1
	if _, err := approval.NewOffer(rand.Reader, d, w.State, o, [16]byte{}); !is[*approval.FormError](err) {
		t.Error("NewOffer signed a bad point:", err)
	}
	o = w.offer()
	o.Expires = o.Created
	if _, err := approval.NewOffer(rand.Reader, d, w.State, o, [16]byte{}); !is[*approval.FormError](err) {
		t.Error("NewOffer signed an offer without life:", err)
	}
}

// A device of the system that holds no share of the key.
func TestOfferByStandby(t *testing.T) {
	p := ledgertest.NewPair(t, "device-6")
	w := newWorld(t)
	s := ledgertest.Unsigned(t)
	s.Devices["device-6"] = &ledgertest.Device{ID: "device-6", Pair: p}
	s.Genesis.Devices = append(s.Genesis.Devices, ledger.Device{
		ID: "device-6", Name: "Seal 6", Serial: "6", Model: "Software token", Server: "server-1", Unattended: true,
		Sign: ledgertest.SPKI(t, p.Sign.Public()), Agree: ledgertest.SPKI(t, p.Agree.PublicKey()), Firmware: s.Genesis.Firmware,
	})
	s.Commission(t)
	w.System = s
	raw := w.signOffer(p.Sign, func(o *approval.Offer) { o.Device = "device-6" })
	if _, err := approval.VerifyOffer(w.State, raw, w.Now); !is[*approval.MismatchError](err) || !strings.Contains(err.Error(), "a holder of key certs") {
		t.Error(err)
	}
}

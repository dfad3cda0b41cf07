package client_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/share"
)

// officerItem is an item made by hand, with all that a test needs to alter it
// and to open what comes back.
type officerItem struct {
	w       *world
	officer *client.Officer
	card    *ledgertest.Card
	oneTime *ecdh.PrivateKey
	offer   approval.Offer
	piece   share.Piece
	in      api.InboxItem
	digest  envelope.Hash
}

func (w *world) handmade(wish client.Wish, requester ...*ledgertest.Card) *officerItem {
	w.t.Helper()
	fail := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	x := &officerItem{w: w, card: w.Persons["officer-1a"].Card()}
	var err error
	x.officer, err = client.FindOfficer(w.State, x.card.Serial, w.unix())
	fail(err)
	srv, _ := w.sys.Server("")
	signer := w.program()
	if len(requester) > 0 {
		signer = requester[0].Sign
	}
	r, err := client.NewRequest(rand.Reader, w.State, signer, wish, srv, w.unix())
	fail(err)
	x.digest = r.Digest
	x.oneTime, err = ecdh.P256().GenerateKey(rand.Reader)
	fail(err)
	h, _ := w.State.HolderOf(wish.Key, "device-1")
	x.offer = approval.Offer{
		Request: r.Digest, Key: wish.Key, Epoch: 1, Device: "device-1", Share: h.Share, Instance: [16]byte{9},
		Public: x.oneTime.PublicKey().Bytes(), Created: w.unix(), Expires: w.unix() + 600,
	}
	pieces, err := share.SplitSecret(rand.Reader, bytes.Repeat([]byte{5}, 32), 2, 2)
	fail(err)
	x.piece = pieces[0]
	card, _ := envelope.KeyIDOf(x.card.Agree.PublicKey())
	x.in = api.InboxItem{
		Request: r.Raw, Device: "device-1", Share: h.Share, Mode: r.Request.Route.Approvals, Need: 2, Approved: []string{},
		Piece: ceremony.SealedPiece{ID: "p1", Purpose: share.PurposeShare, Device: "device-1", Share: h.Share, Person: "officer-1a", Card: card},
	}
	x.in.Piece.Sealed, err = share.SealPieceToCard(x.card.Agree.PublicKey(), share.PieceContext{
		ID: "p1", Purpose: share.PurposeShare, Device: "device-1", Share: h.Share, Card: card,
	}, x.piece)
	fail(err)
	x.in.Offers = [][]byte{x.offerBy(w.Sites.System.Devices["device-1"].Pair)}
	return x
}

func (x *officerItem) offerBy(p ledgertest.Pair) []byte {
	raw, err := approval.NewOffer(rand.Reader, p.Sign, x.w.State, x.offer, [16]byte{})
	if err != nil {
		x.w.t.Fatal(err)
	}
	return raw
}

// open hands the item to the workstation, signed by a server.
func (x *officerItem) open(server ledgertest.Pair, system envelope.Hash) (*client.Item, error) {
	return x.openAt(server, system, x.w.unix())
}

// openAt is open for an item made at some time.
func (x *officerItem) openAt(server ledgertest.Pair, system envelope.Hash, made int64) (*client.Item, error) {
	body, err := envelope.Marshal(x.in)
	if err != nil {
		x.w.t.Fatal(err)
	}
	raw, err := envelope.Sign(rand.Reader, server.Sign, envelope.Header{
		Type: api.TypeInboxItem, Version: api.InboxItemVersion, System: system, Created: made, Expires: made + 600,
	}, body)
	if err != nil {
		x.w.t.Fatal(err)
	}
	sealed, err := envelope.Seal(rand.Reader, raw, []*ecdh.PublicKey{x.card.Agree.PublicKey()})
	if err != nil {
		x.w.t.Fatal(err)
	}
	return client.OpenItem(x.w.State, x.officer, x.card.Agree, sealed, x.w.unix())
}

// What an approval carries opens with the device's one-time key in the
// device's own context, and is the officer's piece.
func TestPieceReachesTheDevice(t *testing.T) {
	w := newWorld(t)
	x := w.handmade(file(document.ApprovalsSet))
	i, err := x.open(*w.Servers["server-1"], w.State.System())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := i.Approve(rand.Reader, w.State, client.Keys{Sign: x.card.Sign, Agree: x.card.Agree}, w.unix())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := envelope.Open(sealed, w.Servers["server-1"].Agree)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := envelope.Parse(raw)
	var a approval.Approval
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &a); err != nil {
		t.Fatal(err)
	}
	if len(a.Pieces) != 1 || a.Expires != x.offer.Expires {
		t.Fatalf("%+v", a)
	}
	o, err := approval.VerifyOffer(w.State, x.in.Offers[0], w.unix())
	if err != nil {
		t.Fatal(err)
	}
	p, err := share.OpenPieceFromOffer(x.oneTime,
		firmware.PieceContext(x.digest, o.Digest(), "device-1", x.in.Share, a.Pieces[0].Piece, u.Header().Signer), a.Pieces[0].Sealed)
	if err != nil || p.Index != x.piece.Index || !bytes.Equal(p.Value.Reveal(), x.piece.Value.Reveal()) {
		t.Fatalf("%v", err)
	}
}

// Nothing that a lying message server puts together is shown as something to
// approve, and every lie is named.
func TestLyingServer(t *testing.T) {
	w := newWorld(t)
	good := func() *officerItem { return w.handmade(file(document.ApprovalsSet)) }
	if _, err := good().open(*w.Servers["server-1"], w.State.System()); err != nil {
		t.Fatal(err)
	}
	system := w.Sites.System
	for name, c := range map[string]struct {
		lie  func(x *officerItem)
		want string
	}{
		"request altered": {func(x *officerItem) { x.in.Request[len(x.in.Request)-1] ^= 1 }, "signature"},
		"request by a stranger": {func(x *officerItem) {
			x.in.Request = resign(t, x.in.Request, ledgertest.NewSigner(t, "stranger"), nil)
		}, "does not know"},
		"request in another's name": {func(x *officerItem) {
			x.in.Request = resign(t, x.in.Request, system.Persons["officer-2a"].Card().Sign, nil)
		}, "but officer-2a signed it"},
		"request by a server": {func(x *officerItem) {
			x.in.Request = resign(t, x.in.Request, system.Servers["server-1"].Sign, nil)
		}, "makes no requests"},
		"document no device would sign": {func(x *officerItem) {
			x.in.Request = resign(t, x.in.Request, w.Persons[ledgertest.Program].Software, func(r *document.Request) { r.Size++ })
		}, "the request says"},
		"expired": {func(x *officerItem) {
			x.in.Request = resign(t, x.in.Request, w.Persons[ledgertest.Program].Software, func(r *document.Request) { r.Created -= 7200; r.Expires -= 7200 })
		}, "expired"},
		"request of another system": {func(x *officerItem) {
			x.in.Request = resignAs(t, x.in.Request, w.Persons[ledgertest.Program].Software, func(_ *document.Request, h *envelope.Header) { h.System[0] ^= 1 })
		}, "for another system"},
		"request under a newer ledger": {func(x *officerItem) {
			x.in.Request = resignAs(t, x.in.Request, w.Persons[ledgertest.Program].Software, func(_ *document.Request, h *envelope.Header) { h.LedgerHead[0] ^= 1 })
		}, "newer ledger"},
		"another's device": {func(x *officerItem) {
			h, _ := w.State.HolderOf(x.offer.Key, "device-2")
			x.in.Device, x.in.Share, x.offer.Device, x.offer.Share = "device-2", h.Share, "device-2", h.Share
			x.in.Piece.Device, x.in.Piece.Share = "device-2", h.Share
			x.in.Offers[0] = x.offerBy(system.Devices["device-2"].Pair)
		}, "is not an officer of device device-2"},
		"unknown device": {func(x *officerItem) { x.in.Device = "device-9" }, "there is no device"},
		"another device": {func(x *officerItem) { x.in.Device = "device-2" }, "does not hold share"},
		"another share":  {func(x *officerItem) { x.in.Share = "certs.device-1" }, "does not hold share"},
		"device not on route": {func(x *officerItem) {
			*x = *w.handmade(file(document.ApprovalsSet, "device-2", "device-3", "device-4"))
		}, "route does not include"},
		"another mode": {func(x *officerItem) { x.in.Mode = document.ApprovalsChain }, "asks for approvals as a set"},
		"no offer":     {func(x *officerItem) { x.in.Offers = [][]byte{} }, "offers no key"},
		"two offers":   {func(x *officerItem) { x.in.Offers = append(x.in.Offers, x.in.Offers[0]) }, "two keys"},
		"key of the server's own": {func(x *officerItem) {
			x.in.Offers[0] = x.offerBy(*system.Servers["server-1"])
		}, "only a device's token offers"},
		"offer by the boot key": {func(x *officerItem) {
			x.in.Offers[0] = x.offerBy(ledgertest.Pair{Sign: system.Devices["device-1"].Boot})
		}, "only a device's token offers"},
		"offer by another device": {func(x *officerItem) {
			h, _ := w.State.HolderOf(x.offer.Key, "device-2")
			x.offer.Device, x.offer.Share = "device-2", h.Share
			x.in.Offers[0] = x.offerBy(system.Devices["device-2"].Pair)
		}, "offers a key for share"},
		"offer in another's name": {func(x *officerItem) {
			x.in.Offers[0] = x.offerBy(system.Devices["device-2"].Pair)
		}, "names device"},
		"offer for another request": {func(x *officerItem) {
			x.offer.Request[0] ^= 1
			x.in.Offers[0] = x.offerBy(system.Devices["device-1"].Pair)
		}, "another request"},
		"offer expired": {func(x *officerItem) {
			x.offer.Created -= 1000
			x.offer.Expires -= 1000
			x.in.Offers[0] = x.offerBy(system.Devices["device-1"].Pair)
		}, "expired"},
		"piece of another share": {func(x *officerItem) { x.in.Piece.Share = "certs.device-1" }, "not this card's"},
		"piece of a PIN":         {func(x *officerItem) { x.in.Piece.Purpose = share.PurposePIN }, "not this card's"},
		"piece of another card":  {func(x *officerItem) { x.in.Piece.Card[0] ^= 1 }, "not this card's"},
		"something before a set": {func(x *officerItem) { x.in.Prior = x.in.Offers[0] }, "approvals are independent"},
	} {
		x := good()
		c.lie(x)
		i, err := x.open(*w.Servers["server-1"], w.State.System())
		if i != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := good().open(*w.Servers["server-1"], envelope.Hash{1}); err == nil || !strings.Contains(err.Error(), "another system") {
		t.Errorf("another system: %v", err)
	}
	if _, err := good().openAt(*w.Servers["server-1"], w.State.System(), w.unix()-601); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an old item: %v", err)
	}
	if _, err := good().open(ledgertest.NewPair(t, "stranger"), w.State.System()); err == nil || !strings.Contains(err.Error(), "does not come from") {
		t.Errorf("a stranger's item: %v", err)
	}
	device := ledgertest.Pair{Sign: system.Devices["device-1"].Sign}
	if _, err := good().open(device, w.State.System()); err == nil || !strings.Contains(err.Error(), "does not come from") {
		t.Errorf("a device's item: %v", err)
	}
}

// A piece that does not open is noticed before anything is signed.
func TestTamperedPiece(t *testing.T) {
	w := newWorld(t)
	x := w.handmade(file(document.ApprovalsSet))
	x.in.Piece.Sealed[len(x.in.Piece.Sealed)-1] ^= 1
	i, err := x.open(*w.Servers["server-1"], w.State.System())
	if err != nil {
		t.Fatal(err)
	}
	if out, err := i.Approve(rand.Reader, w.State, client.Keys{Sign: x.card.Sign, Agree: x.card.Agree}, w.unix()); err == nil || out != nil {
		t.Errorf("%v", err)
	}
}

// Keys that panic when used: the card is not touched for the officer's own
// request, even when a server asks him.
func TestOwnRequestDoesNotTouchTheCard(t *testing.T) {
	w := newWorld(t)
	x := w.handmade(file(document.ApprovalsSet), w.Persons["officer-1a"].Cards[1])
	i, err := x.open(*w.Servers["server-1"], w.State.System())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Approve(rand.Reader, w.State, client.Keys{}, w.unix()); err == nil || !strings.Contains(err.Error(), "made the request and cannot approve it") {
		t.Errorf("%v", err)
	}
}

// What comes before in a chain must be this request's own.
func TestLyingChain(t *testing.T) {
	w := newWorld(t)
	chain := func() *officerItem { return w.handmade(file(document.ApprovalsChain)) }
	partial := func(x *officerItem, by string, p firmware.Partial, system envelope.Hash) []byte {
		h, _ := w.State.HolderOf(p.Key, p.Device)
		p.Share, p.Index = h.Share, h.Index
		if p.Share == "" {
			p.Share = "none"
		}
		p.Order, p.Y, p.Officers = []uint64{1, 2, 3}, []byte{1}, []string{}
		body, err := envelope.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := envelope.Sign(rand.Reader, w.Sites.System.Devices[by].Sign, envelope.Header{
			Type: firmware.TypePartial, Version: firmware.MessageVersion, System: system, Created: w.unix(), Expires: w.unix() + 100,
		}, body)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for name, c := range map[string]struct {
		prior func(x *officerItem) []byte
		want  string // "" is good
	}{
		"nothing": {func(*officerItem) []byte { return nil }, ""},
		"a partial signature": {func(x *officerItem) []byte {
			return partial(x, "device-2", firmware.Partial{Request: x.digest, Key: ledgertest.KeyFiles, Epoch: 1, Device: "device-2"}, w.State.System())
		}, ""},
		"of another request": {func(x *officerItem) []byte {
			return partial(x, "device-2", firmware.Partial{Key: ledgertest.KeyFiles, Epoch: 1, Device: "device-2"}, w.State.System())
		}, "is for request"},
		"of another system": {func(x *officerItem) []byte {
			return partial(x, "device-2", firmware.Partial{Request: x.digest, Key: ledgertest.KeyFiles, Epoch: 1, Device: "device-2"}, envelope.Hash{3})
		}, "another system"},
		"of another key": {func(x *officerItem) []byte {
			return partial(x, "device-2", firmware.Partial{Request: x.digest, Key: ledgertest.KeyCertificates, Epoch: 1, Device: "device-2"}, w.State.System())
		}, "does not belong here"},
		"in another's name": {func(x *officerItem) []byte {
			return partial(x, "device-3", firmware.Partial{Request: x.digest, Key: ledgertest.KeyFiles, Epoch: 1, Device: "device-2"}, w.State.System())
		}, "does not belong here"},
		"by the same device": {func(x *officerItem) []byte {
			return partial(x, "device-1", firmware.Partial{Request: x.digest, Key: ledgertest.KeyFiles, Epoch: 1, Device: "device-1"}, w.State.System())
		}, "does not belong here"},
		"an offer":  {func(x *officerItem) []byte { return x.in.Offers[0] }, "the chain before"},
		"nonsense":  {func(*officerItem) []byte { return []byte("nonsense") }, "the chain before"},
		"a request": {func(x *officerItem) []byte { return x.in.Request }, "the chain before"},
		"the officer's own approval": {func(x *officerItem) []byte {
			i, err := x.open(*w.Servers["server-1"], w.State.System())
			if err != nil {
				t.Fatal(err)
			}
			return unseal(t, w, approved(t, w, i, x.card))
		}, "has approved this request at device device-1 already"},
		"an approval of another request": {func(x *officerItem) []byte {
			y := chain()
			i, err := y.open(*w.Servers["server-1"], w.State.System())
			if err != nil {
				t.Fatal(err)
			}
			return unseal(t, w, approved(t, w, i, y.card))
		}, "was given for another request"},
	} {
		x := chain()
		x.in.Prior = c.prior(x)
		_, err := x.open(*w.Servers["server-1"], w.State.System())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// In parallel signing no device comes before another.
func TestPartialBeforeParallel(t *testing.T) {
	w := newWorld(t)
	wish := certificate(t)
	wish.Approvals = document.ApprovalsChain
	x := w.handmade(wish)
	h, _ := w.State.HolderOf(wish.Key, "device-2")
	body, err := envelope.Marshal(firmware.Partial{
		Request: x.digest, Key: wish.Key, Epoch: 1, Device: "device-2", Share: h.Share, Index: h.Index, Order: []uint64{1, 2, 3}, Y: []byte{1}, Officers: []string{},
	})
	if err != nil {
		t.Fatal(err)
	}
	x.in.Prior, err = envelope.Sign(rand.Reader, w.Sites.System.Devices["device-2"].Sign, envelope.Header{
		Type: firmware.TypePartial, Version: firmware.MessageVersion, System: w.State.System(), Created: w.unix(), Expires: w.unix() + 100,
	}, body)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.open(*w.Servers["server-1"], w.State.System()); err == nil || !strings.Contains(err.Error(), "sign in parallel") {
		t.Errorf("%v", err)
	}
}

func approved(t *testing.T, w *world, i *client.Item, c *ledgertest.Card) []byte {
	t.Helper()
	sealed, err := i.Approve(rand.Reader, w.State, client.Keys{Sign: c.Sign, Agree: c.Agree}, w.unix())
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func unseal(t *testing.T, w *world, sealed []byte) []byte {
	t.Helper()
	raw, err := envelope.Open(sealed, w.Servers["server-1"].Agree)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// resign alters a request and signs it with another key.
func resign(t *testing.T, raw []byte, key crypto.Signer, alter func(*document.Request)) []byte {
	return resignAs(t, raw, key, func(r *document.Request, _ *envelope.Header) {
		if alter != nil {
			alter(r)
		}
	})
}

// resignAs alters the header, too.
func resignAs(t *testing.T, raw []byte, key crypto.Signer, alter func(*document.Request, *envelope.Header)) []byte {
	t.Helper()
	u, err := envelope.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	var r document.Request
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &r); err != nil {
		t.Fatal(err)
	}
	h := u.Header()
	alter(&r, &h)
	body, err := envelope.Marshal(&r)
	if err != nil {
		t.Fatal(err)
	}
	h.Signer, h.Created, h.Expires = envelope.KeyID{}, r.Created, r.Expires
	out, err := envelope.Sign(rand.Reader, key, h, body)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A server that answers for another request than the one asked about.
func TestMistakenServer(t *testing.T) {
	w := newWorld(t)
	first := w.ask(w.program(), file(document.ApprovalsSet))
	w.Answer = func(v any) {
		switch v := v.(type) {
		case *api.Accepted:
			v.Request = first.Digest
		case *api.Tracking:
			v.Request[0] ^= 1
		}
	}
	srv, _ := w.sys.Server("")
	r, err := client.NewRequest(rand.Reader, w.State, w.program(), file(document.ApprovalsSet), srv, w.unix())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.dial("").Send(t.Context(), rand.Reader, w.State, r); err == nil || !strings.Contains(err.Error(), "took request") {
		t.Errorf("%v", err)
	}
	if _, err := w.dial("").Tracking(t.Context(), first.Digest); err == nil || !strings.Contains(err.Error(), "answers for request") {
		t.Errorf("%v", err)
	}
}

func TestUnlock(t *testing.T) {
	w := newWorld(t)
	for n, person := range []string{"officer-3a", "officer-3b"} {
		o, k, conn := w.officer(person)
		offered, err := conn.UnlockAsk(t.Context(), "device-3")
		if err != nil {
			t.Fatal(err)
		}
		l, err := client.VerifyUnlockOffer(w.State, o, "device-3", offered, w.unix())
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := l.Approve(rand.Reader, w.State, k, "server-3", w.unix())
		if err != nil {
			t.Fatal(err)
		}
		got, err := conn.Unlock(t.Context(), sealed)
		if err != nil || got.Have != uint64(n+1) || got.Need != 2 || (got.Status != nil) != (n == 1) {
			t.Fatalf("%s: %+v, %v", person, got, err)
		}
	}
}

func TestUnlockLies(t *testing.T) {
	w := newWorld(t)
	o, k, conn := w.officer("officer-3a")
	other, _, _ := w.officer("officer-4a")
	fresh := func() *firmware.UnlockOffered {
		in, err := conn.UnlockAsk(t.Context(), "device-3")
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	system := w.Sites.System
	offerBy := func(signer crypto.Signer, alter func(*approval.UnlockOffer, *envelope.Header)) []byte {
		offer := approval.UnlockOffer{Device: "device-3", Public: system.Devices["device-3"].Agree.PublicKey().Bytes(), Created: w.unix(), Expires: w.unix() + 60}
		h := envelope.Header{Type: approval.TypeUnlockOffer, Version: 1, System: w.State.System(), Created: offer.Created, Expires: offer.Expires}
		if alter != nil {
			alter(&offer, &h)
		}
		body, err := envelope.Marshal(offer)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := envelope.Sign(rand.Reader, signer, h, body)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	boot := system.Devices["device-3"].Boot
	for name, c := range map[string]struct {
		officer *client.Officer
		lie     func(*firmware.UnlockOffered)
		want    string
	}{
		"good":                  {o, func(in *firmware.UnlockOffered) { in.Offer = offerBy(boot, nil) }, ""},
		"not his device":        {other, func(*firmware.UnlockOffered) {}, "is not an officer of device"},
		"the server's own key":  {o, func(in *firmware.UnlockOffered) { in.Offer = offerBy(system.Servers["server-3"].Sign, nil) }, "boot key"},
		"another device's":      {o, func(in *firmware.UnlockOffered) { in.Offer = offerBy(system.Devices["device-4"].Boot, nil) }, "boot key"},
		"the token's signature": {o, func(in *firmware.UnlockOffered) { in.Offer = offerBy(system.Devices["device-3"].Sign, nil) }, "boot key"},
		"another device named": {o, func(in *firmware.UnlockOffered) {
			in.Offer = offerBy(boot, func(u *approval.UnlockOffer, _ *envelope.Header) { u.Device = "device-4" })
		}, "contradicts itself"},
		"another system": {o, func(in *firmware.UnlockOffered) {
			in.Offer = offerBy(boot, func(_ *approval.UnlockOffer, h *envelope.Header) { h.System[0] ^= 1 })
		}, "contradicts itself"},
		"expired": {o, func(in *firmware.UnlockOffered) {
			in.Offer = offerBy(boot, func(u *approval.UnlockOffer, h *envelope.Header) {
				u.Created, u.Expires = u.Created-100, u.Created-50
				h.Created, h.Expires = u.Created, u.Expires
			})
		}, "expired"},
		"no point": {o, func(in *firmware.UnlockOffered) {
			in.Offer = offerBy(boot, func(u *approval.UnlockOffer, _ *envelope.Header) { u.Public[64] ^= 1 })
		}, "one-time key"},
		"no piece": {o, func(in *firmware.UnlockOffered) { in.Pieces = nil }, "no piece"},
		"another's pieces": {o, func(in *firmware.UnlockOffered) {
			in.Pieces = slices.DeleteFunc(in.Pieces, func(p ceremony.SealedPiece) bool { return p.Person == "officer-3a" })
		}, "no piece"},
	} {
		in := fresh()
		c.lie(in)
		_, err := client.VerifyUnlockOffer(w.State, c.officer, "device-3", in, w.unix())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	l, err := client.VerifyUnlockOffer(w.State, o, "device-3", fresh(), w.unix())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Approve(rand.Reader, w.State, k, "server-3", w.unix()+601); err == nil {
		t.Error("approved for a key that expired")
	}
}

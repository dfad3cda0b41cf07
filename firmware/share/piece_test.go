package share_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/hsm/hsmtest"
)

func agreement(t testing.TB) (*ecdh.PrivateKey, envelope.KeyID) {
	t.Helper()
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := envelope.KeyIDOf(k.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	return k, id
}

// TestPieceToCard seals to a key that lives in a token, as a card's does, and
// changes each part of the context: none may open.
func TestPieceToCard(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	card, err := tok.GenerateKeyExchanger("slot 9D")
	if err != nil {
		t.Fatal(err)
	}
	id, err := envelope.KeyIDOf(card.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	stranger, strangerID := agreement(t)
	ctx := share.PieceContext{ID: "share/root-2/anna", Purpose: share.PurposeShare, Device: "device-2", Share: "root/2", Version: 1, Card: id}
	p := piece(2, "a piece of thirty-two bytes here")
	sealed, err := share.SealPieceToCard(card.PublicKey(), ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	got, err := share.OpenPieceFromCard(card, ctx, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if got.Index != 2 || !got.Value.Equal(p.Value) {
		t.Fatal("another piece")
	}
	for name, edit := range map[string]func(*share.PieceContext){
		"id":      func(c *share.PieceContext) { c.ID = "share/root-2/bert" },
		"purpose": func(c *share.PieceContext) { c.Purpose, c.Share = share.PurposePIN, "" },
		"device":  func(c *share.PieceContext) { c.Device = "device-3" },
		"share":   func(c *share.PieceContext) { c.Share = "root/3" },
		"version": func(c *share.PieceContext) { c.Version = 2 },
	} {
		c := ctx
		edit(&c)
		if _, err := share.OpenPieceFromCard(card, c, sealed); !errors.Is(err, envelope.ErrOpen) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if _, err := share.OpenPieceFromCard(stranger, ctx, sealed); err == nil {
		t.Error("a stranger's card opened it")
	}
	c := ctx
	c.Card = strangerID
	if _, err := share.OpenPieceFromCard(stranger, c, sealed); !errors.Is(err, envelope.ErrOpen) {
		t.Errorf("a stranger's card, renamed: %v", err)
	}
	if _, err := share.SealPieceToCard(stranger.PublicKey(), ctx, p); err == nil {
		t.Error("sealed to another key than the context names")
	}
	for name, bad := range map[string]share.Piece{"index 0": piece(0, "x"), "index 17": piece(17, "x"), "empty": piece(1, ""), "wiped": {Index: 1}} {
		if _, err := share.SealPieceToCard(card.PublicKey(), ctx, bad); !errors.Is(err, share.ErrPiece) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, edit := range map[string]func(*share.PieceContext){
		"purpose":            func(c *share.PieceContext) { c.Purpose = "other" },
		"no id":              func(c *share.PieceContext) { c.ID = "" },
		"no device":          func(c *share.PieceContext) { c.Device = "" },
		"no share":           func(c *share.PieceContext) { c.Share = "" },
		"PIN that has share": func(c *share.PieceContext) { c.Purpose = share.PurposePIN },
	} {
		c := ctx
		edit(&c)
		if _, err := share.SealPieceToCard(card.PublicKey(), c, p); err == nil {
			t.Errorf("sealed: %s", name)
		}
	}
}

func TestPieceForOffer(t *testing.T) {
	oneTime, _ := agreement(t)
	restarted, _ := agreement(t)
	ctx := share.OfferContext{ID: "share/root-2/anna", Purpose: share.PurposeShare, Request: envelope.Hash{1}, Offer: envelope.Hash{2},
		Device: "device-2", Share: "root/2", Officer: envelope.KeyID{3}}
	p := piece(1, "piece")
	sealed, err := share.SealPieceForOffer(oneTime.PublicKey(), ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	got, err := share.OpenPieceFromOffer(oneTime, ctx, sealed)
	if err != nil || got.Index != 1 || !got.Value.Equal(p.Value) {
		t.Fatalf("%v, %v", got, err)
	}
	if _, err := share.OpenPieceFromOffer(restarted, ctx, sealed); !errors.Is(err, envelope.ErrOpen) {
		t.Errorf("another one-time key: %v", err)
	}
	for name, edit := range map[string]func(*share.OfferContext){
		"id":      func(c *share.OfferContext) { c.ID = "x" },
		"request": func(c *share.OfferContext) { c.Request[0]++ },
		"offer":   func(c *share.OfferContext) { c.Offer[0]++ },
		"device":  func(c *share.OfferContext) { c.Device = "device-3" },
		"share":   func(c *share.OfferContext) { c.Share = "root/3" },
		"officer": func(c *share.OfferContext) { c.Officer[0]++ },
	} {
		c := ctx
		edit(&c)
		if _, err := share.OpenPieceFromOffer(oneTime, c, sealed); !errors.Is(err, envelope.ErrOpen) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	for name, edit := range map[string]func(*share.OfferContext){
		"request": func(c *share.OfferContext) { c.Request = envelope.Hash{} },
		"offer":   func(c *share.OfferContext) { c.Offer = envelope.Hash{} },
		"officer": func(c *share.OfferContext) { c.Officer = envelope.KeyID{} },
		"device":  func(c *share.OfferContext) { c.Device = "" },
		"purpose": func(c *share.OfferContext) { c.Purpose = "" },
	} {
		c := ctx
		edit(&c)
		if _, err := share.SealPieceForOffer(oneTime.PublicKey(), c, p); err == nil {
			t.Errorf("sealed without %s", name)
		}
	}
	pin := share.OfferContext{ID: "pin/device-2/anna", Purpose: share.PurposePIN, Offer: envelope.Hash{2}, Device: "device-2", Officer: envelope.KeyID{3}}
	if sealed, err = share.SealPieceForOffer(oneTime.PublicKey(), pin, p); err != nil {
		t.Fatal(err)
	}
	if _, err := share.OpenPieceFromOffer(oneTime, pin, sealed); err != nil {
		t.Fatal(err)
	}
	pin.Request = envelope.Hash{1}
	if _, err := share.OpenPieceFromOffer(oneTime, pin, sealed); err == nil {
		t.Error("a piece of a PIN opened for a request")
	}
}

// TestSealsAreApart: a piece sealed for keeping does not open as one handed
// over, even under the same key.
func TestSealsAreApart(t *testing.T) {
	k, id := agreement(t)
	sealed, err := share.SealPieceToCard(k.PublicKey(), share.PieceContext{ID: "i", Purpose: share.PurposeShare, Device: "d", Share: "s", Card: id}, piece(1, "x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := share.OpenPieceFromOffer(k, share.OfferContext{ID: "i", Purpose: share.PurposeShare, Device: "d", Share: "s",
		Request: envelope.Hash{1}, Offer: envelope.Hash{1}, Officer: id}, sealed); !errors.Is(err, envelope.ErrOpen) {
		t.Errorf("%v", err)
	}
}

package share

import (
	"bytes"
	"crypto/ecdh"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// FuzzOpenPiece: an officer seals whatever he likes, properly. What opens is a
// piece that could have been sealed.
func FuzzOpenPiece(f *testing.F) {
	k, err := ecdh.P256().NewPrivateKey(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		f.Fatal(err)
	}
	good, err := envelope.Marshal(Piece{Index: 1, Value: threshold.NewSecret([]byte("value"))})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{0xa2, 0x01, 0x00, 0x02, 0x40})
	ctx := OfferContext{ID: "i", Purpose: PurposeShare, Device: "d", Share: "s", Request: envelope.Hash{1}, Offer: envelope.Hash{2}, Officer: envelope.KeyID{3}}
	f.Fuzz(func(t *testing.T, plain []byte) {
		sealed, err := envelope.SealTo(k.PublicKey(), ctx.info(), nil, plain)
		if err != nil {
			t.Fatal(err)
		}
		p, err := OpenPieceFromOffer(k, ctx, sealed)
		if err != nil {
			return
		}
		if p.validate() != nil {
			t.Fatalf("impossible piece from %x", plain)
		}
		if again, err := envelope.Marshal(p); err != nil || !bytes.Equal(again, plain) {
			t.Fatalf("%x became %x", plain, again)
		}
	})
}

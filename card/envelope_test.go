package card

import (
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// TestEnvelope: the keys of a card sign a message and open what is sealed to
// the card.
func TestEnvelope(t *testing.T) {
	r, e := enrolled(t, virtual.Profile57())
	c := r.open(t, Options{PIN: right, SignKey: e.Sign, AgreeKey: e.Agree})
	s, err := c.Signer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.Agreement(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	to, err := envelope.KeyIDOf(e.Agree)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	h := envelope.Header{Type: "approval", Version: 1, To: []envelope.KeyID{to}, Created: now, Expires: now + 60}
	rand.Read(h.ID[:])
	payload, err := envelope.Marshal("approved")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := envelope.Sign(rand.Reader, s, h, payload)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := envelope.Seal(rand.Reader, raw, []*ecdh.PublicKey{e.Agree})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := envelope.Open(sealed, a)
	if err != nil {
		t.Fatal(err)
	}
	u, err := envelope.Parse(opened)
	if err != nil {
		t.Fatal(err)
	}
	v, err := u.Verify(e.Sign)
	if err != nil {
		t.Fatal(err)
	}
	var text string
	if err := envelope.Decode(v, "approval", 1, &text); err != nil || text != "approved" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestEnvelopeTellsPIN: what the card says is still known after passing through
// HPKE and COSE.
func TestEnvelopeTellsPIN(t *testing.T) {
	r, e := enrolled(t, virtual.Profile57())
	src := &pins{give: []string{"000000", "000001"}}
	c := r.open(t, Options{PIN: src.source})
	s, err := c.Signer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.Agreement(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := envelope.SealTo(e.Agree, []byte("info"), nil, []byte("piece"))
	if err != nil {
		t.Fatal(err)
	}
	var wrong *PINError
	if _, err := envelope.OpenWith(a, []byte("info"), nil, sealed); !errors.As(err, &wrong) || wrong.Retries != 2 {
		t.Errorf("opening: %v", err)
	}
	h := envelope.Header{Type: "approval", Version: 1, ID: [16]byte{1}, Created: 1, Expires: 2}
	if _, err := envelope.Sign(rand.Reader, s, h, nil); !errors.As(err, &wrong) || wrong.Retries != 1 {
		t.Errorf("signing: %v", err)
	}
}

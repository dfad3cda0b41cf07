package envelope_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
)

func newSigner(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newAgreement(t testing.TB) (*ecdh.PrivateKey, envelope.KeyID) {
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

func TestSignSealOpenVerify(t *testing.T) {
	signer := newSigner(t)
	device, deviceID := newAgreement(t)
	officer, officerID := newAgreement(t)
	stranger, _ := newAgreement(t)
	type payload struct {
		Text string `cbor:"1,keyasint"`
	}
	body, err := envelope.Marshal(payload{"hello"})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := envelope.Sign(rand.Reader, signer, envelope.Header{
		Type: "test", Version: 1, To: []envelope.KeyID{deviceID, officerID}, Key: "root", Epoch: 1, Created: 100, Expires: 200,
	}, body)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := envelope.Seal(rand.Reader, raw, []*ecdh.PublicKey{device.PublicKey(), officer.PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := envelope.Seal(rand.Reader, raw, []*ecdh.PublicKey{stranger.PublicKey()}); err == nil {
		t.Error("sealed to a key the header does not name")
	}
	for _, k := range []*ecdh.PrivateKey{device, officer} {
		got, err := envelope.Open(sealed, k)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, raw) {
			t.Fatal("opened something else")
		}
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	v, err := u.Verify(&signer.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	var p payload
	if err := envelope.Decode(v, "test", 1, &p); err != nil || p.Text != "hello" {
		t.Fatalf("decoded %+v, %v", p, err)
	}
	h, err := envelope.Peek(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if h.Type != "test" || h.Signer != v.Signer() || len(h.To) != 2 {
		t.Errorf("peeked %+v", h)
	}
}

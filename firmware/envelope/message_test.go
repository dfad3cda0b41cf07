package envelope_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/veraison/go-cose"
)

func signed(t testing.TB, key crypto.Signer, h envelope.Header, payload []byte) *envelope.Verified {
	t.Helper()
	if h.Type == "" {
		h.Type = "test"
	}
	if h.Version == 0 {
		h.Version = 1
	}
	if h.Expires == 0 {
		h.Created, h.Expires = 1000, 2000
	}
	raw, err := envelope.Sign(rand.Reader, key, h, payload)
	if err != nil {
		t.Fatal(err)
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	v, err := u.Verify(key.Public().(*ecdsa.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestGoCoseAgrees: another implementation verifies what Sign makes, and does
// not when a byte is changed.
func TestGoCoseAgrees(t *testing.T) {
	key := newSigner(t)
	v := signed(t, key, envelope.Header{Key: "root", Epoch: 3}, []byte("payload"))
	var msg cose.Sign1Message
	if err := msg.UnmarshalCBOR(v.Raw()); err != nil {
		t.Fatal(err)
	}
	verifier, err := cose.NewVerifier(cose.AlgorithmES256, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := msg.Verify(nil, verifier); err != nil {
		t.Fatal(err)
	}
	msg.Payload[0] ^= 1
	if err := msg.Verify(nil, verifier); err == nil {
		t.Fatal("go-cose accepts anything")
	}
}

// TestDigest: the identity of a message does not move with its signature, and
// moves with everything else.
func TestDigest(t *testing.T) {
	key := newSigner(t)
	h := envelope.Header{ID: [16]byte{1}}
	a, b := signed(t, key, h, []byte("p")), signed(t, key, h, []byte("p"))
	if bytes.Equal(a.Raw(), b.Raw()) {
		t.Fatal("two signatures alike: the test shows nothing")
	}
	if a.Digest() != b.Digest() {
		t.Error("digest moves with the signature")
	}
	seen := map[envelope.Hash]string{a.Digest(): "base"}
	for name, v := range map[string]*envelope.Verified{
		"payload":  signed(t, key, h, []byte("q")),
		"id":       signed(t, key, envelope.Header{ID: [16]byte{2}}, []byte("p")),
		"re":       signed(t, key, envelope.Header{ID: [16]byte{1}, Re: [16]byte{1, 1}}, []byte("p")),
		"type":     signed(t, key, envelope.Header{ID: [16]byte{1}, Type: "other"}, []byte("p")),
		"version":  signed(t, key, envelope.Header{ID: [16]byte{1}, Version: 2}, []byte("p")),
		"system":   signed(t, key, envelope.Header{ID: [16]byte{1}, System: envelope.Hash{1}}, []byte("p")),
		"head":     signed(t, key, envelope.Header{ID: [16]byte{1}, LedgerHead: envelope.Hash{1}}, []byte("p")),
		"to":       signed(t, key, envelope.Header{ID: [16]byte{1}, To: []envelope.KeyID{{1}}}, []byte("p")),
		"key":      signed(t, key, envelope.Header{ID: [16]byte{1}, Key: "root"}, []byte("p")),
		"epoch":    signed(t, key, envelope.Header{ID: [16]byte{1}, Key: "root", Epoch: 1}, []byte("p")),
		"created":  signed(t, key, envelope.Header{ID: [16]byte{1}, Created: 1001, Expires: 2000}, []byte("p")),
		"expires":  signed(t, key, envelope.Header{ID: [16]byte{1}, Created: 1000, Expires: 2001}, []byte("p")),
		"signer":   signed(t, newSigner(t), h, []byte("p")),
		"no bytes": signed(t, key, h, nil),
	} {
		if was := seen[v.Digest()]; was != "" {
			t.Errorf("%s has the digest of %s", name, was)
		}
		seen[v.Digest()] = name
	}
}

func TestHeaderSurvives(t *testing.T) {
	key := newSigner(t)
	id, err := envelope.KeyIDOf(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	h := envelope.Header{Type: "partial", Version: 3, Signer: id, ID: [16]byte{1}, Re: [16]byte{2}, System: envelope.Hash{3},
		To: []envelope.KeyID{{5}, {4}}, Key: "root-2026", Epoch: 9, LedgerHead: envelope.Hash{6}, Created: 10, Expires: 20}
	v := signed(t, key, h, []byte("x"))
	if got := v.Header(); fmt.Sprint(got) != fmt.Sprint(h) {
		t.Errorf("got %v, want %v", got, h)
	}
	got := v.Header()
	got.To[0] = envelope.KeyID{}
	v.Payload()[0], v.Raw()[5] = 0, 0
	if v.Header().To[0].IsZero() || v.Payload()[0] != 'x' {
		t.Error("a caller can change a verified message")
	}
}

func TestFresh(t *testing.T) {
	v := signed(t, newSigner(t), envelope.Header{Created: 1000, Expires: 2000}, nil)
	var expired *envelope.ExpiredError
	var early *envelope.NotYetValidError
	for _, tc := range []struct {
		now, skew int64
		want      any
	}{
		{1000, 0, nil}, {1999, 0, nil}, {2000, 0, &expired}, {2000, 60, &expired}, {1 << 35, 0, &expired},
		{999, 0, &early}, {999, 1, nil}, {939, 60, &early}, {940, 60, nil}, {0, 0, &early},
	} {
		err := v.CheckFresh(tc.now, tc.skew)
		if tc.want == nil && err != nil || tc.want != nil && !errors.As(err, tc.want) {
			t.Errorf("now %d skew %d: %v", tc.now, tc.skew, err)
		}
	}
	for _, tc := range [][2]int64{{-1, 0}, {1500, -1}, {1500, envelope.MaxSkew + 1}, {envelope.MaxTime + 1, 0}} {
		if err := v.CheckFresh(tc[0], tc[1]); err == nil {
			t.Errorf("now %d skew %d accepted", tc[0], tc[1])
		}
	}
}

func TestDecodeChecksType(t *testing.T) {
	body, err := envelope.Marshal(inner{1, []byte{2}})
	if err != nil {
		t.Fatal(err)
	}
	v := signed(t, newSigner(t), envelope.Header{Type: "approval", Version: 2}, body)
	var in inner
	if err := envelope.Decode(v, "approval", 2, &in); err != nil || in.A != 1 {
		t.Fatalf("%+v, %v", in, err)
	}
	var te *envelope.TypeError
	if err := envelope.Decode(v, "approval", 1, &in); !errors.As(err, &te) || te.GotVersion != 2 {
		t.Errorf("version: %v", err)
	}
	if err := envelope.Decode(v, "request", 2, &in); !errors.As(err, &te) || !strings.Contains(err.Error(), `"request" is expected`) {
		t.Errorf("type: %v", err)
	}
	if err := envelope.Decode(v, "approval", 2, new(sample)); err == nil {
		t.Error("decoded into another struct")
	}
}

// badSigner answers like a faulty or hostile card.
type badSigner struct {
	pub crypto.PublicKey
	der []byte
	err error
}

func (s badSigner) Public() crypto.PublicKey { return s.pub }
func (s badSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return s.der, s.err
}

func TestSignRefuses(t *testing.T) {
	key, other := newSigner(t), newSigner(t)
	otherSig, err := other.Sign(rand.Reader, make([]byte, 32), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ok := envelope.Header{Type: "test", Version: 1, Expires: 9}
	removed := errors.New("card removed")
	for _, tc := range []struct {
		name   string
		signer crypto.Signer
		h      envelope.Header
		size   int
		want   string
	}{
		{"RSA", rsaKey, ok, 0, "not ECDSA"},
		{"P-384", p384, ok, 0, "P-256"},
		{"another's signature", badSigner{key.Public(), otherSig, nil}, ok, 0, "bad signature"},
		{"not ASN.1", badSigner{key.Public(), make([]byte, 64), nil}, ok, 0, "ASN.1"},
		{"zero", badSigner{key.Public(), []byte{0x30, 6, 2, 1, 0, 2, 1, 0}, nil}, ok, 0, "out of range"},
		{"negative", badSigner{key.Public(), []byte{0x30, 6, 2, 1, 0xff, 2, 1, 1}, nil}, ok, 0, "out of range"},
		{"trailing", badSigner{key.Public(), append(bytes.Clone(otherSig), 0), nil}, ok, 0, "ASN.1"},
		{"card removed", badSigner{key.Public(), nil, removed}, ok, 0, "card removed"},
		{"named another signer", key, envelope.Header{Type: "test", Version: 1, Expires: 9, Signer: envelope.KeyID{1}}, 0, "header names"},
		{"no type", key, envelope.Header{Version: 1, Expires: 9}, 0, "type"},
		{"no version", key, envelope.Header{Type: "test", Expires: 9}, 0, "version"},
		{"no expiry", key, envelope.Header{Type: "test", Version: 1}, 0, "expires"},
		{"too large", key, ok, envelope.MaxMessage, "too large"},
	} {
		_, err := envelope.Sign(rand.Reader, tc.signer, tc.h, make([]byte, tc.size))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v does not say %q", tc.name, err, tc.want)
		}
		if tc.name == "card removed" && !errors.Is(err, removed) {
			t.Error("the card's own error is lost")
		}
	}
	if _, err := envelope.Sign(strings.NewReader("short"), key, ok, nil); err == nil {
		t.Error("signed without entropy for the id")
	}
}

// TestSignNormalises: of a card that answers with either s, the low one leaves.
func TestSignNormalises(t *testing.T) {
	key := newSigner(t)
	half := new(big.Int).Rsh(elliptic.P256().Params().N, 1)
	for range 64 { // all low by chance: 2^-64
		raw := signed(t, key, envelope.Header{}, nil).Raw()
		if new(big.Int).SetBytes(raw[len(raw)-32:]).Cmp(half) > 0 {
			t.Fatal("high s")
		}
	}
}

func TestKeyIDIsOfThePoint(t *testing.T) {
	key := newSigner(t)
	pub, err := key.PublicKey.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	a, err := envelope.KeyIDOf(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	b, err := envelope.KeyIDOf(pub)
	if err != nil {
		t.Fatal(err)
	}
	if a != b || a.IsZero() {
		t.Errorf("%v and %v", a, b)
	}
	for _, bad := range []crypto.PublicKey{nil, (*ecdsa.PublicKey)(nil), (*ecdh.PublicKey)(nil), "key", key.PublicKey} {
		if _, err := envelope.KeyIDOf(bad); err == nil {
			t.Errorf("id of %T", bad)
		}
	}
}

// link is a payload that carries the message before, as approvals do.
type link struct {
	Text  string `cbor:"1,keyasint"`
	Prior []byte `cbor:"2,keyasint"`
}

// TestChainCoversEverythingBefore nests three messages and alters every byte of
// the first two inside the third: the third's signature fails each time.
func TestChainCoversEverythingBefore(t *testing.T) {
	var prior []byte
	keys := []*ecdsa.PrivateKey{newSigner(t), newSigner(t), newSigner(t)}
	var last *envelope.Verified
	for i, k := range keys {
		body, err := envelope.Marshal(link{fmt.Sprint("approved by ", i), prior})
		if err != nil {
			t.Fatal(err)
		}
		last = signed(t, k, envelope.Header{}, body)
		prior = last.Raw()
	}
	var l link
	if err := envelope.Decode(last, "test", 1, &l); err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(last.Raw(), l.Prior)
	if at < 0 {
		t.Fatal("the message before is not there byte for byte")
	}
	for i := range l.Prior {
		bad := last.Raw()
		bad[at+i] ^= 1
		u, err := envelope.Parse(bad)
		if err != nil {
			t.Fatalf("byte %d of what was signed before is not opaque: %v", i, err)
		}
		if _, err := u.Verify(&keys[2].PublicKey); !errors.Is(err, envelope.ErrSignature) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	// The bytes of each stay what its signer signed.
	for i := 2; i >= 0; i-- {
		u, err := envelope.Parse(prior)
		if err != nil {
			t.Fatal(err)
		}
		v, err := u.Verify(&keys[i].PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		if err := envelope.Decode(v, "test", 1, &l); err != nil {
			t.Fatal(err)
		}
		prior = l.Prior
	}
}

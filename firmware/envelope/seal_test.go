package envelope_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// opaque hides a key behind the interface that tokens and cards have. err, when
// set, is what a removed card answers.
type opaque struct {
	k   *ecdh.PrivateKey
	err error
}

func (o opaque) PublicKey() *ecdh.PublicKey { return o.k.PublicKey() }
func (o opaque) Curve() ecdh.Curve          { return o.k.Curve() }
func (o opaque) ECDH(p *ecdh.PublicKey) ([]byte, error) {
	if o.err != nil {
		return nil, o.err
	}
	return o.k.ECDH(p)
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestHPKEVector opens the first encryption of the RFC 9180 test vector for
// mode_base, DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM
// (github.com/cfrg/draft-irtf-cfrg-hpke, test-vectors.json at 5f503c5).
func TestHPKEVector(t *testing.T) {
	k, err := ecdh.P256().NewPrivateKey(unhex(t, "317f915db7bc629c48fe765587897e01e282d3e8445f79f27f65d031a88082b2"))
	if err != nil {
		t.Fatal(err)
	}
	enc := unhex(t, "04c06b4f6bebc7bb495cb797ab753f911aff80aefb86fd8b6fcc35525f3ab5f03e0b21bd31a86c6048af3cb2d98e0d3bf01da5cc4c39ff5370d331a4f1f7d5a4e0")
	ct := unhex(t, "58c61a45059d0c5704560e9d88b564a8b63f1364b8d1fcb3c4c6ddc1d291742465e902cd216f8908da49f8f96f")
	info := unhex(t, "4f6465206f6e2061204772656369616e2055726e")
	aad := unhex(t, "436f756e742d30")
	got, err := envelope.OpenWith(opaque{k: k}, info, aad, append(enc, ct...))
	if err != nil {
		t.Fatal(err)
	}
	if want := "Beauty is truth, truth beauty"; string(got) != want {
		t.Errorf("opened %q, want %q", got, want)
	}
}

func TestSealToBindsContext(t *testing.T) {
	k, _ := newAgreement(t)
	other, _ := newAgreement(t)
	sealed, err := envelope.SealTo(k.PublicKey(), []byte("info"), []byte("aad"), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if len(sealed) != len("secret")+81 {
		t.Errorf("%d bytes", len(sealed))
	}
	open := func(k *ecdh.PrivateKey, info, aad string, b []byte) error {
		pt, err := envelope.OpenWith(opaque{k: k}, []byte(info), []byte(aad), b)
		if err == nil && string(pt) != "secret" {
			t.Errorf("opened %q", pt)
		}
		return err
	}
	if err := open(k, "info", "aad", sealed); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"key": open(other, "info", "aad", sealed), "info": open(k, "infO", "aad", sealed), "aad": open(k, "info", "", sealed),
		"short": open(k, "info", "aad", sealed[:80]), "empty": open(k, "info", "aad", nil),
		"cut": open(k, "info", "aad", sealed[:len(sealed)-1]), "long": open(k, "info", "aad", append(bytes.Clone(sealed), 0)),
	} {
		if !errors.Is(err, envelope.ErrOpen) {
			t.Errorf("wrong %s: %v", name, err)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if err := open(k, "info", "aad", bad); !errors.Is(err, envelope.ErrOpen) {
			t.Fatalf("byte %d altered: %v", i, err)
		}
	}
	removed := errors.New("card removed")
	if _, err := envelope.OpenWith(opaque{k, removed}, nil, nil, sealed); !errors.Is(err, removed) || errors.Is(err, envelope.ErrOpen) {
		t.Errorf("the card's own error is lost: %v", err)
	}
	x, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := envelope.SealTo(x.PublicKey(), nil, nil, nil); err == nil {
		t.Error("sealed to X25519")
	}
	if _, err := envelope.OpenWith(x, nil, nil, sealed); err == nil {
		t.Error("opened with X25519")
	}
	if _, err := envelope.SealTo(nil, nil, nil, nil); err == nil {
		t.Error("sealed to nil")
	}
}

// outer mirrors the sealed message for tampering.
type outer struct {
	Version    uint64           `cbor:"1,keyasint"`
	Protected  []byte           `cbor:"2,keyasint"`
	Recipients []outerRecipient `cbor:"3,keyasint"`
	Ciphertext []byte           `cbor:"4,keyasint"`
}

type outerRecipient struct {
	ID  envelope.KeyID `cbor:"1,keyasint"`
	Key []byte         `cbor:"2,keyasint"`
}

func TestOpenRefuses(t *testing.T) {
	signer := newSigner(t)
	k, id := newAgreement(t)
	k2, id2 := newAgreement(t)
	stranger, strangerID := newAgreement(t)
	make1 := func(h envelope.Header, to ...*ecdh.PrivateKey) (sealed []byte) {
		h.Type, h.Version, h.Expires = "test", 1, 9
		raw, err := envelope.Sign(rand.Reader, signer, h, []byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		var pubs []*ecdh.PublicKey
		for _, k := range to {
			pubs = append(pubs, k.PublicKey())
		}
		sealed, err = envelope.Seal(rand.Reader, raw, pubs)
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	good := make1(envelope.Header{To: []envelope.KeyID{id, id2}}, k, k2)
	other := make1(envelope.Header{To: []envelope.KeyID{id, id2}}, k, k2)
	if _, err := envelope.Open(good, opaque{k: k}); err != nil {
		t.Fatal(err)
	}
	if _, err := envelope.Open(good, opaque{k: stranger}); !errors.Is(err, envelope.ErrNotRecipient) {
		t.Errorf("stranger: %v", err)
	}
	for _, tc := range []struct {
		name string
		edit func(m, o *outer)
		want string
	}{
		{"version", func(m, o *outer) { m.Version = 2 }, "version 2"},
		{"no recipient", func(m, o *outer) { m.Recipients = nil }, "0 recipients"},
		{"header of another message", func(m, o *outer) { m.Protected = o.Protected }, "decrypt"},
		{"header of nothing", func(m, o *outer) { m.Protected = []byte{0xa0} }, "header"},
		{"content of another message", func(m, o *outer) { m.Ciphertext = o.Ciphertext }, "decrypt"},
		{"content key of another message", func(m, o *outer) { m.Recipients[0].Key = o.Recipients[0].Key }, "decrypt"},
		{"another's content key", func(m, o *outer) { m.Recipients[0].Key = m.Recipients[1].Key }, "decrypt"},
		{"recipient dropped", func(m, o *outer) { m.Recipients = m.Recipients[:1] }, "decrypt"},
		{"recipients swapped", func(m, o *outer) { m.Recipients[0], m.Recipients[1] = m.Recipients[1], m.Recipients[0] }, "decrypt"},
		{"recipient twice", func(m, o *outer) { m.Recipients[1] = m.Recipients[0] }, "twice"},
		{"recipient renamed", func(m, o *outer) { m.Recipients[1].ID = strangerID }, "decrypt"},
		{"too many recipients", func(m, o *outer) {
			for i := range 64 {
				m.Recipients = append(m.Recipients, outerRecipient{envelope.KeyID{byte(i + 1)}, m.Recipients[0].Key})
			}
		}, "66 recipients"},
		{"content key short", func(m, o *outer) { m.Recipients[0].Key = m.Recipients[0].Key[1:] }, "112 bytes"},
		{"ciphertext empty", func(m, o *outer) { m.Ciphertext = nil }, "decrypt"},
		{"ciphertext cut", func(m, o *outer) { m.Ciphertext = m.Ciphertext[1:] }, "decrypt"},
		{"all of the other but the header", func(m, o *outer) { p := m.Protected; *m = *o; m.Protected = p }, "decrypt"},
	} {
		var m, o outer
		if err := envelope.Unmarshal(good, &m); err != nil {
			t.Fatal(err)
		}
		if err := envelope.Unmarshal(other, &o); err != nil {
			t.Fatal(err)
		}
		tc.edit(&m, &o)
		b, err := envelope.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		_, err = envelope.Open(b, opaque{k: k})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v does not say %q", tc.name, err, tc.want)
		}
	}
	if _, err := envelope.Open(append(bytes.Clone(good), 0), opaque{k: k}); err == nil {
		t.Error("trailing byte")
	}
}

// TestSealRefuses: a key that the signed header does not name, the same key
// twice, none, too many, and bytes that are no message.
func TestSealRefuses(t *testing.T) {
	signer := newSigner(t)
	k, id := newAgreement(t)
	stranger, _ := newAgreement(t)
	raw, err := envelope.Sign(rand.Reader, signer, envelope.Header{Type: "test", Version: 1, Expires: 9, To: []envelope.KeyID{id}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string][]*ecdh.PublicKey{
		"nobody": nil, "not named": {stranger.PublicKey()}, "twice": {k.PublicKey(), k.PublicKey()}, "nil": {nil},
		"too many": make([]*ecdh.PublicKey, envelope.MaxRecipients+1),
	} {
		if _, err := envelope.Seal(rand.Reader, raw, to); err == nil {
			t.Errorf("sealed: %s", name)
		}
	}
	if _, err := envelope.Seal(rand.Reader, raw[1:], []*ecdh.PublicKey{k.PublicKey()}); err == nil {
		t.Error("sealed what is no message")
	}
	if _, err := envelope.Seal(bytes.NewReader(make([]byte, 31)), raw, []*ecdh.PublicKey{k.PublicKey()}); err == nil {
		t.Error("sealed without entropy")
	}
}

// TestPassedOn: a recipient opens a message addressed to him and seals it again
// to somebody else. The bytes are well-formed, but the other refuses.
func TestPassedOn(t *testing.T) {
	signer := newSigner(t)
	k, id := newAgreement(t)
	victim, victimID := newAgreement(t)
	raw, err := envelope.Sign(rand.Reader, signer, envelope.Header{Type: "test", Version: 1, Expires: 9, To: []envelope.KeyID{id}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := envelope.Seal(rand.Reader, raw, []*ecdh.PublicKey{k.PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	var m outer
	if err := envelope.Unmarshal(sealed, &m); err != nil {
		t.Fatal(err)
	}
	m.Recipients[0].ID = victimID
	if sealed, err = envelope.Marshal(m); err != nil {
		t.Fatal(err)
	}
	if _, err := envelope.Open(sealed, opaque{k: victim}); !errors.Is(err, envelope.ErrNotRecipient) || !strings.Contains(err.Error(), "addressed to others") {
		t.Errorf("error %v", err)
	}
}

func TestNilKeyExchanger(t *testing.T) {
	if _, err := envelope.OpenWith(nil, nil, nil, make([]byte, 200)); err == nil {
		t.Error("opened without a key")
	}
	if _, err := envelope.Open(readVector(t, "testdata/sealed.txt"), nil); err == nil {
		t.Error("opened a message without a key")
	}
}

// TestHeaderCopyMustBeTheSignedOne: a sender who knows the construction seals
// one message under the clear header of another, so that servers route, count
// and expire by what nobody signed. It decrypts, and is refused.
func TestHeaderCopyMustBeTheSignedOne(t *testing.T) {
	signer := newSigner(t)
	k, id := newAgreement(t)
	var raws [][]byte
	var protected [][]byte
	for _, typ := range []string{"status", "approval"} {
		raw, err := envelope.Sign(rand.Reader, signer, envelope.Header{Type: typ, Version: 1, Expires: 9}, nil)
		if err != nil {
			t.Fatal(err)
		}
		raws = append(raws, raw)
		r := &annotator{data: raw, pos: 2}
		protected = append(protected, r.bytes())
	}
	seal := func(protected, raw []byte) []byte {
		cek := bytes.Repeat([]byte{9}, 32)
		const keyDomain, domain = "privyseal content key v1", "privyseal sealed message v1"
		ph := envelope.HashOf(keyDomain, protected)
		info := envelope.HashOf(keyDomain, ph[:], id[:])
		key, err := envelope.SealTo(k.PublicKey(), info[:], nil, cek)
		if err != nil {
			t.Fatal(err)
		}
		block, err := aes.NewCipher(cek)
		if err != nil {
			t.Fatal(err)
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			t.Fatal(err)
		}
		aad := envelope.HashOf(domain, protected, id[:], key)
		out, err := envelope.Marshal(outer{1, protected, []outerRecipient{{id, key}}, gcm.Seal(nil, make([]byte, 12), raw, aad[:])})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if _, err := envelope.Open(seal(protected[0], raws[0]), opaque{k: k}); err != nil {
		t.Fatalf("the construction is another: %v", err)
	}
	if _, err := envelope.Open(seal(protected[0], raws[1]), opaque{k: k}); !errors.Is(err, envelope.ErrHeaderCopy) {
		t.Errorf("another header outside: %v", err)
	}
	if _, err := envelope.Open(seal(protected[0], []byte("not a message")), opaque{k: k}); err == nil || !strings.Contains(err.Error(), "inside the seal") {
		t.Errorf("no message inside: %v", err)
	}
}

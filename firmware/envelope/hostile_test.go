package envelope_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// forge signs whatever it is given as a COSE_Sign1, with a valid signature, so
// that only the rule under test can refuse it. It shares no code with Sign.
type forge struct {
	tag         []byte
	protected   []byte // contents of the byte string
	unprotected []byte
	payload     []byte // encoded item
	trailing    []byte
	highS       bool
	sigLen      int
	context     string
}

func newForge(t testing.TB, header map[int64]any) forge {
	return forge{tag: []byte{0xd2}, protected: encodeAny(t, header), unprotected: []byte{0xa0},
		payload: encodeAny(t, []byte("payload")), sigLen: 64, context: "Signature1"}
}

func encodeAny(t testing.TB, v any) []byte {
	t.Helper()
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (f forge) sign(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	var payload []byte
	if err := cbor.Unmarshal(f.payload, &payload); err != nil {
		payload = nil
	}
	tbs := encodeAny(t, []any{f.context, f.protected, []byte{}, payload})
	digest := sha256.Sum256(tbs)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	n := elliptic.P256().Params().N
	if (s.Cmp(new(big.Int).Rsh(n, 1)) > 0) != f.highS {
		s.Sub(n, s)
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	sig = append(sig, make([]byte, 8)...)[:f.sigLen]
	out := append([]byte{}, f.tag...)
	out = append(out, 0x84)
	out = append(out, encodeAny(t, f.protected)...)
	out = append(out, f.unprotected...)
	out = append(out, f.payload...)
	out = append(out, encodeAny(t, sig)...)
	return append(out, f.trailing...)
}

// header returns a good protected header as a map, all labels present.
func header(t testing.TB, key *ecdsa.PrivateKey) map[int64]any {
	t.Helper()
	id, err := envelope.KeyIDOf(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	b32 := func(c byte) []byte { return bytes.Repeat([]byte{c}, 32) }
	return map[int64]any{
		1: -7, 3: "application/vnd.privyseal.test+cbor", 4: id[:],
		2:      []int64{-70001, -70002, -70003, -70004, -70005, -70006, -70007, -70008, -70009, -70010},
		-70001: 1, -70002: bytes.Repeat([]byte{2}, 16), -70003: bytes.Repeat([]byte{3}, 16), -70004: b32(4),
		-70005: []any{b32(5), b32(6)}, -70006: "root", -70007: 7, -70008: b32(8), -70009: 100, -70010: 200,
	}
}

func TestForgeIsAcceptedUnchanged(t *testing.T) {
	// Otherwise TestHostile could pass for the wrong reason.
	key := newSigner(t)
	u, err := envelope.Parse(newForge(t, header(t, key)).sign(t, key))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Verify(&key.PublicKey); err != nil {
		t.Fatal(err)
	}
}

func TestHostile(t *testing.T) {
	key := newSigner(t)
	set := func(label int64, v any) func(map[int64]any) { return func(h map[int64]any) { h[label] = v } }
	del := func(label int64) func(map[int64]any) {
		return func(h map[int64]any) {
			delete(h, label)
			var crit []int64
			for _, l := range h[2].([]int64) {
				if l != label {
					crit = append(crit, l)
				}
			}
			h[2] = crit
		}
	}
	for _, tc := range []struct {
		name  string
		edit  func(map[int64]any)
		forge func(*forge)
		want  string
	}{
		{name: "another algorithm", edit: set(1, -35), want: "only -7 (ES256)"},
		{name: "no algorithm", edit: func(h map[int64]any) { delete(h, 1) }, want: "field is missing"},
		{name: "algorithm as text", edit: set(1, "ES256"), want: "cannot unmarshal"},
		{name: "unknown label", edit: set(5, []byte{1}), want: "label: 5 is unknown"},
		{name: "unknown private label", edit: set(-70011, 1), want: "is unknown"},
		{name: "x5chain", edit: set(33, []byte{1}), want: "label: 33 is unknown"},
		{name: "crit names an unknown label", edit: set(2, []int64{-70001, -70002, -70003, -70004, -70005, -70006, -70007, -70008, -70009, -70010, -70011}), want: "crit: names label -70011"},
		{name: "crit leaves one out", edit: set(2, []int64{-70001, -70002, -70003, -70004, -70005, -70006, -70007, -70008, -70009}), want: "crit: must list every"},
		{name: "crit empty", edit: set(2, []int64{}), want: "crit: must list every"},
		{name: "crit twice", edit: set(2, []int64{-70001, -70001, -70002, -70003, -70004, -70005, -70006, -70007, -70008, -70009, -70010}), want: "crit: must list every"},
		{name: "content type of others", edit: set(3, "application/json"), want: "not one of ours"},
		{name: "type empty", edit: set(3, "application/vnd.privyseal.+cbor"), want: "type: must have"},
		{name: "type overlapping", edit: set(3, "application/vnd.privyseal.cbor"), want: "not one of ours"},
		{name: "type in capitals", edit: set(3, "application/vnd.privyseal.Request+cbor"), want: "type: "},
		{name: "type too long", edit: set(3, "application/vnd.privyseal."+strings.Repeat("a", 65)+"+cbor"), want: "type: must have"},
		{name: "kid short", edit: set(4, make([]byte, 31)), want: "32 bytes"},
		{name: "kid zero", edit: set(4, make([]byte, 32)), want: "signer: is missing"},
		{name: "version zero", edit: set(-70001, 0), want: "deterministic"},
		{name: "version absent", edit: del(-70001), want: "version: is missing"},
		{name: "id short", edit: set(-70002, make([]byte, 15)), want: "deterministic"},
		{name: "id long", edit: set(-70002, bytes.Repeat([]byte{1}, 17)), want: "deterministic"},
		{name: "id absent", edit: del(-70002), want: "id: is missing"},
		{name: "id as array", edit: set(-70002, []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}), want: "deterministic"},
		{name: "answers itself", edit: set(-70003, bytes.Repeat([]byte{2}, 16)), want: "re: names the message itself"},
		{name: "recipient twice", edit: set(-70005, []any{bytes.Repeat([]byte{5}, 32), bytes.Repeat([]byte{5}, 32)}), want: "twice"},
		{name: "recipient zero", edit: set(-70005, []any{make([]byte, 32)}), want: "empty recipient"},
		{name: "recipients empty list", edit: set(-70005, []any{}), want: "deterministic"},
		{name: "too many recipients", edit: func(h map[int64]any) {
			var l []any
			for i := range 65 {
				l = append(l, bytes.Repeat([]byte{byte(i + 1)}, 32))
			}
			h[-70005] = l
		}, want: "65 recipients"},
		{name: "key with a space", edit: set(-70006, "ro ot"), want: "key: "},
		{name: "key with an escape", edit: set(-70006, "root\x1b[2J"), want: "key: "},
		{name: "epoch without key", edit: del(-70006), want: "epoch: without a key"},
		{name: "epoch negative", edit: set(-70007, -1), want: "cannot unmarshal"},
		{name: "created negative", edit: set(-70009, -1), want: "created: is out of range"},
		{name: "expires absent", edit: del(-70010), want: "expires: is missing"},
		{name: "expires before created", edit: set(-70010, 99), want: "expires: is not later"},
		{name: "expires as created", edit: set(-70010, 100), want: "expires: is not later"},
		{name: "expires in far future", edit: set(-70010, int64(1)<<60), want: "expires: is out of range"},
		{name: "expires as float", edit: set(-70010, 200.5), want: "float"},
		{name: "date with a tag", edit: set(-70009, cbor.Tag{Number: 1, Content: 100}), want: "tag 1"},
		{name: "null field", edit: set(-70006, nil), want: "deterministic"},
		{name: "header not a map", forge: func(f *forge) { f.protected = []byte{0x80} }, want: "not a map"},
		{name: "header empty", forge: func(f *forge) { f.protected = []byte{} }, want: "ends early"},
		{name: "header with trailing byte", forge: func(f *forge) { f.protected = append(f.protected, 0) }, want: "1 trailing bytes"},
		{name: "header too large", edit: set(-70006, strings.Repeat("a", 4096)), want: "too large"},
		{name: "text label", forge: func(f *forge) { f.protected = []byte{0xa1, 0x61, 'x', 0x00} }, want: "not an integer"},
		{name: "keys out of order", forge: func(f *forge) { f.protected = []byte{0xa2, 0x03, 0x00, 0x01, 0x26} }, want: "out of order"},
		{name: "key repeated", forge: func(f *forge) { f.protected = []byte{0xa2, 0x01, 0x26, 0x01, 0x26} }, want: "repeated"},
		{name: "long form of a number", forge: func(f *forge) { f.protected = []byte{0xa1, 0x01, 0x38, 0x06} }, want: "shortest form"},
		{name: "indefinite map", forge: func(f *forge) { f.protected = []byte{0xbf, 0x01, 0x26, 0xff} }, want: "indefinite"},
		{name: "unprotected header", forge: func(f *forge) { f.unprotected = []byte{0xa1, 0x04, 0x41, 0x00} }, want: "unprotected: must be an empty map"},
		{name: "unprotected of another kind", forge: func(f *forge) { f.unprotected = []byte{0x80} }, want: "unprotected: must be an empty map"},
		{name: "detached payload", forge: func(f *forge) { f.payload = []byte{0xf6} }, want: "payload: is not a byte string"},
		{name: "payload as text", forge: func(f *forge) { f.payload = []byte{0x61, 'a'} }, want: "payload: is not a byte string"},
		{name: "payload in chunks", forge: func(f *forge) { f.payload = []byte{0x5f, 0x41, 0x00, 0xff} }, want: "indefinite"},
		{name: "payload with long length", forge: func(f *forge) { f.payload = []byte{0x58, 0x01, 0x00} }, want: "shortest form"},
		{name: "trailing byte", forge: func(f *forge) { f.trailing = []byte{0} }, want: "1 trailing bytes"},
		{name: "untagged", forge: func(f *forge) { f.tag = nil }, want: "not a tagged COSE_Sign1"},
		{name: "COSE_Sign", forge: func(f *forge) { f.tag = []byte{0xd8, 98} }, want: "not a tagged COSE_Sign1"},
		{name: "tag in its long form", forge: func(f *forge) { f.tag = []byte{0xd8, 18} }, want: "not a tagged COSE_Sign1"},
		{name: "self-described", forge: func(f *forge) { f.tag = []byte{0xd9, 0xd9, 0xf7, 0xd2} }, want: "not a tagged COSE_Sign1"},
		{name: "signature short", forge: func(f *forge) { f.sigLen = 63 }, want: "signature: has 63 bytes"},
		{name: "signature long", forge: func(f *forge) { f.sigLen = 65 }, want: "signature: has 65 bytes"},
		{name: "the signature's twin", forge: func(f *forge) { f.highS = true }, want: "s > n/2"},
		{name: "signed in another context", forge: func(f *forge) { f.context = "Signature" }, want: "does not verify"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := header(t, key)
			if tc.edit != nil {
				tc.edit(h)
			}
			f := newForge(t, h)
			if tc.forge != nil {
				tc.forge(&f)
			}
			raw := f.sign(t, key)
			u, err := envelope.Parse(raw)
			if err == nil {
				_, err = u.Verify(&key.PublicKey)
			}
			if err == nil {
				t.Fatalf("accepted %x", raw)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q does not say %q", err, tc.want)
			}
		})
	}
}

func TestEveryAlteredByteIsRefused(t *testing.T) {
	key := newSigner(t)
	raw, err := envelope.Sign(rand.Reader, key, envelope.Header{Type: "test", Version: 1, Expires: 9}, []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		for _, x := range []byte{1, 0x80, 0xff} {
			bad := bytes.Clone(raw)
			bad[i] ^= x
			u, err := envelope.Parse(bad)
			if err != nil {
				continue
			}
			if _, err := u.Verify(&key.PublicKey); err == nil {
				t.Fatalf("byte %d xor %#x accepted", i, x)
			}
		}
	}
	for n := range raw {
		if _, err := envelope.Parse(raw[:n]); err == nil {
			t.Fatalf("first %d bytes accepted", n)
		}
	}
}

func TestVerifyWithWrongKey(t *testing.T) {
	key, other := newSigner(t), newSigner(t)
	raw := newForge(t, header(t, key)).sign(t, key)
	u, err := envelope.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Verify(&other.PublicKey); !errors.Is(err, envelope.ErrWrongKey) {
		t.Errorf("another key: %v", err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]*ecdsa.PublicKey{"nil": nil, "P-384": &p384.PublicKey,
		"off the curve": {Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}} {
		if _, err := u.Verify(k); err == nil {
			t.Errorf("%s key accepted", name)
		}
	}
	// A message that names key but is signed by another.
	u, err = envelope.Parse(newForge(t, header(t, key)).sign(t, other))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Verify(&key.PublicKey); !errors.Is(err, envelope.ErrSignature) {
		t.Errorf("foreign signature: %v", err)
	}
}

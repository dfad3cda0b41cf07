package share_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/hsmtest"
)

// oneLayer is a share at rest of format 1, as devices have stored it since the
// first of them.
const oneLayer = "a9010102050364726f6f7404030566726f6f742f320602075820fbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfb" +
	"0858206749633bae58ab89020b8a12cf435015de45f082f77a99b8b9c54eda145a88f70982" +
	"a30103024c0707070707070707070707070358302b76e31b4ab5f8e21ae3d11d67d1789bd046c4bd75ed214e475b3060e640b48a35b26e541209844899588ad71a073e3c" +
	"a30106024c0707070707070707070707070358302c3cf62b7548c446cfaf0b6b980ffe3c3d25007be49a430864f198c6a59849534eb411b83e70d2fe7e9abd6fbec89730"

// TestFormatOne: what was stored before there were layers is read, opened and
// written byte for byte as ever.
func TestFormatOne(t *testing.T) {
	want, err := hex.DecodeString(oneLayer)
	if err != nil {
		t.Fatal(err)
	}
	value := func(b byte) threshold.Secret { return threshold.NewSecret(bytes.Repeat([]byte{b}, 32)) }
	facts := share.Facts{Key: "root", Epoch: 3, ShareID: "root/2", Index: 2, Modulus: bytes.Repeat([]byte{0xfb}, 32), Version: 5}
	s := threshold.Share{Index: 2, Subs: []threshold.SubShare{{Subset: 0b011, Value: value(1)}, {Subset: 0b110, Value: value(2)}}}
	made, err := share.Seal(bytes.NewReader(bytes.Repeat([]byte{7}, 24)), hashToken{}, value(9), facts, &s)
	if err != nil {
		t.Fatal(err)
	}
	read, err := share.ParseStored(want)
	if err != nil {
		t.Fatal(err)
	}
	for name, st := range map[string]*share.Stored{"made": made, "read": read} {
		if data, err := st.Marshal(); err != nil || !bytes.Equal(data, want) {
			t.Errorf("%s: %x, %v", name, data, err)
		}
		for _, sub := range s.Subs {
			wrapped, err := st.Open(facts, value(9), sub.Subset)
			expected, _ := hashToken{}.Wrap(facts.Modulus, sub.Value.Reveal())
			if err != nil || !bytes.Equal(wrapped, expected) {
				t.Errorf("%s: subset %v: %x, %v", name, sub.Subset, wrapped, err)
			}
		}
		if _, err := st.OpenParts(nil, nil, facts, value(9)); !errors.Is(err, share.ErrNoPart) {
			t.Errorf("%s: opened as parts: %v", name, err)
		}
	}
}

// TestParts: sub-keys of half the length and c_a of the whole one go through a
// real token and come out at their width.
func TestParts(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	for _, label := range []string{kek, "other kek"} {
		if err := tok.GenerateKEK(label, hsm.InHost); err != nil {
			t.Fatal(err)
		}
	}
	token, memory := share.Bind(tok.Token, kek), newMemory(t)
	n := thresholdtest.Key(2048, false).Public().N
	x := append([]byte{0, 1}, bytes.Repeat([]byte{0x5a}, len(n)-2)...)
	half := twolayer.SubKeyLen(2048)
	if half != 128+16 {
		t.Fatalf("a sub-key has %d bytes", half)
	}
	for _, tc := range []struct {
		layer uint64
		width int
		value func(d []byte)
	}{
		{share.LayerCalculator, half, func([]byte) {}},
		{share.LayerCalculator, half, func(d []byte) { clear(d[:9]) }}, // no shorter for it
		{share.LayerCombiner, len(n), func(d []byte) { d[0] = 0 }},
	} {
		var parts []threshold.Secret
		for range 3 {
			d := make([]byte, tc.width)
			rand.Read(d)
			tc.value(d)
			parts = append(parts, threshold.NewSecret(d))
		}
		facts := share.Facts{Key: "ca", Epoch: 1, ShareID: "ca.7", Index: 999, Modulus: n, Version: 1, Layer: tc.layer}
		if facts.Width() != tc.width {
			t.Fatalf("layer %d: width %d", tc.layer, facts.Width())
		}
		officers, err := share.NewOfficersKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		made, err := share.SealParts(rand.Reader, token, officers, facts, parts)
		if err != nil {
			t.Fatal(err)
		}
		data, err := made.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		stored, err := share.ParseStored(data)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := stored.OpenParts(token, memory, facts, officers)
		if err != nil || opened.Len() != 3 {
			t.Fatal(opened, err)
		}
		for i, d := range parts {
			e, err := opened.Exponent(i + 1)
			if err != nil {
				t.Fatal(err)
			}
			if !e.Secret().Equal(d) {
				t.Errorf("layer %d: %d bytes came out", tc.layer, e.Secret().Len())
			}
			want := new(big.Int).Exp(new(big.Int).SetBytes(x), new(big.Int).SetBytes(d.Reveal()), new(big.Int).SetBytes(n))
			if y, err := e.Exp(x); err != nil || !bytes.Equal(y, want.FillBytes(make([]byte, len(n)))) {
				t.Errorf("layer %d, part %d: wrong power, %v", tc.layer, i+1, err)
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(data, d.Reveal()[16:48]) {
				t.Error("a part lies open")
			}
		}
		// Without the token, with another's key, with another KEK in its place.
		if _, err := stored.OpenParts(share.Bind(tok.Token, "other kek"), memory, facts, officers); err == nil {
			t.Error("opened under another key-encryption key")
		}
		other, err := share.NewOfficersKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stored.OpenParts(token, memory, facts, other); !errors.Is(err, share.ErrWrongPieces) {
			t.Errorf("another officers' key: %v", err)
		}
		// A share of which the parts' key is no key of parts.
		odd, err := share.SealParts(rand.Reader, longKey{token}, officers, facts, parts)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := odd.OpenParts(token, memory, facts, officers); !errors.Is(err, share.ErrWidth) {
			t.Errorf("a parts' key of 33 bytes: %v", err)
		}
		for _, f := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
			if out := fmt.Sprintf(f, opened); !strings.Contains(out, "redacted") {
				t.Errorf("%s: %s", f, out)
			}
		}
	}
}

// longKey is a token that wraps a byte more than it is given.
type longKey struct{ share.Token }

func (l longKey) Wrap(n, d []byte) ([]byte, error) {
	return l.Token.Wrap(n, append([]byte{1}, d...))
}

// TestPartsRefuse: every fact of a share of two layers is bound, also how many
// parts it has.
func TestPartsRefuse(t *testing.T) {
	const size = 256
	n := bytes.Repeat([]byte{0xfb}, size)
	facts := share.Facts{Key: "ca", Epoch: 1, ShareID: "ca.7", Index: 7, Modulus: n, Version: 2, Layer: share.LayerCombiner}
	value := func(b byte, size int) threshold.Secret { return threshold.NewSecret(bytes.Repeat([]byte{b}, size)) }
	officers := value(9, 32)
	token, memory := mirror{}, newMemory(t)
	made, err := share.SealParts(rand.Reader, token, officers, facts, []threshold.Secret{value(1, size), value(2, size), value(3, size)})
	if err != nil {
		t.Fatal(err)
	}
	data, err := made.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	open := func(edit func(*share.Stored), f share.Facts, part int) error {
		t.Helper()
		s, err := share.ParseStored(data)
		if err != nil {
			t.Fatal(err)
		}
		if edit != nil {
			edit(s)
			again, err := s.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if s, err = share.ParseStored(again); err != nil {
				return err
			}
		}
		opened, err := s.OpenParts(token, memory, f, officers)
		if err != nil {
			return err
		}
		e, err := opened.Exponent(part)
		if err != nil {
			return err
		}
		return e.Close()
	}
	with := func(edit func(*share.Facts)) share.Facts { f := facts; edit(&f); return f }
	if err := open(nil, facts, 3); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		edit  func(*share.Stored)
		facts share.Facts
		part  int
		want  error
	}{
		{"no such part", nil, facts, 4, share.ErrNoPart},
		{"part 0", nil, facts, 0, share.ErrNoPart},
		{"part −1", nil, facts, -1, share.ErrNoPart},
		{"the other layer in force", nil, with(func(f *share.Facts) { f.Layer = share.LayerCalculator }), 1, share.ErrWrongShare},
		{"another machine in force", nil, with(func(f *share.Facts) { f.Index = 8 }), 1, share.ErrWrongShare},
		{"a later version in force", nil, with(func(f *share.Facts) { f.Version = 3 }), 1, share.ErrRolledBack},
		{"layer and facts altered", func(s *share.Stored) { s.Layer = share.LayerCalculator }, with(func(f *share.Facts) { f.Layer = share.LayerCalculator }), 1, share.ErrFormat},
		{"number and facts altered", func(s *share.Stored) { s.Index = 8 }, with(func(f *share.Facts) { f.Index = 8 }), 1, share.ErrTampered},
		{"version and facts altered", func(s *share.Stored) { s.Version = 3 }, with(func(f *share.Facts) { f.Version = 3 }), 1, share.ErrTampered},
		{"parts exchanged", func(s *share.Stored) {
			s.Subs[0].Ciphertext, s.Subs[1].Ciphertext = s.Subs[1].Ciphertext, s.Subs[0].Ciphertext
		}, facts, 1, share.ErrTampered},
		{"the last part cut off", func(s *share.Stored) { s.Subs = s.Subs[:2] }, facts, 1, share.ErrTampered},
		{"another parts' key", func(s *share.Stored) { s.PartsKey.Ciphertext[5] ^= 1 }, facts, 1, share.ErrTampered},
		{"a part for the parts' key", func(s *share.Stored) {
			s.PartsKey.Nonce, s.PartsKey.Ciphertext = s.Subs[0].Nonce, s.Subs[0].Ciphertext
		}, facts, 1, share.ErrTampered},
		{"no parts' key", func(s *share.Stored) { s.PartsKey = nil }, facts, 1, share.ErrFormat},
		{"a labelled parts' key", func(s *share.Stored) { s.PartsKey.Label = 1 }, facts, 1, share.ErrFormat},
		{"a part altered", func(s *share.Stored) { s.Subs[0].Ciphertext[0] ^= 1 }, facts, 1, share.ErrTampered},
		{"a longer part", func(s *share.Stored) { s.Subs[0].Ciphertext = append(s.Subs[0].Ciphertext, 0) }, facts, 1, share.ErrFormat},
		{"a gap", func(s *share.Stored) { s.Subs[2].Label = 4 }, facts, 1, share.ErrFormat},
		{"format 1", func(s *share.Stored) { s.Format = 1 }, facts, 1, share.ErrFormat},
		{"layer 3", func(s *share.Stored) { s.Layer = 3 }, facts, 1, share.ErrFormat},
		{"no layer", func(s *share.Stored) { s.Layer = 0 }, facts, 1, share.ErrFormat},
		{"number 1000", func(s *share.Stored) { s.Index = 1000 }, facts, 1, share.ErrFormat},
	} {
		if err := open(tc.edit, tc.facts, tc.part); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	if _, err := made.Open(facts, officers, 0b011); !errors.Is(err, share.ErrNoSubset) {
		t.Errorf("opened by subset: %v", err)
	}
	sub := facts
	sub.Layer = share.LayerCalculator
	seventeen := make([]threshold.Secret, 17)
	for i := range seventeen {
		seventeen[i] = value(1, sub.Width())
	}
	for name, err := range map[string]error{
		"a part of another width": unsealed(share.SealParts(rand.Reader, token, officers, sub, []threshold.Secret{value(1, size)})),
		"too many sub-keys":       unsealed(share.SealParts(rand.Reader, token, officers, sub, seventeen)),
		"no parts":                unsealed(share.SealParts(rand.Reader, token, officers, sub, nil)),
		"no layer":                unsealed(share.SealParts(rand.Reader, token, officers, with(func(f *share.Facts) { f.Layer = 0 }), []threshold.Secret{value(1, size)})),
		"subsets in a layer":      unsealed(share.Seal(rand.Reader, token, officers, facts, &threshold.Share{Index: 7})),
	} {
		if err == nil {
			t.Errorf("%s was sealed", name)
		}
	}
}

// mirror stands in for a token where only the outer layers matter.
type mirror struct{ share.Token }

func (mirror) Wrap(n, d []byte) ([]byte, error) {
	if len(d) != 32 {
		return nil, errors.New("not a key")
	}
	return bytes.Clone(d), nil
}
func (mirror) Reveal(n, wrapped []byte) ([]byte, error) {
	return append(make([]byte, len(n)-len(wrapped)), wrapped...), nil
}

func unsealed(_ *share.Stored, err error) error { return err }

// TestPartsBoundary: a corrupt quorum without the token has what the officers'
// key opens, a thief of disk and open token what the token unwraps; neither finds
// a part. Both together do, so the search is able.
func TestPartsBoundary(t *testing.T) {
	rec := &recorder{}
	tok := hsmtest.NewTraced(t, rec.trace)
	tok.MustUnlock(t)
	if err := tok.GenerateKEK(kek, hsm.InHost); err != nil {
		t.Fatal(err)
	}
	token := share.Bind(tok.Token, kek)
	n := thresholdtest.Key(2048, false).Public().N
	facts := share.Facts{Key: "ca", Epoch: 1, ShareID: "ca.7", Index: 7, Modulus: n, Version: 1, Layer: share.LayerCalculator}
	secret := make([]byte, facts.Width())
	rand.Read(secret)
	officers, err := share.NewOfficersKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	st, err := share.SealParts(rand.Reader, token, officers, facts, []threshold.Secret{threshold.NewSecret(bytes.Clone(secret))})
	if err != nil {
		t.Fatal(err)
	}
	if newAdversary(secret, rec.forget()...).found() {
		t.Error("a part went through the token at its installation")
	}
	disk := [][]byte{st.N, st.KeyCheck[:], st.PartsKey.Nonce, st.PartsKey.Ciphertext, st.Subs[0].Nonce, st.Subs[0].Ciphertext}
	search := func(known ...[]byte) bool {
		a := newAdversary(secret, append(slices.Clone(disk), known...)...)
		num := func(x uint64) []byte { return new(big.Int).SetUint64(x).FillBytes(make([]byte, 8)) }
		for label := range uint64(2) {
			h := envelope.HashOf("privyseal share at rest v2", st.N, []byte(st.Key), num(st.Epoch), []byte(st.ShareID), num(st.Index),
				num(st.Version), num(label), num(st.Layer), num(1))
			a.aads = append(a.aads, h[:])
		}
		return a.combine() || a.combine() || a.combine()
	}
	if search(officers.Reveal()) {
		t.Error("a quorum without the token opens a part")
	}
	// Whatever the token makes of what lies on the disk.
	for _, b := range [][]byte{st.PartsKey.Ciphertext, st.Subs[0].Ciphertext} {
		if d, err := token.Reveal(n, b); err == nil {
			t.Errorf("the token unwraps %d bytes of a sealed share", len(d))
		}
	}
	if search(rec.forget()...) {
		t.Error("an open token without the officers opens a part")
	}
	if _, err := st.OpenParts(token, newMemory(t), facts, officers); err != nil {
		t.Fatal(err)
	}
	var key [][]byte // as the token revealed it
	for _, b := range rec.forget() {
		key = append(key, b, bytes.TrimLeft(b, "\x00"))
	}
	if !search(append(key, officers.Reveal())...) {
		t.Error("who has the parts' key does not open a part: the search misses something")
	}
}

package envelope_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"pgregory.net/rapid"
)

type inner struct {
	A uint64 `cbor:"1,keyasint"`
	B []byte `cbor:"2,keyasint"`
}

type sample struct {
	Text  string            `cbor:"1,keyasint"`
	Hash  envelope.Hash     `cbor:"2,keyasint"`
	ID    [16]byte          `cbor:"3,keyasint"`
	List  []inner           `cbor:"4,keyasint"`
	Opt   string            `cbor:"5,keyasint,omitempty"`
	Yes   bool              `cbor:"6,keyasint"`
	Int   int64             `cbor:"7,keyasint"`
	Table map[uint64]string `cbor:"8,keyasint"`
	Ptr   *inner            `cbor:"9,keyasint,omitempty"`
}

func genSample() *rapid.Generator[sample] {
	return rapid.Custom(func(t *rapid.T) sample {
		in := rapid.Custom(func(t *rapid.T) inner {
			return inner{rapid.Uint64().Draw(t, "a"), append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "b")...)}
		})
		s := sample{
			Text: rapid.String().Draw(t, "text"), List: append([]inner{}, rapid.SliceOfN(in, 0, 4).Draw(t, "list")...),
			Opt: rapid.String().Draw(t, "opt"), Yes: rapid.Bool().Draw(t, "yes"), Int: rapid.Int64().Draw(t, "int"),
			Table: rapid.MapOfN(rapid.Uint64(), rapid.String(), 0, 30).Draw(t, "table"),
		}
		copy(s.Hash[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hash"))
		copy(s.ID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		if rapid.Bool().Draw(t, "ptr") {
			v := in.Draw(t, "ptr value")
			s.Ptr = &v
		}
		return s
	})
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSample().Draw(t, "sample")
		b, err := envelope.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var got sample
		if err := envelope.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, s) {
			t.Fatalf("got %+v, want %+v", got, s)
		}
		again, err := envelope.Marshal(got)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("not stable: %x, %x, %v", b, again, err)
		}
	})
}

func TestUnmarshalRefuses(t *testing.T) {
	for _, tc := range []struct{ name, hex, want string }{
		{"trailing byte", "a2 01 00 02 40 00", "1 trailing bytes"},
		{"missing field", "a1 01 00", "field is missing"},
		{"unknown field", "a3 01 00 02 40 03 00", "unknown field"},
		{"text field name", "a3 01 00 02 40 61 41 00", "unknown field"},
		{"duplicate key", "a3 01 00 01 00 02 40", "repeated"},
		{"order", "a2 02 40 01 00", "out of order"},
		{"indefinite map", "bf 01 00 02 40 ff", "indefinite"},
		{"indefinite string", "a2 01 00 02 5f 41 00 ff", "indefinite"},
		{"long integer", "a2 01 18 17 02 40", "shortest form"},
		{"long integer 16", "a2 01 19 00 ff 02 40", "shortest form"},
		{"long integer 32", "a2 01 1a 00 00 ff ff 02 40", "shortest form"},
		{"long integer 64", "a2 01 1b 00 00 00 00 ff ff ff ff 02 40", "shortest form"},
		{"long key", "a2 18 01 00 02 40", "shortest form"},
		{"reserved length", "a2 01 1c 02 40", "reserved"},
		{"float", "a2 01 f9 3c 00 02 40", "float"},
		{"undefined", "a2 01 f7 02 40", "simple value 23"},
		{"simple value", "a2 01 f8 20 02 40", "simple value"},
		{"null number", "a2 01 f6 02 40", "deterministic"},
		{"null bytes", "a2 01 00 02 f6", "deterministic"},
		{"tag", "a2 01 c1 00 02 40", "tag 1"},
		{"bignum", "a2 01 c2 41 01 02 40", "tag 2"},
		{"bytes as array", "a2 01 00 02 81 01", "deterministic"},
		{"text as bytes", "a2 01 00 02 61 61", "cannot unmarshal"},
		{"negative", "a2 01 20 02 40", "cannot unmarshal"},
		{"short string", "a2 01 00 02 42 00", "string of 2 bytes where 1 are left"},
		{"huge string", "a2 01 00 02 5b ff ff ff ff ff ff ff ff", "string of 18446744073709551615 bytes"},
		{"huge array", "9b ff ff ff ff ff ff ff ff", "array of 18446744073709551615"},
		{"huge map", "bb ff ff ff ff ff ff ff ff", "map of 18446744073709551615"},
		{"not UTF-8", "a2 01 61 ff 02 40", "UTF-8"},
		{"depth", strings.Repeat("81", 17) + "00", "nested deeper"},
		{"empty", "", "ends early"},
		{"break alone", "ff", "indefinite"},
		{"array for struct", "82 00 40", "cannot unmarshal"},
	} {
		data, err := hex.DecodeString(strings.ReplaceAll(tc.hex, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		v := inner{A: 5, B: []byte("left over")}
		err = envelope.Unmarshal(data, &v)
		if err == nil {
			t.Errorf("%s: accepted", tc.name)
		} else if !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %q does not say %q", tc.name, err, tc.want)
		}
		if v.A != 0 || v.B != nil {
			t.Errorf("%s: target not zeroed: %+v", tc.name, v)
		}
	}
	for _, v := range []any{nil, inner{}, (*inner)(nil)} {
		if err := envelope.Unmarshal([]byte{0xa0}, v); err == nil {
			t.Errorf("decoded into %T", v)
		}
	}
	big := make([]byte, envelope.MaxMessage+1)
	if err := envelope.Unmarshal(big, new(inner)); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("too large: %v", err)
	}
}

func TestMarshalRefusesWhatUnmarshalWould(t *testing.T) {
	if _, err := envelope.Marshal(struct {
		F float64 `cbor:"1,keyasint"`
	}{1.5}); err == nil {
		t.Error("float encoded")
	}
	if _, err := envelope.Marshal(make([]byte, envelope.MaxMessage)); err == nil {
		t.Error("more than the limit encoded")
	}
	b, err := envelope.Marshal(inner{})
	if err != nil || hex.EncodeToString(b) != "a201000240" {
		t.Errorf("nil bytes: %x, %v", b, err)
	}
}

func TestHash(t *testing.T) {
	var h envelope.Hash
	for i := range h {
		h[i] = byte(i)
	}
	const want = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	for _, verb := range []string{"%v", "%s", "%x", "%+v", "%d", "%#v"} {
		if got := fmt.Sprintf(verb, h); got != want {
			t.Errorf("%s prints %s", verb, got)
		}
		if got := fmt.Sprintf(verb, envelope.KeyID(h)); got != want {
			t.Errorf("%s prints key id %s", verb, got)
		}
	}
	j, err := json.Marshal(map[string]any{"h": h})
	if err != nil || string(j) != `{"h":"`+want+`"}` {
		t.Errorf("json %s, %v", j, err)
	}
	var back struct{ H envelope.Hash }
	if err := json.Unmarshal(j, &back); err != nil || back.H != h {
		t.Errorf("json back: %v, %v", back.H, err)
	}
	if p, err := envelope.ParseKeyID(want); err != nil || p != envelope.KeyID(h) {
		t.Errorf("parsed %v, %v", p, err)
	}
	for _, bad := range []string{"", want[:62], want + "00", strings.ToUpper(want), "zz" + want[2:]} {
		if _, err := envelope.ParseHash(bad); err == nil {
			t.Errorf("parsed %q", bad)
		}
	}
	for _, n := range []int{0, 31, 33} {
		b, err := envelope.Marshal(make([]byte, n))
		if err != nil {
			t.Fatal(err)
		}
		if err := envelope.Unmarshal(b, new(envelope.Hash)); err == nil {
			t.Errorf("hash of %d bytes accepted", n)
		}
	}
}

func TestHashOfSeparatesParts(t *testing.T) {
	seen := map[envelope.Hash]string{}
	for _, parts := range [][]string{{"ab", "c"}, {"a", "bc"}, {"abc"}, {"abc", ""}, {"", "abc"}, {}} {
		for _, domain := range []string{"x", "xa", ""} {
			var b [][]byte
			for _, p := range parts {
				b = append(b, []byte(p))
			}
			h := envelope.HashOf(domain, b...)
			name := fmt.Sprintf("%q %q", domain, parts)
			if seen[h] != "" {
				t.Errorf("%s and %s collide", name, seen[h])
			}
			seen[h] = name
			// The hash is of a CBOR array, so that others can compute it.
			items := []any{domain}
			for _, p := range b {
				items = append(items, p)
			}
			enc := encodeAny(t, items)
			if got := sha(enc); got != h {
				t.Errorf("%s: not SHA-256 of the CBOR array", name)
			}
		}
	}
}

func sha(b []byte) envelope.Hash { return sha256.Sum256(b) }

package envelope_test

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
)

func addVectors(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatal("no vectors", err)
	}
	for _, p := range files {
		f.Add(readVector(f, p))
	}
}

// FuzzUnmarshal: what is accepted is exactly what Marshal gives back.
func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte{0xa2, 0x01, 0x00, 0x02, 0x40})
	b, err := envelope.Marshal(sample{List: []inner{{}}, Ptr: &inner{}, Table: map[uint64]string{1: "x", 300: "y"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range []any{new(inner), new(sample), new(link), new(outer), new(map[string][]byte), new([]envelope.KeyID), new(any)} {
			if envelope.Unmarshal(data, v) != nil {
				continue
			}
			again, err := envelope.Marshal(v)
			if err != nil || !bytes.Equal(again, data) {
				t.Fatalf("%T: %x became %x, %v", v, data, again, err)
			}
		}
	})
}

// FuzzParse: an accepted message verifies or not, but never panics, and its
// bytes are kept.
func FuzzParse(f *testing.F) {
	addVectors(f)
	key := vectorSigner(f, 1)
	f.Fuzz(func(t *testing.T, data []byte) {
		u, err := envelope.Parse(data)
		if err != nil {
			return
		}
		if !bytes.Equal(u.Raw(), data) {
			t.Fatal("bytes changed")
		}
		h := u.Header()
		if h.Version == 0 || h.Expires <= h.Created || h.ID == [16]byte{} {
			t.Fatalf("impossible header %+v", h)
		}
		v, err := u.Verify(&key.PublicKey)
		if err == nil && v.Signer() != h.Signer {
			t.Fatal("signer changed")
		}
	})
}

// FuzzOpen: whatever opens is a well-formed message with the header that Peek
// showed.
func FuzzOpen(f *testing.F) {
	addVectors(f)
	key, _ := vectorAgreement(f, 3)
	f.Fuzz(func(t *testing.T, data []byte) {
		h, perr := envelope.Peek(data)
		raw, err := envelope.Open(data, opaque{k: key})
		if err != nil {
			return
		}
		u, err := envelope.Parse(raw)
		if err != nil || perr != nil || u.Header().ID != h.ID {
			t.Fatalf("opened %x: %v, %v", raw, err, perr)
		}
	})
}

func FuzzPeek(f *testing.F) {
	addVectors(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := envelope.Peek(data)
		ids, err2 := envelope.PeekRecipients(data)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("%v, %v", err, err2)
		}
		if err == nil && (len(ids) == 0 || h.Signer.IsZero()) {
			t.Fatalf("impossible: %+v, %v", h, ids)
		}
	})
}

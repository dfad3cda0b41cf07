package dealing_test

import (
	"bytes"
	"testing"

	"github.com/privyseal/privyseal/firmware/dealing"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// FuzzParseReserve: what parses is what was made, byte for byte.
func FuzzParseReserve(f *testing.F) {
	good, err := envelope.Marshal(&dealing.Reserve{
		Format: 1, Enterprise: 7, Key: "ca", Modulus: []byte{1}, Revision: 1, Created: 1, Need: 2, Nonce: make([]byte, 12), Ciphertext: []byte{1},
		Pieces: []dealing.ReservePiece{{Person: "a", Card: 1, Sealed: []byte{1}}, {Person: "b", Card: 2, Sealed: []byte{2}}},
	})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := dealing.ParseReserve(good); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := dealing.ParseReserve(data)
		if err != nil {
			return
		}
		if again, err := envelope.Marshal(r); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%v: %x", err, again)
		}
	})
}

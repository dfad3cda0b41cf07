package twolayer_test

import (
	"bytes"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// FuzzShares feeds decoded shares and dealings to everything that takes one from a
// medium: two encodings never mean the same, and only what was dealt passes.
func FuzzShares(f *testing.F) {
	s := deal(f, pair())
	for _, v := range []any{s.dealing.Calculators[0], s.dealing.Combiners[0], s.dealing.Public, s.dealing,
		twolayer.CalculatorShare{Number: 1, Keys: []threshold.Secret{threshold.NewSecret([]byte{1})}}} {
		data, err := envelope.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	roundTrip := func(t *testing.T, data []byte, v any) bool {
		if envelope.Unmarshal(data, v) != nil {
			return false
		}
		back, err := envelope.Marshal(v)
		if err != nil {
			t.Fatalf("decoded and does not encode: %v", err)
		}
		if !bytes.Equal(back, data) {
			t.Fatalf("%x was decoded and encodes as %x", data, back)
		}
		return true
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p := &s.dealing.Public
		var calculator twolayer.CalculatorShare
		if roundTrip(t, data, &calculator) && p.CheckCalculator(s.pub, &calculator) == nil &&
			!calculator.Keys[0].Equal(s.dealing.Calculators[calculator.Number-1].Keys[0]) {
			t.Fatal("a sub-key that nobody dealt passes")
		}
		var combiner twolayer.CombinerShare
		if roundTrip(t, data, &combiner) && p.CheckCombiner(s.pub, &combiner) == nil && !combiner.Parts[0].Equal(s.dealing.Combiners[0].Parts[0]) {
			t.Fatal("a part that nobody dealt passes")
		}
		var public twolayer.Public
		if roundTrip(t, data, &public) {
			public.Validate(s.pub)
		}
		var dealing twolayer.Dealing
		if roundTrip(t, data, &dealing) {
			dealing.Extend(bytes.NewReader(make([]byte, 1000)), pair(), s.pub)
		}
	})
}

package scheme_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold/scheme"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// TestLimits: numbers that no scheme takes are refused by all, in words, and so
// are keys of the wrong kind.
func TestLimits(t *testing.T) {
	for _, s := range scheme.All() {
		for _, p := range []scheme.Params{
			{}, {T: 0, N: 3, Bits: 2048}, {T: 4, N: 3, Bits: 2048}, {T: 2, N: 17, Bits: 2048}, {T: 1 << 63, N: 1 << 63, Bits: 2048},
			{T: 2, N: 3, Bits: 1024}, {T: 2, N: 3, Bits: 2047}, {T: 2, N: 3, Bits: -2048}, {T: 2, N: 3, Bits: 8192},
		} {
			if f, err := s.Facts(p); f != nil || !errors.Is(err, scheme.ErrParams) {
				t.Errorf("%s, %v: %v", s.Name(), p, err)
			}
			if _, err := s.Deal(nil, testKey(2048, true), p); !errors.Is(err, scheme.ErrParams) {
				t.Errorf("%s, %v: dealt: %v", s.Name(), p, err)
			}
		}
		if found, err := scheme.Lookup(s.Name()); err != nil || found != s || s.Paper() == "" {
			t.Errorf("%s: %v", s.Name(), err)
		}
	}
	if _, err := scheme.Lookup("elgamal"); !errors.Is(err, scheme.ErrUnknown) {
		t.Errorf("%v", err)
	}
	// What is beyond one scheme is within others.
	var can []string
	for _, name := range []string{"multiplicative", "additive", "shoup", "integer", "half"} {
		s, err := scheme.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Facts(scheme.Params{T: 8, N: 16, Bits: 2048}); err == nil {
			can = append(can, s.Name())
		} else if !errors.Is(err, scheme.ErrParams) {
			t.Errorf("%s: %v", s.Name(), err)
		}
	}
	if fmt.Sprint(can) != "[shoup integer half]" {
		t.Errorf("8 of 16 devices can be had by %q", can)
	}
}

// TestFacts pins what follows from the numbers: a table of 3 of 5 at 2048 bits, as
// anybody can compute it by hand.
func TestFacts(t *testing.T) {
	const w = 256
	type row struct {
		share, combiners, public   int
		device                     string
		rounds, again              uint64
		joinNew, joinOld, joinComb int
		distance                   int
	}
	want := map[string]row{
		"multiplicative": {6 * w, 0, 31 * w, "[2048]", 3, 3, 10 * w, 4 * w, 0, 1018},
		"additive":       {6 * w, 0, 31 * w, "[2048]", 1, 3, 10 * w, 4 * w, 0, 1018},
		"groups":         {3 * w, 0, 12 * w, "[2048]", 1, 3, 3 * w, 0, 0, 1019},
		"shoup":          {w, 0, 6 * w, "[2048]", 1, 1, w, 0, 0, 1021},
		"integer":        {531, 0, 6 * w, "[4248]", 1, 1, 532, 532, 0, 2176},
		"half":           {146, 0, 6*w + 8, "[1168]", 1, 1, 147, 147, 0, 128},
		"two-layer":      {288, 10 * w, 11 * w, "[1152 1152]", 1, 1, 288, 0, 10 * w, 0},
	}
	for _, s := range scheme.All() {
		f, err := s.Facts(scheme.Params{T: 3, N: 5, Bits: 2048})
		if err != nil {
			t.Fatal(err)
		}
		got := row{f.ShareLen, f.CombinerLen, f.PublicLen, fmt.Sprint(f.Device), f.Rounds, uint64(f.Wrong.Again), f.Join.NewLen, f.Join.OldLen, f.Join.CombinerLen, f.Secret.Distance}
		if s.Name() == "two-layer" { // how much beyond what was promised depends on the grouping
			if got.distance < twolayer.MinHiding {
				t.Errorf("two layers hide d up to 2^-%d", got.distance)
			}
			got.distance = 0
		}
		if got != want[s.Name()] {
			t.Errorf("%s: %+v, not %+v", s.Name(), got, want[s.Name()])
		}
		perSet := slices.Contains([]string{"multiplicative", "additive", "groups"}, s.Name())
		if f.Synchronised != perSet || f.Chained != (s.Name() == "multiplicative") || f.Wrong.Sound != s.SafePrimes() || f.Join.Anew != (s.Name() == "integer" || s.Name() == "half") {
			t.Errorf("%s: %+v", s.Name(), f)
		}
	}
}

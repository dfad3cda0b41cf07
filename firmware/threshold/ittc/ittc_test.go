package ittc_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/ittc"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
)

// TestFind: families for all numbers up to 9 are valid, the same each time, and
// not below the bound; some sizes that are known to be the smallest are reached.
func TestFind(t *testing.T) {
	for n := uint64(1); n <= 9; n++ {
		for T := uint64(1); T <= n; T++ {
			f, err := ittc.Find(T, n)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Validate(); err != nil {
				t.Errorf("%d of %d: %v", T, n, err)
			}
			if again, _ := ittc.Find(T, min(n, 7)); n <= 7 && fmt.Sprint(again) != fmt.Sprint(f) {
				t.Errorf("%d of %d: another family the second time", T, n)
			}
			if bound := ittc.Bound(T, n); len(f.Groups) < bound || bound < 1 {
				t.Errorf("%d of %d: %d groups, bound %d", T, n, len(f.Groups), bound)
			}
		}
	}
	// t = 1 and t = n need one group; t = 2 needs ⌈log₂ n⌉ (each halves what is not
	// separated yet); n = t + 1 needs ⌈n/2⌉.
	for tn, want := range map[[2]uint64]int{{1, 9}: 1, {9, 9}: 1, {2, 4}: 2, {2, 5}: 3, {2, 8}: 3, {2, 9}: 4, {3, 4}: 2, {4, 5}: 3, {7, 8}: 4, {3, 5}: 3} {
		if f, err := ittc.Find(tn[0], tn[1]); err != nil || len(f.Groups) != want {
			t.Errorf("%d of %d: %d groups, not %d", tn[0], tn[1], len(f.Groups), want)
		}
	}
}

// TestNoGroupTwice is the argument for secrecy, counted: t − 1 devices, any of
// them, lack a part of every group.
func TestNoGroupTwice(t *testing.T) {
	for _, tn := range [][2]uint64{{2, 4}, {3, 5}, {4, 7}, {5, 9}} {
		f, err := ittc.Find(tn[0], tn[1])
		if err != nil {
			t.Fatal(err)
		}
		for _, coalition := range (threshold.Split{Scheme: threshold.Additive, T: f.T - 1, N: f.N}).Subsets() {
			for number, g := range f.Groups {
				held := map[uint64]bool{}
				for _, i := range coalition.Indices() {
					held[g[i-1]] = true
				}
				if uint64(len(held)) >= f.T {
					t.Errorf("%d of %d: %v hold all of group %d", f.T, f.N, coalition, number+1)
				}
			}
		}
	}
}

// TestPrintedTable: the table in B [0023], for four servers and t = 3, leaves out
// servers 1, 3 and 4. One part in another place mends it.
func TestPrintedTable(t *testing.T) {
	printed := &ittc.Family{T: 3, N: 4, Groups: []ittc.Group{{1, 2, 3, 3}, {3, 1, 2, 3}}}
	if err := printed.Validate(); !errors.Is(err, ittc.ErrFamily) || !strings.Contains(err.Error(), "{1 3 4}") {
		t.Errorf("%v", err)
	}
	if _, ok := printed.Choose(0b1101); ok {
		t.Error("1, 3 and 4 sign")
	}
	mended := &ittc.Family{T: 3, N: 4, Groups: []ittc.Group{{1, 2, 3, 3}, {1, 1, 2, 3}}}
	if err := mended.Validate(); err != nil {
		t.Error(err)
	}
}

// TestGrow: who is there keeps what he has.
func TestGrow(t *testing.T) {
	for _, tn := range [][2]uint64{{1, 1}, {2, 2}, {2, 3}, {3, 5}, {5, 8}} {
		f, err := ittc.Find(tn[0], tn[1])
		if err != nil {
			t.Fatal(err)
		}
		grown, err := f.Grow()
		if err != nil {
			t.Fatal(err)
		}
		if err := grown.Validate(); err != nil || grown.N != f.N+1 || grown.T != f.T {
			t.Errorf("%+v: %v", grown, err)
		}
		for i, g := range f.Groups {
			if !slices.Equal(grown.Groups[i][:f.N], g) {
				t.Errorf("%d of %d: group %d changed", f.T, f.N, i+1)
			}
		}
	}
	full, err := ittc.Find(2, threshold.MaxDevices)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := full.Grow(); !errors.Is(err, ittc.ErrFamily) {
		t.Errorf("17 devices: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	for _, tn := range [][2]uint64{{0, 1}, {2, 1}, {1, 17}, {1 << 63, 1 << 63}, {0, 0}} {
		if _, err := ittc.Find(tn[0], tn[1]); !errors.Is(err, ittc.ErrFamily) || ittc.Bound(tn[0], tn[1]) != 0 {
			t.Errorf("%d of %d: %v", tn[0], tn[1], err)
		}
	}
	// 137 groups are the fewest that 11 of 16 devices could do with.
	if _, err := ittc.Find(11, 16); !errors.Is(err, ittc.ErrFamily) {
		t.Errorf("11 of 16: %v", err)
	}
	for name, f := range map[string]*ittc.Family{
		"no group": {T: 2, N: 3}, "short": {T: 2, N: 3, Groups: []ittc.Group{{1, 2}}}, "part 0": {T: 2, N: 2, Groups: []ittc.Group{{0, 1}}},
		"part 3": {T: 2, N: 2, Groups: []ittc.Group{{3, 1}}}, "same part": {T: 2, N: 2, Groups: []ittc.Group{{1, 1}}}, "empty": {},
		"part 2^63": {T: 2, N: 2, Groups: []ittc.Group{{1 << 63, 1}}}, "nil group": {T: 2, N: 2, Groups: []ittc.Group{nil}},
		"too many": {T: 1, N: 1, Groups: slices.Repeat([]ittc.Group{{1}}, ittc.MaxGroups+1)},
	} {
		if err := f.Validate(); !errors.Is(err, ittc.ErrFamily) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := ittc.Deal(rand.Reader, thresholdtest.Key(2048, false), f); !errors.Is(err, ittc.ErrFamily) {
			t.Errorf("%s: dealt: %v", name, err)
		}
	}
}

func TestCheckShare(t *testing.T) {
	k := thresholdtest.Key(2048, false)
	pub := k.Public()
	f, err := ittc.Find(2, 3)
	if err != nil {
		t.Fatal(err)
	}
	shares, c, err := ittc.Deal(rand.Reader, k, f)
	if err != nil {
		t.Fatal(err)
	}
	for i := range shares {
		if err := c.CheckShare(pub, f, &shares[i]); err != nil {
			t.Error(err)
		}
	}
	damaged := ittc.Share{Index: 1, Parts: []threshold.Secret{shares[0].Parts[0], shares[0].Parts[1].Clone()}}
	damaged.Parts[1].Reveal()[100] ^= 1
	for name, s := range map[string]*ittc.Share{
		"bit": &damaged, "another's": {Index: 1, Parts: shares[1].Parts}, "index 0": {Parts: shares[0].Parts}, "index 4": {Index: 4, Parts: shares[0].Parts},
		"missing": {Index: 1, Parts: shares[0].Parts[:1]}, "swapped": {Index: 1, Parts: []threshold.Secret{shares[0].Parts[1], shares[0].Parts[0]}},
	} {
		if err := c.CheckShare(pub, f, s); !errors.Is(err, threshold.ErrShare) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := &ittc.Commitment{Groups: []threshold.Commitment{c.Groups[0], c.Groups[0]}}
	bad.Groups[1].G = c.Groups[1].G
	if err := bad.Check(pub, f); !errors.Is(err, threshold.ErrCommitment) {
		t.Errorf("another g: %v", err)
	}
	if err := (&ittc.Commitment{Groups: c.Groups[:1]}).Check(pub, f); !errors.Is(err, threshold.ErrCommitment) {
		t.Errorf("a group is missing: %v", err)
	}
	if text := fmt.Sprintf("%v %+v %#v %x", shares, shares[0], &shares[0], shares[0]); strings.Contains(text, fmt.Sprintf("%x", shares[0].Parts[0].Reveal())) || !strings.Contains(text, "[secret]") {
		t.Error("a share prints")
	}
	shares[0].Wipe()
	if shares[0].Parts[0].Len() != 0 || shares[1].Parts[0].Len() == 0 || shares[2].Parts[0].Len() == 0 {
		t.Error("wiping one share wipes that and no other")
	}
}

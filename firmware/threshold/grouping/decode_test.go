package grouping_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// A grouping of two combiners is written out, so that its form does not change
// unnoticed.
const encoded = "a4" + "0102" + "0202" + "0383010203" + "0482" +
	"a2" + "0101" + "028282820101820201828201018203" + "02" +
	"a2" + "0104" + "02818282020182" + "0301"

func TestEncoding(t *testing.T) {
	g := &grouping.Grouping{T: 2, L: 2, Calculators: []uint64{1, 2, 3}, Combiners: []grouping.Group{
		group(1, "11,21", "11,32"), group(4, "21,31")}}
	raw, err := envelope.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	if s := hex.EncodeToString(raw); s != encoded {
		t.Errorf("encoded as %s", s)
	}
	var h grouping.Grouping
	if err := envelope.Unmarshal(raw, &h); err != nil || fmt.Sprint(h) != fmt.Sprint(*g) {
		t.Errorf("%v: %v", h, err)
	}
	for name, change := range map[string][2]string{
		"a term with one number":    {"820301", "8103"},
		"a term with three numbers": {"820301", "83030101"},
		"a term that is a map":      {"820301", "a203010405"},
		"a term that is a number":   {"820301", "03"},
		"a term that is null":       {"820301", "f6"},
		"a term with a text":        {"820301", "82036131"},
		"a term with a negative":    {"820301", "820320"},
		"a number too long":         {"820301", "8203180" + "1"},
		"a field more":              {"a40102", "a5000001" + "02"},
		"a field less":              {"a401020202", "a30102"},
		"a field of another name":   {"a40102", "a40502"},
		"something after it":        {"820301", "82030100"},
	} {
		raw, err := hex.DecodeString(string(bytes.Replace([]byte(encoded), []byte(change[0]), []byte(change[1]), 1)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var h grouping.Grouping
		if err := envelope.Unmarshal(raw, &h); err == nil {
			t.Errorf("%s: %v", name, h)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, change := range map[string]func(*grouping.Grouping){
		"no calculator":             func(g *grouping.Grouping) { g.T = 0 },
		"too few calculators":       func(g *grouping.Grouping) { g.T = 6 },
		"no sub-key":                func(g *grouping.Grouping) { g.L = 0 },
		"too many sub-keys":         func(g *grouping.Grouping) { g.L = grouping.MaxKeys + 1 },
		"no combiner":               func(g *grouping.Grouping) { g.Combiners = nil },
		"a calculator twice":        func(g *grouping.Grouping) { g.Calculators[1] = 1 },
		"calculators in disorder":   func(g *grouping.Grouping) { g.Calculators[1] = 4 },
		"calculator 0":              func(g *grouping.Grouping) { g.Calculators[0] = 0 },
		"calculator 1000":           func(g *grouping.Grouping) { g.Calculators[4] = grouping.MaxNumber + 1 },
		"a combiner twice":          func(g *grouping.Grouping) { g.Combiners[1].Number = 1 },
		"too many calculators":      func(g *grouping.Grouping) { g.Calculators = upTo(grouping.MaxCalculators + 1) },
		"an unknown calculator":     func(g *grouping.Grouping) { g.Combiners[1].Combinations[0][2].Calculator = 6 },
		"an unknown sub-key":        func(g *grouping.Grouping) { g.Combiners[1].Combinations[0][2].Key = 3 },
		"sub-key 0":                 func(g *grouping.Grouping) { g.Combiners[1].Combinations[0][2].Key = 0 },
		"a term less":               func(g *grouping.Grouping) { g.Combiners[1].Combinations[0] = g.Combiners[1].Combinations[0][:2] },
		"a calculator twice in one": func(g *grouping.Grouping) { g.Combiners[1].Combinations[0][1] = g.Combiners[1].Combinations[0][0] },
		"a combination twice": func(g *grouping.Grouping) {
			g.Combiners[1].Combinations = append(g.Combiners[1].Combinations, g.Combiners[1].Combinations[0])
		},
		"too many combiners": func(g *grouping.Grouping) {
			g.Combiners = nil
			for _, n := range upTo(grouping.MaxCombiners + 1) {
				g.Combiners = append(g.Combiners, grouping.Group{Number: n})
			}
		},
	} {
		g := printed()
		if err := g.Validate(); err != nil {
			t.Fatal(err)
		}
		change(g)
		if err := g.Validate(); !errors.Is(err, grouping.ErrGrouping) {
			t.Errorf("%s: %v", name, err)
		}
		if err := g.Check(); !errors.Is(err, grouping.ErrGrouping) {
			t.Errorf("%s: Check: %v", name, err)
		}
	}
}

func upTo(n uint64) []uint64 {
	var out []uint64
	for i := range n {
		out = append(out, i+1)
	}
	return out
}

// FuzzGrouping: what is decoded is encoded as it came, and what is valid can be
// asked everything.
func FuzzGrouping(f *testing.F) {
	for _, s := range []string{encoded, "a0", "a401010201038101048180"} {
		raw, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	raw, err := envelope.Marshal(printed())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var g grouping.Grouping
		if envelope.Unmarshal(raw, &g) != nil || g.Validate() != nil {
			return
		}
		again, err := envelope.Marshal(&g)
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%x is encoded as %x, %v", raw, again, err)
		}
		if len(g.Calculators) > 6 || len(g.Combiners) > 3 || len(raw) > 1<<10 {
			return // what follows takes long
		}
		err = g.Check()
		table := g.Table()
		var unsafe *grouping.UnsafeError
		if errors.As(err, &unsafe) == (len(table.Weak) == 0) && unsafe != nil {
			t.Errorf("%v, but the table is\n%v", err, table)
		}
		for _, w := range table.Weak {
			v, rows := g.Left(w.Combiners, w.Calculators)
			if grouping.BigOrder(v, rows).Cmp(w.Gain.Modulus) != 0 {
				t.Errorf("%v is wrong", w)
			}
		}
		if less, err := g.Without(g.Calculators[:1], nil); err == nil && less.Validate() != nil {
			t.Error(less)
		}
		g.Spare()
		g.Match(1, g.Calculators)
	})
}

package threshold_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
	"github.com/privyseal/privyseal/firmware/threshold/tuplehash"
)

const vectorFile = "testdata/proof.txt"

// TestProofVector makes a dealing, a partial signature and a proof from fixed
// randomness and compares them with the stored ones: a difference means that
// devices of two versions no longer understand each other. It then verifies the
// stored proof by math/big and TupleHash alone, as another implementation would.
// With -update it writes the file.
func TestProofVector(t *testing.T) {
	k := testKey(2048, true)
	split := threshold.Split{Scheme: threshold.Multiplicative, T: 2, N: 3}
	shares, com, err := threshold.Deal(thresholdtest.Seeds(2048, true), k, split)
	if err != nil {
		t.Fatal(err)
	}
	s := &system{t, k, k.Public(), split, shares, com}
	const subset, index = threshold.Subset(0b101), 3
	_, em := message(t, threshold.PS256, "document", 2048)
	b := s.binding(subset)
	b.Share, b.Position = shareID(index), 1
	d, _ := shares[index-1].Sub(subset)
	v, err := com.Lookup(subset, index)
	if err != nil {
		t.Fatal(err)
	}
	y := s.partial(b, index, em, false).Value
	p, err := threshold.Prove(bytes.NewReader(make([]byte, 32)), s.pub, com, b, index, em, y, d)
	if err != nil {
		t.Fatal(err)
	}

	var text strings.Builder
	text.WriteString("# A proof of a partial signature, with the TEST KEY safe-2048 and 32 zero bytes of\n# randomness. Numbers are big-endian; d is the sub-share.\n")
	for _, f := range []struct {
		name  string
		value []byte
	}{
		{"system", b.System[:]}, {"key", []byte(b.Key)}, {"epoch", []byte{byte(b.Epoch)}}, {"share", []byte(b.Share)}, {"request", b.Request[:]},
		{"subset", []byte{byte(subset)}}, {"position", []byte{byte(b.Position)}}, {"index", []byte{index}},
		{"N", s.pub.N}, {"g", com.G}, {"d", d.Reveal()}, {"v", v}, {"x", em}, {"y", y}, {"C", p.C}, {"Z", p.Z},
	} {
		fmt.Fprintf(&text, "%s %x\n", f.name, f.value)
	}
	if *update {
		if err := os.WriteFile(vectorFile, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(stored) != text.String() {
		t.Errorf("differs from %s:\n%s", vectorFile, text.String())
	}

	field := map[string][]byte{}
	for line := range strings.Lines(string(stored)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			if field[name], err = hex.DecodeString(value); err != nil {
				t.Fatal(err)
			}
		}
	}
	num := func(name string) *big.Int { return new(big.Int).SetBytes(field[name]) }
	exp := func(base, e *big.Int) *big.Int { return new(big.Int).Exp(base, e, num("N")) }
	mul := func(a, b *big.Int) *big.Int { return a.Mul(a, b).Mod(a, num("N")) }
	two := big.NewInt(2)
	if exp(num("g"), num("d")).Cmp(num("v")) != 0 || exp(exp(num("x"), two), num("d")).Cmp(exp(num("y"), two)) != 0 {
		t.Error("the stored statement is false")
	}
	minusC := new(big.Int).Neg(num("C"))
	A := mul(exp(num("g"), num("Z")), exp(num("v"), minusC))
	B := mul(exp(exp(num("x"), two), num("Z")), exp(exp(num("y"), two), minusC))
	h := tuplehash.New("privyseal proof of partial signature v1")
	for _, name := range []string{"system", "key", "epoch", "share", "request", "subset", "position", "index", "N", "e", "g", "v", "x", "y"} {
		switch name {
		case "epoch", "subset", "position", "index":
			h.AddUint(num(name).Uint64())
		case "e":
			h.AddUint(65537)
		default:
			h.Add(field[name])
		}
	}
	h.Add(A.FillBytes(make([]byte, 256)))
	h.Add(B.FillBytes(make([]byte, 256)))
	if got := h.Sum(16); !bytes.Equal(got, field["C"]) {
		t.Errorf("the stored proof does not verify: challenge %x", got)
	}
}

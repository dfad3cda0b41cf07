package twolayer_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
	"github.com/privyseal/privyseal/firmware/threshold/tuplehash"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

var update = flag.Bool("update", false, "write the test vectors anew")

const vectorFile = "testdata/proof.txt"

// proved is one true statement with its proof and all that a test may change.
type proved struct {
	pub  *threshold.PublicKey
	p    *twolayer.Public
	b    threshold.Binding
	term grouping.Term
	x, y []byte
	pr   *threshold.Proof
}

func (v proved) verify() error {
	return twolayer.VerifyProof(v.pub, v.p, v.b, v.term, v.x, v.y, v.pr)
}

func prove(t testing.TB, s *system, random []byte) proved {
	t.Helper()
	_, em := message(t, threshold.PS256, "document", s.pub.Bits())
	v := proved{pub: s.pub, p: &s.dealing.Public, x: em, term: grouping.Term{Calculator: 2, Key: 1}}
	v.b = threshold.Binding{System: [32]byte{1}, Key: "key 7", Epoch: 3, Share: "share 2", Request: [32]byte{2}}
	d := s.dealing.Calculators[1].Keys[0]
	v.y = s.power(em, d)
	var err error
	if v.pr, err = twolayer.Prove(bytes.NewReader(random), v.pub, v.p, v.b, v.term, v.x, v.y, d); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestProofBindsEverything: a proof holds for its statement and for no other.
func TestProofBindsEverything(t *testing.T) {
	s := deal(t, twoOfThree())
	v := prove(t, s, make([]byte, 32))
	if err := v.verify(); err != nil {
		t.Fatal(err)
	}
	n := num(s.pub.N)
	for name, change := range map[string]func(*proved){
		"system":     func(v *proved) { v.b.System[31] ^= 1 },
		"key":        func(v *proved) { v.b.Key = "key 8" },
		"no key":     func(v *proved) { v.b.Key = "" },
		"epoch":      func(v *proved) { v.b.Epoch++ },
		"share":      func(v *proved) { v.b.Share = "share 3" },
		"no share":   func(v *proved) { v.b.Share = "" },
		"border":     func(v *proved) { v.b.Key, v.b.Share = "key", " 7share 2" },
		"request":    func(v *proved) { v.b.Request[0] ^= 1 },
		"subset":     func(v *proved) { v.b.Subset = 3 },
		"position":   func(v *proved) { v.b.Position = 1 },
		"sub-key":    func(v *proved) { v.term.Key = 2 },
		"calculator": func(v *proved) { v.term.Calculator = 1 },
		"nobody":     func(v *proved) { v.term.Calculator = 4 },
		"x":          func(v *proved) { v.x = v.y },
		"negated x":  func(v *proved) { v.x = new(big.Int).Sub(n, num(v.x)).FillBytes(make([]byte, 256)) },
		"y":          func(v *proved) { v.y = s.power(v.x, s.dealing.Calculators[1].Keys[1]) },
		"negated y":  func(v *proved) { v.y = new(big.Int).Sub(n, num(v.y)).FillBytes(make([]byte, 256)) },
		"h":          func(v *proved) { p := *v.p; p.H = v.p.V[0]; v.p = &p },
		"no h":       func(v *proved) { p := *v.p; p.H = nil; v.p = &p },
		"v":          func(v *proved) { p := *v.p; p.V = slices.Clone(p.V); p.V[2] = p.V[3]; v.p = &p },
		"challenge":  func(v *proved) { v.pr = &threshold.Proof{C: flip(v.pr.C), Z: v.pr.Z} },
		"response":   func(v *proved) { v.pr = &threshold.Proof{C: v.pr.C, Z: flip(v.pr.Z)} },
		"long":       func(v *proved) { v.pr = &threshold.Proof{C: v.pr.C, Z: append([]byte{0}, v.pr.Z...)} },
		"as of a part": func(v *proved) {
			v.pr = &threshold.Proof{C: v.pr.C, Z: append(make([]byte, 256-twolayer.SubKeyLen(2048)), v.pr.Z...)}
		},
		"no proof": func(v *proved) { v.pr = nil },
		"modulus":  func(v *proved) { v.pub = thresholdtest.Key(2048, false).Public() },
	} {
		changed := v
		if change(&changed); changed.verify() == nil {
			t.Errorf("%s: changed, and the proof still holds", name)
		}
	}
	// A sub-share of a subset with the same check value is another statement.
	c := &threshold.Commitment{G: s.dealing.Public.G(s.pub), V: []threshold.SubCommitment{{Subset: 2, Index: 2, Value: s.dealing.Public.V[2]}}}
	b := v.b
	b.Subset = 2
	if err := threshold.VerifyProof(s.pub, c, b, 2, v.x, v.y, v.pr); !errors.Is(err, threshold.ErrProof) {
		t.Errorf("proof of a power as one of a partial signature: %v", err)
	}
}

func flip(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

// TestLiarCannotProve: a wrong power has no proof that its own machine could make,
// and a part is no sub-key.
func TestLiarCannotProve(t *testing.T) {
	s := deal(t, twoOfThree())
	v := prove(t, s, make([]byte, 32))
	for name, d := range map[string]threshold.Secret{
		"the other sub-key": s.dealing.Calculators[1].Keys[1], "another machine's": s.dealing.Calculators[0].Keys[0],
	} {
		lie := v
		lie.y = s.power(v.x, d)
		for _, used := range []threshold.Secret{d, s.dealing.Calculators[1].Keys[0]} {
			var err error
			if lie.pr, err = twolayer.Prove(rand.Reader, v.pub, v.p, v.b, v.term, v.x, lie.y, used); err != nil {
				t.Fatal(err)
			}
			if err := lie.verify(); !errors.Is(err, threshold.ErrProof) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if _, err := twolayer.Prove(rand.Reader, v.pub, v.p, v.b, v.term, v.x, v.y, s.dealing.Combiners[0].Parts[0]); !errors.Is(err, threshold.ErrShare) {
		t.Errorf("proof by a part: %v", err)
	}
}

// TestProofVector compares a dealing, a power and a proof of fixed randomness with
// stored ones, and verifies the stored proof by math/big and TupleHash alone. With
// -update it writes the file.
func TestProofVector(t *testing.T) {
	k := thresholdtest.Key(2048, true)
	dealing, err := twolayer.Deal(thresholdtest.Seeds(2048, true), k, twoOfThree())
	if err != nil {
		t.Fatal(err)
	}
	s := &system{t, k, k.Public(), dealing}
	v := prove(t, s, make([]byte, 32))
	var text strings.Builder
	text.WriteString("# A proof of the power of a sub-key, with the TEST KEY safe-2048 and 32 zero bytes of\n# randomness. Numbers are big-endian; d is the sub-key, c the part of (11,21).\n")
	for _, f := range []struct {
		name  string
		value []byte
	}{
		{"system", v.b.System[:]}, {"key", []byte(v.b.Key)}, {"epoch", []byte{byte(v.b.Epoch)}}, {"share", []byte(v.b.Share)}, {"request", v.b.Request[:]},
		{"calculator", []byte{byte(v.term.Calculator)}}, {"number", []byte{byte(v.term.Key)}}, {"N", s.pub.N}, {"h", v.p.H},
		{"d", dealing.Calculators[1].Keys[0].Reveal()}, {"c", dealing.Combiners[0].Parts[0].Reveal()}, {"v", v.p.V[2]}, {"x", v.x}, {"y", v.y}, {"C", v.pr.C}, {"Z", v.pr.Z},
	} {
		fmt.Fprintf(&text, "%s %x\n", f.name, f.value)
	}
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
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
	of := func(name string) *big.Int { return num(field[name]) }
	exp := func(base, e *big.Int) *big.Int { return new(big.Int).Exp(base, e, of("N")) }
	mul := func(a, b *big.Int) *big.Int { return a.Mul(a, b).Mod(a, of("N")) }
	two, g := big.NewInt(2), exp(of("h"), big.NewInt(65537))
	if exp(g, of("d")).Cmp(of("v")) != 0 || exp(exp(of("x"), two), of("d")).Cmp(exp(of("y"), two)) != 0 || exp(g, exponent(t, k)).Cmp(of("h")) != 0 {
		t.Error("the stored statement is false")
	}
	minusC := new(big.Int).Neg(of("C"))
	A := mul(exp(g, of("Z")), exp(of("v"), minusC))
	B := mul(exp(exp(of("x"), two), of("Z")), exp(exp(of("y"), two), minusC))
	h := tuplehash.New("privyseal proof of power of sub-key v1")
	for _, name := range []string{"system", "key", "epoch", "share", "request", "calculator", "number", "N", "e", "g", "v", "x", "y"} {
		switch name {
		case "epoch", "calculator", "number":
			h.AddUint(of(name).Uint64())
		case "e":
			h.AddUint(65537)
		case "g":
			h.Add(g.FillBytes(make([]byte, 256)))
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

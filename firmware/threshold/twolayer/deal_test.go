package twolayer_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

func num(b []byte) *big.Int { return new(big.Int).SetBytes(b) }

// exponent is d, by math/big from the factors.
func exponent(t testing.TB, k *threshold.WholeKey) *big.Int {
	t.Helper()
	p, q, err := k.Factors()
	if err != nil {
		t.Fatal(err)
	}
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(num(p.Reveal()), one), new(big.Int).Sub(num(q.Reveal()), one))
	return phi.ModInverse(big.NewInt(threshold.PublicExponent), phi)
}

// TestDealing compares a dealing with math/big: every combination adds up to d over
// the integers, every length is fixed, and the published values are those of the
// shares.
func TestDealing(t *testing.T) {
	for _, bits := range []int{2048, 3072} {
		k := thresholdtest.Key(bits, false)
		g := printed()
		dealing, err := twolayer.Deal(rand.Reader, k, g)
		if err != nil {
			t.Fatal(err)
		}
		pub, d := k.Public(), exponent(t, k)
		n := num(pub.N)
		p := &dealing.Public
		if base := p.G(pub); new(big.Int).Exp(num(base), d, n).Cmp(num(p.H)) != 0 {
			t.Error("h is not g^d")
		}
		keys := map[grouping.Term]*big.Int{}
		longest := 0
		for i, share := range dealing.Calculators {
			if share.Number != g.Calculators[i] || len(share.Keys) != int(g.L) {
				t.Fatalf("share %d of calculator %d", i, share.Number)
			}
			for i, key := range share.Keys {
				term := grouping.Term{Calculator: share.Number, Key: uint64(i + 1)}
				keys[term] = num(key.Reveal())
				longest = max(longest, keys[term].BitLen())
				if key.Len() != twolayer.SubKeyLen(bits) || 8*key.Len() != bits/2+128 {
					t.Errorf("sub-key %v has %d bytes", term, key.Len())
				}
				v, err := p.CheckValue(term)
				if err != nil || new(big.Int).Exp(num(p.G(pub)), keys[term], n).Cmp(num(v)) != 0 {
					t.Errorf("check value of %v: %v", term, err)
				}
			}
		}
		if longest < bits/2+128-10 { // 2⁻¹⁰⁰ for ten sub-keys
			t.Errorf("no sub-key is longer than %d bits", longest)
		}
		for i, share := range dealing.Combiners {
			for a, c := range g.Combiners[i].Combinations {
				sum := num(share.Parts[a].Reveal())
				v, err := p.PartCheckValue(pub, c)
				if err != nil || new(big.Int).Exp(num(p.G(pub)), sum, n).Cmp(num(v)) != 0 {
					t.Errorf("check value of the part of %v: %v", c, err)
				}
				for _, term := range c {
					sum.Add(sum, keys[term])
				}
				if sum.Cmp(d) != 0 || share.Parts[a].Len() != pub.Len() {
					t.Errorf("%v does not add up to d", c)
				}
			}
		}
		for _, term := range []grouping.Term{{Calculator: 6, Key: 1}, {Calculator: 1, Key: 3}, {Calculator: 1}, {}} {
			if _, err := p.CheckValue(term); !errors.Is(err, twolayer.ErrTerm) {
				t.Errorf("check value of %v: %v", term, err)
			}
		}
	}
}

// TestSignatureIsWhole: what two layers sign is what the whole key signs.
func TestSignatureIsWhole(t *testing.T) {
	x := printedTask(t)
	want, err := key().SignEncoded(x.em)
	if err != nil {
		t.Fatal(err)
	}
	for combiner := uint64(1); combiner <= 3; combiner++ {
		if sol, _, err := x.combine(combiner, x.powers); err != nil || !bytes.Equal(sol.Signature, want) {
			t.Errorf("combiner %d: %v", combiner, err)
		}
	}
}

func TestDealRefuses(t *testing.T) {
	if _, err := twolayer.Deal(rand.Reader, key(), grouping.Grouping{}); !errors.Is(err, grouping.ErrGrouping) {
		t.Errorf("empty grouping: %v", err)
	}
	if _, err := twolayer.Deal(iotest.ErrReader(errors.New("broken")), key(), pair()); err == nil {
		t.Error("dealt without randomness")
	}
	wiped := thresholdtest.Key(2048, false)
	wiped.Wipe()
	if _, err := twolayer.Deal(rand.Reader, wiped, pair()); !errors.Is(err, threshold.ErrWiped) {
		t.Errorf("wiped key: %v", err)
	}
	// A modulus of two factors of different lengths has no public half of d.
	uneven := unevenKey(t)
	if _, err := twolayer.Deal(rand.Reader, uneven, pair()); !errors.Is(err, twolayer.ErrKey) {
		t.Errorf("factors of different lengths: %v", err)
	}
}

// unevenKey has factors of 1025 and 1023 bits.
func unevenKey(t testing.TB) *threshold.WholeKey {
	t.Helper()
	for i := int64(1); i < 5000; i += 2 {
		p, q := nextPrime(new(big.Int).Add(new(big.Int).Lsh(big.NewInt(3), 1023), big.NewInt(i))), nextPrime(new(big.Int).Lsh(big.NewInt(7), 1020))
		if k, err := threshold.WholeKeyFromPrimes(p.Bytes(), q.Bytes(), false); err == nil {
			return k
		}
	}
	t.Fatal("no such key")
	return nil
}

func nextPrime(p *big.Int) *big.Int {
	for p.SetBit(p, 0, 1); !p.ProbablyPrime(0); p.Add(p, big.NewInt(2)) {
	}
	return p
}

// TestCheckShares: a share passes the check of its own machine and of no other,
// and no change of it passes.
func TestCheckShares(t *testing.T) {
	s := deal(t, twoOfThree())
	p := &s.dealing.Public
	flip := func(x threshold.Secret, bit int) threshold.Secret {
		y := x.Clone()
		y.Reveal()[bit/8] ^= 1 << (bit % 8)
		return y
	}
	calculator := s.dealing.Calculators[1]
	for name, c := range map[string]struct {
		change func(*twolayer.CalculatorShare)
		want   error
	}{
		"":                     {func(*twolayer.CalculatorShare) {}, nil},
		"lowest bit":           {func(c *twolayer.CalculatorShare) { c.Keys[0] = flip(c.Keys[0], 8*143) }, twolayer.ErrShare},
		"highest bit":          {func(c *twolayer.CalculatorShare) { c.Keys[1] = flip(c.Keys[1], 7) }, twolayer.ErrShare},
		"swapped":              {func(c *twolayer.CalculatorShare) { slices.Reverse(c.Keys) }, twolayer.ErrShare},
		"one key":              {func(c *twolayer.CalculatorShare) { c.Keys = c.Keys[:1] }, twolayer.ErrShare},
		"of another":           {func(c *twolayer.CalculatorShare) { c.Number = 3 }, twolayer.ErrShare},
		"of nobody":            {func(c *twolayer.CalculatorShare) { c.Number = 4 }, twolayer.ErrTerm},
		"wiped":                {func(c *twolayer.CalculatorShare) { c.Keys[0] = threshold.Secret{} }, twolayer.ErrShare},
		"as long as a modulus": {func(c *twolayer.CalculatorShare) { c.Keys[0] = padded(c.Keys[0], 256) }, twolayer.ErrShare},
	} {
		changed := twolayer.CalculatorShare{Number: calculator.Number, Keys: slices.Clone(calculator.Keys)}
		c.change(&changed)
		if err := p.CheckCalculator(s.pub, &changed); !errors.Is(err, c.want) {
			t.Errorf("calculator, %s: %v", name, err)
		}
	}
	combiner := s.dealing.Combiners[1]
	for name, c := range map[string]struct {
		change func(*twolayer.CombinerShare)
		want   error
	}{
		"":           {func(*twolayer.CombinerShare) {}, nil},
		"lowest bit": {func(c *twolayer.CombinerShare) { c.Parts[2] = flip(c.Parts[2], 8*255) }, twolayer.ErrShare},
		"swapped":    {func(c *twolayer.CombinerShare) { slices.Reverse(c.Parts) }, twolayer.ErrShare},
		"two parts":  {func(c *twolayer.CombinerShare) { c.Parts = c.Parts[:2] }, twolayer.ErrShare},
		"of another": {func(c *twolayer.CombinerShare) { c.Number = 1 }, twolayer.ErrShare},
		"of nobody":  {func(c *twolayer.CombinerShare) { c.Number = 3 }, twolayer.ErrTerm},
		"short":      {func(c *twolayer.CombinerShare) { c.Parts[0] = threshold.NewSecret(c.Parts[0].Clone().Reveal()[1:]) }, twolayer.ErrShare},
	} {
		changed := twolayer.CombinerShare{Number: combiner.Number, Parts: slices.Clone(combiner.Parts)}
		c.change(&changed)
		if err := p.CheckCombiner(s.pub, &changed); !errors.Is(err, c.want) {
			t.Errorf("combiner, %s: %v", name, err)
		}
	}
}

func padded(s threshold.Secret, width int) threshold.Secret {
	return threshold.NewSecret(num(s.Reveal()).FillBytes(make([]byte, width)))
}

func TestValidatePublic(t *testing.T) {
	s := deal(t, pair())
	for name, change := range map[string]func(*twolayer.Public){
		"h is 1":        func(p *twolayer.Public) { p.H = big.NewInt(1).FillBytes(make([]byte, 256)) },
		"no h":          func(p *twolayer.Public) { p.H = nil },
		"one value":     func(p *twolayer.Public) { p.V = p.V[:1] },
		"three values":  func(p *twolayer.Public) { p.V = append(slices.Clone(p.V), p.V[0]) },
		"a value twice": func(p *twolayer.Public) { p.V = [][]byte{p.V[0], p.V[0]} },
		"h as value":    func(p *twolayer.Public) { p.V = [][]byte{p.V[0], p.H} },
		"g as value":    func(p *twolayer.Public) { p.V = [][]byte{p.G(s.pub), p.V[1]} },
		"short value":   func(p *twolayer.Public) { p.V = [][]byte{p.V[0], p.V[1][1:]} },
		"N as value":    func(p *twolayer.Public) { p.V = [][]byte{s.pub.N, p.V[1]} },
		"no grouping":   func(p *twolayer.Public) { p.Grouping = grouping.Grouping{} },
	} {
		p := s.dealing.Public
		if err := p.Validate(s.pub); err != nil {
			t.Fatal(err)
		}
		if change(&p); p.Validate(s.pub) == nil {
			t.Errorf("%s passes", name)
		}
	}
	if s.dealing.Public.Validate(&threshold.PublicKey{N: s.pub.N, E: 3}) == nil {
		t.Error("passes with e = 3")
	}
}

// TestRedaction: nothing prints a share.
func TestRedaction(t *testing.T) {
	s := deal(t, pair())
	secret := s.dealing.Calculators[0].Keys[0].Reveal()
	text := hex.EncodeToString(secret[:8])
	decimal := strings.Trim(fmt.Sprint(secret[:8]), "[]")
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("", "dealing", s.dealing, "share", s.dealing.Calculators[0])
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q"} {
		fmt.Fprintf(&out, verb, s.dealing)
		fmt.Fprintf(&out, verb, *s.dealing)
		fmt.Fprintf(&out, verb, s.dealing.Combiners)
		e, _ := twolayer.NewExponentiator(s.pub, s.dealing.Calculators[0].Keys[0])
		fmt.Fprintf(&out, verb, e)
	}
	j, err := json.Marshal(s.dealing)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	if all := strings.ToLower(out.String()); strings.Contains(all, text) || strings.Contains(all, decimal) {
		t.Error("a sub-key was printed")
	}
}

func TestWipe(t *testing.T) {
	s := deal(t, pair())
	_, em := message(t, threshold.RS256, "document", 2048)
	var kept [][]byte
	for _, x := range slices.Concat(s.dealing.Calculators[0].Keys, s.dealing.Calculators[1].Keys, s.dealing.Combiners[0].Parts) {
		kept = append(kept, x.Reveal())
	}
	e, err := twolayer.NewExponentiator(s.pub, s.dealing.Calculators[0].Keys[0])
	if err != nil {
		t.Fatal(err)
	}
	s.dealing.Wipe()
	for _, b := range kept {
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Error("a secret survives")
		}
	}
	if _, err := twolayer.Power(s.pub, em, e); !errors.Is(err, threshold.ErrWiped) {
		t.Errorf("power with a wiped sub-key: %v", err)
	}
	if _, err := twolayer.NewExponentiator(s.pub, s.dealing.Calculators[0].Keys[0]); !errors.Is(err, twolayer.ErrShare) {
		t.Errorf("wiped sub-key: %v", err)
	}
	if _, err := s.dealing.Extend(rand.Reader, pair(), s.pub); err == nil {
		t.Error("a wiped dealing grows")
	}
}

package threshold_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"math/big"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold"
)

// forge replaces the value of a partial signature.
func forge(p threshold.PartialSignature, v *big.Int, size int) threshold.PartialSignature {
	p.Value = v.FillBytes(make([]byte, size))
	return p
}

func smaller(v, n *big.Int) *big.Int {
	other := new(big.Int).Sub(n, v)
	if other.Cmp(v) < 0 {
		return other
	}
	return v
}

// TestWrongPartials: every kind of wrong partial signature makes combining fail,
// is attributed to its maker by proofs, and the signature is completed by
// another subset.
func TestWrongPartials(t *testing.T) {
	s := deal(t, 2048, threshold.Additive, 3, 5)
	alg := threshold.RS256
	digest, em := message(t, alg, "document", 2048)
	_, otherEM := message(t, alg, "another document", 2048)
	subset, _ := threshold.SubsetOf(1, 3, 4)
	b := s.binding(subset)
	n := new(big.Int).SetBytes(s.pub.N)

	good := map[uint64]threshold.PartialSignature{}
	for _, i := range subset.Indices() {
		good[i] = s.partial(b, i, em, true)
	}
	const liar = 3
	random, _ := rand.Int(rand.Reader, n)
	otherSubset, _ := threshold.SubsetOf(2, 3, 5)
	ofOtherSub := s.partial(s.binding(otherSubset), liar, em, true)
	ofOtherSub.Subset = subset
	otherRequest := b
	otherRequest.Request = [32]byte{9}
	p, _ := s.whole.Primes()
	multiple := new(big.Int).SetBytes(p)
	shortProof := good[liar]
	shortProof.Proof = &threshold.Proof{C: good[liar].Proof.C, Z: good[liar].Proof.Z[1:]}
	noProof := good[liar]
	noProof.Proof = nil

	for name, c := range map[string]struct {
		p        threshold.PartialSignature
		combines bool // the value itself is right
		proves   bool
	}{
		"honest":                 {good[liar], true, true},
		"random":                 {forge(good[liar], smaller(random, n), 256), false, false},
		"zero":                   {forge(good[liar], big.NewInt(0), 256), false, false},
		"one":                    {forge(good[liar], big.NewInt(1), 256), false, false},
		"N−1":                    {forge(good[liar], new(big.Int).Sub(n, big.NewInt(1)), 256), false, false},
		"N":                      {forge(good[liar], n, 256), false, false},
		"multiple of p":          {forge(good[liar], multiple, 256), false, false},
		"negated, not canonical": {forge(good[liar], new(big.Int).Sub(n, new(big.Int).SetBytes(good[liar].Value)), 256), false, false},
		"of another document":    {s.partial(b, liar, otherEM, true), false, false},
		"from a wrong sub-share": {ofOtherSub, false, false},
		"proved for another one": {s.partial(otherRequest, liar, em, true), true, false},
		"another device's":       {func() threshold.PartialSignature { p := good[1]; p.Index = liar; return p }(), false, false},
		"a byte short":           {func() threshold.PartialSignature { p := good[liar]; p.Value = p.Value[1:]; return p }(), false, false},
		"proof a byte short":     {shortProof, true, false},
		"without a proof":        {noProof, true, false},
		"of another share id":    {func() threshold.PartialSignature { p := good[liar]; p.Share = "share 1"; return p }(), true, false},
		"its square":             {forge(good[liar], smaller(new(big.Int).Exp(new(big.Int).SetBytes(good[liar].Value), big.NewInt(2), n), n), 256), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			partials := []threshold.PartialSignature{good[1], c.p, good[4]}
			sig, err := threshold.CombineAdditiveVarTime(s.pub, alg, digest, partials)
			if c.combines {
				if err != nil || !bytes.Equal(sig, wholeSignature(t, s.whole, em)) {
					t.Errorf("combining: %v", err)
				}
			} else if err == nil {
				t.Error("combined to a signature")
			} else if wrong := (*threshold.WrongPartialError)(nil); errors.As(err, &wrong) {
				if !slices.Equal(wrong.Indices, []uint64{liar}) {
					t.Errorf("combining blames %d", wrong.Indices)
				}
			} else if combine := (*threshold.CombineError)(nil); !errors.As(err, &combine) || combine.Subset != subset {
				t.Errorf("combining: %v", err)
			}

			err = threshold.VerifyPartials(s.pub, s.com, b, em, partials)
			var wrong *threshold.WrongPartialError
			switch {
			case c.proves && err != nil:
				t.Errorf("proof refused: %v", err)
			case !c.proves && (!errors.As(err, &wrong) || !slices.Equal(wrong.Indices, []uint64{liar})):
				t.Errorf("not attributed: %v", err)
			}
		})
	}

	// Two liars are both named, and others complete the signature.
	partials := []threshold.PartialSignature{forge(good[1], big.NewInt(4), 256), good[3], forge(good[4], big.NewInt(9), 256)}
	var wrong *threshold.WrongPartialError
	if err := threshold.VerifyPartials(s.pub, s.com, b, em, partials); !errors.As(err, &wrong) || !slices.Equal(wrong.Indices, []uint64{1, 4}) {
		t.Errorf("two liars: %v", err)
	}
	rest, _ := threshold.SubsetOf(2, 3, 5)
	if sig, err := s.parallel(alg, rest, digest, em); err != nil || threshold.VerifySignature(s.pub, alg, digest, sig) != nil {
		t.Errorf("not completed from others: %v", err)
	}
}

// TestOwnFaultBlamesNobody: what is wrong with the verifier's own inputs is no
// reason to name a device.
func TestOwnFaultBlamesNobody(t *testing.T) {
	s := deal(t, 2048, threshold.Multiplicative, 2, 2)
	_, em := message(t, threshold.RS256, "document", 2048)
	b := s.binding(0b11)
	parallel := []threshold.PartialSignature{s.partial(b, 1, em, true)}
	b.Position = 1
	sequence := []threshold.PartialSignature{s.partial(b, 1, em, true)}
	noKey := b
	noKey.Key = ""
	for name, c := range map[string]struct {
		pub *threshold.PublicKey
		com *threshold.Commitment
		b   threshold.Binding
		em  []byte
	}{
		"commitment": {s.pub, &threshold.Commitment{}, b, em},
		"bad g":      {s.pub, &threshold.Commitment{V: s.com.V}, b, em},
		"key":        {&threshold.PublicKey{}, s.com, b, em},
		"binding":    {s.pub, s.com, noKey, em},
		"message":    {s.pub, s.com, b, em[1:]},
	} {
		var wrong *threshold.WrongPartialError
		if err := threshold.VerifyPartials(c.pub, c.com, c.b, c.em, parallel); err == nil || errors.As(err, &wrong) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := threshold.VerifySequence(c.pub, c.com, c.b, c.em, sequence); err == nil || errors.As(err, &wrong) {
			t.Errorf("%s, sequence: %v", name, err)
		}
	}
	if err := threshold.VerifyPartials(s.pub, s.com, b, em, parallel); err != nil {
		t.Error(err)
	}
	if _, err := threshold.VerifySequence(s.pub, s.com, b, em, sequence); err != nil {
		t.Error(err)
	}
}

// TestNegatedIsEqual: y and N − y are the same partial signature by design. A
// device that computes the other one sends the same bytes, and its proof holds.
func TestNegatedIsEqual(t *testing.T) {
	s := deal(t, 2048, threshold.Additive, 2, 2)
	digest, em := message(t, threshold.PS256, "document", 2048)
	subset, _ := threshold.SubsetOf(1, 2)
	b := s.binding(subset)
	d, _ := s.shares[0].Sub(subset)
	host, _ := threshold.NewHostExponentiator(s.pub, d)
	negating := exponentiatorFunc(func(x []byte) ([]byte, error) {
		y, err := host.Exp(x)
		n := new(big.Int).SetBytes(s.pub.N)
		return n.Sub(n, new(big.Int).SetBytes(y)).FillBytes(y), err
	})
	y, err := threshold.Partial(s.pub, em, negating)
	if err != nil {
		t.Fatal(err)
	}
	honest := s.partial(b, 1, em, true)
	if !bytes.Equal(y, honest.Value) {
		t.Error("negated partial signature differs")
	}
	if _, err := threshold.CombineAdditiveVarTime(s.pub, threshold.PS256, digest, []threshold.PartialSignature{s.partial(b, 2, em, false), honest}); err != nil {
		t.Error(err)
	}
}

type exponentiatorFunc func(x []byte) ([]byte, error)

func (f exponentiatorFunc) Exp(x []byte) ([]byte, error) { return f(x) }

// TestSequentialSubstitution is the attack that proofs are for. Officers of all
// three devices approved document A. The first device is corrupt and starts from
// document B; the others raise what they are handed.
func TestSequentialSubstitution(t *testing.T) {
	s := deal(t, 2048, threshold.Multiplicative, 3, 5)
	_, emA := message(t, threshold.RS256, "document A", 2048)
	digestB, emB := message(t, threshold.RS256, "document B", 2048)
	order := []uint64{4, 1, 5}
	subset, _ := threshold.SubsetOf(order...)
	b := s.binding(subset)

	// Without proofs the attack succeeds: a valid signature of B.
	x := emB
	for i, index := range order {
		b.Position = uint64(i + 1)
		x = s.partial(b, index, x, false).Value
	}
	if _, err := threshold.FinishSequentialVarTime(s.pub, threshold.RS256, digestB, x); err != nil {
		t.Fatalf("the attack should succeed if proofs are ignored: %v", err)
	}

	// With proofs the second device refuses, whatever the first one proves.
	b.Position = 1
	first := s.partial(b, order[0], emB, true) // proves truthfully that it signed B
	relabelled := first
	honest := s.partial(b, order[0], emA, true)
	relabelled.Proof = honest.Proof // a proof about A for the power of B
	bare := first
	bare.Proof = nil
	for name, step := range map[string]threshold.PartialSignature{"true proof of B": first, "proof of A": relabelled, "no proof": bare} {
		_, err := threshold.VerifySequence(s.pub, s.com, b, emA, []threshold.PartialSignature{step})
		var wrong *threshold.WrongPartialError
		if !errors.As(err, &wrong) || !slices.Equal(wrong.Indices, order[:1]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := threshold.VerifySequence(s.pub, s.com, b, emA, []threshold.PartialSignature{honest}); err != nil {
		t.Errorf("honest first device refused: %v", err)
	}

	// The same in the middle: the second device swaps in the power of B, for
	// which the first one made a proof in another request.
	b.Position = 2
	second := s.partial(b, order[1], first.Value, true)
	_, err := threshold.VerifySequence(s.pub, s.com, b, emA, []threshold.PartialSignature{honest, second})
	var wrong *threshold.WrongPartialError
	if !errors.As(err, &wrong) || !slices.Equal(wrong.Indices, order[1:2]) {
		t.Errorf("substitution in the middle: %v", err)
	}
}

// TestSequenceShape: a device may sign once, only devices of the subset may, and
// proofs stay at their position.
func TestSequenceShape(t *testing.T) {
	s := deal(t, 2048, threshold.Multiplicative, 2, 3)
	_, em := message(t, threshold.RS256, "document", 2048)
	subset, _ := threshold.SubsetOf(1, 2)
	b := s.binding(subset)
	b.Position = 1
	first := s.partial(b, 1, em, true)
	b.Position = 2
	second := s.partial(b, 2, first.Value, true)
	ok := []threshold.PartialSignature{first, second}
	if x, err := threshold.VerifySequence(s.pub, s.com, b, em, ok); err != nil || !bytes.Equal(x, second.Value) {
		t.Fatal(err)
	}
	if x, err := threshold.VerifySequence(s.pub, s.com, b, em, nil); err != nil || !bytes.Equal(x, em) {
		t.Errorf("empty sequence: %v", err)
	}
	b.Position = 2
	again := s.partial(b, 1, first.Value, true) // the same device, with a true proof
	if _, err := threshold.VerifySequence(s.pub, s.com, b, em, []threshold.PartialSignature{first, again}); !errors.Is(err, threshold.ErrSubset) {
		t.Errorf("a device signed twice: %v", err)
	}
	outsider := first
	outsider.Index = 3
	foreign := first
	foreign.Subset = 0b101
	for name, steps := range map[string][]threshold.PartialSignature{
		"twice": {first, first}, "outsider": {outsider}, "other subset": {foreign},
		"swapped": {second, first}, "late": {second},
	} {
		if _, err := threshold.VerifySequence(s.pub, s.com, b, em, steps); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestCombineRefusesSets: missing, duplicate, foreign and zero indices, mixed
// subsets.
func TestCombineRefusesSets(t *testing.T) {
	s := deal(t, 2048, threshold.Additive, 2, 3)
	digest, em := message(t, threshold.RS256, "document", 2048)
	b := s.binding(0b011)
	p1, p2 := s.partial(b, 1, em, false), s.partial(b, 2, em, false)
	q3 := s.partial(s.binding(0b101), 3, em, false)
	with := func(p threshold.PartialSignature, index uint64, subset threshold.Subset) threshold.PartialSignature {
		p.Index, p.Subset = index, subset
		return p
	}
	for name, set := range map[string][]threshold.PartialSignature{
		"none": nil, "one missing": {p1}, "duplicate": {p1, p1}, "duplicate and complete": {p1, p2, p2},
		"mixed subsets": {p1, q3}, "index zero": {p1, with(p2, 0, 0b011)}, "index 17": {p1, with(p2, 17, 0b011)},
		"complete and zero": {p1, p2, with(p2, 0, 0b011)}, "complete and 17": {p1, p2, with(p2, 17, 0b011)},
		"huge index": {p1, with(p2, 1<<63+2, 0b011)}, "foreign": {p1, p2, with(q3, 3, 0b011)}, "empty subset": {with(p1, 1, 0)},
	} {
		if sig, err := threshold.CombineAdditiveVarTime(s.pub, threshold.RS256, digest, set); !errors.Is(err, threshold.ErrSubset) || sig != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := threshold.CombineAdditiveVarTime(s.pub, threshold.RS256, digest, []threshold.PartialSignature{p2, p1}); err != nil {
		t.Errorf("order should not matter: %v", err)
	}
	if _, err := threshold.CombineAdditiveVarTime(s.pub, threshold.RS256, digest, []threshold.PartialSignature{q3, with(p1, 1, 0b101)}); !errors.Is(err, threshold.ErrSignature) {
		t.Errorf("sub-shares of different subsets: %v", err)
	}
}

// TestPartialRange: Partial refuses what must not be raised, and what an
// exponentiator must not return.
func TestPartialRange(t *testing.T) {
	s := deal(t, 2048, threshold.Additive, 1, 1)
	n := new(big.Int).SetBytes(s.pub.N)
	p, _ := s.whole.Primes()
	size := s.pub.Len()
	_, em := message(t, threshold.RS256, "document", 2048)
	d, _ := s.shares[0].Sub(1)
	host, err := threshold.NewHostExponentiator(s.pub, d)
	if err != nil {
		t.Fatal(err)
	}
	bad := map[string][]byte{
		"zero": make([]byte, size), "one": big.NewInt(1).FillBytes(make([]byte, size)),
		"N−1": new(big.Int).Sub(n, big.NewInt(1)).FillBytes(make([]byte, size)),
		"N":   n.Bytes(), "above N": bytes.Repeat([]byte{0xff}, size),
		"p": new(big.Int).SetBytes(p).FillBytes(make([]byte, size)), "short": em[1:], "long": append([]byte{0}, em...), "empty": nil,
	}
	for name, x := range bad {
		called := false
		spy := exponentiatorFunc(func(x []byte) ([]byte, error) { called = true; return host.Exp(x) })
		if _, err := threshold.Partial(s.pub, x, spy); !errors.Is(err, threshold.ErrValue) || called {
			t.Errorf("message %s: %v (exponentiated: %v)", name, err, called)
		}
		if name == "p" {
			continue // as rare as a guess: see TestNoUnit for what becomes of it
		}
		faulty := exponentiatorFunc(func([]byte) ([]byte, error) { return x, nil })
		if y, err := threshold.Partial(s.pub, em, faulty); !errors.Is(err, threshold.ErrValue) || y != nil {
			t.Errorf("result %s: %v", name, err)
		}
	}
	broken := errors.New("token gone")
	if _, err := threshold.Partial(s.pub, em, exponentiatorFunc(func([]byte) ([]byte, error) { return nil, broken })); !errors.Is(err, broken) {
		t.Errorf("token error lost: %v", err)
	}
	d.Wipe()
	if _, err := threshold.Partial(s.pub, em, host); !errors.Is(err, threshold.ErrWiped) {
		t.Errorf("wiped share: %v", err)
	}
}

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

// inToken is a device whose share can only exponentiate.
func inToken(t testing.TB, s *system, index uint64, subset threshold.Subset) threshold.Exponentiator {
	t.Helper()
	d, _ := s.shares[index-1].Sub(subset)
	e, err := threshold.NewHostExponentiator(s.pub, d)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestCommitAndOpen runs the check for an honest partial signature and for wrong
// ones, for safe and ordinary primes, and for both signs of y.
func TestCommitAndOpen(t *testing.T) {
	s := deal(t, 2048, threshold.Additive, 2, 3)
	const subset, index = threshold.Subset(0b110), 2
	b := s.binding(subset)
	b.Share = shareID(index)
	n := new(big.Int).SetBytes(s.pub.N)
	e := inToken(t, s, index, subset)

	for i := range 8 { // different messages have y in either half
		_, em := message(t, threshold.RS256, string(rune('a'+i)), 2048)
		y := s.partial(b, index, em, false).Value
		run := func(claimed []byte) error {
			ch, opening, err := threshold.NewChallenge(rand.Reader, s.pub, s.com, em)
			if err != nil {
				t.Fatal(err)
			}
			commitment, held, err := threshold.CommitAnswer(rand.Reader, s.pub, b, index, ch, e)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := held.Release(s.com, em, opening)
			if err != nil {
				t.Fatal(err)
			}
			return threshold.VerifyAnswer(s.pub, s.com, b, index, em, claimed, ch, opening, commitment, answer)
		}
		if err := run(y); err != nil {
			t.Errorf("honest: %v", err)
		}
		wrong := smaller(new(big.Int).Exp(new(big.Int).SetBytes(y), big.NewInt(3), n), n)
		var blamed *threshold.WrongPartialError
		if err := run(wrong.FillBytes(make([]byte, 256))); !errors.As(err, &blamed) || !slices.Equal(blamed.Indices, []uint64{index}) {
			t.Errorf("wrong partial signature: %v", err)
		}
	}
}

// TestCommitAndOpenIsNoOracle: a verifier who wants something else signed gets
// nothing: the device releases its answer only for a challenge of its own x, and
// only once.
func TestCommitAndOpenIsNoOracle(t *testing.T) {
	s := deal(t, 2048, threshold.Additive, 1, 1)
	_, em := message(t, threshold.RS256, "document A", 2048)
	_, emB := message(t, threshold.RS256, "document B", 2048)
	b := s.binding(1)
	b.Share = shareID(1)
	e := inToken(t, s, 1, 1)
	commit := func(ch *threshold.Challenge) *threshold.HeldAnswer {
		t.Helper()
		_, held, err := threshold.CommitAnswer(rand.Reader, s.pub, b, 1, ch, e)
		if err != nil {
			t.Fatal(err)
		}
		return held
	}
	chB, openingB, _ := threshold.NewChallenge(rand.Reader, s.pub, s.com, emB)
	ch, opening, _ := threshold.NewChallenge(rand.Reader, s.pub, s.com, em)
	for name, c := range map[string]struct {
		ch *threshold.Challenge
		o  *threshold.Opening
	}{
		"document B":         {chB, openingB},
		"B, opened as A":     {chB, opening},
		"bare B":             {&threshold.Challenge{W: emB}, openingB},
		"truncated opening":  {ch, &threshold.Opening{HalfA: opening.HalfA[1:], B: opening.B}},
		"long opening":       {ch, &threshold.Opening{HalfA: opening.HalfA, B: append([]byte{0}, opening.B...)}},
		"odd one out":        {ch, &threshold.Opening{HalfA: opening.HalfA, B: openingB.B}},
		"no opening":         {ch, nil},
		"zero opening of x¹": {&threshold.Challenge{W: em}, &threshold.Opening{HalfA: make([]byte, 16), B: make([]byte, 256+16)}},
	} {
		held := commit(c.ch)
		if answer, err := held.Release(s.com, em, c.o); err == nil || answer != nil {
			t.Errorf("%s: released", name)
		}
		if answer, err := held.Release(s.com, em, opening); err == nil || answer != nil {
			t.Errorf("%s: released at a second try", name)
		}
	}
	held := commit(ch)
	if _, err := held.Release(s.com, em, opening); err != nil {
		t.Errorf("honest verifier: %v", err)
	}
	if _, err := held.Release(s.com, em, opening); !errors.Is(err, threshold.ErrOpening) {
		t.Errorf("released twice: %v", err)
	}
	for name, w := range map[string][]byte{"zero": make([]byte, 256), "N": s.pub.N, "short": em[1:], "none": nil} {
		if _, _, err := threshold.CommitAnswer(rand.Reader, s.pub, b, 1, &threshold.Challenge{W: w}, e); !errors.Is(err, threshold.ErrValue) {
			t.Errorf("challenge %s: %v", name, err)
		}
	}
}

// TestCommitAndOpenBindsDevice: once committed, a device cannot answer otherwise,
// even when it has learned a and b and could now compute the fitting answer.
func TestCommitAndOpenBindsDevice(t *testing.T) {
	s := deal(t, 2048, threshold.Additive, 1, 1)
	_, em := message(t, threshold.RS256, "document", 2048)
	b := s.binding(1)
	b.Share = shareID(1)
	y := s.partial(b, 1, em, false).Value
	n := new(big.Int).SetBytes(s.pub.N)
	wrong := smaller(new(big.Int).Exp(new(big.Int).SetBytes(y), big.NewInt(3), n), n)

	ch, opening, _ := threshold.NewChallenge(rand.Reader, s.pub, s.com, em)
	commitment, held, err := threshold.CommitAnswer(rand.Reader, s.pub, b, 1, ch, inToken(t, s, 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := held.Release(s.com, em, opening)
	if err != nil {
		t.Fatal(err)
	}
	verify := func(b threshold.Binding, y []byte, com []byte, a *threshold.Answer) error {
		return threshold.VerifyAnswer(s.pub, s.com, b, 1, em, y, ch, opening, com, a)
	}
	if err := verify(b, y, commitment, answer); err != nil {
		t.Fatal(err)
	}
	// The fitting answer for the wrong partial signature: z' = wrongᵃ·vᵇ.
	v, _ := s.com.Lookup(1, 1)
	a2 := new(big.Int).Lsh(new(big.Int).SetBytes(opening.HalfA), 1)
	z := new(big.Int).Exp(wrong, a2, n)
	z.Mul(z, new(big.Int).Exp(new(big.Int).SetBytes(v), new(big.Int).SetBytes(opening.B), n)).Mod(z, n)
	late := &threshold.Answer{Z: z.FillBytes(make([]byte, 256)), Nonce: answer.Nonce}
	if again, _, err := threshold.CommitAnswer(rand.Reader, s.pub, b, 1, ch, inToken(t, s, 1, 1)); err != nil || bytes.Equal(again, commitment) {
		t.Errorf("the commitment does not hide the answer (%v)", err)
	}
	nonce := bytes.Clone(answer.Nonce)
	nonce[0] ^= 1
	other := b
	other.Request = [32]byte{8}
	for name, err := range map[string]error{
		"another nonce":       verify(b, y, commitment, &threshold.Answer{Z: answer.Z, Nonce: nonce}),
		"late answer":         verify(b, wrong.FillBytes(make([]byte, 256)), commitment, late),
		"another request":     verify(other, y, commitment, answer),
		"another commitment":  verify(b, y, bytes.Repeat([]byte{1}, 32), answer),
		"no commitment":       verify(b, y, nil, answer),
		"no answer":           verify(b, y, commitment, nil),
		"empty answer":        verify(b, y, commitment, &threshold.Answer{}),
		"partial signature 0": verify(b, make([]byte, 256), commitment, answer),
	} {
		var blamed *threshold.WrongPartialError
		if !errors.As(err, &blamed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := threshold.VerifyAnswer(s.pub, s.com, b, 1, em, y, &threshold.Challenge{W: em}, opening, commitment, answer); !errors.Is(err, threshold.ErrOpening) {
		t.Errorf("verifier's own mistake: %v", err)
	}
}

// Package polynomialtest has the tests that all schemes with shares on a polynomial
// must pass. Only tests import it.
package polynomialtest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/polynomial"
)

// Public is what a scheme publishes.
type Public interface {
	Sharing(pub *threshold.PublicKey) (*polynomial.Sharing, error)
}

// Deal is a scheme's function of that name.
type Deal[P Public] func(rand io.Reader, k *threshold.WholeKey, t, n uint64) ([]polynomial.Share, P, error)

// CheckDealing checks, as everybody can, that any t shares give the private
// exponent.
func CheckDealing(p Public, pub *threshold.PublicKey) error {
	s, err := p.Sharing(pub)
	if err != nil {
		return err
	}
	return s.CheckDealing()
}

// Dealings checks that an honest dealing of 2048 bits passes, and that neither
// another check value nor another share does.
func Dealings(t *testing.T, s *polynomial.Sharing, shares []polynomial.Share) {
	t.Helper()
	if err := s.CheckDealing(); err != nil {
		t.Fatal(err)
	}
	for i := range shares {
		if err := s.CheckShare(&shares[i]); err != nil {
			t.Error(err)
		}
	}
	for i := range s.V {
		bad := *s
		bad.V = append([][]byte{}, s.V...)
		v := new(big.Int).SetBytes(s.V[i])
		bad.V[i] = v.Mul(v, v).Mod(v, new(big.Int).SetBytes(s.Key.N)).FillBytes(make([]byte, 256))
		if err := bad.CheckDealing(); !errors.Is(err, threshold.ErrCommitment) {
			t.Errorf("check value %d: %v", i+1, err)
		}
	}
	damaged := polynomial.Share{Index: 1, Value: shares[0].Value.Clone()}
	damaged.Value.Reveal()[100] ^= 1
	refused := map[string]*polynomial.Share{
		"bit": &damaged, "index 0": {Index: 0, Value: shares[0].Value}, "index beyond": {Index: s.N + 1, Value: shares[0].Value},
		"short": {Index: 1, Value: threshold.NewSecret(bytes.Clone(shares[0].Value.Reveal()[1:]))}, "empty": {Index: 1},
	}
	if s.T > 1 { // one of n: all shares are the same
		refused["index"] = &polynomial.Share{Index: 2, Value: shares[0].Value}
	}
	for name, share := range refused {
		if err := s.CheckShare(share); !errors.Is(err, threshold.ErrShare) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Refusals checks which numbers, randomness and keys are refused, and that shares
// do not print. k is a key that the scheme takes, and is wiped.
func Refusals[P Public](t *testing.T, deal Deal[P], k *threshold.WholeKey) {
	t.Helper()
	for _, tn := range [][2]uint64{{0, 1}, {2, 1}, {1, 17}, {1, 1 << 40}, {1 << 63, 1 << 63}} {
		if _, _, err := deal(rand.Reader, k, tn[0], tn[1]); !errors.Is(err, threshold.ErrSplit) {
			t.Errorf("%d of %d: %v", tn[0], tn[1], err)
		}
	}
	broken := errors.New("broken")
	if _, _, err := deal(iotest.ErrReader(broken), k, 2, 3); !errors.Is(err, broken) {
		t.Errorf("broken randomness: %v", err)
	}
	shares, _, err := deal(rand.Reader, k, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%v %+v %#v %x", shares, shares[0], &shares[0], shares[0]); strings.Contains(text, fmt.Sprintf("%x", shares[0].Value.Reveal())) || !strings.Contains(text, "[secret]") {
		t.Error("a share prints")
	}
	k.Wipe()
	if _, _, err := deal(rand.Reader, k, 2, 3); !errors.Is(err, threshold.ErrWiped) {
		t.Errorf("a wiped key: %v", err)
	}
}

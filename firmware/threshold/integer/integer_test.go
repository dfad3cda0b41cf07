package integer

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/lagrange"
	"github.com/privyseal/privyseal/firmware/threshold/modexp"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
)

// TestLengths: shares fit what modexp takes, with the answer of a proof, for all
// numbers and sizes.
func TestLengths(t *testing.T) {
	longest := 0
	for n := uint64(1); n <= threshold.MaxDevices; n++ {
		for T := uint64(1); T <= n; T++ {
			longest = max(longest, ShareLen(4096, T, n))
		}
	}
	if longest+33 > modexp.MaxExponentLen {
		t.Errorf("a share has %d bytes", longest)
	}
	if got := ShareLen(2048, 1, 1); got != 256+1 {
		t.Errorf("1 of 1: %d bytes", got)
	}
}

// TestPublicPart: d = P + L²·k for all numbers of devices.
func TestPublicPart(t *testing.T) {
	k := thresholdtest.Key(2048, false)
	p, q, err := k.Factors()
	if err != nil {
		t.Fatal(err)
	}
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(new(big.Int).SetBytes(p.Reveal()), one), new(big.Int).Sub(new(big.Int).SetBytes(q.Reveal()), one))
	d := new(big.Int).ModInverse(big.NewInt(threshold.PublicExponent), phi)
	for n := uint64(1); n <= threshold.MaxDevices; n++ {
		P, s := public(n)
		square := new(big.Int).Exp(lagrange.Delta(n), big.NewInt(2), nil)
		sum := new(big.Int).Mul(big.NewInt(threshold.PublicExponent), P)
		if sum.Add(sum, new(big.Int).Mul(square, s)).Cmp(one) != 0 || P.Sign() < 0 || P.Cmp(square) >= 0 {
			t.Errorf("n = %d: P = %v, s' = %v", n, P, s)
		}
		secret, err := exponent(k, n)
		if err != nil {
			t.Fatal(err)
		}
		got := secret.Mul(secret, square)
		if got.Add(got, P).Mod(got, phi).Cmp(d) != 0 {
			t.Errorf("n = %d: P + L²·k is not d", n)
		}
	}
}

// TestDistance compares the statistical distance that the package's doc promises
// with the exact one, for a share of 2 of 2 and 2 of 3 and small numbers in the
// place of N and its slack: counted, not argued.
func TestDistance(t *testing.T) {
	for _, n := range []int64{2, 3} {
		for _, values := range []int64{200, 2000} { // a_1/L is uniform below this
			for _, secrets := range []int64{2, 16} { // k is below this
				L := lagrange.Delta(uint64(n)).Int64()
				bound := float64(L*secrets*2) / float64(values) // (L·N·t)/values
				for device := int64(1); device <= n; device++ {
					count := func(k int64) map[int64]int64 {
						seen := map[int64]int64{}
						for a := range values {
							seen[L*k+a*device]++
						}
						return seen
					}
					least, most := count(0), count(secrets-1)
					var differ int64
					for v, c := range least {
						differ += max(c-most[v], 0)
					}
					if distance := float64(differ) / float64(values); distance > bound || distance == 0 {
						t.Errorf("n = %d, device %d, %d values, %d secrets: distance %g, promised %g", n, device, values, secrets, distance, bound)
					}
				}
			}
		}
	}
}

func TestCheckDealing(t *testing.T) {
	k := thresholdtest.Key(2048, false)
	pub := k.Public()
	shares, p, err := Deal(rand.Reader, k, 2, 4)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.CheckDealing(pub); err != nil {
		t.Fatal(err)
	}
	for i := range shares {
		if err := p.CheckShare(pub, &shares[i]); err != nil {
			t.Error(err)
		}
	}
	for i := range p.V {
		bad := *p
		bad.V = append([][]byte{}, p.V...)
		v := new(big.Int).SetBytes(p.V[i])
		bad.V[i] = v.Mul(v, v).Mod(v, new(big.Int).SetBytes(pub.N)).FillBytes(make([]byte, 256))
		if err := bad.CheckDealing(pub); !errors.Is(err, threshold.ErrCommitment) {
			t.Errorf("check value %d: %v", i+1, err)
		}
	}
	damaged := Share{1, shares[0].Value.Clone()}
	damaged.Value.Reveal()[100] ^= 1
	for name, s := range map[string]*Share{
		"bit": &damaged, "index": {2, shares[0].Value}, "index 0": {0, shares[0].Value}, "index 5": {5, shares[0].Value},
		"short": {1, threshold.NewSecret(bytes.Clone(shares[0].Value.Reveal()[1:]))}, "empty": {Index: 1},
	} {
		if err := p.CheckShare(pub, s); !errors.Is(err, threshold.ErrShare) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := p.CheckShare(thresholdtest.Key(2048, true).Public(), &shares[0]); err == nil {
		t.Error("another modulus")
	}
	if err := p.CheckDealing(thresholdtest.Key(2048, true).Public()); err == nil {
		t.Error("another modulus")
	}
}

func TestRefusals(t *testing.T) {
	k := thresholdtest.Key(2048, false)
	for _, tn := range [][2]uint64{{0, 1}, {2, 1}, {1, 17}, {1 << 63, 1 << 63}} {
		if _, _, err := Deal(rand.Reader, k, tn[0], tn[1]); !errors.Is(err, threshold.ErrSplit) {
			t.Errorf("%d of %d: %v", tn[0], tn[1], err)
		}
	}
	broken := errors.New("broken")
	if _, _, err := Deal(iotest.ErrReader(broken), k, 2, 3); !errors.Is(err, broken) {
		t.Errorf("broken randomness: %v", err)
	}
	shares, _, err := Deal(rand.Reader, k, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%v %+v %#v %x", shares, shares[0], &shares[0], shares[0]); strings.Contains(text, fmt.Sprintf("%x", shares[0].Value.Reveal())) || !strings.Contains(text, "[secret]") {
		t.Error("a share prints")
	}
	k.Wipe()
	if _, _, err := Deal(rand.Reader, k, 2, 3); !errors.Is(err, threshold.ErrWiped) {
		t.Errorf("a wiped key: %v", err)
	}
}

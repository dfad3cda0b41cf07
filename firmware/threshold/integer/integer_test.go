package integer

import (
	"crypto/rand"
	"errors"
	"math/big"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/lagrange"
	"github.com/privyseal/privyseal/firmware/threshold/internal/polynomial/polynomialtest"
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
	d, phi := thresholdtest.Exponent(k)
	one := big.NewInt(1)
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
	shares, p, err := Deal(rand.Reader, k, 2, 4)
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Sharing(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	polynomialtest.Dealings(t, s, shares)
	other, err := p.Sharing(thresholdtest.Key(2048, true).Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := other.CheckShare(&shares[0]); err == nil {
		t.Error("another modulus")
	}
	if err := other.CheckDealing(); err == nil {
		t.Error("another modulus")
	}
	bad := *p
	bad.N = 1 << 40
	if err := polynomialtest.CheckDealing(&bad, k.Public()); !errors.Is(err, threshold.ErrSplit) {
		t.Errorf("huge: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	polynomialtest.Refusals(t, Deal, thresholdtest.Key(2048, false))
}

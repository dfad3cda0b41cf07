package half

import (
	"crypto/rand"
	"math/big"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/lagrange"
	"github.com/privyseal/privyseal/firmware/threshold/internal/polynomial/polynomialtest"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
)

// TestHalf: shares are of half the length of N and a little, for all numbers; for
// up to five devices less than 0.6 of it.
func TestHalf(t *testing.T) {
	for _, bits := range []int{2048, 3072, 4096} {
		for n := uint64(1); n <= threshold.MaxDevices; n++ {
			for T := uint64(1); T <= n; T++ {
				if got := 8 * ShareLen(bits, T, n); got > bits/2+SlackBits+130 {
					t.Errorf("%d of %d, %d bits: %d bits", T, n, bits, got)
				} else if n <= 5 && float64(got) > 0.6*float64(bits) {
					t.Errorf("%d of %d, %d bits: %d bits are more than 0.6", T, n, bits, got)
				}
			}
		}
	}
}

// TestUpperHalf: C − δ is d, and C has all of d but half: for every key there is.
func TestUpperHalf(t *testing.T) {
	for _, bits := range []int{2048, 3072, 4096} {
		for _, safe := range []bool{false, true} {
			k := thresholdtest.Key(bits, safe)
			pub := k.Public()
			p := &Public{T: 1, N: 1}
			delta, err := p.split(pub, k)
			if err != nil {
				t.Fatal(err)
			}
			if delta.Sign() <= 0 || delta.BitLen() > bits/2+1 || p.K < 1 || p.K >= pub.E {
				t.Errorf("%d bits: δ of %d bits, κ = %d", bits, delta.BitLen(), p.K)
			}
			d, _ := thresholdtest.Exponent(k)
			if got := new(big.Int).Sub(p.upper(pub), delta); got.Cmp(d) != 0 {
				t.Errorf("%d bits: C − δ is not d", bits)
			}
		}
	}
}

// TestDistance compares the statistical distance that the package's doc promises
// with the exact one, counted for t = 2 and small numbers in the places of δ and
// the range of a_1.
func TestDistance(t *testing.T) {
	for _, n := range []int64{2, 3, 4} {
		for _, slack := range []int64{4, 32} {
			const secrets = 16 // δ is below this
			d := lagrange.Delta(uint64(n)).Int64()
			values := d * 2 * secrets * slack // Δ·t·2^(|N|/2+1)·2^slack
			for device := int64(1); device <= n; device++ {
				seen := map[int64]int64{}
				for a := range values {
					seen[d*0+a*device]++
				}
				var differ int64
				for a := range values {
					if v := d*(secrets-1) + a*device; seen[v] > 0 {
						seen[v]--
					} else {
						differ++
					}
				}
				if distance := float64(differ) / float64(values); distance > 1/float64(slack) || distance == 0 {
					t.Errorf("n = %d, device %d: distance %g, promised 1/%d", n, device, distance, slack)
				}
			}
		}
	}
}

func TestCheckDealing(t *testing.T) {
	k := thresholdtest.Key(2048, false)
	pub := k.Public()
	for _, T := range []uint64{1, 2, 4} {
		shares, p, err := Deal(rand.Reader, k, T, 4)
		if err != nil {
			t.Fatal(err)
		}
		s, err := p.Sharing(pub)
		if err != nil {
			t.Fatal(err)
		}
		polynomialtest.Dealings(t, s, shares)
		for name, change := range map[string]func(*Public){
			"κ": func(p *Public) { p.K ^= 2 }, "κ = 0": func(p *Public) { p.K = 0 }, "κ = e": func(p *Public) { p.K = threshold.PublicExponent },
			"g": func(p *Public) { p.G = p.V[0] }, "n": func(p *Public) { p.N = 5 }, "huge": func(p *Public) { p.N = 1 << 40 },
		} {
			bad := *p
			change(&bad)
			if err := polynomialtest.CheckDealing(&bad, pub); err == nil {
				t.Errorf("another %s accepted", name)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	polynomialtest.Refusals(t, Deal, thresholdtest.Key(2048, false))
}

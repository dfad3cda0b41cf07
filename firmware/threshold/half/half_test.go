package half

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
			ps, qs, _ := k.Factors()
			one := big.NewInt(1)
			phi := new(big.Int).Mul(new(big.Int).Sub(new(big.Int).SetBytes(ps.Reveal()), one), new(big.Int).Sub(new(big.Int).SetBytes(qs.Reveal()), one))
			d := new(big.Int).ModInverse(new(big.Int).SetUint64(pub.E), phi)
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
		for name, change := range map[string]func(*Public){
			"κ": func(p *Public) { p.K ^= 2 }, "κ = 0": func(p *Public) { p.K = 0 }, "κ = e": func(p *Public) { p.K = threshold.PublicExponent },
			"g": func(p *Public) { p.G = p.V[0] }, "n": func(p *Public) { p.N = 5 },
		} {
			bad := *p
			change(&bad)
			if err := bad.CheckDealing(pub); err == nil {
				t.Errorf("another %s accepted", name)
			}
		}
		damaged := Share{1, shares[0].Value.Clone()}
		damaged.Value.Reveal()[100] ^= 1
		for name, s := range map[string]*Share{
			"bit": &damaged, "index 0": {0, shares[0].Value}, "index 5": {5, shares[0].Value},
			"short": {1, threshold.NewSecret(bytes.Clone(shares[0].Value.Reveal()[1:]))}, "empty": {Index: 1},
		} {
			if err := p.CheckShare(pub, s); !errors.Is(err, threshold.ErrShare) {
				t.Errorf("%s: %v", name, err)
			}
		}
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

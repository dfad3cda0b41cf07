package lagrange_test

import (
	"crypto/rand"
	"errors"
	"math/big"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/lagrange"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
)

// TestInterpolates: Σ Δ·λ_i·f(i) = Δ·f(0) for any polynomial and any set that has
// enough points.
func TestInterpolates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(1, threshold.MaxDevices).Draw(t, "n")
		mask := rapid.Uint64Range(1, 1<<n-1).Draw(t, "set")
		set := threshold.Subset(mask)
		var f []*big.Int
		for range set.Len() {
			f = append(f, new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "coefficient")))
		}
		sum := new(big.Int)
		for k, c := range lagrange.Coefficients(n, set) {
			sum.Add(sum, c.Mul(c, lagrange.Evaluate(f, set.Indices()[k])))
		}
		if want := new(big.Int).Mul(lagrange.Delta(n), f[0]); sum.Cmp(want) != 0 {
			t.Fatalf("%v, not %v", sum, want)
		}
	})
}

// TestProduct compares with math/big, negative exponents included.
func TestProduct(t *testing.T) {
	pub := thresholdtest.Key(2048, false).Public()
	n := new(big.Int).SetBytes(pub.N)
	rapid.Check(t, func(t *rapid.T) {
		want := big.NewInt(1)
		var powers [][]byte
		var exponents []*big.Int
		for range rapid.IntRange(1, 4).Draw(t, "factors") {
			y := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 1, 255).Draw(t, "y"))
			y.Add(y, big.NewInt(2))
			c := big.NewInt(rapid.Int64().Draw(t, "exponent"))
			powers = append(powers, y.FillBytes(make([]byte, 256)))
			exponents = append(exponents, c)
			want.Mul(want, new(big.Int).Exp(y, c, n)).Mod(want, n)
		}
		if other := new(big.Int).Sub(n, want); other.Cmp(want) < 0 {
			want = other
		}
		got, err := lagrange.ProductVarTime(pub, powers, exponents)
		if err != nil || new(big.Int).SetBytes(got).Cmp(want) != 0 {
			t.Fatalf("%x, not %x (%v)", got, want, err)
		}
	})
	p, _, _ := thresholdtest.Key(2048, false).Factors()
	multiple := new(big.Int).SetBytes(p.Reveal()).FillBytes(make([]byte, 256))
	if _, err := lagrange.ProductVarTime(pub, [][]byte{multiple}, []*big.Int{big.NewInt(-1)}); !errors.Is(err, threshold.ErrValue) {
		t.Errorf("a factor: %v", err)
	}
}

func TestUniform(t *testing.T) {
	seen := map[int64]int{}
	for range 6000 {
		x, err := lagrange.Uniform(rand.Reader, big.NewInt(6))
		if err != nil {
			t.Fatal(err)
		}
		seen[x.Int64()]++
	}
	for i := range int64(6) { // 1000 ± 6 standard deviations
		if c := seen[i]; c < 826 || c > 1174 {
			t.Errorf("%d: %d times of 6000", i, c)
		}
	}
	if len(seen) != 6 {
		t.Errorf("%v", seen)
	}
	if _, err := lagrange.Uniform(iotest.ErrReader(errors.New("broken")), big.NewInt(6)); err == nil {
		t.Error("without randomness")
	}
}

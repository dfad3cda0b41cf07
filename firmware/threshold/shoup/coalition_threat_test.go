package shoup_test

import (
	"crypto/rand"
	"math/big"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/shoup"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
)

// TestFewerDevices: any t devices that know the order of the squares, which is
// more than a dealer ever tells them, interpolate the exponent; any t − 1 of them
// do not, whichever polynomial of lower degree they try, and with their shares
// every exponent is one polynomial's.
func TestFewerDevices(t *testing.T) {
	const T, N = 3, 5
	k := thresholdtest.Key(2048, true)
	pb, qb, err := k.Factors()
	if err != nil {
		t.Fatal(err)
	}
	half := func(b []byte) *big.Int { return new(big.Int).Rsh(new(big.Int).SetBytes(b), 1) }
	m := new(big.Int).Mul(half(pb.Reveal()), half(qb.Reveal()))
	d := new(big.Int).ModInverse(big.NewInt(65537), m)
	shares, _, err := shoup.Deal(rand.Reader, k, T, N)
	if err != nil {
		t.Fatal(err)
	}
	// at is the value at a point of the polynomial through some others.
	at := func(point int64, through map[int64]*big.Int) *big.Int {
		sum := new(big.Int)
		for i, y := range through {
			term := new(big.Int).Set(y)
			for j := range through {
				if j != i {
					term.Mul(term, big.NewInt(point-j))
					term.Mul(term, new(big.Int).ModInverse(new(big.Int).Mod(big.NewInt(i-j), m), m))
				}
			}
			sum.Add(sum, term)
		}
		return sum.Mod(sum, m)
	}
	value := func(i uint64) *big.Int { return new(big.Int).SetBytes(shares[i-1].Value.Reveal()) }
	for _, size := range []uint64{T, T - 1, T - 2} {
		for _, set := range (threshold.Split{Scheme: threshold.Additive, T: size, N: N}).Subsets() {
			points := map[int64]*big.Int{}
			for _, i := range set.Indices() {
				points[int64(i)] = value(i)
			}
			got := at(0, points)
			if size == T {
				if got.Cmp(d) != 0 {
					t.Errorf("%v do not have the exponent: the test proves nothing", set)
				}
				continue
			}
			if got.Cmp(d) == 0 {
				t.Errorf("%v have the exponent", set)
			}
			if size != T-1 {
				continue
			}
			// Any other exponent goes with what they hold, and gives others other shares.
			for _, wrong := range []*big.Int{big.NewInt(1), new(big.Int).Add(d, big.NewInt(2))} {
				points[0] = wrong
				for i := uint64(1); i <= N; i++ {
					if !set.Has(i) && at(int64(i), points).Cmp(value(i)) == 0 {
						t.Errorf("%v can tell that the exponent is not %d…", set, new(big.Int).Rsh(wrong, 2000))
					}
				}
			}
		}
	}
}

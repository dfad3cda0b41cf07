package threshold

import "math/big"

// wipe overwrites numbers with zeros, including spare capacity.
//
// This is best effort: math/big allocates temporaries for products,
// quotients and inverses that it neither names nor clears, and they stay in the
// heap until the garbage collector reuses them. Values that must never be left
// behind (shares in use) do not pass through math/big. What does pass is the
// whole key in the lead, whose process ends after the ceremony.
func wipe(numbers ...*big.Int) {
	for _, x := range numbers {
		if x == nil {
			continue
		}
		words := x.Bits()
		clear(words[:cap(words)])
		x.SetInt64(0)
	}
}

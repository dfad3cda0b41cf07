package share

import "testing"

// TestField: products against long multiplication and division of polynomials,
// for all pairs; inverses for all elements; two products printed in FIPS 197.
func TestField(t *testing.T) {
	naive := func(a, b int) int {
		p := 0
		for i := range 8 {
			if b>>i&1 == 1 {
				p ^= a << i
			}
		}
		for i := 14; i >= 8; i-- {
			if p>>i&1 == 1 {
				p ^= 0x11b << (i - 8)
			}
		}
		return p
	}
	for a := range 256 {
		for b := range 256 {
			if got := mul(byte(a), byte(b)); int(got) != naive(a, b) {
				t.Fatalf("%#x·%#x = %#x, want %#x", a, b, got, naive(a, b))
			}
		}
		if a != 0 && mul(byte(a), inverse(byte(a))) != 1 {
			t.Errorf("%#x·inverse = %#x", a, mul(byte(a), inverse(byte(a))))
		}
	}
	if inverse(0) != 0 {
		t.Error("inverse of 0")
	}
	if mul(0x57, 0x83) != 0xc1 || mul(0x57, 0x13) != 0xfe { // FIPS 197 section 4.2
		t.Error("not the field of AES")
	}
}

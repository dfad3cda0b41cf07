package share

// Arithmetic in GF(2^8) with the polynomial x⁸+x⁴+x³+x+1 of AES (FIPS 197
// section 4). Elements may be secret: no branch and no table index depends on
// one.

// mul returns a·b, by shift and add with masks.
func mul(a, b byte) byte {
	var p byte
	for range 8 {
		p ^= a & -(b & 1)
		a = a<<1 ^ 0x1b&-(a>>7)
		b >>= 1
	}
	return p
}

// inverse returns a⁻¹ = a²⁵⁴, and 0 for 0.
func inverse(a byte) byte {
	// 254 = 2+4+8+16+32+64+128
	var r byte = 1
	for range 7 {
		a = mul(a, a)
		r = mul(r, a)
	}
	return r
}

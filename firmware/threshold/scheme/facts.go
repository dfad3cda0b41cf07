package scheme

// Facts are what a scheme costs and promises for given numbers, computed, not
// measured. Lengths are bytes, exponents the lengths of exponents in bits.
type Facts struct {
	ShareLen    int `json:"share_bytes"`    // secret numbers of a device
	CombinerLen int `json:"combiner_bytes"` // secret numbers of all combiners; 0: they hold none
	PublicLen   int `json:"public_bytes"`   // check values

	Device   []int  `json:"device_exponents"`   // secret ones, of one device for one signature
	Combiner []int  `json:"combiner_exponents"` // besides the public exponent, for the verification
	Rounds   uint64 `json:"rounds"`             // of messages to devices, one after the other

	// Synchronised: a device has to know who else signs before it begins.
	Synchronised bool `json:"synchronised"`
	// Chained: each device waits for the one before and, but for the last two
	// of a set, proves its work to the next.
	Chained bool `json:"chained"`

	Wrong  Wrong  `json:"wrong_partial"`
	Join   Join   `json:"join"`
	Secret Secret `json:"secret"`
}

// Wrong is what one wrong partial signature costs, once its maker is known and
// another device takes his place.
type Wrong struct {
	// Again is how many partial signatures have to be made that were not asked for
	// before, by how many Rounds.
	Again  int    `json:"again"`
	Rounds uint64 `json:"rounds"`
	// Prove and Verify are the exponents of the proof that shows whose it is: secret
	// ones of each suspect, and public ones of whoever verifies it, two at a time.
	Prove  []int `json:"prove_exponents"`
	Verify []int `json:"verify_exponents"`
	// Sound: the proofs hold against a liar who knows the factors (safe primes).
	Sound bool `json:"sound_against_factors"`
}

// Join is what changes when a device joins. Somebody who knows d, or the
// dealer's secrets, has to be there in every scheme.
type Join struct {
	NewLen      int  `json:"new_device_bytes"`  // the new device's share
	OldLen      int  `json:"old_device_bytes"`  // what each device that was there gets besides
	CombinerLen int  `json:"combiner_bytes"`    // what the combiners get besides
	Anew        bool `json:"everything_anew"`   // no share stays what it was
	Possible    bool `json:"within_the_limits"` // one device more is within the limits
}

// Secret says who learns d.
type Secret struct {
	// Devices is how many devices together learn d, with Combiners of those who
	// combine (two layers).
	Devices   uint64 `json:"devices"`
	Combiners uint64 `json:"combiners"`
	// Distance is −log₂ of the statistical distance up to which what fewer devices
	// hold is the same whatever d is.
	Distance int `json:"distance_bits"`
	// Exact: it is the same, exactly, for all d; Distance is about φ(N), modulo
	// which, or a divisor, the shares are reduced.
	Exact bool `json:"exact"`
	// Besides are coalitions beyond the promise, and what they learn.
	Besides []string `json:"besides"`
}

// challengeBits and the others are the lengths of threshold.Equality.
const (
	challengeBits = 128
	nonceBits     = 256 // by how much a proof's nonce is longer than the exponent
)

// proof sets what a proof about exponents of so many bits costs.
func (w *Wrong) proof(exponents ...int) {
	for _, bits := range exponents {
		w.Prove = append(w.Prove, bits+nonceBits, bits+nonceBits)
		w.Verify = append(w.Verify, bits+nonceBits+1, bits+nonceBits+1)
	}
}

// binomial returns C(n, k) for small numbers.
func binomial(n, k uint64) int {
	if k > n {
		return 0
	}
	c := 1
	for i := range int(k) {
		c = c * (int(n) - i) / (i + 1)
	}
	return c
}

func repeat(n, bits int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = bits
	}
	return out
}

// log2 returns ⌈log₂ x⌉.
func log2(x int) int {
	n := 0
	for 1<<n < x {
		n++
	}
	return n
}

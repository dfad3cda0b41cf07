package prime

import (
	"crypto/sha3"
	"io"
	"math/big"
	"testing"
	"time"
)

func stream(seed string) io.Reader {
	s := sha3.NewSHAKE256()
	s.Write([]byte(seed))
	return s
}

func TestGenerateSafe(t *testing.T) {
	for _, bits := range []int{128, 256, 512, 1024} {
		var n int
		begin := time.Now()
		p, err := GenerateSafe(stream("a"), bits, nil, func(i int) { n = i })
		if err != nil {
			t.Fatal(err)
		}
		t.Log(bits, n, time.Since(begin))
		q := new(big.Int).Rsh(p, 1)
		if p.BitLen() != bits || p.Bit(bits-2) != 1 || !p.ProbablyPrime(20) || !q.ProbablyPrime(20) {
			t.Errorf("%d bits: %x is not a safe prime", bits, p)
		}
	}
}

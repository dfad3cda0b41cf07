// Package thresholdtest has fixed RSA keys for tests, so that tests need not
// generate any. The keys are public and protect nothing: they are for tests
// only, and nothing outside _test.go files may import this package.
package thresholdtest

import (
	"embed"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"

	"github.com/privyseal/privyseal/firmware/threshold"
)

//go:embed testdata
var testdata embed.FS

// Key returns the fixed test key of 2048, 3072 or 4096 bits, with ordinary or
// safe primes. Every call returns a new one that the caller may wipe. It panics
// if there is none.
func Key(bits int, safe bool) *threshold.WholeKey {
	data, err := testdata.ReadFile("testdata/" + FileName(bits, safe))
	if err != nil {
		panic(err)
	}
	var primes [][]byte
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		p, err := hex.DecodeString(line)
		if err != nil {
			panic(err)
		}
		primes = append(primes, p)
	}
	k, err := threshold.WholeKeyFromPrimes(primes[0], primes[1], safe)
	if err != nil {
		panic(err)
	}
	return k
}

// Exponent returns d = e⁻¹ mod φ(N) of a test key, and φ(N), computed by math/big.
func Exponent(k *threshold.WholeKey) (d, phi *big.Int) {
	p, q, err := k.Factors()
	if err != nil {
		panic(err)
	}
	minus1 := func(b threshold.Secret) *big.Int {
		x := new(big.Int).SetBytes(b.Reveal())
		return x.Sub(x, big.NewInt(1))
	}
	phi = new(big.Int).Mul(minus1(p), minus1(q))
	return new(big.Int).ModInverse(big.NewInt(threshold.PublicExponent), phi), phi
}

// Seeds returns the seeds of which the test keys were made.
func Seeds(bits int, safe bool) *threshold.SeedReader {
	r, err := threshold.NewSeedReader("test key, for tests only: "+FileName(bits, safe), []threshold.Seed{
		{ID: "device 1", Value: threshold.NewSecret([]byte("not secret, for tests only, at least 32 bytes"))},
		{ID: "device 2", Value: threshold.NewSecret([]byte("also not secret, also for tests only, also long"))},
	})
	if err != nil {
		panic(err)
	}
	return r
}

// FileName returns the name of the file that holds the primes of a key.
func FileName(bits int, safe bool) string {
	kind := "ordinary"
	if safe {
		kind = "safe"
	}
	return fmt.Sprintf("%s-%d.txt", kind, bits)
}

package threshold_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/prime"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
)

var update = flag.Bool("update", false, "generate all test keys anew from their seeds")

// TestSameSeedsSameKey generates the 2048-bit keys from their seeds and compares
// them with the stored ones: were generation to change, devices that compare
// notes would no longer agree. With -update it writes the keys of all sizes.
func TestSameSeedsSameKey(t *testing.T) {
	for _, bits := range []int{2048, 3072, 4096} {
		for _, safe := range []bool{false, true} {
			if bits > 2048 && !*update {
				continue
			}
			t.Run(thresholdtest.FileName(bits, safe), func(t *testing.T) {
				begin, tests := time.Now(), 0
				k, err := threshold.GenerateKey(thresholdtest.Seeds(bits, safe), bits, safe, func(n int) { tests = n })
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%d candidates, %v", tests, time.Since(begin).Round(time.Millisecond))
				if *update {
					p, q := k.Primes()
					text := fmt.Sprintf("# TEST KEY, PUBLIC, FOR TESTS ONLY. Primes of a %d-bit modulus, made by\n# go test ./firmware/threshold -run TestSameSeedsSameKey -update\n%x\n%x\n", bits, p, q)
					file := filepath.Join("thresholdtest", "testdata", thresholdtest.FileName(bits, safe))
					if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
						t.Fatal(err)
					}
					return
				}
				if stored := thresholdtest.Key(bits, safe); !k.Public().Equal(stored.Public()) {
					t.Errorf("same seeds, another modulus: %x", k.Public().N)
				}
			})
		}
	}
}

// TestGenerateSafeKeyOpenSSL: the key signs and is of the kind that was asked for,
// and the search can be ended.
func TestGenerateSafeKeyOpenSSL(t *testing.T) {
	last := 0
	k, err := threshold.GenerateSafeKeyOpenSSL(2048, func(n int) bool {
		if last++; n != last {
			t.Errorf("progress %d at call %d", n, last)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	p, q := k.Primes()
	if again, err := threshold.WholeKeyFromPrimes(p, q, true); err != nil || !again.Public().Equal(k.Public()) || k.Public().Bits() != 2048 {
		t.Errorf("%v", err)
	}
	if _, err := threshold.GenerateSafeKeyOpenSSL(2048, func(n int) bool { return n < 5 }); !errors.Is(err, prime.ErrCancelled) {
		t.Errorf("ended: %v", err)
	}
	if _, err := threshold.GenerateSafeKeyOpenSSL(1024, nil); !errors.Is(err, threshold.ErrPublicKey) {
		t.Errorf("1024 bits: %v", err)
	}
}

// TestSafePrimes: what a key was made as decides, and else a test.
func TestSafePrimes(t *testing.T) {
	ordinary, safe := thresholdtest.Key(2048, false), thresholdtest.Key(2048, true)
	p, q := safe.Primes()
	untold, err := threshold.WholeKeyFromPrimes(p, q, false)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		k    *threshold.WholeKey
		want bool
	}{"ordinary": {ordinary, false}, "safe": {safe, true}, "safe, not made as such": {untold, true}} {
		if got, err := c.k.SafePrimes(); err != nil || got != c.want {
			t.Errorf("%s: %t (%v)", name, got, err)
		}
	}
	safe.Wipe()
	if _, err := safe.SafePrimes(); !errors.Is(err, threshold.ErrWiped) {
		t.Errorf("wiped: %v", err)
	}
}

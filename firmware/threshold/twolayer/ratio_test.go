package twolayer_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"math"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/baseline"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// BenchmarkHalfLength reports what the power of a sub-key costs, with all that a
// device does for one, compared with libcrypto's bare constant-time exponentiation
// of full length and with a whole signature by crypto/rsa. They take turns, and
// the best processor times of one thread are compared, so that other load on the
// machine does not matter.
func BenchmarkHalfLength(b *testing.B) {
	for _, bits := range []int{2048, 3072, 4096} {
		b.Run(fmt.Sprint(bits), func(b *testing.B) {
			k := thresholdtest.Key(bits, false)
			dealing, err := twolayer.Deal(rand.Reader, k, printed())
			if err != nil {
				b.Fatal(err)
			}
			s := &system{b, k, k.Public(), dealing}
			digest, em := message(b, threshold.RS256, "document", bits)
			e, err := twolayer.NewExponentiator(s.pub, dealing.Calculators[0].Keys[0])
			if err != nil {
				b.Fatal(err)
			}
			whole := standardKey(b, k)
			full, half := dealing.Combiners[0].Parts[0].Reveal(), dealing.Calculators[0].Keys[0].Reveal()
			const rounds = 4
			ops := []struct {
				name string
				run  func() error
				best float64
			}{
				{"libcrypto-full", func() error { return bare(s.pub.N, em, full) }, 0},
				{"libcrypto-half", func() error { return bare(s.pub.N, em, half) }, 0},
				{"power", func() error { _, err := twolayer.Power(s.pub, em, e); return err }, 0},
				{"crypto-rsa", func() error { _, err := rsa.SignPKCS1v15(nil, whole, threshold.RS256.Hash(), digest); return err }, 0},
			}
			for i := range ops {
				ops[i].best = math.Inf(1)
			}
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			b.ResetTimer()
			for range b.N {
				for i := range ops {
					before := threadTime(b)
					for range rounds {
						if err := ops[i].run(); err != nil {
							b.Fatal(err)
						}
					}
					ops[i].best = min(ops[i].best, (threadTime(b)-before)/rounds)
				}
			}
			for _, o := range ops {
				b.ReportMetric(o.best*1e3, o.name+"-ms")
			}
			b.ReportMetric(ops[2].best/ops[0].best, "of-libcrypto-full")
			b.ReportMetric(ops[2].best/ops[3].best, "of-crypto-rsa")
		})
	}
}

func bare(n, x, d []byte) error {
	if !baseline.Run(n, x, d, 1) {
		return fmt.Errorf("libcrypto failed")
	}
	return nil
}

// standardKey is the whole key as crypto/rsa has it.
func standardKey(t testing.TB, k *threshold.WholeKey) *rsa.PrivateKey {
	t.Helper()
	p, q, err := k.Factors()
	if err != nil {
		t.Fatal(err)
	}
	key := &rsa.PrivateKey{PublicKey: *k.Public().RSA(), D: exponent(t, k)}
	key.Primes = append(key.Primes, num(p.Reveal()), num(q.Reveal()))
	key.Precompute()
	if err := key.Validate(); err != nil {
		t.Fatal(err)
	}
	return key
}

// threadTime returns the processor time of the calling thread in seconds.
func threadTime(b *testing.B) float64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		b.Fatal(err)
	}
	return float64(now.Sec) + float64(now.Nsec)/1e9
}

package threshold_test

import (
	"fmt"
	"math"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/baseline"
)

// BenchmarkOverLibcrypto reports what a partial signature costs compared with
// libcrypto's bare exponentiation of the same length. It takes turns and compares
// the best processor times of one thread, so that other load on the machine does
// not matter.
func BenchmarkOverLibcrypto(b *testing.B) {
	for _, bits := range []int{2048, 3072, 4096} {
		b.Run(fmt.Sprint(bits), func(b *testing.B) {
			s := deal(b, bits, threshold.Additive, 1, 1)
			_, em := message(b, threshold.RS256, "document", bits)
			d, _ := s.shares[0].Sub(1)
			e, err := threshold.NewHostExponentiator(s.pub, d)
			if err != nil {
				b.Fatal(err)
			}
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			const rounds = 4
			bare, partial := math.Inf(1), math.Inf(1)
			b.ResetTimer()
			for range b.N {
				t0 := threadTime(b)
				if !baseline.Run(s.pub.N, em, d.Reveal(), rounds) {
					b.Fatal("libcrypto failed")
				}
				t1 := threadTime(b)
				for range rounds {
					if _, err := threshold.Partial(s.pub, em, e); err != nil {
						b.Fatal(err)
					}
				}
				t2 := threadTime(b)
				bare, partial = min(bare, (t1-t0)/rounds), min(partial, (t2-t1)/rounds)
			}
			b.ReportMetric(bare*1e3, "libcrypto-ms")
			b.ReportMetric(partial*1e3, "partial-ms")
			b.ReportMetric(partial/bare, "ratio")
		})
	}
}

// threadTime returns the processor time of the calling thread in seconds.
func threadTime(b *testing.B) float64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		b.Fatal(err)
	}
	return float64(now.Sec) + float64(now.Nsec)/1e9
}

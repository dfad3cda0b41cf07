package prime

import (
	"errors"
	"math/big"
	"sync"
	"testing"
)

func TestGenerateSafeOpenSSL(t *testing.T) {
	var seen sync.Map
	var wait sync.WaitGroup
	for range 4 { // at once: searches do not mix
		wait.Go(func() {
			calls := 0
			p, err := GenerateSafeOpenSSL(256, func(tested int) bool {
				if calls++; tested != calls {
					t.Errorf("progress %d at call %d", tested, calls)
				}
				return true
			})
			if err != nil {
				t.Error(err)
				return
			}
			if p.BitLen() != 256 || p.Bit(254) != 1 || !p.ProbablyPrime(20) || !new(big.Int).Rsh(p, 1).ProbablyPrime(20) || calls == 0 {
				t.Errorf("%d candidates: %x", calls, p)
			}
			if _, again := seen.LoadOrStore(p.String(), true); again {
				t.Error("the same prime twice")
			}
		})
	}
	wait.Wait()
	if p, err := GenerateSafeOpenSSL(128, nil); err != nil || p.BitLen() != 128 {
		t.Errorf("%x: %v", p, err)
	}
}

func TestGenerateSafeOpenSSLCancel(t *testing.T) {
	calls := 0
	p, err := GenerateSafeOpenSSL(2048, func(int) bool {
		calls++
		return calls < 3
	})
	if p != nil || !errors.Is(err, ErrCancelled) || calls != 3 {
		t.Errorf("%x, %v after %d candidates", p, err, calls)
	}
	for _, bits := range []int{0, 64, 511, MaxBits + 8} {
		if _, err := GenerateSafeOpenSSL(bits, nil); err == nil || errors.Is(err, ErrCancelled) {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
	if len(searches.running) != 0 {
		t.Errorf("%d searches are left", len(searches.running))
	}
}

func BenchmarkGenerateSafeOpenSSL1024(b *testing.B) {
	tests := 0
	for range b.N {
		if _, err := GenerateSafeOpenSSL(1024, func(int) bool { tests++; return true }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(tests)/float64(b.N), "candidates/op")
}

package devicetoken_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	mathrand "math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/devicetoken"
	"github.com/privyseal/privyseal/hsm/hsmtest"
)

const hash = crypto.SHA256

// load is all that a device does with its token.
type load struct {
	n, x, y []byte // y = x^d mod n
	wrapped []byte
	work    map[string]func() error
}

func newLoad(t testing.TB, d *devicetoken.Token, bits int) *load {
	t.Helper()
	l := &load{n: make([]byte, bits/8), x: make([]byte, bits/8)}
	exponent := make([]byte, bits/8)
	for _, b := range [][]byte{l.n, l.x, exponent} {
		rand.Read(b)
	}
	l.n[0] |= 0x80
	l.n[len(l.n)-1] |= 1
	l.x[0] &= 0x7f
	num := func(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
	l.y = new(big.Int).Exp(num(l.x), num(exponent), num(l.n)).FillBytes(make([]byte, bits/8))
	inToken := d.Shares(true)
	var err error
	if l.wrapped, err = inToken.Wrap(l.n, exponent); err != nil {
		t.Fatal(err)
	}
	sign, err := d.Signer(devicetoken.LabelSign)
	if err != nil {
		t.Fatal(err)
	}
	agree, err := d.KeyExchanger(devicetoken.LabelAgree)
	if err != nil {
		t.Fatal(err)
	}
	signSPKI, err := x509.MarshalPKIXPublicKey(sign.Public())
	if err != nil {
		t.Fatal(err)
	}
	agreeSPKI, err := x509.MarshalPKIXPublicKey(agree.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	signer, exchanger, err := d.Keys(signSPKI, agreeSPKI) // not looked up yet
	if err != nil {
		t.Fatal(err)
	}
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l.work = map[string]func() error{
		"sign": func() error {
			_, err := signer.Sign(nil, make([]byte, 32), hash)
			return err
		},
		"agree": func() error {
			_, err := exchanger.ECDH(peer.PublicKey())
			return err
		},
		// An exponent that is held open across a lock ends with it.
		"exponent": func() error {
			e, err := inToken.Unwrap(l.n, l.wrapped)
			if err != nil {
				return err
			}
			defer func() {
				if err := e.Close(); err != nil {
					t.Errorf("closing an exponent: %v", err)
				}
			}()
			for range 4 {
				y, err := e.Exp(l.x)
				if err != nil {
					return err
				}
				if !bytes.Equal(y, l.y) {
					t.Error("a wrong power")
				}
			}
			return nil
		},
		"read": func() error {
			_, _, err := d.GetObject(shares[0])
			return err
		},
	}
	return l
}

// run has each kind of work done by several goroutines until stop is called,
// which returns how often each succeeded.
func (l *load) run(t testing.TB, each int, more map[string]func() error) (stop func() map[string]int64) {
	var end atomic.Bool
	var wg sync.WaitGroup
	counts := map[string]*atomic.Int64{}
	begin := func(name string, f func() error) {
		count := counts[name]
		wg.Go(func() {
			for !end.Load() {
				switch err := f(); {
				case err == nil:
					count.Add(1)
				case errors.Is(err, hsm.ErrLocked):
					time.Sleep(time.Millisecond)
				default:
					t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	for name := range l.work {
		counts[name] = new(atomic.Int64)
	}
	for name := range more {
		counts[name] = new(atomic.Int64)
	}
	for name, f := range l.work {
		for range each {
			begin(name, f)
		}
	}
	for name, f := range more {
		begin(name, f)
	}
	return func() map[string]int64 {
		end.Store(true)
		wg.Wait()
		out := map[string]int64{}
		for name, c := range counts {
			out[name] = c.Load()
		}
		return out
	}
}

// TestLockUnderLoad has a watchdog lock the token at random moments while other
// goroutines use it in every way, and one unlocks it again and again: also in
// the middle of an unlock, and twice at once. Every operation succeeds or says
// that the token is locked, and in the end the token is whole.
func TestLockUnderLoad(t *testing.T) {
	tok, d := newDevice(t)
	mustUnlock(t, d)
	l := newLoad(t, d, 2048)
	version := uint64(1)
	stop := l.run(t, 3, map[string]func() error{
		"write": func() error {
			err := d.PutObject(shares[0], version+1, []byte("sealed"))
			// If Lock took the answer away it may have been written.
			if err == nil || errors.Is(err, hsm.ErrStaleVersion) || errors.Is(err, hsm.ErrLocked) {
				version++
			}
			if errors.Is(err, hsm.ErrStaleVersion) {
				return nil
			}
			return err
		},
		"health": func() error {
			if h := d.Health(); h != "ok" {
				t.Errorf("health: %s", h)
			}
			d.Locked()
			return nil
		},
		"public": func() error { return d.DestroyPublicObjects("never there") },
	})
	var unlocks, overtaken int
	for cycle := range 120 {
		time.Sleep(time.Duration(mathrand.Int64N(int64(12 * time.Millisecond))))
		if err := d.Lock(); err != nil {
			t.Errorf("cycle %d: lock: %v", cycle, err)
		}
		if !d.Locked() {
			t.Errorf("cycle %d: not locked after Lock", cycle)
		}
		// A second watchdog strikes some time around the unlock. Whichever comes
		// first, the token must be locked when both are done.
		twice := cycle%3 == 0
		var wg sync.WaitGroup
		if twice {
			delay := time.Duration(mathrand.Int64N(int64(60 * time.Millisecond)))
			wg.Go(func() {
				time.Sleep(delay)
				if err := d.Lock(); err != nil {
					t.Errorf("cycle %d: second lock: %v", cycle, err)
				}
			})
		}
		err := d.Unlock([]byte(hsmtest.PIN))
		wg.Wait()
		switch {
		case err == nil:
			unlocks++
		case errors.Is(err, hsm.ErrLocked) && twice:
			overtaken++
		default:
			t.Fatalf("cycle %d: unlock: %v", cycle, err)
		}
		h, err := d.Token.Health()
		if err != nil || d.Locked() != twice || h.Unlocked == twice {
			t.Fatalf("cycle %d: locked twice %v, counts as locked %v, is unlocked %v, %v", cycle, twice, d.Locked(), h.Unlocked, err)
		}
		if twice {
			mustUnlock(t, d)
		}
	}
	for name, n := range stop() {
		if n == 0 {
			t.Errorf("%s never succeeded: the test tested nothing", name)
		}
	}
	t.Logf("%d unlocks, %d overtaken by a lock", unlocks, overtaken)

	if err := d.Lock(); err != nil {
		t.Fatal(err)
	}
	tok.Reopen(t)
	d = devicetoken.New(tok.Token)
	mustUnlock(t, d)
	e, err := d.Shares(true).Unwrap(l.n, l.wrapped)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if y, err := e.Exp(l.x); err != nil || !bytes.Equal(y, l.y) {
		t.Errorf("a wrong power, %v", err)
	}
	if _, b, err := d.GetObject(shares[0]); err != nil || string(b) != "sealed" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := d.Signer(devicetoken.LabelSign); err != nil {
		t.Error(err)
	}
	if _, err := d.KeyExchanger(devicetoken.LabelAgree); err != nil {
		t.Error(err)
	}
}

// TestDestroyUnderLoad: the second limit passes while everything runs.
func TestDestroyUnderLoad(t *testing.T) {
	_, d := newDevice(t)
	if err := d.KeepPIN(true, &room{t: t}); err != nil {
		t.Fatal(err)
	}
	mustUnlock(t, d)
	l := newLoad(t, d, 1024)
	delete(l.work, "read")
	exponent := l.work["exponent"]
	l.work["exponent"] = func() error {
		err := exponent()
		if errors.Is(err, hsm.ErrNotFound) {
			return hsm.ErrLocked // there is no key any more
		}
		return err
	}
	stop := l.run(t, 3, nil)
	time.Sleep(50 * time.Millisecond)
	var wg sync.WaitGroup
	for range 3 { // watchdogs that come to the same conclusion
		wg.Go(func() {
			if err := d.Lock(); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := d.Destroy(shares); err != nil && !errors.Is(err, devicetoken.ErrKeysLeft) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	stop()
	wantDestroyed(t, d)
}

// BenchmarkLockUnderLoad locks a token in which eight goroutines exponentiate
// and eight sign. The exponentiation's own time is the measure: one for each
// processor may be under way.
func BenchmarkLockUnderLoad(b *testing.B) {
	_, d := newDevice(b)
	mustUnlock(b, d)
	l := newLoad(b, d, 2048)
	delete(l.work, "read")
	delete(l.work, "agree")
	e, err := d.Shares(true).Unwrap(l.n, l.wrapped)
	if err != nil {
		b.Fatal(err)
	}
	var alone []time.Duration
	for range 20 {
		begin := time.Now()
		if _, err := e.Exp(l.x); err != nil {
			b.Fatal(err)
		}
		alone = append(alone, time.Since(begin))
	}
	stop := l.run(b, 8, nil)
	var took []time.Duration
	for b.Loop() {
		time.Sleep(10*time.Millisecond + time.Duration(mathrand.Int64N(int64(10*time.Millisecond))))
		begin := time.Now()
		if err := d.Lock(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
		mustUnlock(b, d)
	}
	stop()
	slices.Sort(alone)
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(0, "ns/op") // it would count the pauses
	b.ReportMetric(ms(alone[len(alone)/2]), "exp-ms")
	b.ReportMetric(ms(took[len(took)/2]), "p50-ms")
	b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
	b.ReportMetric(ms(took[len(took)-1]), "max-ms")
	b.ReportMetric(float64(runtime.GOMAXPROCS(0)), "procs")
}

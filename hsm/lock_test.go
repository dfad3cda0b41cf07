package hsm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/hsmtest"
)

// TestLockUnderLoad has eight goroutines sign, and others use every other
// operation, while the token is locked and unlocked. The token must do nothing
// from the moment Lock has returned, which the recorder sees, and no operation
// that begins then may answer. The process must live.
func TestLockUnderLoad(t *testing.T) {
	var period atomic.Int64 // odd from Lock's return until Unlock's call
	var late atomic.Value
	tok := hsmtest.NewTraced(t, func(call string, _, _ [][]byte) {
		if period.Load()%2 == 1 {
			late.Store(call)
		}
	})
	tok.MustUnlock(t)
	signer, err := tok.GenerateSigner("sign")
	if err != nil {
		t.Fatal(err)
	}
	agree, err := tok.GenerateKeyExchanger("agree")
	if err != nil {
		t.Fatal(err)
	}
	aead, err := tok.GenerateAEAD("aead")
	if err != nil {
		t.Fatal(err)
	}
	if err := tok.GenerateKEK("kek", hsm.InToken); err != nil {
		t.Fatal(err)
	}
	n, x := testModulus(1024), bytes.Repeat([]byte{0x55}, 128)
	wrapped, err := tok.WrapExponent("kek", n, bytes.Repeat([]byte{0x77}, 128))
	if err != nil {
		t.Fatal(err)
	}
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("document"))

	work := map[string]func() error{
		"agree": func() error {
			_, err := agree.ECDH(peer.PublicKey())
			return err
		},
		"aead": func() error {
			nonce := make([]byte, 12)
			rand.Read(nonce)
			ct, err := aead.Seal(nonce, []byte("plaintext"), nil)
			if err != nil {
				return err
			}
			_, err = aead.Open(nonce, ct, nil)
			return err
		},
		"exponent": func() (err error) {
			e, err := tok.UnwrapExponent("kek", n, wrapped)
			if err != nil {
				return err
			}
			defer func() {
				if err2 := e.Close(); err2 != nil {
					t.Errorf("closing an exponent: %v", err2)
				}
			}()
			for range 5 {
				if _, err := e.Exp(x); err != nil {
					return err
				}
			}
			return nil
		},
		"wrap": func() error {
			_, err := tok.WrapExponent("kek", n, x)
			return err
		},
		"find": func() error {
			_, err := tok.Signer("sign")
			return err
		},
	}
	for i := range 8 {
		work[fmt.Sprintf("sign %d", i)] = func() error {
			_, err := signer.Sign(nil, digest[:], crypto.SHA256)
			return err
		}
	}
	var version uint64
	work["object"] = func() error {
		if v, _, err := tok.GetObject("state"); err == nil && v < version {
			t.Errorf("data object went back from version %d to %d", version, v)
		}
		if err := tok.PutObject("state", version+1, []byte("data")); err != nil {
			return err
		}
		version++
		return nil
	}

	var stop atomic.Bool
	var wg sync.WaitGroup
	answers := make(map[string]*atomic.Int64)
	for name, f := range work {
		count := new(atomic.Int64)
		answers[name] = count
		wg.Go(func() {
			for !stop.Load() {
				before := period.Load()
				err := f()
				switch {
				case err == nil:
					count.Add(1)
					if before%2 == 1 && period.Load() == before {
						t.Errorf("%s answered while the token was locked", name)
						return
					}
				case errors.Is(err, hsm.ErrLocked):
					time.Sleep(time.Millisecond)
				case name == "object" && errors.Is(err, hsm.ErrStaleVersion):
					version++ // was written, but Lock dropped the answer
				default:
					t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	const rounds = 60
	var worst time.Duration
	for range rounds {
		time.Sleep(15 * time.Millisecond)
		begin := time.Now()
		if err := tok.Lock(); err != nil {
			t.Errorf("lock: %v", err)
		}
		period.Add(1)
		worst = max(worst, time.Since(begin))
		time.Sleep(2 * time.Millisecond)
		period.Add(1)
		if err := tok.Unlock(hsm.PIN(hsmtest.PIN)); err != nil {
			t.Fatalf("unlock: %v", err)
		}
	}
	stop.Store(true)
	wg.Wait()
	if call := late.Load(); call != nil {
		t.Errorf("%v reached the token after Lock had returned", call)
	}
	for name, count := range answers {
		if count.Load() == 0 {
			t.Errorf("%s never answered: the test tested nothing", name)
		}
	}
	t.Logf("%d lock-downs, worst %v", rounds, worst)
}

// An operation that was in the token when Lock was called keeps its result to
// itself: what was signed after the heartbeat stopped must not leave.
func TestOperationInFlightDropsItsAnswer(t *testing.T) {
	var tok *hsmtest.Token
	var armed atomic.Bool
	locked := make(chan error, 1)
	tok = hsmtest.NewTraced(t, func(call string, _, out [][]byte) {
		if (call == "C_Sign" || call == "C_DeriveKey") && armed.CompareAndSwap(true, false) {
			go func() { locked <- tok.Lock() }()
			for !tok.Closing() {
				time.Sleep(time.Millisecond)
			}
		}
	})
	tok.MustUnlock(t)
	signer, err := tok.GenerateSigner("sign")
	if err != nil {
		t.Fatal(err)
	}
	if err := tok.GenerateKEK("kek", hsm.InToken); err != nil {
		t.Fatal(err)
	}
	n, x := testModulus(1024), bytes.Repeat([]byte{0x55}, 128)
	wrapped, err := tok.WrapExponent("kek", n, []byte{1, 0, 1})
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	for name, f := range map[string]func() ([]byte, error){
		"sign": func() ([]byte, error) { return signer.Sign(nil, digest[:], crypto.SHA256) },
		"exponent": func() ([]byte, error) {
			e := mustUnwrap(t, tok, n, wrapped)
			defer e.Close()
			return e.Exp(x)
		},
	} {
		armed.Store(true)
		if b, err := f(); !errors.Is(err, hsm.ErrLocked) || b != nil {
			t.Errorf("%s: %x, %v", name, b, err)
		}
		if err := <-locked; err != nil {
			t.Errorf("%s: lock: %v", name, err)
		}
		tok.MustUnlock(t)
	}
}

// Tokens of one process share a module; locking one must not disturb another.
func TestLockBesideOtherTokens(t *testing.T) {
	digest := sha256.Sum256(nil)
	for i := range 4 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			tok := hsmtest.NewUnlocked(t)
			k, err := tok.GenerateSigner("sign")
			if err != nil {
				t.Fatal(err)
			}
			for round := range 30 {
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						for {
							switch _, err := k.Sign(nil, digest[:], crypto.SHA256); {
							case errors.Is(err, hsm.ErrLocked):
								return
							case err != nil:
								t.Errorf("round %d: %v", round, err)
								return
							}
						}
					})
				}
				time.Sleep(5 * time.Millisecond)
				if err := tok.Lock(); err != nil {
					t.Error(err)
				}
				wg.Wait()
				tok.MustUnlock(t)
				if err := tok.PutObject("round", uint64(round), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Closing finalises the module under load.
func TestCloseUnderLoad(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	if _, err := tok.GenerateSigner("sign"); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	for range 10 {
		k, err := tok.Signer("sign")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					_, err := k.Sign(nil, digest[:], crypto.SHA256)
					if errors.Is(err, hsm.ErrClosed) {
						return
					}
					if err != nil && !errors.Is(err, hsm.ErrLocked) {
						t.Error(err)
						return
					}
				}
			})
		}
		time.Sleep(10 * time.Millisecond)
		tok.Reopen(t)
		wg.Wait()
		tok.MustUnlock(t)
	}
}

// A panic in an operation must not keep the gate, or Lock would wait for ever.
func TestLockAfterPanic(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		tok.Raw(func(*pkcs11.Ctx, uint, pkcs11.SessionHandle) error { panic("in an operation") })
	}()
	if err := tok.Lock(); err != nil {
		t.Fatal(err)
	}
}

// A login that Lock could not end must not outlive the next Unlock.
func TestUnlockEndsLeftoverLogin(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	var ctx *pkcs11.Ctx
	var slot uint
	tok.Raw(func(c *pkcs11.Ctx, s uint, _ pkcs11.SessionHandle) error { ctx, slot = c, s; return nil })
	if err := tok.Lock(); err != nil {
		t.Fatal(err)
	}
	s, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	if err := ctx.Login(s, pkcs11.CKU_USER, hsmtest.PIN); err != nil {
		t.Fatal(err)
	}
	if err := tok.Unlock(hsm.PIN("wrong PIN")); !errors.Is(err, hsm.ErrPINIncorrect) {
		t.Errorf("wrong PIN beside a leftover login: %v", err)
	}
	tok.MustUnlock(t)
}

// TestExponentiationsAreBounded: however many goroutines exponentiate, no more
// are in the token than there are processors, or Lock would wait for them all.
func TestExponentiationsAreBounded(t *testing.T) {
	var now, most atomic.Int64
	tok := hsmtest.NewTraced(t, func(call string, in, out [][]byte) {
		switch {
		case call == "C_DeriveKey":
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
		case call == "C_GetAttributeValue" && len(out) == 1 && len(out[0]) == 256: // its result
			now.Add(-1)
		}
	})
	tok.MustUnlock(t)
	if err := tok.GenerateKEK("kek", hsm.InToken); err != nil {
		t.Fatal(err)
	}
	n, x := testModulus(2048), bytes.Repeat([]byte{0x55}, 256)
	wrapped, err := tok.WrapExponent("kek", n, bytes.Repeat([]byte{0x77}, 256))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 * runtime.GOMAXPROCS(0) {
		e := mustUnwrap(t, tok, n, wrapped)
		defer e.Close()
		wg.Go(func() {
			for range 4 {
				if _, err := e.Exp(x); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if m := most.Load(); m < 1 || m > int64(runtime.GOMAXPROCS(0)) || now.Load() != 0 {
		t.Errorf("up to %d exponentiations at once on %d processors, %d never ended", m, runtime.GOMAXPROCS(0), now.Load())
	}
}

// TestLockStopsBetweenCalls: an operation that takes many token calls ends after
// the one it is in when Lock comes, and leaves nothing half-done behind.
func TestLockStopsBetweenCalls(t *testing.T) {
	var tok *hsmtest.Token
	var trap atomic.Value // the call at which Lock comes
	var after atomic.Int64
	locked := make(chan error, 1)
	tok = hsmtest.NewTraced(t, func(call string, _, _ [][]byte) {
		if tok != nil && tok.Closing() {
			after.Add(1)
		}
		if trap.CompareAndSwap(call, "") {
			go func() { locked <- tok.Lock() }()
			for !tok.Closing() {
				time.Sleep(time.Millisecond)
			}
		}
	})
	tok.MustUnlock(t)
	for i := range 100 {
		mustPut(t, tok, fmt.Sprint("object ", i), 1, "data")
	}
	putRaw(t, tok, "state", hsm.Frame("state", 1, []byte("one")))
	putRaw(t, tok, "state", hsm.Frame("state", 2, []byte("two")))
	for _, c := range []struct {
		what, call string
		f          func() error
		want       uint64 // version of "state" then
	}{
		{"search", "C_FindObjectsInit", func() error { _, err := tok.ListObjects(""); return err }, 2},
		{"searching", "C_FindObjects", func() error { _, err := tok.ListObjects(""); return err }, 2},
		{"list", "C_GetAttributeValue", func() error { _, err := tok.ListObjects(""); return err }, 2},
		{"read", "C_GetAttributeValue", func() error { _, _, err := tok.GetObject("state"); return err }, 2},
		{"write, looking", "C_GetAttributeValue", func() error { return tok.PutObject("state", 3, []byte("three")) }, 2},
		{"write, writing", "C_CreateObject", func() error { return tok.PutObject("state", 4, []byte("four")) }, 4},
	} {
		after.Store(0)
		trap.Store(c.call)
		if err := c.f(); !errors.Is(err, hsm.ErrLocked) {
			t.Errorf("%s: %v", c.what, err)
		}
		if err := <-locked; err != nil {
			t.Errorf("%s: lock: %v", c.what, err)
		}
		if n := after.Load(); n != 0 {
			t.Errorf("%s: %d calls after Lock had come", c.what, n)
		}
		tok.MustUnlock(t)
		if v, _, err := tok.GetObject("state"); err != nil || v != c.want {
			t.Errorf("%s: version %d, %v; want %d", c.what, v, err, c.want)
		}
	}
	if n := copies(t, tok, "state"); n != 3 {
		t.Errorf("%d copies; the last write was to leave its own and the two before", n)
	}
	mustPut(t, tok, "state", 5, "five")
	if n := copies(t, tok, "state"); n != 1 {
		t.Errorf("%d copies are left", n)
	}
}

// A Lock that comes while Unlock logs in wins.
func TestLockOvertakesUnlock(t *testing.T) {
	var tok *hsmtest.Token
	var armed atomic.Bool
	locked := make(chan error, 1)
	tok = hsmtest.NewTraced(t, func(call string, _, _ [][]byte) {
		if call == "C_Login" && armed.CompareAndSwap(true, false) {
			go func() { locked <- tok.Lock() }()
			for !tok.Closing() {
				time.Sleep(time.Millisecond)
			}
		}
	})
	armed.Store(true)
	tok.MustUnlock(t)
	if err := <-locked; err != nil {
		t.Fatal(err)
	}
	if _, unlocked := tok.Login(); unlocked {
		t.Error("it counts as unlocked")
	}
	if _, err := tok.ListObjects(""); !errors.Is(err, hsm.ErrLocked) {
		t.Errorf("it is unlocked: %v", err)
	}
	tok.MustUnlock(t)
	if n, unlocked := tok.Login(); n != 2 || !unlocked {
		t.Errorf("login %d, %v", n, unlocked)
	}
}

// An Unlock that a Lock passes while it waits for the token does not log in.
func TestUnlockGivesWayToLock(t *testing.T) {
	var tok *hsmtest.Token
	var logins atomic.Int64
	unlocked, locked := make(chan error, 1), make(chan error, 1)
	tok = hsmtest.NewTraced(t, func(call string, _, _ [][]byte) {
		switch {
		case tok == nil:
		case call == "C_Login":
			logins.Add(1)
		case call == "C_SetPIN": // nothing else runs
			go func() { unlocked <- tok.Unlock(hsm.PIN(hsmtest.PIN)) }()
			time.Sleep(50 * time.Millisecond)
			go func() { locked <- tok.Lock() }()
			for !tok.Closing() {
				time.Sleep(time.Millisecond)
			}
		}
	})
	if err := tok.SetPIN(hsm.PIN(hsmtest.PIN), hsm.PIN(hsmtest.PIN)); err != nil {
		t.Fatal(err)
	}
	if err := <-unlocked; !errors.Is(err, hsm.ErrLocked) || logins.Load() != 0 {
		t.Errorf("%v, %d logins", err, logins.Load())
	}
	if err := <-locked; err != nil {
		t.Error(err)
	}
	tok.MustUnlock(t)
}

// Two goroutines close the same exponent: one session is closed, once.
func TestCloseExponentTwice(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	if err := tok.GenerateKEK("kek", hsm.InToken); err != nil {
		t.Fatal(err)
	}
	n := testModulus(1024)
	wrapped, err := tok.WrapExponent("kek", n, []byte{1, 0, 1})
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		e := mustUnwrap(t, tok, n, wrapped)
		errs := make(chan error, 2)
		for range 2 {
			go func() { errs <- e.Close() }()
		}
		a, b := <-errs, <-errs
		if a != nil {
			a, b = b, a
		}
		if a != nil || !errors.Is(b, hsm.ErrClosed) {
			t.Fatalf("%v, %v", a, b)
		}
	}
}

// testModulus is an odd number of exactly that many bits.
func testModulus(bits int) []byte {
	n := make([]byte, bits/8)
	rand.Read(n)
	n[0] |= 0x80
	n[len(n)-1] |= 1
	return n
}

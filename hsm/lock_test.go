package hsm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
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

// testModulus is an odd number of exactly that many bits.
func testModulus(bits int) []byte {
	n := make([]byte, bits/8)
	rand.Read(n)
	n[0] |= 0x80
	n[len(n)-1] |= 1
	return n
}

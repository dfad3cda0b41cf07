package soak

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/hsm"
)

// Load keeps devices at work.
const (
	inFlight = 3  // tasks that wait at a device, so that it never idles
	perOffer = 15 // tasks with one one-time key: the device answers no more than 16
	restLoad = 20 * time.Millisecond
)

// load asks the device for partial signatures until done is closed.
func (d *Device) load(done <-chan struct{}) error {
	var a *approved
	for {
		select {
		case <-done:
			return nil
		default:
		}
		r, err := d.f.newRequest()
		if err == nil {
			a, err = d.approve(r)
		}
		if err == nil {
			err = d.exhaust(a, done)
		}
		if err := d.mayBe(err); err != nil {
			return err
		}
		if err != nil {
			time.Sleep(restLoad)
		}
	}
}

// exhaust uses up an offer.
func (d *Device) exhaust(a *approved, done <-chan struct{}) error {
	tickets := make(chan struct{}, inFlight)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	for range perOffer {
		tickets <- struct{}{}
		mu.Lock()
		stop := first != nil
		mu.Unlock()
		select {
		case <-done:
			stop = true
		default:
		}
		if stop {
			break
		}
		wg.Go(func() {
			defer func() { <-tickets }()
			if _, err := d.do(a, d.anyOrder()); err != nil {
				mu.Lock()
				first = errors.Join(first, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return first
}

// anyOrder is a random set of devices with this one in it, ascending.
func (d *Device) anyOrder() []uint64 {
	order := []uint64{d.index}
	for _, i := range mathrand.Perm(d.f.Config.Devices) {
		if uint64(len(order)) < d.f.T && uint64(i+1) != d.index {
			order = append(order, uint64(i+1))
		}
	}
	slices.Sort(order)
	return order
}

// mayBe returns an error that a device in order never causes: while its token
// is locked or its lease over it refuses, and answers to what it did before are
// held back.
func (d *Device) mayBe(err error) error {
	switch e := err.(type) {
	case nil:
		return nil
	case interface{ Unwrap() []error }:
		var out error
		for _, x := range e.Unwrap() {
			out = errors.Join(out, d.mayBe(x))
		}
		return out
	}
	var r *refusedError
	if errors.Is(err, errHeld) || errors.Is(err, errLink) || d.f.ctx.Err() != nil {
		return nil
	}
	// Its offers go with the lock: a task that comes after the unlock finds none.
	if errors.As(err, &r) && slices.Contains([]string{firmware.CodePhase, firmware.CodeLease, firmware.CodeOffer}, r.Code) {
		return nil
	}
	// An operation that the lock ended, in a device that hears of it next.
	if errors.As(err, &r) && (r.Code == firmware.CodeShare || r.Code == firmware.CodeInternal) && isLocked.MatchString(r.Text) {
		return nil
	}
	return err
}

// isLocked is how the token says that it is locked.
var isLocked = regexp.MustCompile(`locked`)

// yardstick is a token of this process, by which the same operation is timed
// under the same load.
type yardstick struct {
	token *hsm.Token
	exp   *hsm.Exponent
	x     []byte
	took  []time.Duration
}

const yardstickRest = 30 * time.Millisecond

func newYardstick(dir string) (*yardstick, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := hsm.UseSoftHSM(dir); err != nil {
		return nil, err
	}
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // never fails
	pin := hsm.PIN(hex.EncodeToString(secret[:]))
	c := hsm.Config{TokenLabel: "yardstick"}
	if _, err := hsm.InitToken(c, pin, pin); err != nil {
		return nil, err
	}
	t, err := hsm.Open(c)
	if err != nil {
		return nil, err
	}
	y := &yardstick{token: t, x: make([]byte, bits/8)}
	n, d := make([]byte, bits/8), make([]byte, bits/8)
	for _, b := range [][]byte{n, d, y.x} {
		_, _ = rand.Read(b)
	}
	n[0], n[len(n)-1], d[0], y.x[0] = 0xff, n[len(n)-1]|1, 0x7f, 0x33
	const kek = "kek"
	err = t.Unlock(pin)
	if err == nil {
		err = t.GenerateKEK(kek, hsm.InToken)
	}
	var wrapped []byte
	if err == nil {
		wrapped, err = t.WrapExponent(kek, n, d)
	}
	if err == nil {
		y.exp, err = t.UnwrapExponent(kek, n, wrapped)
	}
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return y, nil
}

// run measures until done is closed.
func (y *yardstick) run(done <-chan struct{}) error {
	for {
		select {
		case <-done:
			return nil
		case <-time.After(yardstickRest):
		}
		t0 := time.Now()
		if _, err := y.exp.Exp(y.x); err != nil {
			return fmt.Errorf("yardstick: %w", err)
		}
		y.took = append(y.took, time.Since(t0))
	}
}

func (y *yardstick) close() error { return errors.Join(y.exp.Close(), y.token.Close()) }

func (f *Fleet) yardstickDir() string { return filepath.Join(f.dir, "yardstick") }

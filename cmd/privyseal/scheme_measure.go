package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/scheme"
)

// schemeTimesMS are measured processor times in milliseconds.
type schemeTimesMS struct {
	Deal      float64 `json:"deal"`      // once, all shares and check values
	Device    float64 `json:"device"`    // a device's part of one signature
	Combine   float64 `json:"combine"`   // with the verification of the signature
	Signature float64 `json:"signature"` // until it is there, each device a machine of its own
	Prove     float64 `json:"prove"`     // one device's proofs
	Verify    float64 `json:"verify"`    // of one device's proofs
}

// measureScheme lets the first t devices sign, again and again, and fails unless
// the last signature is the whole key's.
func (a *app) measureScheme(ctx context.Context, c *compared, k *threshold.WholeKey, q comparison) (*schemeTimesMS, error) {
	digest := sha256.Sum256([]byte("privyseal scheme compare"))
	em, err := threshold.Encode(threshold.RS256, digest[:], nil, q.Bits)
	if err != nil {
		return nil, err
	}
	task := &scheme.Task{
		Algorithm: threshold.RS256, Digest: digest[:], EM: em, Set: 1<<q.T - 1,
		Binding: threshold.Binding{Key: "comparison", Request: digest},
	}
	want, err := k.SignEncoded(em)
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := threadTime()
	d, err := c.scheme.Deal(a.rand, k, q.Params)
	if err != nil {
		return nil, err
	}
	defer d.Wipe()
	t := &schemeTimesMS{Deal: milliseconds(threadTime() - began)}

	partials := make([]*scheme.Partial, q.T)
	var sig []byte
	steps := []struct {
		into *float64 // nil: done once, and nobody asks how long that took
		do   func() error
	}{
		{&t.Device, func() (err error) { partials[0], err = d.Devices[0].Partial(task, em); return err }},
		{&t.Prove, func() error { return d.Devices[0].Prove(a.rand, task, em, partials[0], 0) }},
		{&t.Verify, func() error { return d.Combiner.Blame(task, partials[:1]) }},
		{nil, func() error { return signAll(task, d, partials, c.Facts.Chained) }},
		{&t.Combine, func() (err error) { sig, err = d.Combiner.Combine(task, partials); return err }},
		{&t.Signature, func() (err error) { sig, err = d.Sign(a.rand, task); return err }},
	}
	if !c.Facts.Chained {
		steps = steps[:len(steps)-1] // all devices at once: see below
	}
	for _, s := range steps {
		if s.into == nil {
			err = s.do()
		} else {
			*s.into, err = medianTime(ctx, q.rounds, s.do)
		}
		if err != nil {
			return nil, err
		}
	}
	if !c.Facts.Chained {
		t.Signature = t.Device + t.Combine
	}
	if !bytes.Equal(sig, want) {
		return nil, threshold.ErrSignature
	}
	return t, nil
}

// signAll fills partials with what the first devices make.
func signAll(task *scheme.Task, d *scheme.Dealing, partials []*scheme.Partial, chained bool) (err error) {
	x := task.EM
	for i := range partials {
		if partials[i], err = d.Devices[i].Partial(task, x); err != nil {
			return err
		}
		if chained {
			x = partials[i].Values[0]
		}
	}
	return nil
}

// medianTime is the median of the processor times of some rounds, in
// milliseconds. The calling thread has to be locked.
func medianTime(ctx context.Context, rounds int, do func() error) (float64, error) {
	var took []time.Duration
	for range rounds {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		began := threadTime()
		if err := do(); err != nil {
			return 0, err
		}
		took = append(took, threadTime()-began)
	}
	slices.Sort(took)
	return milliseconds(took[len(took)/2]), nil
}

// threadTime is the processor time of the calling thread, which has to be locked.
func threadTime() time.Duration {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now) != nil {
		return 0 // there is no Linux without this clock
	}
	return time.Duration(now.Nano())
}

// milliseconds to three digits after the point.
func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond).Microseconds()) / 1000
}

package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A Deliverer sends what is in a queue until each message is acknowledged or
// has expired. Sending is at least once: a crash between a send that succeeded
// and its Ack sends again, which the receiver knows by the identity.
type Deliverer struct {
	Store *Store
	Queue string

	// Send delivers one message; nil means that the receiver has it. It is
	// called from several goroutines, for one message at most once at a time.
	// An error that wraps ErrPermanent ends the tries.
	Send func(context.Context, Item) error

	// Dropped is told of each message that is given up, with ErrExpired or the
	// permanent error; nil: only the log is. The item comes without its body.
	Dropped func(Item, error)

	Workers int           // zero: 8
	Timeout time.Duration // of one Send; zero: 15 s
	First   time.Duration // wait after the first failure, doubled after each; zero: 200 ms
	Last    time.Duration // longest wait; zero: 30 s
	Log     *slog.Logger  // nil: silent

	waiting []*try // in order of arrival
	last    uint64 // sequence number of the newest in waiting
}

// A try is what is known of a queued message between sends. It lives in memory
// alone: after a restart everything is due at once.
type try struct {
	it   Item // without its body
	due  time.Time
	wait time.Duration
	busy bool
	gone bool
}

// ErrPermanent marks an error that trying again cannot mend.
var ErrPermanent = errors.New("store: not to be tried again")

// poll is how often a queue is looked at without a reason: a net under the
// wake-ups, and the pace of expiry.
const poll = 5 * time.Second

// Run delivers until ctx ends, and returns its error when all workers have
// stopped, or the store's error. It is called once.
func (d *Deliverer) Run(ctx context.Context) error {
	d.defaults()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	put, stop := d.Store.Watch(d.Queue)
	defer stop()
	slots := make(chan struct{}, d.Workers)
	finished := make(chan result)
	for {
		if err := d.load(); err != nil {
			return err
		}
		next, err := d.dispatch(ctx, slots, finished, &wg)
		if err != nil {
			return err
		}
		timer := time.NewTimer(next)
		select {
		case <-put:
		case <-timer.C:
		case r := <-finished:
			err = d.settle(r)
		case <-ctx.Done():
			err = ctx.Err()
		}
		timer.Stop()
		if err != nil {
			return err
		}
	}
}

type result struct {
	t   *try
	err error
}

func (d *Deliverer) defaults() {
	set := func(v *time.Duration, to time.Duration) {
		if *v <= 0 {
			*v = to
		}
	}
	set(&d.Timeout, 15*time.Second)
	set(&d.First, 200*time.Millisecond)
	set(&d.Last, 30*time.Second)
	if d.Workers <= 0 {
		d.Workers = 8
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	d.waiting, d.last = nil, 0
}

// load learns of messages that came since the last time.
func (d *Deliverer) load() error {
	for {
		items, err := d.Store.heads(d.Queue, d.last, maxList)
		if err != nil {
			return fmt.Errorf("store: deliver %s: %w", d.Queue, err)
		}
		for _, it := range items {
			d.waiting = append(d.waiting, &try{it: it, wait: d.First})
			d.last = it.Seq
		}
		if len(items) < maxList {
			return nil
		}
	}
}

// dispatch gives up what has expired, starts a Send for each message that is
// due while there are workers, and returns how long there is nothing to do.
// One receiver that is away does not hide the messages of others behind its
// own: each message waits by itself.
func (d *Deliverer) dispatch(ctx context.Context, slots chan struct{}, finished chan<- result, wg *sync.WaitGroup) (time.Duration, error) {
	now, next := time.Now(), poll
	end := d.Store.now().Unix()
	expired := false
	for _, t := range d.waiting {
		if t.busy || t.gone {
			continue
		}
		if t.it.Expires <= end {
			t.gone, expired = true, true
			d.drop(t.it, ErrExpired)
			continue
		}
		if wait := t.due.Sub(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			continue // all workers are busy: the first to finish wakes us
		}
		it, err := d.Store.Get(d.Queue, t.it.ID)
		if err != nil {
			<-slots
			if !errors.Is(err, ErrNotFound) {
				return 0, err
			}
			t.gone = true // acknowledged by somebody else
			continue
		}
		t.busy = true
		wg.Go(func() {
			err := d.send(ctx, it)
			<-slots
			select {
			case finished <- result{t, err}:
			case <-ctx.Done():
			}
		})
	}
	d.waiting = slices.DeleteFunc(d.waiting, func(t *try) bool { return t.gone })
	if expired {
		if _, err := d.Store.Sweep(d.Queue); err != nil {
			return 0, err
		}
	}
	return next, nil
}

func (d *Deliverer) send(ctx context.Context, it Item) error {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	return d.Send(ctx, it)
}

func (d *Deliverer) settle(r result) error {
	t := r.t
	t.busy = false
	if r.err == nil || errors.Is(r.err, ErrPermanent) {
		t.gone = true
		// A crash before this line sends the message once more.
		if err := d.Store.Ack(d.Queue, t.it.ID); err != nil {
			return err
		}
		if r.err != nil {
			d.drop(t.it, r.err)
		}
		return nil
	}
	pause := t.wait/2 + rand.N(t.wait/2+1)
	t.due = time.Now().Add(pause)
	t.wait = min(2*t.wait, d.Last)
	d.Log.Info("delivery failed", "queue", d.Queue, "id", t.it.ID, "to", t.it.To, "again_in", pause.Round(time.Millisecond), "error", r.err)
	return nil
}

func (d *Deliverer) drop(it Item, err error) {
	d.Log.Warn("message given up", "queue", d.Queue, "id", it.ID, "to", it.To, "error", err)
	if d.Dropped != nil {
		d.Dropped(it, err)
	}
}

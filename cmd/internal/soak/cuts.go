package soak

import (
	"context"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/firmware"
)

// Cuts is what many lock-downs under load came to.
//
// A partial signature is late if it is proved that it was written after the end
// of the lease: the socket was seen empty at a moment at which the lease was
// over by the device's own word, or by an upper bound of all that its sources
// ever said, and the signature came after that; or it came, on the same link,
// after the device's word that it is locked. No scheduling of any process makes
// one that was written in time look late.
type Cuts struct {
	Devices, T int
	InToken    int // devices that use their shares in the token
	Cuts       int // of a device's beats, at random moments
	Unplanned  int // leases that ended because the machine was too busy for beats

	// Interrupted are links that a lock-down ended because a write on them took
	// longer than it may.
	Interrupted int

	Lock       Times         // from the end of the lease until the session was closed, as devices measure it
	Operation  Times         // one exponentiation in a token beside them
	Partials   int           // partial signatures made
	Refused    int           // tasks and offers, for want of a lease or an open token
	Late       int           // partial signatures proved late: must be 0
	InTransit  int           // that came after the end of the lease and are not proved late
	LatestSeen time.Duration // of those, after the end
	Took       time.Duration
}

// Times are quantiles.
type Times struct {
	N             int
	P50, P99, Max time.Duration
}

func timesOf(v []time.Duration) Times {
	if len(v) == 0 {
		return Times{}
	}
	v = slices.Clone(v)
	slices.Sort(v)
	rank := func(q float64) time.Duration { return v[max(0, int(math.Ceil(q*float64(len(v))))-1)] }
	return Times{len(v), rank(0.5), rank(0.99), v[len(v)-1]}
}

// Beyond is how much longer the slowest lock-downs took than the slowest
// operations: a lock-down waits for the one that is in flight.
func (c *Cuts) Beyond() time.Duration { return max(0, c.Lock.P99-c.Operation.P99) }

const (
	// maxRun is how long a device runs at most before it is cut, counted from
	// its first partial signature.
	maxRun = 500 * time.Millisecond
	// patience bounds each step of a cut.
	patience = 2 * time.Minute
)

// cutter cuts until enough is cut.
type cutter struct {
	f    *Fleet
	left atomic.Int64
	done chan struct{} // ends the load

	mu   sync.Mutex
	out  Cuts
	took []time.Duration
}

// Cut puts all devices to work and cuts n times the beats of one of them, or of
// several at once, at random moments. Officers open it again after each. In the
// end every device signs, all processes are stopped, and every token is looked
// through by a new PKCS#11 session. An error is a crash, damage, or a device
// that did not come back; late signatures are in the result.
func (f *Fleet) Cut(n int, say func(cuts int)) (*Cuts, error) {
	c := &cutter{f: f, done: make(chan struct{})}
	c.left.Store(int64(n))
	c.out = Cuts{Devices: f.Config.Devices, T: int(f.T), InToken: f.Config.Devices - f.InHost}
	y, err := newYardstick(f.yardstickDir())
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	var work, cutting sync.WaitGroup
	background := func(wg *sync.WaitGroup, do func() error) {
		wg.Go(func() {
			if err := do(); err != nil && f.ctx.Err() == nil {
				f.failed(err)
			}
		})
	}
	background(&work, func() error { return y.run(c.done) })
	for _, d := range f.devices {
		background(&work, func() error { return d.load(c.done) })
		background(&cutting, func() error { return c.device(d, say) })
	}
	cutting.Wait()
	close(c.done)
	work.Wait()
	c.out.Took = time.Since(begun)
	if err := errors.Join(context.Cause(f.ctx), y.close()); err != nil {
		return nil, err
	}
	c.out.Lock, c.out.Operation = timesOf(c.took), timesOf(y.took)
	for _, d := range f.devices {
		d.mu.Lock()
		c.out.Partials += d.total
		for _, n := range d.refused {
			c.out.Refused += n
		}
		d.mu.Unlock()
	}
	return &c.out, f.whole()
}

// device cuts one device again and again.
func (c *cutter) device(d *Device, say func(int)) error {
	for {
		lapsed, err := c.working(d, mathrand.N(maxRun))
		if err != nil {
			return err
		}
		if lapsed == nil {
			n := c.left.Add(-1)
			if n < 0 {
				return nil
			}
			if say != nil {
				say(int(n))
			}
			d.silence(c.anyCut(d)...)
			if lapsed, err = c.lapse(d); err != nil {
				return err
			}
		}
		if err := c.reopen(d, lapsed); err != nil {
			return err
		}
	}
}

// anyCut is a random choice of sources without which the device has too few.
func (c *cutter) anyCut(d *Device) []string {
	s := slices.Clone(d.policy.Sources)
	mathrand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
	least := len(s) - int(d.policy.Needed) + 1
	return s[:least+mathrand.IntN(len(s)-least+1)]
}

// working waits until the device has signed, and then for the given time. It
// returns a lock-down that came meanwhile without being caused.
func (c *cutter) working(d *Device, then time.Duration) (*locked, error) {
	timeout := time.After(patience)
	var ripe <-chan time.Time
	signed := d.signed
	for {
		select {
		case <-signed:
			ripe, signed = time.After(then), nil
		case <-ripe:
			return nil, nil
		case l := <-d.locks:
			return &l, nil
		case <-timeout:
			return nil, fmt.Errorf("device %s does not sign\n%s", d.id, d.said)
		case <-c.f.ctx.Done():
			return nil, context.Cause(c.f.ctx)
		}
	}
}

func (c *cutter) lapse(d *Device) (*locked, error) {
	select {
	case l := <-d.locks:
		return &l, nil
	case <-time.After(patience):
		return nil, fmt.Errorf("device %s has no beats and does not lock its token\n%s", d.id, d.said)
	case <-c.f.ctx.Done():
		return nil, context.Cause(c.f.ctx)
	}
}

// reopen looks at what the device did when its lease ended, and has its
// officers open it again.
func (c *cutter) reopen(d *Device, l *locked) error {
	if err := c.word(d); err != nil {
		return err
	}
	s, err := d.status()
	if err != nil {
		return err
	}
	if s.Phase != firmware.PhaseLocked {
		return fmt.Errorf("device %s wrote down that its token is locked, and is %s", d.id, s.Phase)
	}
	// What its kernel may still hold of an answer comes before the next one.
	if err := c.judge(d, l); err != nil {
		return err
	}
	select { // one that came after all
	case <-d.reports:
	default:
	}
	d.silence()
	if err := d.unlock(); err != nil {
		return fmt.Errorf("device %s does not open again: %w\n%s", d.id, err, d.said)
	}
	return nil
}

// word waits for the device's word that it is locked. If its link ended
// meanwhile, which the lock-down does to one that is in the middle of a write,
// that word may be lost: it is asked then.
func (c *cutter) word(d *Device) error {
	timeout := time.After(patience)
	for {
		select {
		case <-d.reports:
			return nil
		case <-time.After(100 * time.Millisecond):
			d.mu.Lock()
			n := d.links.Load()
			again := n != d.dialled && d.drained.Load() == n-1 // all of the older ones was read
			d.mu.Unlock()
			if again {
				return nil
			}
		case <-timeout:
			return fmt.Errorf("device %s locked its token and does not say so\n%s", d.id, d.said)
		case <-c.f.ctx.Done():
			return context.Cause(c.f.ctx)
		}
	}
}

// slack is the error of converting the device's log from one clock to the
// other.
const slack = 200 * time.Microsecond

// judge counts what came since the device was opened.
func (c *cutter) judge(d *Device, l *locked) error {
	until := d.until()
	d.mu.Lock()
	planned := len(d.cut) > 0
	stamps, after := d.stamps, d.after
	ended := d.links.Load() - d.dialled
	d.dialled = d.links.Load()
	d.stamps, d.after, d.partials, d.silent = nil, 0, 0, false
	d.mu.Unlock()
	select { // of before the lock-down
	case <-d.signed:
	default:
	}
	// Its log is written some time after it looked at the clock: a longer lease
	// is found by half a lease.
	if l.end > until+int64(d.policy.Lease)*int64(time.Millisecond)/2 {
		return fmt.Errorf("device %s counts its lease until %d, and nobody granted more than until %d", d.id, l.end, until)
	}
	end := min(until, l.end)
	c.mu.Lock()
	defer c.mu.Unlock()
	if planned {
		c.out.Cuts++
	} else {
		c.out.Unplanned++
	}
	c.took = append(c.took, l.took)
	c.out.Interrupted += int(ended)
	c.out.Late += after
	for _, s := range stamps {
		switch {
		case s.empty > end+int64(slack):
			c.out.Late++
		case s.came > end:
			c.out.InTransit++
			c.out.LatestSeen = max(c.out.LatestSeen, time.Duration(s.came-end))
		}
	}
	return nil
}

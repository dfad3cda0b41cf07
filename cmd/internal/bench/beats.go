package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/soak"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// What is promised of lock-downs.
const (
	maxLockDown = 50 * time.Millisecond // p99, beyond the token operation in flight
	maxLate     = 0
)

// Signers of the lock-downs: all of one key, of which signersT sign; the last
// ones use their shares in the host.
const (
	signers       = 8
	signersT      = 2
	signersInHost = 3
)

// lockDowns are many ends of leases under load, in milliseconds.
type lockDowns struct {
	Devices     int       `json:"devices"`
	InToken     int       `json:"in_token"` // devices that use their shares there
	Cuts        int       `json:"cuts"`
	Unplanned   int       `json:"unplanned"`   // leases that the busy machine lost by itself
	Interrupted int       `json:"interrupted"` // links, ended in the middle of a write
	Lock        quantiles `json:"lease_end_to_closed_session"`
	Operation   quantiles `json:"exponentiation_in_a_token"`
	Beyond      float64   `json:"beyond_ms"` // p99 less p99
	Partials    int       `json:"partials"`
	Refused     int       `json:"refused"`    // tasks, for want of a lease or an open token
	InTransit   int       `json:"in_transit"` // came after the end, and may have been written before
	LatestSeen  float64   `json:"latest_in_transit_ms"`
	Late        int       `json:"late"` // proved to have been written after the end
	Seconds     float64   `json:"seconds"`
}

type quantiles struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

func quantilesOf(t soak.Times) quantiles { return quantiles{ms(t.P50), ms(t.P99), ms(t.Max)} }

// beatCost is what beats cost in an hour.
type beatCost struct {
	Period  uint64       `json:"period_ms"`
	Seconds float64      `json:"seconds"` // measured
	Idle    usage        `json:"idle"`    // a device without beats
	Devices []usage      `json:"devices"` // beyond that
	Sources []sourceCost `json:"sources"`
}

type usage struct {
	ID       string  `json:"id"`
	CPU      float64 `json:"cpu_seconds_per_hour"`
	Sent     int64   `json:"sent_bytes_per_hour"`
	Received int64   `json:"received_bytes_per_hour"`
}

type sourceCost struct {
	Kind string `json:"kind"`
	usage
	// On the link of one device.
	Challenges int64 `json:"device_sent_bytes_per_hour"` // one message to all satellites at once
	Beats      int64 `json:"device_received_bytes_per_hour"`
}

func usageOf(u soak.Usage) usage { return usage{u.ID, u.CPU.Seconds(), u.From, u.To} }

// measureLockDowns cuts beats of devices under load.
func measureLockDowns(ctx context.Context, f *flags, r *report) error {
	return soak.Outside(func(t testing.TB) error {
		fleet, err := soak.New(ctx, t, soak.Config{
			Device: f.device, Devices: signers, T: signersT, InHost: signersInHost,
			Policy: ledger.Heartbeat{Sources: []string{"m1", "q1", "t1"}, Needed: 2, Period: 100, Lease: 500, Minimum: 2, Loss: 2},
		})
		if err != nil {
			return err
		}
		defer fleet.Close()
		c, err := fleet.Cut(f.cuts, func(left int) {
			if left > 0 && left%50 == 0 {
				f.tell("lock-downs: %d to come", left)
			}
		})
		if err != nil {
			return err
		}
		r.addLockDowns(c)
		return nil
	})
}

// measureBeats measures what beats cost an idle system.
func measureBeats(ctx context.Context, f *flags, r *report) error {
	return soak.Outside(func(t testing.TB) error {
		fleet, err := soak.New(ctx, t, soak.Config{
			Device: f.device, Source: f.source, Devices: 3, T: signersT, Policy: soak.FiveSources(), Free: 1,
		})
		if err != nil {
			return err
		}
		defer fleet.Close()
		c, err := fleet.Cost(time.Duration(f.beats) * time.Second)
		if err != nil {
			return err
		}
		r.addBeats(c)
		return fleet.Stop()
	})
}

func (r *report) addLockDowns(c *soak.Cuts) {
	r.LockDowns = &lockDowns{
		Devices: c.Devices, InToken: c.InToken, Cuts: c.Cuts, Unplanned: c.Unplanned, Interrupted: c.Interrupted, Lock: quantilesOf(c.Lock), Operation: quantilesOf(c.Operation),
		Beyond: ms(c.Beyond()), Partials: c.Partials, Refused: c.Refused, InTransit: c.InTransit, LatestSeen: ms(c.LatestSeen), Late: c.Late,
		Seconds: c.Took.Seconds(),
	}
	r.addTarget("lock-down beyond the token operation in flight, p99", ms(c.Beyond()), ms(maxLockDown), "ms")
	r.addTarget("partial signatures released after the end of a lease", float64(c.Late), maxLate, "")
}

func (r *report) addBeats(c *soak.Cost) {
	b := &beatCost{Period: c.Policy.Period, Seconds: c.Took.Seconds(), Idle: usageOf(c.Idle)}
	for _, d := range c.Devices {
		b.Devices = append(b.Devices, usageOf(d))
	}
	for _, s := range c.Sources {
		b.Sources = append(b.Sources, sourceCost{s.Kind, usageOf(s.Usage), s.FromDevice, s.ToDevice})
	}
	r.Beats = b
}

func (r *report) printLockDowns(b *strings.Builder) {
	l := r.LockDowns
	if l == nil {
		return
	}
	fmt.Fprintf(b, `
Lock-downs: %d signers of one key at work, %d of them with their shares in the
token, their beats cut at random moments. %d cuts in %.0f s, and %d leases that the
machine was too busy to keep. ms.
`, l.Devices, l.InToken, l.Cuts, l.Seconds, l.Unplanned)
	row := func(name string, q quantiles) []string {
		return []string{name, fmt.Sprintf("%.2f", q.P50), fmt.Sprintf("%.2f", q.P99), fmt.Sprintf("%.2f", q.Max)}
	}
	table(b, [][]string{
		{"", "p50", "p99", "max"}, row("end of the lease to closed session", l.Lock), row("one exponentiation in a token beside them", l.Operation),
	})
	fmt.Fprintf(b, `  %d partial signatures; %d tasks refused for want of a lease or an open token.
  %d came after the end of a lease (%.2f ms at most) and may have been written
  before; %d are proved late. %d links were ended in the middle of a write.
`, l.Partials, l.Refused, l.InTransit, l.LatestSeen, l.Late, l.Interrupted)
}

func (r *report) printBeats(b *strings.Builder) {
	c := r.Beats
	if c == nil {
		return
	}
	fmt.Fprintf(b, `
Beats every %d ms from %d sources, nobody signing: in an hour, measured for %.0f s.
A device's are beyond what one without beats uses (%.2f s). A source's are those of
its process, for %d devices. On a device's link, for each source: the challenges to
it, which go to all satellites at once, and its beats.
`, c.Period, len(c.Sources), c.Seconds, c.Idle.CPU, len(c.Devices))
	rows := [][]string{{"", "processor s", "kB sent", "kB received"}}
	row := func(name string, u usage) []string {
		return []string{name, fmt.Sprintf("%.2f", u.CPU), kilobytes(u.Sent), kilobytes(u.Received)}
	}
	for _, d := range c.Devices {
		rows = append(rows, row("device "+d.ID, d))
	}
	for _, s := range c.Sources {
		rows = append(rows, row("source "+s.ID+", "+s.Kind, s.usage))
	}
	for _, s := range c.Sources {
		rows = append(rows, []string{"on a device's link: " + s.ID, "", kilobytes(s.Challenges), kilobytes(s.Beats)})
	}
	table(b, rows)
}

func kilobytes(n int64) string { return fmt.Sprintf("%.0f", float64(n)/1e3) }

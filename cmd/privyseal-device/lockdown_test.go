package main

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/bootclock"
	"github.com/privyseal/privyseal/firmware"
)

// BenchmarkLockDown ends leases while the loop exponentiates in the token, and
// reports how long after the end of its lease the session was closed.
func BenchmarkLockDown(b *testing.B) {
	dir, _ := newDevice(b)
	d, s, err := scripted(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer d.stop()
	pin, err := readPIN(dir)
	if err != nil {
		b.Fatal(err)
	}
	use, err := s.share(d)
	if err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	closed := make(chan struct{})
	d.watch.closed = func(end, now int64) { took = append(took, time.Duration(now-end)) }
	s.tick = func(firmware.Inputs) firmware.Effects {
		s.fall()
		closed <- struct{}{}
		return firmware.Effects{}
	}
	s.handle = func(firmware.Inputs, []byte) firmware.Effects {
		if d.token.Locked() {
			if err := d.token.Unlock(pin); err != nil {
				b.Error(err)
			}
			s.grant(bootclock.Now() + int64(20*time.Millisecond))
			return firmware.Effects{}
		}
		for range 1000 {
			if _, err := use(); err != nil {
				break
			}
		}
		return firmware.Effects{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- d.run(ctx) }()
	b.ResetTimer()
	if err := d.token.Lock(); err != nil {
		b.Fatal(err)
	}
	for range b.N {
		d.inbox.put(ctx, []byte("unlock"))
		d.inbox.put(ctx, []byte("use"))
		<-closed
	}
	b.StopTimer()
	cancel()
	<-ended
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
	b.ReportMetric(float64(took[len(took)-1].Microseconds()), "µs-max")
}

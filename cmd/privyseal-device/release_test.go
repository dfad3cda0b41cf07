package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/firmware"
)

// hands is a clock that a test sets.
type hands struct{ atomic.Int64 }

func (h *hands) gate() *gate { return &gate{clock: h.Load} }

// let counts what passes a gate.
func let(t *testing.T, g *gate, want error) {
	t.Helper()
	handed := 0
	err := g.release(func(may func() error) error { handed++; return may() })
	if !errors.Is(err, want) || (handed == 1) != (want == nil) {
		t.Errorf("release: %v, handed over %d times; want %v", err, handed, want)
	}
}

func nobody() {}

func TestGateWithoutHeartbeat(t *testing.T) {
	var h hands
	g := h.gate()
	let(t, g, errLocked) // nobody opened it
	g.extend(firmware.Lease{})
	let(t, g, nil)
	if _, ok := g.lapse(nobody); ok {
		t.Error("lapsed without a lease")
	}
	g.close(nobody)
	let(t, g, errLocked)
	g.extend(firmware.Lease{})
	g.reopen(firmware.Lease{})
	let(t, g, errLocked) // for good
}

func TestGateGoesByTheClock(t *testing.T) {
	var h hands
	h.Store(100)
	g := h.gate()
	g.extend(firmware.Lease{Guarded: true, Lock: 150})
	let(t, g, errNoLease) // no beat has come yet
	g.extend(firmware.Lease{Guarded: true, Until: 200, Lock: 200})
	h.Store(199)
	let(t, g, nil)
	h.Store(200)
	let(t, g, errNoLease)

	// Nobody called lapse, as after a stop of the process. A beat that the
	// interpreter took in time by its own clock renews nothing any more.
	g.extend(firmware.Lease{Guarded: true, Until: 300, Lock: 300})
	let(t, g, errNoLease)
	if end, ok := g.lapse(nobody); !ok || end != 200 {
		t.Errorf("lapse: %d, %v", end, ok)
	}
	g.extend(firmware.Lease{Guarded: true, Until: 300, Lock: 300})
	g.extend(firmware.Lease{}) // not even the end of the policy
	let(t, g, errNoLease)
	if _, ok := g.lapse(nobody); ok || g.deadline() != 0 {
		t.Error("lapsed twice")
	}
	g.reopen(firmware.Lease{Guarded: true, Until: 300, Lock: 300})
	let(t, g, nil)
	h.Store(300)
	let(t, g, errNoLease)
}

// TestGateSilentBeforeLock has the right to release end before the time to lock
// the token: a beat in between helps.
func TestGateSilentBeforeLock(t *testing.T) {
	var h hands
	h.Store(1)
	g := h.gate()
	g.extend(firmware.Lease{Guarded: true, Until: 100, Lock: 200})
	h.Store(150)
	let(t, g, errNoLease)
	if _, ok := g.lapse(nobody); ok {
		t.Error("lapsed early")
	}
	g.extend(firmware.Lease{Guarded: true, Until: 300, Lock: 300})
	let(t, g, nil)
}

// TestGateWhileHandingOver moves the clock when the gate has been passed.
func TestGateWhileHandingOver(t *testing.T) {
	var h hands
	g := h.gate()
	g.extend(firmware.Lease{Guarded: true, Until: 10, Lock: 10})
	err := g.release(func(may func() error) error {
		if err := may(); err != nil {
			t.Error(err)
		}
		h.Store(10)
		return may()
	})
	if !errors.Is(err, errNoLease) {
		t.Errorf("got %v", err)
	}
}

// TestGateRace has answers leave, beats renew and the watchdog look, all at
// once and for many leases, and checks that none leaves when its time is over,
// nor between a lapse and the unlock that follows.
func TestGateRace(t *testing.T) {
	var h hands
	g := h.gate()
	var lapsed atomic.Bool
	var handed, lapses atomic.Int64
	g.extend(firmware.Lease{Guarded: true, Until: 50, Lock: 50})
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { // the loop's part is one goroutine; three are harder
			for {
				select {
				case <-done:
					return
				default:
				}
				_ = g.release(func(may func() error) error {
					p := g.pass.Load() // does not change: the gate is held
					before := h.Load()
					if may() != nil {
						return nil
					}
					if before >= p.Until || before >= p.Lock || lapsed.Load() {
						t.Errorf("handed over at %d or later, lease %+v, lapsed %v", before, p.Lease, lapsed.Load())
					}
					handed.Add(1)
					return nil
				})
				if rand.N(4) == 0 {
					until := h.Load() + rand.N[int64](60)
					g.extend(firmware.Lease{Guarded: true, Until: until, Lock: until})
				}
			}
		})
	}
	for lapses.Load() < 300 || handed.Load() < 1000 {
		runtime.Gosched()
		h.Add(rand.N[int64](20))
		if _, ok := g.lapse(nobody); !ok {
			continue
		}
		lapses.Add(1)
		lapsed.Store(true)
		for range rand.N(20) {
			let(t, g, errNoLease)
		}
		lapsed.Store(false)
		until := h.Load() + 50
		g.reopen(firmware.Lease{Guarded: true, Until: until, Lock: until})
	}
	close(done)
	wg.Wait()
	if handed.Load() == 0 {
		t.Error("nothing was handed over: the test tested nothing")
	}
	t.Logf("%d handed over, %d lapses", handed.Load(), lapses.Load())
}

// TestGateSlowPeer locks down while an answer waits for a peer that never reads:
// the lock-down must come first, and the answer must not follow.
func TestGateSlowPeer(t *testing.T) {
	for name, lockDown := range map[string]func(*gate, *hands, func()) bool{
		"lapse": func(g *gate, h *hands, interrupt func()) bool {
			h.Store(100)
			_, ok := g.lapse(interrupt)
			return ok
		},
		"close": func(g *gate, _ *hands, interrupt func()) bool { g.close(interrupt); return true },
	} {
		t.Run(name, func(t *testing.T) {
			c, peer := mutePeer(t)
			var h hands
			g := h.gate()
			g.extend(firmware.Lease{Guarded: true, Until: 100, Lock: 100})
			released := make(chan error, 1)
			writing := make(chan struct{})
			go func() {
				released <- g.release(func(may func() error) error {
					close(writing)
					return c.SendWhile(context.Background(), make([]byte, link.MaxMessage), may)
				})
			}()
			<-writing
			first := make([]byte, 1000)
			if _, err := peer.Read(first); err != nil { // it is under way
				t.Fatal(err)
			}
			if !lockDown(g, &h, c.Interrupt) { // returns, though nobody reads
				t.Fatal("the gate did not close")
			}
			if err := <-released; err == nil {
				t.Error("the answer left")
			}
			got := len(first)
			for b := make([]byte, 1<<16); ; {
				n, err := peer.Read(b)
				if got += n; err != nil {
					break
				}
			}
			if got >= link.MaxMessage {
				t.Errorf("all of it arrived, %d octets", got)
			}
		})
	}
}

// mutePeer is a link whose other end reads nothing by itself.
func mutePeer(t *testing.T) (*link.Conn, net.Conn) {
	t.Helper()
	dir := t.TempDir()
	l, err := link.Listen("unix:"+filepath.Join(dir, "l"), link.ListenOptions{ID: "s", Allow: func(string, pinned.Pin) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// A proxy for the hello: what follows it is the test's to read.
	between, err := net.Listen("unix", filepath.Join(dir, "m"))
	if err != nil {
		t.Fatal(err)
	}
	defer between.Close()
	peer := make(chan net.Conn, 1)
	go func() {
		down, err := between.Accept()
		if err != nil {
			return
		}
		up, err := net.Dial("unix", filepath.Join(dir, "l"))
		if err != nil {
			return
		}
		hello := make([]byte, 100)
		n, _ := down.Read(hello)
		up.Write(hello[:n])
		n, _ = up.Read(hello)
		down.Write(hello[:n])
		t.Cleanup(func() { up.Close(); down.Close() })
		peer <- down
	}()
	c, err := link.Dial(t.Context(), "unix:"+filepath.Join(dir, "m"), link.Options{ID: "d1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, <-peer
}

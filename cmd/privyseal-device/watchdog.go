package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/bootclock"
)

// watchdog locks the token when the lease is over, whatever the loop does
// meanwhile. It is a goroutine of its own with a timer of its own.
type watchdog struct {
	gate      *gate
	token     interface{ Lock() error }
	interrupt func()      // ends a write that waits for a slow peer
	die       func(error) // ends the process at once, and with it every session
	log       *slog.Logger
	closed    func(end, now int64) // tests measure

	timer *bootclock.Timer
	set   int64         // what the timer is set to; the loop's
	word  chan struct{} // to the loop: the token is locked
	quit  chan struct{}
	done  chan struct{}
}

func newWatchdog(g *gate, token interface{ Lock() error }, log *slog.Logger) (*watchdog, error) {
	t, err := bootclock.NewTimer()
	if err != nil {
		return nil, err
	}
	return &watchdog{
		gate: g, token: token, log: log, interrupt: func() {}, timer: t,
		word: make(chan struct{}), quit: make(chan struct{}), done: make(chan struct{}),
	}, nil
}

// watch sets the timer to the gate's deadline. The loop calls it after each
// change of the lease: a deadline that moved meanwhile is found by lapse.
func (w *watchdog) watch() error {
	at := w.gate.deadline()
	if at == w.set {
		return nil
	}
	if err := w.timer.Reset(at); err != nil {
		return err
	}
	w.set = at
	return nil
}

func (w *watchdog) run() {
	defer close(w.done)
	for {
		select {
		case <-w.timer.C:
		case <-w.quit:
			return
		}
		if end, ok := w.gate.lapse(w.interrupt); ok && !w.lockDown(end) {
			return
		}
	}
}

// lockDown locks the token behind the closed gate and then tells the loop. It
// returns false if the watchdog is to end.
func (w *watchdog) lockDown(end int64) bool {
	late := time.AfterFunc(lockPatience, func() {
		w.die(fmt.Errorf("the lease is over and the token did not lock within %v", lockPatience))
	})
	err := w.token.Lock()
	late.Stop()
	now := bootclock.Now()
	if err != nil {
		w.die(fmt.Errorf("the lease is over and the token does not lock: %w", err))
		return false
	}
	w.log.Warn("the lease is over: the token is locked", "took", time.Duration(now-end))
	if w.closed != nil {
		w.closed(end, now)
	}
	select {
	case w.word <- struct{}{}:
		return true
	case <-w.quit:
		return false
	case <-time.After(wordPatience):
		w.interrupt()
	}
	select {
	case w.word <- struct{}{}:
		return true
	case <-w.quit:
		return false
	}
}

// stop ends the watchdog and waits for it.
func (w *watchdog) stop() {
	close(w.quit)
	<-w.done
	w.timer.Close()
}

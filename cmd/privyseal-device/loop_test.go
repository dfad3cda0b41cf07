package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/bootclock"
	"github.com/privyseal/privyseal/cmd/internal/store/journal"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/hsm"
)

// answering handles the frames of these tests: "ask" has the share used,
// "unlock" is the officers', "grant" a beat, all else is answered.
func answering(t testing.TB, d *device, s *script) {
	use, err := s.share(d)
	if err != nil {
		t.Fatal(err)
	}
	pin, err := readPIN(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	s.handle = func(in firmware.Inputs, frame []byte) firmware.Effects {
		switch string(frame) {
		case "ask":
			if _, err := use(); err != nil {
				return firmware.Effects{Reply: []byte("refused")}
			}
			return firmware.Effects{Records: [][]byte{[]byte("one"), []byte("two")}, Reply: []byte("partial"), Release: true}
		case "unlock":
			if err := d.token.Unlock(pin); err != nil {
				return firmware.Effects{Reply: []byte(err.Error())}
			}
			s.grant(late())
			return firmware.Effects{Reply: []byte("unlocked")}
		case "grant":
			s.grant(late())
			return firmware.Effects{}
		}
		return firmware.Effects{Reply: frame}
	}
}

// TestLapseWithoutLink cuts a device off: it falls silent by itself, comes back
// to the link locked, takes no beat for an unlock, and signs after one.
func TestLapseWithoutLink(t *testing.T) {
	told := make(chan bool, 10)
	r := runScript(t, func(d *device, s *script) {
		answering(t, d, s)
		s.tick = func(firmware.Inputs) firmware.Effects {
			told <- d.token.Locked()
			s.fall()
			return firmware.Effects{}
		}
		if in, err := loggedIn(d.cfg); !in || err != nil {
			t.Fatalf("not logged in at first: %v", err)
		}
		s.grant(soon())
	})
	<-r.locked
	if !<-told {
		t.Error("the interpreter was told before the token was locked")
	}
	c := r.listen()
	send(t, c, "grant")
	send(t, c, "ask")
	receive(t, c, "refused")
	send(t, c, "unlock")
	receive(t, c, "unlocked")
	send(t, c, "ask")
	receive(t, c, "partial")
}

// TestLapseWhileBusy ends the lease while the loop is inside a step that uses
// the token again and again: the watchdog waits for one operation, not for the
// step, and what the step made stays here.
func TestLapseWhileBusy(t *testing.T) {
	var during atomic.Bool
	r := runScript(t, func(d *device, s *script) {
		answering(t, d, s)
		use, err := s.share(d)
		if err != nil {
			t.Fatal(err)
		}
		plain := s.handle
		s.handle = func(in firmware.Inputs, frame []byte) firmware.Effects {
			if string(frame) != "busy" {
				return plain(in, frame)
			}
			during.Store(true)
			for err = nil; err == nil; {
				_, err = use()
			}
			if !errors.Is(err, hsm.ErrLocked) {
				t.Error(err)
			}
			during.Store(false)
			// A beat that was taken in time came with it.
			s.grant(late())
			return firmware.Effects{Reply: []byte("partial"), Release: true}
		}
		s.tick = func(firmware.Inputs) firmware.Effects { s.fall(); return firmware.Effects{} }
		s.grant(soon())
	})
	c := r.listen()
	send(t, c, "busy")
	<-r.locked
	send(t, c, "done")
	receive(t, c, "done") // and no partial before it
	if during.Load() {
		t.Error("the step goes on")
	}
}

// TestLapseWhileWriting has the peer read nothing, so that the loop waits with
// an ordinary answer in its hand.
func TestLapseWhileWriting(t *testing.T) {
	told := make(chan struct{}, 10)
	r := runScript(t, func(d *device, s *script) {
		s.handle = func(firmware.Inputs, []byte) firmware.Effects {
			s.grant(soon())
			return firmware.Effects{Send: slices.Repeat([][]byte{make([]byte, link.MaxMessage)}, 20)}
		}
		s.tick = func(firmware.Inputs) firmware.Effects {
			s.fall()
			told <- struct{}{}
			return firmware.Effects{}
		}
		s.grant(late())
	})
	c := r.listen() // nobody receives: it holds a few frames and then stops reading
	send(t, c, "go")
	<-r.locked
	<-told
}

// TestBeatsFirst queues a hundred tasks before a beat.
func TestBeatsFirst(t *testing.T) {
	var order []string
	began, handled := make(chan struct{}), make(chan struct{}, 200)
	r := runScript(t, func(d *device, s *script) {
		s.handle = func(_ firmware.Inputs, frame []byte) firmware.Effects {
			if len(order) == 0 {
				close(began)
				for d.inbox.waiting(laneBeat) == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			order = append(order, string(frame))
			handled <- struct{}{}
			return firmware.Effects{}
		}
	})
	c := r.listen()
	for i := range 100 {
		send(t, c, fmt.Sprint("task ", i))
		if i == 0 {
			<-began // or the beat might be there before the loop takes anything
		}
	}
	beat := string(sealed(t, "beat"))
	send(t, c, beat)
	for range 101 {
		<-handled
	}
	if i := slices.Index(order, beat); i != 1 {
		t.Errorf("the beat was taken as number %d of %d", i, len(order))
	}
	order = slices.DeleteFunc(order, func(f string) bool { return f == beat })
	for i, f := range order {
		if f != fmt.Sprint("task ", i) {
			t.Fatalf("place %d has %s", i, f)
		}
	}
}

// TestTicks has the interpreter ask for time, with a link and without.
func TestTicks(t *testing.T) {
	ticked := make(chan int64)
	r := runScript(t, func(d *device, s *script) {
		s.next = bootclock.Now()
		s.handle = func(_ firmware.Inputs, frame []byte) firmware.Effects { return firmware.Effects{Reply: frame} }
		s.tick = func(in firmware.Inputs) firmware.Effects {
			if in.Boot < s.Next() {
				t.Errorf("called %d ns early", s.Next()-in.Boot)
			}
			ticked <- in.Boot
			s.mu.Lock()
			s.next = in.Boot + int64(2*time.Millisecond)
			s.mu.Unlock()
			return firmware.Effects{Send: [][]byte{[]byte("challenge")}}
		}
	})
	for range 5 {
		<-ticked
	}
	go func() {
		for range ticked {
		}
	}()
	c := r.listen()
	receive(t, c, "challenge")
	receive(t, c, "challenge")
	send(t, c, "hello")
	for {
		got, err := c.Recv(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if string(got) == "hello" {
			break
		}
	}
}

// TestTicksOfThePast has an interpreter that asks for what has passed: it gets
// its ticks apart, and messages in between.
func TestTicksOfThePast(t *testing.T) {
	ticks := make(chan int64, 20)
	r := runScript(t, func(d *device, s *script) {
		s.next = 1
		s.handle = func(_ firmware.Inputs, frame []byte) firmware.Effects { return firmware.Effects{Reply: frame} }
		s.tick = func(in firmware.Inputs) firmware.Effects {
			select {
			case ticks <- in.Boot:
			default: // enough
			}
			return firmware.Effects{}
		}
	})
	c := r.listen()
	send(t, c, "hello")
	receive(t, c, "hello")
	last := <-ticks
	for range cap(ticks) - 1 {
		next := <-ticks
		if next-last < tickPause {
			t.Errorf("ticks %d ns apart", next-last)
		}
		last = next
	}
}

// TestWallClock sets the machine's clock a year back, then a year forward: the
// interpreter's time does not fall below where the process began, and a lease
// goes by another clock.
func TestWallClock(t *testing.T) {
	const year = 365 * 24 * time.Hour
	var off atomic.Int64
	var last firmware.Inputs
	r := runScript(t, func(d *device, s *script) {
		d.clock.wall = func() time.Time { return time.Now().Add(time.Duration(off.Load())) }
		last = d.clock.inputs()
		began := last.Now
		s.handle = func(in firmware.Inputs, frame []byte) firmware.Effects {
			if in.Now < began || in.Boot <= last.Boot || in.Up <= last.Up || in.Boot-last.Boot > int64(time.Minute) {
				t.Errorf("%s: %+v after %+v", frame, in, last)
			}
			last = in
			return firmware.Effects{Reply: frame, Release: true}
		}
		s.tick = func(firmware.Inputs) firmware.Effects { s.fall(); return firmware.Effects{} }
		s.grant(bootclock.Now() + int64(2*time.Second))
	})
	c := r.listen()
	for _, set := range []time.Duration{0, -year, year, -year} {
		off.Store(int64(set))
		send(t, c, set.String())
		receive(t, c, set.String()) // neither ended nor ...
	}
	<-r.locked // ... prolonged
	if l := r.Lease(); l.Until > bootclock.Now() {
		t.Error("the lease goes on")
	}
}

// TestEffectsInOrder looks at the disk at each step.
func TestEffectsInOrder(t *testing.T) {
	var order []string
	r := runScript(t, func(d *device, s *script) {
		size := func() int64 {
			info, err := os.Stat(filepath.Join(d.dir, fileJournal))
			if err != nil {
				t.Fatal(err)
			}
			return info.Size()
		}
		empty := size()
		seen := func() string { b, _ := os.ReadFile(filepath.Join(d.dir, fileSeen)); return string(b) }
		note := func(what string) { order = append(order, fmt.Sprintf("%s %v %q", what, size() > empty, seen())) }
		s.handle = func(firmware.Inputs, []byte) firmware.Effects {
			note("handle")
			return firmware.Effects{
				Records: [][]byte{[]byte("record")}, Seen: []byte("table"), Destroy: true,
				Send: [][]byte{[]byte("report")}, Reply: []byte("answer"), Release: true,
			}
		}
		s.durable = func() { note("durable") }
		s.destroy = func() error { note("destroy"); return nil }
		d.step = func(name string) {
			if name == stepAtGate {
				note("gate")
			}
		}
	})
	c := r.listen()
	send(t, c, "go")
	receive(t, c, "report")
	receive(t, c, "answer")
	want := []string{`handle false ""`, `durable true ""`, `destroy true "table"`, `gate true "table"`}
	if !slices.Equal(order, want) {
		t.Errorf("got  %q\nwant %q", order, want)
	}
}

// TestFailingEffects has the journal fail under a step: nothing leaves, and the
// process ends. So it does when the shares cannot be destroyed.
func TestFailingEffects(t *testing.T) {
	for name, want := range map[string]error{"record": journal.ErrClosed, "destroy": hsm.ErrLocked} {
		t.Run(name, func(t *testing.T) {
			r := runScript(t, func(d *device, s *script) {
				s.durable = func() {
					if name == "record" {
						t.Error("the interpreter was told that the record is durable")
					}
				}
				s.destroy = func() error { return hsm.ErrLocked }
				s.handle = func(firmware.Inputs, []byte) firmware.Effects {
					e := firmware.Effects{Send: [][]byte{[]byte("report")}, Reply: []byte("answer")}
					if name == "record" {
						d.journal.Close()
						e.Records = [][]byte{[]byte("record")}
					} else {
						e.Destroy = true
					}
					return e
				}
			})
			c := r.listen()
			send(t, c, "go")
			if err := <-r.ended; !errors.Is(err, want) {
				t.Errorf("ended with %v", err)
			}
			if frame, err := c.Recv(t.Context()); err == nil {
				t.Errorf("%q left", frame)
			}
		})
	}
}

// TestSeenAtStart checks that a table that cannot be read ends the start: a
// device that forgot whom it knew would beat for a copy.
func TestSeenAtStart(t *testing.T) {
	dir, _ := newDevice(t)
	if err := os.Mkdir(filepath.Join(dir, fileSeen), 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := start(dir, slog.New(slog.DiscardHandler))
	if err == nil {
		d.stop()
		t.Fatal("started")
	}
	if !strings.Contains(err.Error(), fileSeen) {
		t.Errorf("got %v", err)
	}
}

// TestTokenThatDoesNotLock ends the process: nothing else ends the session.
func TestTokenThatDoesNotLock(t *testing.T) {
	g := &gate{clock: bootclock.Now}
	w, err := newWatchdog(g, stubborn{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	died := make(chan error, 1)
	w.die = func(err error) { died <- err }
	until := bootclock.Now() + int64(time.Millisecond)
	g.extend(firmware.Lease{Guarded: true, Until: until, Lock: until})
	if err := w.watch(); err != nil {
		t.Fatal(err)
	}
	go w.run()
	if err := <-died; !errors.Is(err, errStubborn) {
		t.Errorf("died of %v", err)
	}
	let(t, g, errNoLease)
	w.stop()
}

var errStubborn = errors.New("stubborn")

type stubborn struct{}

func (stubborn) Lock() error { return errStubborn }

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/bootclock"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// open is a frame of a type that is not sealed.
func open(t *testing.T, typ string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h := envelope.Header{Type: typ, Version: 1, Created: 1, Expires: 2}
	rand.Read(h.ID[:])
	raw, err := envelope.Sign(rand.Reader, key, h, []byte{0xa0})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestBetweenPieces: between two pieces of work the interpreter is told the time and
// handed what may not wait, in the order of the lanes, whatever came first; all
// else comes after the last piece.
func TestBetweenPieces(t *testing.T) {
	frames := map[string][]byte{
		"beat": sealed(t, "beat"), "challenge": sealed(t, "beat.challenge"), "revocation": sealed(t, "beat.revoke"),
		"status": open(t, firmware.TypeStatusAsk), "lock": sealed(t, firmware.TypeLock),
		"task": sealed(t, firmware.TypePowersTask), "catchup": open(t, firmware.TypeCatchup), "unlock": sealed(t, firmware.TypeUnlock),
	}
	names := map[string]string{}
	for name, f := range frames {
		names[string(f)] = name
	}
	var order []string
	arrived := func(d *device, n int) { // once that many wait
		for {
			all := 0
			for l := range lanes {
				all += d.inbox.waiting(l)
			}
			if all >= n {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	began, between := make(chan struct{}), make(chan struct{})
	r := runScript(t, func(d *device, s *script) {
		pieces := 0
		s.handle = func(_ firmware.Inputs, frame []byte) firmware.Effects {
			if string(frame) != "work" {
				name, ok := names[string(frame)]
				if !ok {
					name = string(frame)
				}
				order = append(order, name)
				return firmware.Effects{More: pieces > 0 && pieces < 3, Reply: []byte(name)}
			}
			order = append(order, "work")
			pieces++
			close(began)
			arrived(d, 10)
			s.mu.Lock()
			s.next = 1
			s.mu.Unlock()
			return firmware.Effects{More: true}
		}
		s.tick = func(firmware.Inputs) firmware.Effects {
			order = append(order, "tick")
			s.mu.Lock()
			s.next = 0
			s.mu.Unlock()
			return firmware.Effects{More: true}
		}
		s.piece = func(firmware.Inputs) firmware.Effects {
			order = append(order, "piece")
			if pieces++; pieces < 3 {
				close(between)
				arrived(d, 6) // the tasks, and what came meanwhile
				return firmware.Effects{More: true}
			}
			return firmware.Effects{Reply: []byte("answer"), Release: true}
		}
	})
	c := r.listen()
	send(t, c, "work")
	<-began // or what goes before it might be there before the loop takes anything
	for _, name := range []string{"task", "catchup", "unlock", "lock", "status", "revocation", "challenge", "beat"} {
		send(t, c, string(frames[name]))
	}
	send(t, c, "one")
	send(t, c, "two")
	for _, name := range []string{"beat", "challenge", "revocation", "lock", "status"} {
		receive(t, c, name)
	}
	<-between // or the next beat might be taken before the second piece
	send(t, c, string(frames["beat"]))
	for _, name := range []string{"beat", "answer", "task", "catchup", "unlock", "one", "two"} {
		receive(t, c, name)
	}
	want := []string{
		"work", "tick", "beat", "challenge", "revocation", "lock", "status", "piece", "beat", "piece", "task", "catchup", "unlock", "one", "two",
	}
	if !slices.Equal(order, want) {
		t.Errorf("got  %q\nwant %q", order, want)
	}
}

// TestFloodBetweenPieces: who never ceases to ask what may not wait does not keep a
// device from its work, and an open share from being closed.
func TestFloodBetweenPieces(t *testing.T) {
	question := open(t, firmware.TypeStatusAsk)
	const pieces = 3
	var order []string
	ended := make(chan struct{})
	r := runScript(t, func(d *device, s *script) {
		done := 0
		s.handle = func(_ firmware.Inputs, frame []byte) firmware.Effects {
			if done == pieces {
				return firmware.Effects{}
			}
			if string(frame) != "work" {
				order = append(order, "question")
			}
			if err := d.inbox.put(t.Context(), question); err != nil {
				t.Error(err)
			}
			return firmware.Effects{More: true}
		}
		s.piece = func(firmware.Inputs) firmware.Effects {
			order = append(order, "piece")
			if done++; done == pieces {
				close(ended)
			}
			return firmware.Effects{More: done < pieces}
		}
	})
	send(t, r.listen(), "work")
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the work does not end")
	}
	var want []string
	for range pieces {
		want = append(append(want, slices.Repeat([]string{"question"}, maxBetween)...), "piece")
	}
	if !slices.Equal(order, want) {
		t.Errorf("%d messages and pieces, not %d", len(order), len(want))
	}
}

// TestLapseBetweenPieces: the lease ends during a piece. The interpreter hears of it
// before it is asked for another one, and what it says then is no answer of the
// share's.
func TestLapseBetweenPieces(t *testing.T) {
	var order []string
	var r *running
	ready := make(chan struct{})
	r = runScript(t, func(d *device, s *script) {
		s.handle = func(_ firmware.Inputs, frame []byte) firmware.Effects {
			if string(frame) != "work" {
				return firmware.Effects{Reply: frame}
			}
			s.grant(soon())
			return firmware.Effects{More: true}
		}
		s.tick = func(firmware.Inputs) firmware.Effects {
			order = append(order, fmt.Sprint("tick, locked ", d.token.Locked()))
			s.fall()
			return firmware.Effects{More: true}
		}
		s.piece = func(firmware.Inputs) firmware.Effects {
			order = append(order, "piece")
			if len(order) == 1 {
				<-ready
				<-r.locked
				return firmware.Effects{More: true}
			}
			return firmware.Effects{Reply: []byte("partial"), Release: true}
		}
		s.grant(late())
	})
	close(ready)
	c := r.listen()
	send(t, c, "work")
	send(t, c, "done")
	receive(t, c, "done") // and no partial before it
	if want := []string{"piece", "tick, locked true", "piece"}; !slices.Equal(order, want) {
		t.Errorf("got  %q\nwant %q", order, want)
	}
}

// locking counts how often an interpreter is locked down.
type locking struct {
	*script
	downs int
}

func (l *locking) LockDown() error { l.downs++; return l.script.LockDown() }

// TestStopBetweenPieces ends a process that works: no further piece is done, and the
// interpreter is locked down, which erases the open share.
func TestStopBetweenPieces(t *testing.T) {
	dir, _ := newDevice(t)
	d, s, err := scripted(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l := &locking{script: s}
	d.machine = l
	ctx, cancel := context.WithCancel(t.Context())
	pieces := 0
	s.handle = func(firmware.Inputs, []byte) firmware.Effects { return firmware.Effects{More: true} }
	s.piece = func(firmware.Inputs) firmware.Effects {
		if pieces++; pieces == 3 {
			cancel()
		}
		return firmware.Effects{More: true}
	}
	s.grant(bootclock.Now() + int64(time.Hour))
	if err := d.inbox.put(ctx, []byte("work")); err != nil {
		t.Fatal(err)
	}
	if err := d.loop(ctx); err == nil || ctx.Err() == nil {
		t.Errorf("the loop ended with %v", err)
	}
	d.stop()
	if pieces != 3 || l.downs != 1 {
		t.Errorf("%d pieces, locked down %d times", pieces, l.downs)
	}
}

package soak

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/bootclock"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ledger"
)

func newTestDevice() *Device {
	d := newDevice(&Fleet{Config: Config{Policy: ledger.Heartbeat{Sources: []string{"m1", "q1", "t1"}, Needed: 2, Lease: 1000}}}, "d1", 1)
	d.policy = &d.f.Policy
	d.tap = new(tap)
	return d
}

// TestJudge: what is proved late counts, what may have been written in time
// does not.
func TestJudge(t *testing.T) {
	const sec, ms = int64(time.Second), int64(time.Millisecond)
	for name, x := range map[string]struct {
		stamp           stamp
		after           int
		late, inTransit int
	}{
		"in time":                {stamp{1900 * ms, 1950 * ms}, 0, 0, 0},
		"read late":              {stamp{1999 * ms, 2500 * ms}, 0, 0, 1},
		"not there at the end":   {stamp{2001 * ms, 2002 * ms}, 0, 1, 0},
		"after its word":         {stamp{1900 * ms, 1950 * ms}, 1, 1, 0},
		"long after the lease":   {stamp{3000 * ms, 3001 * ms}, 0, 1, 0},
		"nothing was ever empty": {stamp{0, 2001 * ms}, 0, 0, 1},
	} {
		d := newTestDevice()
		for _, s := range d.policy.Sources {
			d.grant(s, sec) // up to the second second
		}
		d.silence("m1", "t1")
		if d.grant("t1", 9*sec) {
			t.Error("a silent source spoke")
		}
		d.grant("q1", 9*sec)
		d.stamps, d.after = []stamp{x.stamp}, x.after
		c := new(cutter)
		if err := c.judge(d, &locked{took: 5 * time.Millisecond, end: 2*sec + ms}); err != nil {
			t.Fatal(err)
		}
		if c.out.Late != x.late || c.out.InTransit != x.inTransit || c.out.Cuts != 1 {
			t.Errorf("%s: %d late, %d in transit, %d cuts", name, c.out.Late, c.out.InTransit, c.out.Cuts)
		}
	}
}

// TestJudgeLongLease: a device that counts longer than anybody granted is
// found.
func TestJudgeLongLease(t *testing.T) {
	d := newTestDevice()
	for _, s := range d.policy.Sources {
		d.grant(s, 0)
	}
	d.silence("m1", "q1")
	if err := new(cutter).judge(d, &locked{end: int64(1510 * time.Millisecond)}); err == nil {
		t.Error("a lease of 1510 ms passed for one of 1000")
	}
}

func TestMayBe(t *testing.T) {
	d := newTestDevice()
	d.f.ctx = context.Background()
	refusal := func(code, text string) error { return &refusedError{firmware.Refusal{Code: code, Text: text}} }
	for err, want := range map[error]bool{
		fmt.Errorf("d1: %w: %v", errLink, io.EOF): true,
		errHeld:                         true,
		refusal(firmware.CodePhase, ""): true,
		refusal(firmware.CodeShare, "the token is locked"):  true,
		refusal(firmware.CodeShare, "the share is damaged"): false,
		refusal(firmware.CodeQuorum, "1 of 2"):              false,
		io.ErrUnexpectedEOF:                                 false,
		errors.Join(errHeld, io.ErrUnexpectedEOF):           false,
	} {
		if got := d.mayBe(err) == nil; got != want {
			t.Errorf("%v is expected: %v", err, got)
		}
	}
}

func TestLockLine(t *testing.T) {
	d := newTestDevice()
	wall := time.Now()
	end := bootclock.Now() - int64(1500*time.Microsecond)
	d.heard("time=" + wall.Format("2006-01-02T15:04:05.000Z07:00") + ` level=WARN msg="the lease is over: the token is locked" took=1.5ms`)
	l := <-d.locks
	if off := l.end - end; l.took != 1500*time.Microsecond || off < 0 || off > int64(time.Second) {
		t.Errorf("%v, off by %d ns", l.took, off)
	}
}

// TestTap sends messages over a tapped link: each was written after its socket
// was empty and before it came, all octets are counted, and nothing is changed.
func TestTap(t *testing.T) {
	dir := t.TempDir()
	ln, err := link.Listen("unix:"+filepath.Join(dir, "in"), link.ListenOptions{ID: "s", Allow: func(string, pinned.Pin) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	tp, err := newTap(filepath.Join(dir, "out"), filepath.Join(dir, "in"))
	if err != nil {
		t.Fatal(err)
	}
	defer tp.close()
	tp.near.Store(true)
	c, err := link.Dial(t.Context(), "unix:"+filepath.Join(dir, "out"), link.Options{ID: "d1"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := ln.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x := <-tp.conns
	octets := 0
	for i := range 50 {
		msg := bytes.Repeat([]byte{byte(i)}, 1<<(i%20))
		before := bootclock.Now()
		if err := c.Send(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
		got, err := s.Recv(t.Context())
		at := <-x.stamps
		if err != nil || !slices.Equal(got, msg) {
			t.Fatalf("message %d: %d octets, %v", i, len(got), err)
		}
		if at.came < before || at.empty >= at.came {
			t.Errorf("message %d: written after %d, stamped %+v", i, before, at)
		}
		octets += frameHeader + len(msg)
		time.Sleep(3 * time.Millisecond)
		if i == 0 {
			continue
		}
		if err := s.Send(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Recv(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if hello := int(tp.from.Load()) - octets; hello < 0 || hello > 100 {
		t.Errorf("%d octets counted, %d sent", tp.from.Load(), octets)
	}
}

// TestStampEmpty: two messages a while apart, the socket seen empty between.
func TestStampEmpty(t *testing.T) {
	dir := t.TempDir()
	up, err := net.Listen("unix", filepath.Join(dir, "in"))
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	tp, err := newTap(filepath.Join(dir, "out"), filepath.Join(dir, "in"))
	if err != nil {
		t.Fatal(err)
	}
	defer tp.close()
	tp.near.Store(true)
	c, err := net.Dial("unix", filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	x := <-tp.conns
	frame := append(binary.BigEndian.AppendUint32(nil, 3), kindMessage, 1, 2)
	keep := append(binary.BigEndian.AppendUint32(nil, 1), 2)
	write := func(b []byte) {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	write(slices.Concat(keep, frame, keep))
	first := <-x.stamps
	time.Sleep(100 * time.Millisecond) // until it has looked again
	between := bootclock.Now()
	write(slices.Concat(frame, frame))
	second, third := <-x.stamps, <-x.stamps
	after := bootclock.Now()
	if second.empty <= first.came || second.empty > after || second.came < between || third != second {
		t.Errorf("first %+v, then after %d: %+v %+v", first, between, second, third)
	}
}

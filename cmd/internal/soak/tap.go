package soak

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/privyseal/privyseal/cmd/internal/bootclock"
)

// tap lies on the way between a process and the link that it dials. It counts
// octets, and notes for each frame from the process when it came and when it
// had certainly not been written yet.
type tap struct {
	ln    net.Listener
	inner string // socket of the link's listener

	from, to atomic.Int64 // octets that the process sent and was sent
	// near has it look every millisecond, not only when something comes.
	near atomic.Bool

	conns chan *tapped // in the order of the links
	wg    sync.WaitGroup
}

// tapped is one connection.
type tapped struct {
	stamps chan stamp // of each message, in order
}

// stamp says when a message was written, as far as the reader can tell: after
// empty, when the socket was seen empty, and before came, when the first of it
// was read. Both are on the boot-time clock.
type stamp struct{ empty, came int64 }

// The link's frames: a 4-octet length, a kind, which it counts, and the rest.
const (
	frameHeader = 5
	kindMessage = 1
)

func newTap(path, inner string) (*tap, error) {
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	t := &tap{ln: ln, inner: inner, conns: make(chan *tapped, 64)}
	t.wg.Go(t.accept)
	return t, nil
}

func (t *tap) accept() {
	for {
		c, err := t.ln.Accept()
		if err != nil {
			return
		}
		up, err := net.Dial("unix", t.inner)
		if err != nil { // the listener is closed
			c.Close()
			return
		}
		x := &tapped{stamps: make(chan stamp, 1<<12)}
		t.conns <- x
		t.wg.Go(func() {
			defer c.Close()
			defer up.Close()
			_, _ = io.Copy(counting{c, &t.to}, up)
		})
		t.wg.Go(func() {
			defer c.Close()
			defer up.Close()
			defer close(x.stamps)
			_ = t.read(c.(*net.UnixConn), up, x)
		})
	}
}

func (t *tap) close() {
	t.ln.Close()
	t.wg.Wait()
}

type counting struct {
	io.Writer
	n *atomic.Int64
}

func (c counting) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return c.Writer.Write(b)
}

// How long it waits before it looks whether the socket is still empty, in
// milliseconds.
const (
	lookNear = 1
	lookFar  = 50
)

// first is the nice value of a thread that is served before others.
const first = -20

// read passes on what the process writes. It reads the socket itself: only so
// does it know when there was nothing in it.
func (t *tap) read(c *net.UnixConn, up io.Writer, x *tapped) error {
	// Served before others: on a busy machine a late reader proves nothing.
	// Whoever may not ask for that proves less. Not SCHED_FIFO: Go's runtime
	// spins and yields, which lets nobody else run in that class.
	runtime.LockOSThread() // the thread ends with the goroutine
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), first)
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	fd := -1
	if e := rc.Control(func(s uintptr) { fd, err = unix.Dup(int(s)) }); e != nil || err != nil {
		return errors.Join(e, err)
	}
	defer unix.Close(fd)
	var empty int64
	var in splitter
	b := make([]byte, 64<<10)
	for {
		before := bootclock.Now()
		n, _, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		now := bootclock.Now()
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			empty = before
			wait := lookFar
			if t.near.Load() {
				wait = lookNear
			}
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, wait); err != nil && err != unix.EINTR {
				return err
			}
			continue
		case err != nil:
			return err
		case n == 0:
			return io.EOF
		}
		t.from.Add(int64(n))
		if err := in.split(b[:n], func() { x.stamps <- stamp{empty, now} }); err != nil {
			return err
		}
		if _, err := up.Write(b[:n]); err != nil {
			return err
		}
	}
}

// splitter finds where frames begin.
type splitter struct {
	header []byte
	left   int // of the body
}

// split calls message at each header of a message.
func (s *splitter) split(b []byte, message func()) error {
	for len(b) > 0 {
		if s.left > 0 {
			n := min(s.left, len(b))
			s.left, b = s.left-n, b[n:]
			continue
		}
		n := min(frameHeader-len(s.header), len(b))
		s.header, b = append(s.header, b[:n]...), b[n:]
		if len(s.header) < frameHeader {
			return nil
		}
		length := int(binary.BigEndian.Uint32(s.header))
		if length < 1 {
			return fmt.Errorf("a frame of length %d", length)
		}
		if s.header[4] == kindMessage {
			message()
		}
		s.left, s.header = length-1, s.header[:0]
	}
	return nil
}

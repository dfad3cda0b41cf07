// Package link is the one connection that a signing device has: a stream of
// length-prefixed sealed envelopes to the message server of its site.
//
// The server listens and the device dials, over a Unix socket in one box or
// over TLS 1.3 with pinned keys between two. The link promises order and
// wholeness of frames while it lasts, nothing more: a message that was sent may
// be lost with the link. What matters is kept in a durable queue, carries a
// digest and is sent again.
//
// It is built of the standard library alone, and treats its peer as hostile:
// every frame has a deadline and a size, and an unknown kind ends the link.
package link

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
)

var (
	// ErrClosed is the end of a link that this side closed.
	ErrClosed = errors.New("link: closed")
	// ErrPeerClosed is the end of a link that the other side closed between
	// two frames.
	ErrPeerClosed = errors.New("link: the peer closed it")
	// ErrSilent means that the peer said nothing, not even that it lives.
	ErrSilent = errors.New("link: the peer is silent or cannot be reached")
	// ErrSlow means that the peer began a frame, or took one, too slowly.
	ErrSlow = errors.New("link: the peer did not finish a frame in time")
	// ErrReplaced is the end of a link whose device has dialled again.
	ErrReplaced = errors.New("link: replaced by a newer link of the same device")
	// ErrTooLarge refuses a message above MaxMessage before anything is sent.
	ErrTooLarge = fmt.Errorf("link: a message has at most %d octets", MaxMessage)
)

// A Conn is an open link. Send, Recv and Close may be called from any
// goroutine.
type Conn struct {
	nc     net.Conn // the fence, or TLS above it
	fence  *fence
	peer   string
	key    pinned.Pin
	alive  time.Duration
	in     chan []byte
	writer chan struct{} // holds one token: the right to write a frame
	wrote  chan struct{} // says that a frame went out, so no keepalive is due

	writing     atomic.Int32 // frames that wait or are being written
	interrupted atomic.Bool

	done chan struct{}
	once sync.Once
	err  error // why it ended; set before done is closed
	wg   sync.WaitGroup
}

// newConn takes over nc, which is f or TLS above it, and whose hello is done. br
// may hold octets already read.
func newConn(f *fence, nc net.Conn, br *bufio.Reader, peer string, key pinned.Pin, alive time.Duration) *Conn {
	c := &Conn{
		nc: nc, fence: f, peer: peer, key: key, alive: alive,
		in:     make(chan []byte, queued),
		writer: make(chan struct{}, 1),
		wrote:  make(chan struct{}, 1),
		done:   make(chan struct{}),
	}
	nc.SetDeadline(time.Time{})
	c.wg.Add(2)
	go c.readLoop(br)
	go c.keepAlive()
	return c
}

// Peer returns the id in the other side's hello. On TLS it is backed by the
// pinned key, on a Unix socket by the file's mode.
func (c *Conn) Peer() string { return c.peer }

// PeerKey returns the pin of the other side's key, zero on a Unix socket.
func (c *Conn) PeerKey() pinned.Pin { return c.key }

// Source names where the peer is, for logs.
func (c *Conn) Source() string {
	if a := c.nc.RemoteAddr(); a.Network() != "unix" {
		return a.String()
	}
	return "unix"
}

// Done is closed when the link has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns nil while the link lives, then why it ended.
func (c *Conn) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Close ends the link and waits for its goroutines.
func (c *Conn) Close() error {
	c.end(ErrClosed)
	c.wg.Wait()
	return nil
}

// end closes the link once; the first reason stays.
func (c *Conn) end(err error) {
	c.once.Do(func() {
		if c.interrupted.Load() {
			err = ErrInterrupted // whoever saw the closed socket first
		}
		c.err = err
		close(c.done)
		c.nc.Close()
	})
}

// Send writes one message. ctx bounds the wait for the link to be free; once a
// frame is begun it is finished or the link ends, because half a frame would
// garble all that follow. A nil error means that the operating system took
// it, not that the peer has it.
func (c *Conn) Send(ctx context.Context, msg []byte) error {
	if len(msg) > MaxMessage {
		return fmt.Errorf("%w, not %d", ErrTooLarge, len(msg))
	}
	return c.write(ctx, kindMessage, msg, nil)
}

// SendWhile is Send for a message that may leave only while may returns nil. may
// is asked right before each call that hands octets to the operating system,
// which in the usual case is one call that does not block; it must be fast and
// safe for use from any goroutine. If it refuses at first, its error is returned
// and the link lives on; once the frame is begun the link ends with it.
func (c *Conn) SendWhile(ctx context.Context, msg []byte, may func() error) error {
	if len(msg) > MaxMessage {
		return fmt.Errorf("%w, not %d", ErrTooLarge, len(msg))
	}
	return c.write(ctx, kindMessage, msg, may)
}

// Recv returns the next message. After the end of the link it first returns
// what had arrived, then the reason of the end.
func (c *Conn) Recv(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case msg, ok := <-c.in:
		if !ok {
			return nil, c.err
		}
		return msg, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *Conn) write(ctx context.Context, kind byte, body []byte, may func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// Counted before may is asked for the first time: an Interrupt that does not
	// see this write comes before that.
	c.writing.Add(1)
	defer c.writing.Add(-1)
	select {
	case c.writer <- struct{}{}:
		defer func() { <-c.writer }()
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := c.Err(); err != nil {
		return err
	}
	if may != nil {
		if err := may(); err != nil {
			return err
		}
		c.fence.may.Store(&may)
		defer c.fence.may.Store(nil)
	}
	c.nc.SetWriteDeadline(time.Now().Add(frameTimeout))
	// One write: a frame is not torn into two packets on the way.
	if _, err := c.nc.Write(appendFrame(make([]byte, 0, frameHeader+len(body)), kind, body)); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = ErrSlow
		} else {
			err = fmt.Errorf("link: write: %w", err)
		}
		c.end(err)
		return c.err
	}
	select {
	case c.wrote <- struct{}{}:
	default:
	}
	return nil
}

// keepAlive says that this side lives whenever it said nothing else for a
// while. It does not wait for answers: each side speaks by itself, and each
// side judges by what it hears, so a slow reader is not taken for a dead one.
func (c *Conn) keepAlive() {
	defer c.wg.Done()
	t := time.NewTicker(c.alive)
	defer t.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-c.wrote:
			t.Reset(c.alive)
		case <-t.C:
			if c.write(context.Background(), kindKeepAlive, nil, nil) != nil {
				return
			}
			<-c.wrote
		}
	}
}

func (c *Conn) readLoop(br *bufio.Reader) {
	defer c.wg.Done()
	defer close(c.in)
	for {
		// Set anew for each frame, so time spent waiting for Recv is not held
		// against the peer.
		c.nc.SetReadDeadline(time.Now().Add(silentAfter * c.alive))
		begun := false
		kind, body, err := readFrame(br, func() error {
			begun = true
			return c.nc.SetReadDeadline(time.Now().Add(frameTimeout))
		})
		if err != nil {
			c.end(readError(err, begun))
			return
		}
		switch kind {
		case kindKeepAlive:
		case kindMessage:
			select {
			case c.in <- body:
			case <-c.done:
				return
			}
		default:
			c.end(&FrameError{kind, uint32(1 + len(body)), "not expected after the hello"})
			return
		}
	}
}

func readError(err error, begun bool) error {
	var fe *FrameError
	switch {
	case errors.As(err, &fe):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded) && begun:
		return ErrSlow
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrSilent
	case !begun && isEOF(err):
		return ErrPeerClosed
	}
	return fmt.Errorf("link: read: %w", err)
}

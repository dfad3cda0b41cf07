package link

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
)

// newFenced is a link over any connection, whose hello is done.
func newFenced(nc net.Conn, peer string, key pinned.Pin, alive time.Duration) *Conn {
	f := &fence{Conn: nc}
	return newConn(f, f, bufio.NewReader(f), peer, key, alive)
}

// mute dials a peer that says hello and then reads nothing by itself.
func mute(t *testing.T, network string) (device *Conn, peer net.Conn) {
	t.Helper()
	addr, where, listenOn := "tls:", "127.0.0.1:0", "tcp"
	if network == "unix" {
		addr, listenOn = "unix:", "unix"
		where = strings.TrimPrefix(unixAddr(t), "unix:")
	}
	ln, err := net.Listen(listenOn, where)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	sk, dk := newKey(t), newKey(t)
	accepted := make(chan net.Conn, 1)
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		if network == "tls" {
			nc = tls.Server(nc, pinned.Server(sk.id, pinned.Among(dk.pin)))
		}
		if _, _, err := readFrame(nc, nil); err != nil {
			t.Error(err)
		}
		nc.Write(appendFrame(nil, kindHello, encodeHello("server-1")))
		accepted <- nc
	}()
	o := Options{ID: "device-1"}
	if network == "tls" {
		o.Identity, o.Pins = &dk.id, []pinned.Pin{sk.pin}
	}
	device, err = Dial(t.Context(), addr+ln.Addr().String(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	peer = <-accepted
	t.Cleanup(func() { peer.Close() })
	return device, peer
}

func each(t *testing.T, f func(t *testing.T, network string)) {
	for _, network := range []string{"unix", "tls"} {
		t.Run(network, func(t *testing.T) { f(t, network) })
	}
}

var errNo = errors.New("no longer")

// asked counts how often it is asked and says yes the first n times.
func asked(n int64) (may func() error, count *atomic.Int64) {
	count = new(atomic.Int64)
	return func() error {
		if count.Add(1) > n {
			return errNo
		}
		return nil
	}, count
}

func TestSendWhile(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		leakCheck(t)
		device, peer := mute(t, network)
		may, count := asked(100)
		if err := device.SendWhile(t.Context(), []byte("small"), may); err != nil {
			t.Fatal(err)
		}
		if n := count.Load(); n != 2 {
			t.Errorf("asked %d times, want once at first and once for the one write", n)
		}
		if _, body, err := readFrame(peer, nil); err != nil || string(body) != "small" {
			t.Fatalf("%q, %v", body, err)
		}
		if err := device.SendWhile(t.Context(), make1(MaxMessage+1), may); !errors.Is(err, ErrTooLarge) {
			t.Error(err)
		}
		// The rule is for that message alone.
		if err := device.Send(t.Context(), []byte("next")); err != nil {
			t.Fatal(err)
		}
		if _, body, err := readFrame(peer, nil); err != nil || string(body) != "next" {
			t.Fatalf("%q, %v", body, err)
		}
	})
}

// TestSendWhileRefusedAtFirst keeps the link: nothing was begun.
func TestSendWhileRefusedAtFirst(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		device, peer := mute(t, network)
		may, _ := asked(0)
		if err := device.SendWhile(t.Context(), []byte("never"), may); !errors.Is(err, errNo) {
			t.Fatal(err)
		}
		if err := device.Send(t.Context(), []byte("next")); err != nil {
			t.Fatal(err)
		}
		if _, body, err := readFrame(peer, nil); err != nil || string(body) != "next" {
			t.Fatalf("%q, %v", body, err)
		}
	})
}

// TestSendWhileRefusedAtTheWrite refuses at the last moment: no octet leaves.
func TestSendWhileRefusedAtTheWrite(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		device, peer := mute(t, network)
		may, _ := asked(1)
		if err := device.SendWhile(t.Context(), []byte("never"), may); !errors.Is(err, errNo) {
			t.Fatal(err)
		}
		if err := device.Err(); !errors.Is(err, errNo) {
			t.Errorf("the link goes on: %v", err)
		}
		if rest, _ := io.ReadAll(peer); len(rest) > 0 {
			t.Errorf("%d octets left", len(rest))
		}
	})
}

// TestSendWhileHalfWay takes the word back while the peer is slow: what it
// reads later is not the whole message.
func TestSendWhileHalfWay(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		device, peer := mute(t, network)
		var over atomic.Bool
		sent := make(chan error, 1)
		go func() {
			sent <- device.SendWhile(t.Context(), make1(MaxMessage), func() error {
				if over.Load() {
					return errNo
				}
				return nil
			})
		}()
		got := 0
		for range 10 { // it began, and waits for room
			n, err := peer.Read(make1(1000))
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
		over.Store(true)
		rest, _ := io.Copy(io.Discard, peer)
		if err := <-sent; !errors.Is(err, errNo) {
			t.Error(err)
		}
		if got += int(rest); got == 0 || got >= MaxMessage {
			t.Errorf("%d octets arrived", got)
		}
	})
}

// TestInterrupt ends the wait for a peer that reads nothing, ever.
func TestInterrupt(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		leakCheck(t)
		for name, send := range map[string]func(*Conn, context.Context, []byte) error{
			"Send": (*Conn).Send,
			"SendWhile": func(c *Conn, ctx context.Context, msg []byte) error {
				return c.SendWhile(ctx, msg, func() error { return nil })
			},
		} {
			device, peer := mute(t, network)
			device.Interrupt()
			if err := device.Err(); err != nil {
				t.Fatalf("%s: a link that wrote nothing was ended: %v", name, err)
			}
			sent := make(chan error, 1)
			go func() { sent <- send(device, t.Context(), bytes.Repeat([]byte{7}, MaxMessage)) }()
			for device.writing.Load() == 0 {
				time.Sleep(time.Millisecond)
			}
			device.Interrupt()
			if err := <-sent; !errors.Is(err, ErrInterrupted) {
				t.Errorf("%s: %v", name, err)
			}
			<-device.Done()
			if err := device.Err(); !errors.Is(err, ErrInterrupted) {
				t.Errorf("%s: the link ended with %v", name, err)
			}
			if n, _ := io.Copy(io.Discard, peer); n >= MaxMessage {
				t.Errorf("%s: %d octets arrived", name, n)
			}
			device.Close()
		}
	})
}

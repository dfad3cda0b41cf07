package link

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
)

type key struct {
	id  tls.Certificate
	pin pinned.Pin
}

func newKey(t *testing.T) key {
	t.Helper()
	id, err := pinned.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	pin, err := pinned.PinOfIdentity(id)
	if err != nil {
		t.Fatal(err)
	}
	return key{id, pin}
}

func leakCheck(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for end := time.Now().Add(3 * time.Second); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				b := make([]byte, 1<<16)
				t.Errorf("goroutines: %d before, %d after\n%s", before, runtime.NumGoroutine(), b[:runtime.Stack(b, true)])
				return
			}
		}
	})
}

func allowAll(string, pinned.Pin) error { return nil }

func listen(t *testing.T, addr string, o ListenOptions) *Listener {
	t.Helper()
	if o.ID == "" {
		o.ID = "server-1"
	}
	if o.Allow == nil {
		o.Allow = allowAll
	}
	l, err := Listen(addr, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func unixAddr(t *testing.T) string {
	dir, err := os.MkdirTemp("", "link") // t.TempDir's path is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return "unix:" + filepath.Join(dir, "s")
}

// pair returns both ends of a link.
func pair(t *testing.T, l *Listener, o Options) (device, server *Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if o.ID == "" {
		o.ID = "device-1"
	}
	device, err := Dial(ctx, l.Addr(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	server, err = l.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return device, server
}

func TestBothWays(t *testing.T) {
	sk, dk := newKey(t), newKey(t)
	for name, make := range map[string]func(*testing.T) (*Listener, Options){
		"unix": func(t *testing.T) (*Listener, Options) { return listen(t, unixAddr(t), ListenOptions{}), Options{} },
		"tls": func(t *testing.T) (*Listener, Options) {
			return listen(t, "tls:127.0.0.1:0", ListenOptions{Identity: &sk.id, AllowKey: pinned.Among(dk.pin)}),
				Options{Identity: &dk.id, Pins: []pinned.Pin{sk.pin}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			leakCheck(t)
			l, o := make(t)
			device, server := pair(t, l, o)
			if device.Peer() != "server-1" || server.Peer() != "device-1" {
				t.Fatal(device.Peer(), server.Peer())
			}
			if name == "tls" && (server.PeerKey() != dk.pin || device.PeerKey() != sk.pin) {
				t.Fatal("keys")
			}
			// Both directions at once, from several goroutines, to the limit.
			var wg sync.WaitGroup
			for _, ends := range [][2]*Conn{{device, server}, {server, device}} {
				for range 3 {
					wg.Go(func() {
						for _, n := range []int{0, 1, 70000, MaxMessage} {
							if err := ends[0].Send(t.Context(), bytes.Repeat([]byte{byte(n)}, n)); err != nil {
								t.Error(err)
							}
						}
					})
				}
				wg.Go(func() {
					got := map[int]int{}
					for range 12 {
						m, err := ends[1].Recv(t.Context())
						if err != nil {
							t.Error(err)
							return
						}
						if bytes.Count(m, []byte{byte(len(m))}) != len(m) && len(m) > 0 {
							t.Error("mixed frames")
						}
						got[len(m)]++
					}
					for _, n := range []int{0, 1, 70000, MaxMessage} {
						if got[n] != 3 {
							t.Errorf("%d of length %d", got[n], n)
						}
					}
				})
			}
			wg.Wait()
			if err := device.Send(t.Context(), make1(MaxMessage+1)); !errors.Is(err, ErrTooLarge) {
				t.Error(err)
			}
			// What was sent before the end arrives before the end.
			device.Send(t.Context(), []byte("last"))
			device.Close()
			if m, err := server.Recv(t.Context()); err != nil || string(m) != "last" {
				t.Fatal(m, err)
			}
			if _, err := server.Recv(t.Context()); !errors.Is(err, ErrPeerClosed) {
				t.Error(err)
			}
			if err := device.Send(t.Context(), nil); !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
			l.Close()
		})
	}
}

func make1(n int) []byte { return make([]byte, n) }

func TestWrongPins(t *testing.T) {
	leakCheck(t)
	sk, dk, other := newKey(t), newKey(t), newKey(t)
	l := listen(t, "tls:127.0.0.1:0", ListenOptions{Identity: &sk.id, AllowKey: pinned.Among(dk.pin)})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var wrong *pinned.WrongPinError
	if _, err := Dial(ctx, l.Addr(), Options{ID: "d", Identity: &dk.id, Pins: []pinned.Pin{other.pin}}); !errors.As(err, &wrong) || wrong.Got != sk.pin {
		t.Errorf("strange server: %v", err)
	}
	if c, err := Dial(ctx, l.Addr(), Options{ID: "d", Identity: &other.id, Pins: []pinned.Pin{sk.pin}}); err == nil {
		c.Close()
		t.Error("a strange device was let in")
	}
	// No client key, and an older TLS.
	for _, c := range []*tls.Config{
		{InsecureSkipVerify: true},
		{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{dk.id}},
	} {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(l.Addr(), "tls:"), c)
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
			conn.Close()
		}
		if err == nil || errors.Is(err, io.EOF) {
			t.Errorf("let in: %v", err)
		}
	}
}

func TestRefusals(t *testing.T) {
	leakCheck(t)
	l := listen(t, unixAddr(t), ListenOptions{Allow: func(d string, _ pinned.Pin) error {
		if d != "known" {
			return fmt.Errorf("device %q is not of this site", d)
		}
		return nil
	}})
	var refused *RefusedError
	if _, err := Dial(t.Context(), l.Addr(), Options{ID: "stranger"}); !errors.As(err, &refused) || !strings.Contains(refused.Reason, "not of this site") {
		t.Error(err)
	}
	hello := func(version uint16, id string) []byte {
		return appendFrame(nil, kindHello, append(binary.BigEndian.AppendUint16(nil, version), id...))
	}
	for name, c := range map[string]struct {
		send []byte
		want byte // kind of the answer, 0: none
	}{
		"version 2":         {hello(2, "known"), kindRefusal},
		"empty id":          {hello(1, ""), kindRefusal},
		"id with a slash":   {hello(1, "../known"), kindRefusal},
		"no hello":          {appendFrame(nil, kindMessage, []byte("hi")), 0},
		"unknown kind":      {appendFrame(nil, 9, nil), 0},
		"zero length":       {[]byte{0, 0, 0, 0, kindHello}, 0},
		"huge length":       {[]byte{255, 255, 255, 255, kindHello}, 0},
		"id above limit":    {hello(1, strings.Repeat("a", maxID+1)), 0},
		"half of a hello":   {hello(1, "known")[:6], 0},
		"http":              {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 0},
		"a hello that does": {hello(1, "known"), kindHello},
	} {
		nc, err := net.Dial("unix", strings.TrimPrefix(l.Addr(), "unix:"))
		if err != nil {
			t.Fatal(err)
		}
		nc.Write(c.send)
		if c.want != kindHello {
			nc.(*net.UnixConn).CloseWrite()
		}
		nc.SetReadDeadline(time.Now().Add(5 * time.Second))
		kind, _, err := readFrame(nc, nil)
		if kind != c.want || (c.want == 0) != (err != nil) || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: kind %d, %v", name, kind, err)
		}
		if c.want == kindHello { // before it is closed: a dead link is not handed out
			s, err := l.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
		}
		nc.Close()
	}
}

// A frame after the hello that is not of this protocol ends the link, and a
// length costs no memory before its octets are there.
func TestHostileFrames(t *testing.T) {
	for name, b := range map[string][]byte{
		"unknown kind":        appendFrame(nil, 77, nil),
		"second hello":        appendFrame(nil, kindHello, encodeHello("x")),
		"above the limit":     binary.BigEndian.AppendUint32(nil, MaxMessage+2),
		"keepalive with body": appendFrame(nil, kindKeepAlive, []byte("x")),
	} {
		if len(b) == 4 {
			b = append(b, kindMessage)
		}
		a, z := net.Pipe()
		c := newFenced(a, "p", pinned.Pin{}, time.Minute)
		go z.Write(b)
		_, err := c.Recv(t.Context())
		var fe *FrameError
		if !errors.As(err, &fe) {
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
		z.Close()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 50 {
		r := io.MultiReader(bytes.NewReader(append(binary.BigEndian.AppendUint32(nil, MaxMessage), kindMessage)), strings.NewReader("short"))
		if _, _, err := readFrame(r, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 50*MaxMessage/8 {
		t.Errorf("announced lengths cost %d octets", n)
	}
}

// The clocks of these tests are virtual: they prove the order of events, and
// take no time.
func TestDeadlines(t *testing.T) {
	virtual := func(name string, f func(*testing.T, *Conn, net.Conn)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, z := net.Pipe()
				c := newFenced(a, "p", pinned.Pin{}, DefaultKeepAlive)
				f(t, c, z)
				c.Close()
				z.Close()
				time.Sleep(time.Hour) // the peer's goroutines find out
			})
		})
	}
	virtual("silent peer", func(t *testing.T, c *Conn, z net.Conn) {
		go io.Copy(io.Discard, z)
		begun := time.Now()
		_, err := c.Recv(t.Context())
		if took := time.Since(begun); !errors.Is(err, ErrSilent) || took != silentAfter*DefaultKeepAlive {
			t.Error(err, took)
		}
	})
	virtual("peer that only keeps alive", func(t *testing.T, c *Conn, z net.Conn) {
		go io.Copy(io.Discard, z)
		go func() {
			for range 100 {
				time.Sleep(DefaultKeepAlive)
				z.Write(appendFrame(nil, kindKeepAlive, nil))
			}
			z.Write(appendFrame(nil, kindMessage, []byte("after 500 s")))
		}()
		if m, err := c.Recv(t.Context()); err != nil || string(m) != "after 500 s" {
			t.Error(m, err)
		}
	})
	virtual("half a frame", func(t *testing.T, c *Conn, z net.Conn) {
		go io.Copy(io.Discard, z)
		go z.Write(appendFrame(nil, kindMessage, make([]byte, 100))[:50])
		begun := time.Now()
		_, err := c.Recv(t.Context())
		if took := time.Since(begun); !errors.Is(err, ErrSlow) || took != frameTimeout {
			t.Error(err, took)
		}
	})
	virtual("an octet now and then", func(t *testing.T, c *Conn, z net.Conn) {
		go io.Copy(io.Discard, z)
		go func() {
			for _, b := range appendFrame(nil, kindMessage, make([]byte, 100)) {
				if _, err := z.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		if _, err := c.Recv(t.Context()); !errors.Is(err, ErrSlow) {
			t.Error(err)
		}
	})
	virtual("peer that does not read", func(t *testing.T, c *Conn, z net.Conn) {
		go func() {
			for {
				if _, err := z.Write(appendFrame(nil, kindKeepAlive, nil)); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		if err := c.Send(t.Context(), []byte("x")); !errors.Is(err, ErrSlow) {
			t.Error(err)
		}
		if !errors.Is(c.Err(), ErrSlow) {
			t.Error(c.Err())
		}
	})
	virtual("a slow reader is not dead", func(t *testing.T, c *Conn, z net.Conn) {
		go io.Copy(io.Discard, z)
		go func() {
			for range queued + 3 {
				z.Write(appendFrame(nil, kindMessage, []byte("m")))
			}
			for range 5 {
				time.Sleep(DefaultKeepAlive)
				z.Write(appendFrame(nil, kindKeepAlive, nil))
			}
		}()
		time.Sleep(time.Hour)
		for range queued + 3 {
			if _, err := c.Recv(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
	virtual("contexts", func(t *testing.T, c *Conn, z net.Conn) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Recv(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := c.Send(ctx, nil); !errors.Is(err, context.DeadlineExceeded) || c.Err() != nil {
			t.Error(err, c.Err())
		}
		go io.Copy(io.Discard, z)
		if err := c.Send(t.Context(), []byte("x")); err != nil {
			t.Error(err)
		}
	})
}

// A device that dials again replaces its older link.
func TestReplaced(t *testing.T) {
	leakCheck(t)
	l := listen(t, unixAddr(t), ListenOptions{})
	_, first := pair(t, l, Options{})
	_, second := pair(t, l, Options{})
	<-first.Done()
	if !errors.Is(first.Err(), ErrReplaced) || second.Err() != nil || l.Link("device-1") != second {
		t.Fatal(first.Err(), second.Err())
	}
	second.Close()
	for l.Link("device-1") != nil {
		time.Sleep(time.Millisecond)
	}
}

// Hosts that connect and say nothing do not keep a device out for longer than
// it takes to drop them, and not at all if they are few.
func TestSilentHosts(t *testing.T) {
	leakCheck(t)
	sk, dk := newKey(t), newKey(t)
	l := listen(t, "tls:127.0.0.1:0", ListenOptions{Identity: &sk.id, AllowKey: pinned.Among(dk.pin)})
	var conns []net.Conn
	for range maxGreetingsPerSource - 1 {
		c, err := net.Dial("tcp", strings.TrimPrefix(l.Addr(), "tls:"))
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	device, server := pair(t, l, Options{Identity: &dk.id, Pins: []pinned.Pin{sk.pin}})
	go device.Send(context.Background(), []byte("through"))
	if m, err := server.Recv(t.Context()); err != nil || string(m) != "through" {
		t.Fatal(m, err)
	}
	for _, c := range conns {
		c.Close()
	}
}

// Keep holds a link through restarts of the server.
func TestKeep(t *testing.T) {
	leakCheck(t)
	addr := unixAddr(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var links atomic.Int32
	ended := make(chan error, 1)
	go func() {
		ended <- Keep(ctx, addr, Options{ID: "device-1"}, func(ctx context.Context, c *Conn) error {
			links.Add(1)
			for {
				m, err := c.Recv(ctx)
				if err != nil {
					return err
				}
				if err := c.Send(ctx, m); err != nil {
					return err
				}
			}
		})
	}()
	for round := range 3 {
		l := listen(t, addr, ListenOptions{})
		s, err := l.Accept(ctx)
		if err != nil {
			t.Fatal(err)
		}
		msg := []byte{byte(round)}
		if err := s.Send(ctx, msg); err != nil {
			t.Fatal(err)
		}
		if m, err := s.Recv(ctx); err != nil || !bytes.Equal(m, msg) {
			t.Fatal(m, err)
		}
		l.Close()
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || links.Load() != 3 {
		t.Fatal(err, links.Load())
	}
}

func TestSocket(t *testing.T) {
	addr := unixAddr(t)
	path := strings.TrimPrefix(addr, "unix:")
	l := listen(t, addr, ListenOptions{})
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	if _, err := Listen(addr, ListenOptions{ID: "x", Allow: allowAll}); !errors.Is(err, ErrInUse) {
		t.Fatal(err)
	}
	l.Close()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	// A socket that a dead server left is replaced, another file is not.
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	listen(t, addr, ListenOptions{}).Close()
	os.WriteFile(path, []byte("precious"), 0o600)
	if _, err := Listen(addr, ListenOptions{ID: "x", Allow: allowAll}); err == nil {
		t.Fatal("a file was replaced")
	}
	for _, bad := range []string{"", "unix:", "/path", "tcp:127.0.0.1:1", "tls:nowhere", "unix:" + strings.Repeat("x", 108)} {
		if _, err := Dial(t.Context(), bad, Options{ID: "d"}); err == nil {
			t.Errorf("%q was dialled", bad)
		}
		if CheckDial(bad) == nil || CheckListen(bad) == nil {
			t.Errorf("%q will do", bad)
		}
	}
	dir := unixAddr(t)
	for n, listen := range map[int]bool{106: true, 107: false} {
		addr := dir + strings.Repeat("x", n-len(strings.TrimPrefix(dir, "unix:")))
		l, err := Listen(addr, ListenOptions{ID: "x", Allow: allowAll})
		if err == nil {
			l.Close()
		}
		if (err == nil) != listen || (CheckListen(addr) == nil) != listen || CheckDial(addr) != nil {
			t.Errorf("%d octets: %v, %v, %v", n, err, CheckListen(addr), CheckDial(addr))
		}
	}
	if err := errors.Join(CheckDial("tls:a:1"), CheckListen("tls:[::]:1"), CheckDial("unix:a")); err != nil {
		t.Error(err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(appendFrame(nil, kindMessage, []byte("hello")))
	f.Add(appendFrame(nil, kindHello, encodeHello("device-1")))
	f.Add([]byte{0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		kind, body, err := readFrame(r, nil)
		if err != nil {
			return
		}
		if again := appendFrame(nil, kind, body); !bytes.Equal(again, data[:len(data)-r.Len()]) {
			t.Fatalf("% x read as % x", data, again)
		}
		if kind == kindHello {
			if id, err := decodeHello(body); err == nil && !bytes.Equal(encodeHello(id), body) {
				t.Fatalf("hello % x", body)
			}
		}
	})
}

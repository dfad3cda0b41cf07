package bus

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
)

type site struct {
	name string
	id   tls.Certificate
	pin  pinned.Pin
	addr string
	bus  *NATS
}

func newSite(t *testing.T, name string) *site {
	t.Helper()
	id, err := pinned.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	pin, _ := pinned.PinOfIdentity(id)
	return &site{name: name, id: id, pin: pin, addr: "127.0.0.1:0"}
}

// open starts s with the others as peers and serves its subjects.
func (s *site) open(t *testing.T, others ...*site) {
	t.Helper()
	var peers []Peer
	for _, o := range others {
		if o == s {
			continue
		}
		p := Peer{Site: o.name, Pin: o.pin}
		if !strings.HasSuffix(o.addr, ":0") {
			p.Route = o.addr
		}
		peers = append(peers, p)
	}
	s.start(t, Config{Listen: s.addr, Peers: peers})
	s.addr = s.bus.Addr()
}

func (s *site) start(t *testing.T, c Config) {
	t.Helper()
	c.Site, c.Cluster, c.Identity = s.name, "test", s.id
	var err error
	if s.bus, err = Open(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.bus.Close)
	_, err = s.bus.Serve(Subject(s.name, "echo"), func(_ context.Context, m []byte) ([]byte, error) {
		return append([]byte(s.name+":"), m...), nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func ask(from, to *site, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	b, err := from.bus.Request(ctx, Subject(to.name, "echo"), []byte("hi"))
	if err == nil && string(b) != to.name+":hi" {
		return fmt.Errorf("answer %q", b)
	}
	return err
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("never: %s: %v", what, err)
}

func connected(t *testing.T, sites ...*site) {
	t.Helper()
	for _, a := range sites {
		for _, b := range sites {
			eventually(t, a.name+" reaches "+b.name, func() error { return ask(a, b, time.Second) })
		}
	}
}

func TestMesh(t *testing.T) {
	before := runtime.NumGoroutine()
	var sites []*site
	for i := range 5 {
		sites = append(sites, newSite(t, fmt.Sprint("s", i)))
	}
	for _, s := range sites {
		s.open(t, sites...)
	}
	connected(t, sites...)

	// Messages of all sizes up to the limit, and above it.
	a, b := sites[0], sites[4]
	for _, n := range []int{0, 1, 100000, MaxMessage - 3} {
		out, err := a.bus.Request(t.Context(), Subject("s4", "echo"), bytes.Repeat([]byte("x"), n))
		if err != nil || len(out) != n+3 {
			t.Fatal(n, len(out), err)
		}
	}
	if _, err := a.bus.Request(t.Context(), Subject("s4", "echo"), make([]byte, MaxMessage+1)); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	var re *RemoteError
	if _, err := a.bus.Request(t.Context(), Subject("s4", "echo"), make([]byte, MaxMessage)); !errors.As(err, &re) {
		t.Error(err) // the answer is above the limit
	}

	// Publish reaches every site that serves the subject.
	var got atomic.Int32
	for _, s := range sites {
		if _, err := s.bus.Serve("channel.b1", func(context.Context, []byte) ([]byte, error) { got.Add(1); return nil, nil }); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all sites hear it", func() error {
		got.Store(0)
		if err := b.bus.Publish(t.Context(), "channel.b1", []byte("x")); err != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
		if n := got.Load(); n != 5 {
			return fmt.Errorf("%d heard", n)
		}
		return nil
	})

	// One site is killed: it is missed at once, the others work on, and it is
	// back soon after it returns.
	sites[2].bus.Close()
	eventually(t, "the dead site is known to be absent", func() error {
		if err := ask(a, sites[2], time.Second); !errors.Is(err, ErrNoSite) {
			return fmt.Errorf("error %v", err)
		}
		return nil
	})
	connected(t, sites[0], sites[1], sites[3], sites[4])
	sites[2].open(t, sites...)
	connected(t, sites...)

	for _, s := range sites {
		s.bus.Close()
	}
	if err := ask(a, b, time.Second); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	eventually(t, "all goroutines end", func() error {
		if n := runtime.NumGoroutine(); n > before {
			return fmt.Errorf("%d before, %d after", before, n)
		}
		return nil
	})
}

func TestHandlers(t *testing.T) {
	a, b := newSite(t, "a"), newSite(t, "b")
	a.open(t, b)
	b.open(t, a)
	connected(t, a, b)
	release := make(chan struct{})
	serve := func(name string, h Handler) func() {
		t.Helper()
		stop, err := b.bus.Serve(Subject("b", name), h)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, name+" is served", func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if _, err := a.bus.Request(ctx, Subject("b", name), []byte("probe")); errors.Is(err, ErrNoSite) {
				return err
			}
			return nil
		})
		return stop
	}
	request := func(name string) error {
		_, err := a.bus.Request(t.Context(), Subject("b", name), nil)
		return err
	}
	serve("fail", func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no such key") })
	var re *RemoteError
	if err := request("fail"); !errors.As(err, &re) || re.Text != "no such key" {
		t.Error(err)
	}
	serve("panic", func(context.Context, []byte) ([]byte, error) { panic("secret") })
	if err := request("panic"); !errors.As(err, &re) || strings.Contains(re.Text, "secret") {
		t.Error(err)
	}

	// A flood is answered "busy" at once; a handler's context has an end.
	var running atomic.Int32
	stop := serve("slow", func(ctx context.Context, m []byte) ([]byte, error) {
		if string(m) == "probe" {
			return nil, nil
		}
		if _, ok := ctx.Deadline(); !ok {
			t.Error("no deadline")
		}
		running.Add(1)
		defer running.Add(-1)
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil, ctx.Err()
	})
	var wg sync.WaitGroup
	for range maxInFlight {
		wg.Go(func() {
			if err := request("slow"); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "all slots are taken", func() error {
		if n := running.Load(); n != maxInFlight {
			return fmt.Errorf("%d run", n)
		}
		return nil
	})
	for range 10 {
		if err := request("slow"); !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
	}
	close(release)
	wg.Wait()
	stop()
	stop()
	eventually(t, "nobody serves it", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if _, err := a.bus.Request(ctx, Subject("b", "slow"), nil); !errors.Is(err, ErrNoSite) {
			return fmt.Errorf("error %v", err)
		}
		return nil
	})

	// The sender's end reaches the handler.
	ended := make(chan struct{}, 1)
	serve("end", func(ctx context.Context, m []byte) ([]byte, error) {
		if string(m) != "probe" {
			<-ctx.Done()
			ended <- struct{}{}
		}
		return nil, nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := a.bus.Request(ctx, Subject("b", "end"), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	<-ended

	for _, bad := range []string{"", "site.b.*", "site.>", "$SYS.x", "_INBOX.x", "a..b", "site.b.x y", strings.Repeat("x", maxSubject+1)} {
		if _, err := b.bus.Serve(bad, nil); err == nil {
			t.Errorf("serves %q", bad)
		}
		if err := b.bus.Publish(t.Context(), bad, nil); err == nil {
			t.Errorf("publishes %q", bad)
		}
	}
	if _, err := b.bus.Serve("site.a.echo", nil); err == nil {
		t.Error("serves another site's subject")
	}
}

// A site whose key is not named gets no route, whichever side dials, and the
// client port that NATS insists on lets nobody in.
func TestWrongPin(t *testing.T) {
	a, b, x := newSite(t, "a"), newSite(t, "b"), newSite(t, "x")
	a.open(t, b)
	// x pretends to be b: same name, another key.
	fake := &site{name: "b", id: x.id, pin: x.pin, addr: "127.0.0.1:0"}
	fake.open(t, a)
	// a dials the fake one in place of b.
	b.addr = fake.addr
	c := newSite(t, "c")
	c.open(t, a, b)
	b.addr = "127.0.0.1:0"
	time.Sleep(1500 * time.Millisecond) // more than one attempt on each side
	if n := a.bus.Routes() + c.bus.Routes() + fake.bus.Routes(); n != 0 {
		t.Fatalf("%d routes", n)
	}
	if err := ask(fake, a, time.Second); !errors.Is(err, ErrNoSite) {
		t.Fatal(err)
	}
	b.open(t, a)
	connected(t, a, b)
	// Peers change while running: a stops naming b, then names it again.
	if err := a.bus.SetPeers(nil); err != nil {
		t.Fatal(err)
	}
	b.bus.Close()
	b.open(t, a)
	time.Sleep(1200 * time.Millisecond)
	if err := ask(a, b, time.Second); !errors.Is(err, ErrNoSite) {
		t.Fatal(err)
	}
	if err := a.bus.SetPeers([]Peer{{Site: "b", Pin: b.pin, Route: b.addr}}); err != nil {
		t.Fatal(err)
	}
	connected(t, a, b)

	conn, err := net.Dial("tcp", a.bus.srv.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 4096)
	conn.Read(buf) // INFO
	fmt.Fprintf(conn, "CONNECT {}\r\nSUB > 1\r\nPING\r\n")
	if rest, err := io.ReadAll(conn); bytes.Contains(rest, []byte("PONG")) {
		t.Fatalf("a client without a key got in: %q, %v", rest, err)
	}
	tc, err := tls.Dial("tcp", a.bus.srv.Addr().String(), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{a.id}})
	if err == nil {
		tc.Close()
		t.Error("the client port speaks TLS first")
	}
}

// proxy forwards connections until it is told to swallow.
type proxy struct {
	ln      net.Listener
	to      string
	swallow atomic.Bool
	mu      sync.Mutex
	conns   []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, to: to}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			d, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, c, d)
			p.mu.Unlock()
			go p.copy(c, d)
			go p.copy(d, c)
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range p.conns {
			c.Close()
		}
	})
	return p
}

func (p *proxy) copy(to, from net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			if !p.swallow.Load() {
				to.Close()
			}
			return
		}
		if !p.swallow.Load() {
			to.Write(b[:n])
		}
	}
}

// A link that swallows everything and never breaks: requests end with their
// own deadline, the route is given up within seconds, and comes back.
func TestBlackHole(t *testing.T) {
	a, b := newSite(t, "a"), newSite(t, "b")
	b.open(t, a)
	p := newProxy(t, b.addr)
	real := b.addr
	b.addr = p.ln.Addr().String()
	a.open(t, b)
	b.addr = real
	connected(t, a, b)
	p.swallow.Store(true)
	if err := ask(a, b, 300*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	eventually(t, "the dead route is noticed", func() error {
		if err := ask(a, b, 300*time.Millisecond); !errors.Is(err, ErrNoSite) {
			return fmt.Errorf("error %v", err)
		}
		return nil
	})
	p.swallow.Store(false)
	connected(t, a, b)
}

// A small site joins a hub as a leaf, by configuration alone.
func TestLeaf(t *testing.T) {
	hub, leaf := newSite(t, "hub"), newSite(t, "leaf")
	other := newSite(t, "other")
	port := freePort(t)
	hub.start(t, Config{Listen: "127.0.0.1:0", LeafListen: port, Peers: []Peer{{Site: "leaf", Pin: leaf.pin}, {Site: "other", Pin: other.pin}}})
	hub.addr = hub.bus.Addr()
	other.open(t, hub)
	leaf.start(t, Config{LeafOf: []Peer{{Site: "hub", Route: port, Pin: hub.pin}}})
	connected(t, hub, leaf, other)
	stranger := newSite(t, "stranger")
	stranger.start(t, Config{LeafOf: []Peer{{Site: "hub", Route: port, Pin: hub.pin}}})
	time.Sleep(1200 * time.Millisecond)
	if err := ask(stranger, hub, time.Second); !errors.Is(err, ErrNoSite) {
		t.Fatal(err)
	}
}

func freePort(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestOpenErrors(t *testing.T) {
	a, b := newSite(t, "a"), newSite(t, "b")
	a.open(t, b)
	begun := time.Now()
	for name, c := range map[string]Config{
		"port taken":     {Site: "b", Cluster: "x", Identity: b.id, Listen: a.addr},
		"no site":        {Cluster: "x", Identity: b.id},
		"two words":      {Site: "a.b", Cluster: "x", Identity: b.id},
		"peer is itself": {Site: "b", Cluster: "x", Identity: b.id, Peers: []Peer{{Site: "b", Pin: a.pin}}},
		"no pin":         {Site: "b", Cluster: "x", Identity: b.id, Peers: []Peer{{Site: "a"}}},
		"bad route":      {Site: "b", Cluster: "x", Identity: b.id, Peers: []Peer{{Site: "a", Pin: a.pin, Route: "nowhere"}}},
	} {
		if bus, err := Open(c); err == nil {
			bus.Close()
			t.Errorf("%s: opened", name)
		}
	}
	if took := time.Since(begun); took > 3*startTimeout {
		t.Error(took)
	}
}

func TestWire(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	enc := func(end time.Time) []byte {
		b, err := encodeMessage(end, []byte("m"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	far := append([]byte{wireVersion}, binary.BigEndian.AppendUint64(nil, 1<<63)...)
	for name, c := range map[string]struct {
		b    []byte
		want byte
	}{
		"fresh":                {enc(now.Add(time.Second)), statusOK},
		"late, within skew":    {enc(now.Add(-MaxSkew + time.Second)), statusOK},
		"stale":                {enc(now.Add(-MaxSkew - time.Second)), statusExpired},
		"too far ahead":        {enc(now.Add(MaxTimeout + MaxSkew + time.Second)), statusMalformed},
		"end beyond all time":  {far, statusMalformed},
		"short":                {[]byte{wireVersion, 0}, statusMalformed},
		"empty":                {nil, statusMalformed},
		"of version 2":         {append([]byte{2}, enc(now)[1:]...), statusMalformed},
		"end at the beginning": {enc(time.Unix(0, 0)), statusExpired},
	} {
		if _, left, got := decodeMessage(c.b, now); got != c.want || got == statusOK && left <= 0 {
			t.Errorf("%s: status %d, left %v", name, got, left)
		}
	}
	for _, b := range [][]byte{nil, {9}, {255, 1, 2}} {
		if _, err := decodeAnswer("s", b); !errors.Is(err, ErrBadAnswer) {
			t.Errorf("% x: %v", b, err)
		}
	}
}

// TestBroadcast: what is published on a subject of nobody's comes to every
// site that serves it, the sender included, once; one that leaves hears no
// more, and what is too large or too old is not heard at all.
func TestBroadcast(t *testing.T) {
	sites := []*site{newSite(t, "a"), newSite(t, "b"), newSite(t, "c")}
	for _, s := range sites {
		s.open(t, sites...)
	}
	connected(t, sites...)
	const subject = "tolerant.7.b1"
	var mu sync.Mutex
	heard := map[string]int{}
	closes := map[string]func(){}
	for _, s := range sites {
		stop, err := s.bus.Serve(subject, func(_ context.Context, m []byte) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			heard[s.name+string(m)]++
			return nil, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		closes[s.name] = stop
	}
	counts := func(m string) [3]int {
		mu.Lock()
		defer mu.Unlock()
		return [3]int{heard["a"+m], heard["b"+m], heard["c"+m]}
	}
	// A subscription takes a moment to be known everywhere: a packet may be lost.
	n := 0
	eventually(t, "all sites hear", func() error {
		n++
		if err := sites[0].bus.Publish(t.Context(), subject, fmt.Append(nil, n)); err != nil {
			return err
		}
		if got := counts(fmt.Sprint(n)); got != [3]int{1, 1, 1} {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	for _, s := range sites {
		m := "from " + s.name
		if err := s.bus.Publish(t.Context(), subject, []byte(m)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all sites hear "+s.name, func() error {
			if got := counts(m); got != [3]int{1, 1, 1} {
				return fmt.Errorf("%v", got)
			}
			return nil
		})
	}
	if err := sites[0].bus.Publish(t.Context(), subject, make([]byte, MaxMessage+1)); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	stale, err := encodeMessage(time.Now().Add(-MaxSkew-time.Second), []byte("stale"))
	if err != nil {
		t.Fatal(err)
	}
	if err := sites[0].bus.conn.Publish(subject, stale); err != nil {
		t.Fatal(err)
	}
	if err := sites[0].bus.conn.Publish(subject, nil); err != nil {
		t.Fatal(err)
	}
	closes["b"]()
	eventually(t, "who is left hears", func() error {
		n++
		if err := sites[2].bus.Publish(t.Context(), subject, fmt.Append(nil, n)); err != nil {
			return err
		}
		if got := counts(fmt.Sprint(n)); got != [3]int{1, 0, 1} {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	if got := counts("stale"); got != [3]int{} {
		t.Errorf("a stale packet was heard: %v", got)
	}
}

package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
)

// ListenOptions are a message server's side of the links of its devices.
type ListenOptions struct {
	ID       string           // the server's id, for its hello
	Identity *tls.Certificate // TLS only
	// Allow decides whether a device may have a link. key is the pin of its
	// transport key, zero on a Unix socket. The error's text goes to the
	// device. It is called from many goroutines.
	Allow func(device string, key pinned.Pin) error
	// AllowKey decides on a key alone, in the TLS handshake, before anything
	// the peer says is read. Required for TLS.
	AllowKey   func(pinned.Pin) bool
	KeepAlive  time.Duration // zero: DefaultKeepAlive
	SocketMode fs.FileMode   // of a Unix socket; zero: 0600
	Log        *slog.Logger  // nil: silent
}

// ErrInUse means that another process answers on the socket.
var ErrInUse = errors.New("link: another server listens there")

// A Listener hands out links whose hello was accepted. A device has one: when
// it dials again its older link ends with ErrReplaced, so that a link that
// died unnoticed does not keep its device out.
type Listener struct {
	o      ListenOptions
	ln     net.Listener
	path   string // of the Unix socket, to be removed
	secure bool
	log    *slog.Logger

	accepted chan *Conn
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu        sync.Mutex
	links     map[string]*Conn
	greetings map[string]int // by source; "" counts all
}

// Listen opens addr, "unix:PATH" or "tls:HOST:PORT".
func Listen(addr string, o ListenOptions) (*Listener, error) {
	network, where, err := splitAddress(addr)
	if err != nil {
		return nil, err
	}
	if err := checkID(o.ID); err != nil {
		return nil, err
	}
	if o.Allow == nil {
		return nil, errors.New("link: a listener needs a rule of which devices it allows")
	}
	l := &Listener{
		o: o, log: logger(o.Log), secure: network == "tcp",
		accepted:  make(chan *Conn),
		links:     make(map[string]*Conn),
		greetings: make(map[string]int),
	}
	if l.secure {
		if o.Identity == nil || o.AllowKey == nil {
			return nil, errors.New("link: tls needs the server's identity and the pins of its devices")
		}
		l.ln, err = net.Listen("tcp", where)
	} else {
		l.path = where
		l.ln, err = listenUnix(where, o.SocketMode)
	}
	if err != nil {
		if errors.Is(err, ErrInUse) {
			return nil, err
		}
		return nil, fmt.Errorf("link: %w", err)
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.wg.Add(1)
	go l.acceptLoop()
	return l, nil
}

// temporary is what the name of a socket ends with until it is in its place.
const temporary = "~"

func checkListenPath(path string) error {
	if most := maxSocketPath - len(temporary); len(path) > most {
		return fmt.Errorf("link: the path of a listening socket has at most %d octets, %q has %d", most, path, len(path))
	}
	return nil
}

// listenUnix binds a temporary name, sets its mode and only then moves it to
// path: nobody can connect while the mode is wrong, and a socket that a dead
// server left is replaced.
func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	if mode == 0 {
		mode = 0o600
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("%w: %s", ErrInUse, path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s exists and is not a socket", path)
	}
	if err := checkListenPath(path); err != nil {
		return nil, err
	}
	tmp := path + temporary
	os.Remove(tmp)
	ln, err := net.Listen("unix", tmp)
	if err != nil {
		return nil, err
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(tmp, mode), os.Rename(tmp, path)); err != nil {
		ln.Close()
		os.Remove(tmp)
		return nil, err
	}
	return ln, nil
}

// Addr returns the address to dial, with the port that was chosen for port 0.
func (l *Listener) Addr() string {
	if l.secure {
		return "tls:" + l.ln.Addr().String()
	}
	return "unix:" + l.path
}

// Accept returns the next link.
func (l *Listener) Accept(ctx context.Context) (*Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.ctx.Done():
		return nil, ErrClosed
	}
}

// Link returns the open link of a device, nil if it has none.
func (l *Listener) Link(device string) *Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.links[device]
}

// Close ends listening and all links.
func (l *Listener) Close() error {
	l.cancel()
	err := l.ln.Close()
	if l.path != "" {
		os.Remove(l.path)
	}
	l.mu.Lock()
	for _, c := range l.links {
		c.end(ErrClosed)
	}
	l.mu.Unlock()
	l.wg.Wait()
	return err
}

func (l *Listener) acceptLoop() {
	defer l.wg.Done()
	for {
		socket, err := l.ln.Accept()
		if err != nil {
			if l.ctx.Err() != nil {
				return
			}
			// Out of descriptors, or a connection that died in the queue: the
			// listener itself is good.
			l.log.Warn("accept failed", "error", err)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-l.ctx.Done():
				return
			}
			continue
		}
		nc := &fence{Conn: socket}
		source := sourceOf(nc)
		if !l.beginGreeting(source) {
			l.log.Warn("too many connections without a hello: one dropped", "source", source)
			nc.Close()
			continue
		}
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			c, err := l.greet(nc)
			l.endGreeting(source)
			if err != nil {
				l.log.Warn("link refused", "source", source, "error", err)
				nc.Close()
				return
			}
			l.hand(c)
		}()
	}
}

func (l *Listener) beginGreeting(source string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.greetings[""] >= maxGreetings || l.greetings[source] >= maxGreetingsPerSource {
		return false
	}
	l.greetings[""]++
	l.greetings[source]++
	return true
}

func (l *Listener) endGreeting(source string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.greetings[""]--
	if l.greetings[source]--; l.greetings[source] == 0 {
		delete(l.greetings, source)
	}
}

// greet runs TLS and the hello within greetTimeout.
func (l *Listener) greet(f *fence) (*Conn, error) {
	nc := net.Conn(f)
	deadline := time.Now().Add(greetTimeout)
	nc.SetDeadline(deadline)
	defer context.AfterFunc(l.ctx, func() { nc.Close() })()
	var key pinned.Pin
	if l.secure {
		tc := tls.Server(nc, pinned.Server(*l.o.Identity, l.o.AllowKey))
		if err := tc.Handshake(); err != nil {
			return nil, err
		}
		key = pinned.PinOf(tc.ConnectionState().PeerCertificates[0])
		nc = tc
	}
	br := bufio.NewReader(nc)
	kind, body, err := readFrame(br, nil)
	if err != nil {
		return nil, err
	}
	if kind != kindHello {
		return nil, &FrameError{kind, uint32(1 + len(body)), "the first frame is a hello"}
	}
	device, err := decodeHello(body)
	if err == nil {
		err = l.o.Allow(device, key)
	}
	if err != nil {
		reason := err.Error()
		nc.Write(appendFrame(nil, kindRefusal, []byte(reason[:min(len(reason), maxReason)])))
		return nil, fmt.Errorf("device %q: %w", device, err)
	}
	if _, err := nc.Write(appendFrame(nil, kindHello, encodeHello(l.o.ID))); err != nil {
		return nil, err
	}
	return newConn(f, nc, br, device, key, interval(l.o.KeepAlive)), nil
}

// hand registers a link and gives it to Accept.
func (l *Listener) hand(c *Conn) {
	l.mu.Lock()
	old := l.links[c.peer]
	l.links[c.peer] = c
	l.mu.Unlock()
	if old != nil {
		old.end(ErrReplaced)
	}
	l.wg.Add(1)
	go func() {
		defer l.wg.Done()
		<-c.done
		l.mu.Lock()
		if l.links[c.peer] == c {
			delete(l.links, c.peer)
		}
		l.mu.Unlock()
	}()
	select {
	case l.accepted <- c:
	case <-c.done:
	case <-l.ctx.Done():
		c.end(ErrClosed)
	}
}

// sourceOf is the host of a peer, without its port.
func sourceOf(nc net.Conn) string {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return a.IP.String()
	}
	return "unix"
}

package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
)

// Options are a device's side of a link.
type Options struct {
	ID        string           // the device's permanent id, for its hello
	Identity  *tls.Certificate // the device's transport key; TLS only
	Pins      []pinned.Pin     // keys its server may have; TLS only
	KeepAlive time.Duration    // zero: DefaultKeepAlive
	Log       *slog.Logger     // nil: silent
}

// A RefusedError carries the server's own words for refusing a hello.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("link: the server refused: %q", e.Reason)
}

// CheckDial says why an address cannot be dialled, and CheckListen why it cannot
// be listened at, before anything is made that keeps it.
func CheckDial(addr string) error {
	_, _, err := splitAddress(addr)
	return err
}

// CheckListen: see CheckDial.
func CheckListen(addr string) error {
	network, where, err := splitAddress(addr)
	if err == nil && network == "unix" {
		err = checkListenPath(where)
	}
	return err
}

// splitAddress takes "unix:PATH" or "tls:HOST:PORT" apart.
func splitAddress(addr string) (network, where string, err error) {
	scheme, where, ok := strings.Cut(addr, ":")
	if !ok || where == "" {
		return "", "", fmt.Errorf("link: address %q is neither unix:PATH nor tls:HOST:PORT", addr)
	}
	switch scheme {
	case "unix":
		// sun_path has 108 octets with its final zero, and the kernel's own
		// error says only "invalid argument".
		if len(where) > maxSocketPath {
			return "", "", fmt.Errorf("link: the path of a socket has at most %d octets, %q has %d", maxSocketPath, where, len(where))
		}
		return "unix", where, nil
	case "tls":
		if _, _, err := net.SplitHostPort(where); err != nil {
			return "", "", fmt.Errorf("link: address %q: %w", addr, err)
		}
		return "tcp", where, nil
	}
	return "", "", fmt.Errorf("link: address %q has an unknown scheme %q: unix or tls", addr, scheme)
}

const maxSocketPath = 107

// Dial opens a link and says hello. It returns when the server has accepted.
func Dial(ctx context.Context, addr string, o Options) (*Conn, error) {
	network, where, err := splitAddress(addr)
	if err != nil {
		return nil, err
	}
	if err := checkID(o.ID); err != nil {
		return nil, err
	}
	if network == "tcp" && (o.Identity == nil || len(o.Pins) == 0) {
		return nil, errors.New("link: tls needs the device's identity and at least one pin of its server")
	}
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	socket, err := (&net.Dialer{}).DialContext(ctx, network, where)
	if err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	nc := &fence{Conn: socket}
	// From here the context is kept by closing the connection.
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	c, err := o.greet(ctx, nc, network == "tcp")
	if !stop() && err == nil {
		c.Close()
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("link: no answer to hello from %s: %w", addr, ctx.Err())
		}
		return nil, err
	}
	return c, nil
}

func (o Options) greet(ctx context.Context, f *fence, secure bool) (*Conn, error) {
	var key pinned.Pin
	nc := net.Conn(f)
	if secure {
		tc := tls.Client(nc, pinned.Client(o.Identity, o.Pins...))
		if err := tc.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("link: %w", err)
		}
		key = pinned.PinOf(tc.ConnectionState().PeerCertificates[0])
		nc = tc
	}
	if _, err := nc.Write(appendFrame(nil, kindHello, encodeHello(o.ID))); err != nil {
		return nil, fmt.Errorf("link: hello: %w", err)
	}
	br := bufio.NewReader(nc)
	kind, body, err := readFrame(br, nil)
	if err != nil {
		return nil, fmt.Errorf("link: hello: %w", err)
	}
	switch kind {
	case kindRefusal:
		return nil, &RefusedError{Reason: string(body)}
	case kindHello:
	default:
		return nil, &FrameError{kind, uint32(1 + len(body)), "the first frame is a hello"}
	}
	peer, err := decodeHello(body)
	if err != nil {
		return nil, err
	}
	return newConn(f, nc, br, peer, key, interval(o.KeepAlive)), nil
}

// Keep holds a link open until ctx ends: it dials, hands each link to use,
// closes it when use returns, and dials again, waiting longer after each
// failure. The context that use gets ends with its link. Keep returns ctx's
// error, or at once an error that no redialling can mend.
func Keep(ctx context.Context, addr string, o Options, use func(context.Context, *Conn) error) error {
	if _, _, err := splitAddress(addr); err != nil {
		return err
	}
	if err := checkID(o.ID); err != nil {
		return err
	}
	log := logger(o.Log)
	for wait := firstBackoff; ; {
		c, err := Dial(ctx, addr, o)
		if err == nil {
			begun := time.Now()
			log.Info("link open", "server", c.Peer(), "address", addr)
			err = useOnce(ctx, c, use)
			if time.Since(begun) >= goodAfter {
				wait = firstBackoff
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// Half fixed, half random: devices that lost one server together do not
		// come back together.
		pause := wait/2 + rand.N(wait/2)
		log.Warn("link down", "address", addr, "error", err, "again_in", pause.Round(time.Millisecond))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		wait = min(2*wait, lastBackoff)
	}
}

func useOnce(ctx context.Context, c *Conn, use func(context.Context, *Conn) error) error {
	defer c.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-c.Done():
			cancel(c.Err())
		case <-ctx.Done():
		}
	}()
	err := use(ctx, c)
	if ended := c.Err(); ended != nil {
		return ended
	}
	return err
}

func interval(d time.Duration) time.Duration {
	if d <= 0 {
		return DefaultKeepAlive
	}
	return d
}

func logger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// Package web is how people and programs reach a message server: HTTPS with a
// pinned key, two verbs (POST a message, GET an inbox), and the part of the
// firewall that knows sources: it denies access after failed attempts, traces
// where they came from, and stays up when it is flooded.
//
// What a message says and who signed it is for the handlers. TLS hides traffic
// from the network; it authenticates the server and never the client.
package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
)

// A Handler answers one POST. source names where it came from, for traces.
type Handler func(ctx context.Context, source string, body []byte) ([]byte, error)

// A PollHandler answers one GET. It returns at once if there are messages
// after p.Since, else when one comes, and an empty batch when p.Wait is over
// or ctx ends.
type PollHandler func(ctx context.Context, source string, p Poll) (Batch, error)

// An Error chooses the status of an answer. Its text goes to the client; any
// other error becomes "internal error" there and is told to the log alone.
type Error struct {
	Status int
	Failed bool // counts as a failed attempt of the source
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Denied answers 403 and counts as a failed attempt: a signature that does not
// verify, a key that nobody knows.
func Denied(err error) error { return &Error{http.StatusForbidden, true, err} }

// Malformed answers 400 and counts as a failed attempt: no client of this
// system makes such a message.
func Malformed(err error) error { return &Error{http.StatusBadRequest, true, err} }

// Refused answers 409 and does not count: the request is sound and its time,
// state or place is wrong.
func Refused(err error) error { return &Error{http.StatusConflict, false, err} }

// NotFound answers 404 and does not count.
func NotFound(err error) error { return &Error{http.StatusNotFound, false, err} }

// Busy answers 503 with Retry-After and does not count.
func Busy(err error) error { return &Error{http.StatusServiceUnavailable, false, err} }

// Config of a server.
type Config struct {
	Listen   string // host:port
	Identity tls.Certificate
	Routes   map[string]Handler     // POST, by exact path
	Polls    map[string]PollHandler // GET, by exact path
	Limiter  *Limiter               // nil: a new one with DefaultRules
	Log      *slog.Logger           // nil: silent
}

// A Server is running from Listen to Close.
type Server struct {
	cfg     Config
	log     *slog.Logger
	limiter *Limiter
	http    *http.Server
	ln      net.Listener
	cancel  context.CancelFunc
	done    chan struct{}

	requests, polls atomic.Int64

	mu       sync.Mutex
	conns    int
	bySource map[string]int
}

// Listen starts a server.
func Listen(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, log: cfg.Log, limiter: cfg.Limiter, done: make(chan struct{}), bySource: make(map[string]int)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.limiter == nil {
		s.limiter = NewLimiter(DefaultRules, s.log, nil)
	}
	for path := range cfg.Polls {
		if _, twice := cfg.Routes[path]; twice {
			return nil, fmt.Errorf("web: path %q is both a route and a poll", path)
		}
	}
	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	s.ln = &limitListener{Listener: ln, s: s}
	tc := pinned.Server(cfg.Identity, nil)
	tc.NextProtos = []string{"http/1.1"}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		TLSConfig:         tc,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		// HTTP/2 would let one connection carry hundreds of requests past the
		// limits on connections. An empty map turns it off.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		BaseContext:  func(net.Listener) context.Context { return ctx },
		ErrorLog:     log.New(logWriter{s.log}, "", 0),
	}
	go func() {
		defer close(s.done)
		if err := s.http.ServeTLS(s.ln, "", ""); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("https ended", "error", err)
		}
	}()
	return s, nil
}

// Addr returns host:port.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// URL returns the base that a client needs.
func (s *Server) URL() string { return "https://" + s.Addr() }

// Limiter returns the limiter in use.
func (s *Server) Limiter() *Limiter { return s.limiter }

// Close ends polls, gives other requests a moment, then closes everything.
func (s *Server) Close() error {
	s.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	<-s.done
	return err
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	source := "unknown"
	if a, err := net.ResolveTCPAddr("tcp", r.RemoteAddr); err == nil {
		source = SourceOf(a)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	var denied *DeniedError
	if errors.As(s.limiter.Allow(source), &denied) {
		w.Header().Set("Connection", "close")
		w.Header().Set("X-Privyseal-Denied", "1")
		retryAfter(w, time.Until(denied.Until))
		http.Error(w, "too many failed attempts from your address", http.StatusTooManyRequests)
		return
	}
	rules := s.limiter.Rules()
	handler, isRoute := s.cfg.Routes[r.URL.Path]
	poll, isPoll := s.cfg.Polls[r.URL.Path]
	var out []byte
	var err error
	switch {
	case !isRoute && !isPoll:
		err = &Error{http.StatusNotFound, true, errors.New("no such path")}
	case isRoute && r.Method != http.MethodPost, isPoll && r.Method != http.MethodGet:
		err = &Error{http.StatusMethodNotAllowed, true, errors.New("method not allowed here")}
	case isRoute:
		if !enter(&s.requests, rules.MaxRequests) {
			s.saturated(w, rules, source)
			return
		}
		defer s.requests.Add(-1)
		out, err = s.post(w, r, source, handler)
	default:
		if !enter(&s.polls, rules.MaxPolls) {
			s.saturated(w, rules, source)
			return
		}
		defer s.polls.Add(-1)
		out, err = s.poll(w, r, source, poll)
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	if err != nil {
		s.fail(w, rules, source, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(out)))
	w.Write(out)
}

func enter(n *atomic.Int64, limit int) bool {
	if n.Add(1) > int64(limit) {
		n.Add(-1)
		return false
	}
	return true
}

func (s *Server) saturated(w http.ResponseWriter, rules Rules, source string) {
	s.log.Warn("saturated", "source", source)
	// The body was not read: reading it is the work that there is no room for.
	w.Header().Set("Connection", "close")
	retryAfter(w, time.Duration(rules.RetryAfter))
	http.Error(w, "the server is busy", http.StatusServiceUnavailable)
}

func (s *Server) post(w http.ResponseWriter, r *http.Request, source string, h Handler) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, &Error{http.StatusRequestEntityTooLarge, true, fmt.Errorf("a message has at most %d octets", MaxBody)}
		}
		return nil, &Error{http.StatusBadRequest, false, errors.New("the message did not arrive whole or in time")}
	}
	noReadDeadline(w)
	ctx, cancel := context.WithTimeout(r.Context(), handleTimeout)
	defer cancel()
	out, err := guard(s.log, r.URL.Path, func() ([]byte, error) { return h(ctx, source, body) })
	if err == nil && len(out) > MaxBody {
		return nil, fmt.Errorf("web: answer of %d octets", len(out))
	}
	return out, err
}

// noReadDeadline is called when a request has been read whole. Otherwise the
// deadline for reading it would end its context while the handler still works:
// net/http watches the connection meanwhile. The next request gets its own.
func noReadDeadline(w http.ResponseWriter) {
	http.NewResponseController(w).SetReadDeadline(time.Time{})
}

func (s *Server) poll(w http.ResponseWriter, r *http.Request, source string, h PollHandler) ([]byte, error) {
	p, err := parsePoll(r)
	if err == nil && (r.ContentLength != 0 || len(r.TransferEncoding) != 0) {
		err = errors.New("a poll has no body")
	}
	if err != nil {
		return nil, Malformed(err)
	}
	noReadDeadline(w)
	ctx, cancel := context.WithTimeout(r.Context(), p.Wait+headerTimeout)
	defer cancel()
	batch, err := guard(s.log, r.URL.Path, func() (Batch, error) { return h(ctx, source, p) })
	if err != nil {
		return nil, err
	}
	return encodeBatch(batch)
}

// guard makes a panic of a handler an error of that request: what arrives is
// hostile, and other people's requests are in the same process.
func guard[T any](log *slog.Logger, path string, f func() (T, error)) (out T, err error) {
	defer func() {
		if v := recover(); v != nil {
			log.Error("handler panicked", "path", path, "panic", v, "stack", string(debug.Stack()))
			err = errors.New("internal error")
		}
	}()
	return f()
}

func (s *Server) fail(w http.ResponseWriter, rules Rules, source string, r *http.Request, err error) {
	var e *Error
	if !errors.As(err, &e) {
		if r.Context().Err() != nil {
			return // the client has gone, or the server is closing
		}
		s.log.Error("request failed", "source", source, "path", r.URL.Path, "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	if e.Failed {
		s.limiter.Fail(source, fmt.Errorf("%s %s: %w", r.Method, strconv.QuoteToASCII(cut(r.URL.Path, 80)), e.Err))
	}
	if e.Status == http.StatusServiceUnavailable {
		retryAfter(w, time.Duration(rules.RetryAfter))
	}
	http.Error(w, cut(err.Error(), maxErrorText), e.Status)
}

func retryAfter(w http.ResponseWriter, d time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(max(d, time.Second).Seconds()))))
}

func cut(s string, n int) string { return s[:min(len(s), n)] }

// limitListener drops connections above the limits before TLS, which is what
// costs: a handshake is a signature of ours.
type limitListener struct {
	net.Listener
	s *Server
}

func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := SourceOf(c.RemoteAddr())
		if l.s.admit(source) {
			return &countedConn{Conn: c, leave: func() { l.s.leave(source) }}, nil
		}
		l.s.log.Warn("connection dropped: too many are open", "source", source)
		c.Close()
	}
}

func (s *Server) admit(source string) bool {
	rules := s.limiter.Rules()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns >= rules.MaxConnections || s.bySource[source] >= rules.MaxConnectionsPerSource {
		return false
	}
	s.conns++
	s.bySource[source]++
	return true
}

func (s *Server) leave(source string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns--
	if s.bySource[source]--; s.bySource[source] == 0 {
		delete(s.bySource, source)
	}
}

type countedConn struct {
	net.Conn
	once  sync.Once
	leave func()
}

func (c *countedConn) Close() error {
	c.once.Do(c.leave)
	return c.Conn.Close()
}

// logWriter takes what net/http has to say, mostly of failed handshakes.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(b []byte) (int, error) {
	w.log.Info("https", "message", string(b))
	return len(b), nil
}

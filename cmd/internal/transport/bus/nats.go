package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
)

// A Peer is another site as the ledger names it.
type Peer struct {
	Site  string     // its id
	Route string     // host:port of its routes; empty if it only dials us
	Pin   pinned.Pin // of its transport key
}

// Config says how a site joins the others. The usual form is a full mesh of
// embedded servers: Listen, and Peers with all the other sites. A site that
// outgrows this changes the configuration alone: LeafOf makes the embedded
// server a leaf of a hub, External uses a cluster that somebody else runs.
type Config struct {
	Site     string          // this site's id, one word
	Cluster  string          // name of the mesh, the same at all sites; one word
	Identity tls.Certificate // transport key of this site
	Listen   string          // host:port for routes of Peers; empty: none
	Peers    []Peer

	LeafListen string // host:port where leaves (also of Peers' pins) may join; empty: none
	LeafOf     []Peer // hubs that this site joins as a leaf

	// External is host:port of a NATS server to use in place of the embedded
	// one; ExternalPins are the keys it may have.
	External     string
	ExternalPins []pinned.Pin

	Log *slog.Logger // nil: silent
}

// A NATS is a Bus over NATS.
type NATS struct {
	site string
	log  *slog.Logger
	conn *nats.Conn
	pins *atomic.Pointer[func(pinned.Pin) bool]

	reload sync.Mutex
	srv    *server.Server  // nil when external
	opts   *server.Options // as last given to srv

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	closed bool
}

var _ Bus = (*NATS)(nil)

// Open starts or joins the bus. It does not wait for other sites.
func Open(cfg Config) (*NATS, error) {
	for _, w := range []string{cfg.Site, cfg.Cluster} {
		if err := checkWord(w); err != nil {
			return nil, fmt.Errorf("bus: site or cluster: %w", err)
		}
	}
	if err := checkPeers(cfg.Site, cfg.Peers, cfg.LeafOf); err != nil {
		return nil, err
	}
	b := &NATS{site: cfg.Site, log: cfg.Log, pins: new(atomic.Pointer[func(pinned.Pin) bool])}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.setPins(cfg.Peers, cfg.LeafOf)
	if err := b.start(cfg); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (b *NATS) start(cfg Config) error {
	o := []nats.Option{
		nats.Name(cfg.Site),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(500 * time.Millisecond),
		nats.PingInterval(pingEvery),
		nats.MaxPingsOutstanding(maxPings),
		nats.Timeout(startTimeout),
		// While the way is down, fail at once: the caller's queue keeps the
		// message, and a second queue here would deliver stale ones.
		nats.ReconnectBufSize(-1),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			subject := ""
			if s != nil {
				subject = s.Subject
			}
			b.log.Warn("bus client", "subject", subject, "error", err)
		}),
	}
	var err error
	if cfg.External != "" {
		if cfg.Listen != "" || cfg.LeafListen != "" || len(cfg.Peers)+len(cfg.LeafOf) != 0 {
			return errors.New("bus: an external cluster leaves nothing to listen on and no peers to name here")
		}
		o = append(o, nats.Secure(pinned.Client(&cfg.Identity, cfg.ExternalPins...)))
		b.conn, err = nats.Connect("tls://"+cfg.External, o...)
		if err != nil {
			return fmt.Errorf("bus: external cluster %s: %w", cfg.External, err)
		}
		return nil
	}
	if b.opts, err = b.serverOptions(cfg); err != nil {
		return err
	}
	for _, addr := range []string{cfg.Listen, cfg.LeafListen} {
		// The embedded server only logs that it cannot listen, and we would
		// wait for it in vain.
		if addr != "" {
			ln, err := net.Listen("tcp", addr)
			if err != nil {
				return fmt.Errorf("bus: %w", err)
			}
			ln.Close()
		}
	}
	if b.srv, err = server.NewServer(b.opts.Clone()); err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	b.srv.SetLoggerV2(&natsLog{log: b.log}, false, false, false)
	b.srv.Start()
	if !b.srv.ReadyForConnections(startTimeout) {
		return fmt.Errorf("bus: the embedded server did not start on %q: is the port taken?", cfg.Listen)
	}
	b.conn, err = nats.Connect("", append(o, nats.InProcessServer(b.srv))...)
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	return nil
}

func (b *NATS) setPins(lists ...[]Peer) {
	var pins []pinned.Pin
	for _, list := range lists {
		for _, p := range list {
			pins = append(pins, p.Pin)
		}
	}
	f := pinned.Among(pins...)
	b.pins.Store(&f)
}

// SetPeers replaces the mesh's other sites while running. A key that is no
// longer named makes no new connection at once; one that it has open ends when
// its route is no longer named or at the next break.
func (b *NATS) SetPeers(peers []Peer) error {
	if err := checkPeers(b.site, peers); err != nil {
		return err
	}
	b.reload.Lock()
	defer b.reload.Unlock()
	if b.srv == nil || b.opts.Cluster.Port == 0 {
		return errors.New("bus: this site is in no mesh of its own, so it has no peers to set")
	}
	routes, err := routesOf(peers)
	if err != nil {
		return err
	}
	o := b.opts.Clone()
	o.Routes = routes
	b.setPins(peers)
	if err := b.srv.ReloadOptions(o.Clone()); err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	b.opts = o
	return nil
}

// Addr returns host:port of the routes' listener, empty if there is none.
func (b *NATS) Addr() string {
	if b.srv == nil {
		return ""
	}
	if a := b.srv.ClusterAddr(); a != nil {
		return a.String()
	}
	return ""
}

// Routes returns how many other sites have a route now.
func (b *NATS) Routes() int {
	if b.srv == nil {
		return 0
	}
	return b.srv.NumRoutes()
}

// Publish implements [Bus].
func (b *NATS) Publish(ctx context.Context, subject string, msg []byte) error {
	data, ctx, cancel, err := b.prepare(ctx, subject, msg)
	if err != nil {
		return err
	}
	defer cancel()
	if err := b.conn.Publish(subject, data); err != nil {
		return b.mapError(err)
	}
	// The client batches in the background: nil should mean that the server
	// has the message, as far as a transport can mean anything.
	if err := b.conn.FlushWithContext(ctx); err != nil {
		return b.mapError(err)
	}
	return nil
}

// Request implements [Bus].
func (b *NATS) Request(ctx context.Context, subject string, msg []byte) ([]byte, error) {
	data, ctx, cancel, err := b.prepare(ctx, subject, msg)
	if err != nil {
		return nil, err
	}
	defer cancel()
	answer, err := b.conn.RequestWithContext(ctx, subject, data)
	if err != nil {
		return nil, b.mapError(err)
	}
	return decodeAnswer(subject, answer.Data)
}

func (b *NATS) prepare(ctx context.Context, subject string, msg []byte) ([]byte, context.Context, context.CancelFunc, error) {
	if err := checkSubject(subject); err != nil {
		return nil, nil, nil, err
	}
	if b.ctx.Err() != nil {
		return nil, nil, nil, ErrClosed
	}
	life := MaxTimeout
	if _, ok := ctx.Deadline(); !ok {
		life = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, life)
	end, _ := ctx.Deadline()
	data, err := encodeMessage(end, msg)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return nil, nil, nil, err
	}
	return data, ctx, cancel, nil
}

func (b *NATS) mapError(err error) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return ErrNoSite
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining):
		return ErrClosed
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fmt.Errorf("bus: no answer: %w", err)
	}
	return fmt.Errorf("bus: %w", err)
}

// Serve implements [Bus].
func (b *NATS) Serve(subject string, h Handler) (func(), error) {
	if err := checkSubject(subject); err != nil {
		return nil, err
	}
	if rest, ok := strings.CutPrefix(subject, "site."); ok {
		if owner, _, _ := strings.Cut(rest, "."); owner != b.site {
			return nil, fmt.Errorf("bus: subject %q belongs to site %q, this is %q", subject, owner, b.site)
		}
	}
	ctx, cancel := context.WithCancel(b.ctx)
	slots := make(chan struct{}, maxInFlight)
	var running sync.WaitGroup
	var gate sync.Mutex // between a handler's start and close
	stopped := false
	sub, err := b.conn.Subscribe(subject, func(m *nats.Msg) {
		gate.Lock()
		defer gate.Unlock()
		if stopped {
			b.reply(m, []byte{statusGone})
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			b.reply(m, []byte{statusBusy})
			return
		}
		running.Add(1)
		go func() {
			defer func() { <-slots; running.Done() }()
			b.reply(m, b.handle(ctx, subject, m.Data, h))
		}()
	})
	if err != nil {
		cancel()
		return nil, b.mapError(err)
	}
	if err := sub.SetPendingLimits(maxPendingMessages, maxPendingBytes); err != nil {
		cancel()
		return nil, b.mapError(err)
	}
	var once sync.Once
	stop := func() {
		once.Do(func() {
			// First answer "gone", then leave, so that few askers wait for
			// their whole timeout: those whose message is on its way just when
			// the other sites are told. No order can help them.
			gate.Lock()
			stopped = true
			gate.Unlock()
			sub.Unsubscribe()
			b.conn.FlushTimeout(time.Second)
			cancel()
			running.Wait()
			b.wg.Done()
		})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		cancel()
		return nil, ErrClosed
	}
	b.wg.Add(1)
	context.AfterFunc(b.ctx, stop)
	return stop, nil
}

// handle runs h on one message and never lets its panic end the server: what
// arrives is hostile, and other sites' work is in the same process.
func (b *NATS) handle(ctx context.Context, subject string, data []byte, h Handler) (answer []byte) {
	msg, left, status := decodeMessage(data, time.Now())
	if status != statusOK {
		b.log.Warn("bus message refused", "subject", subject, "status", status, "octets", len(data))
		return []byte{status}
	}
	defer func() {
		if v := recover(); v != nil {
			b.log.Error("bus handler panicked", "subject", subject, "panic", v, "stack", string(debug.Stack()))
			answer = encodeAnswer(nil, errors.New("internal error"))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	return encodeAnswer(h(ctx, msg))
}

func (b *NATS) reply(m *nats.Msg, answer []byte) {
	if m.Reply == "" {
		return
	}
	if err := m.Respond(answer); err != nil {
		b.log.Warn("bus answer lost", "subject", m.Subject, "error", err)
	}
}

// Close implements [Bus].
func (b *NATS) Close() {
	b.mu.Lock()
	again := b.closed
	b.closed = true
	b.mu.Unlock()
	if again {
		b.wg.Wait()
		return
	}
	b.cancel()
	b.wg.Wait()
	if b.conn != nil {
		b.conn.Close()
	}
	if b.srv != nil {
		b.srv.Shutdown()
		b.srv.WaitForShutdown()
	}
}

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/store"
	"github.com/privyseal/privyseal/cmd/internal/store/journal"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/cmd/internal/transport/bus"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// Version is what a server says of itself.
var Version = "0.1"

// Server is a message server from Start to Close.
type Server struct {
	dir        string
	cfg        *Config
	keys       *keys
	devicePins []pinned.Pin
	sourcePins []pinned.Pin
	log        *slog.Logger // for the operator
	audit      *audit
	now        func() time.Time
	started    time.Time
	begun      int64 // started, by the clock that people read

	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	store     *store.Store
	ledger    *journal.Journal
	taking    sync.Mutex // of a page of the ledger
	web       *web.Server
	limiter   *web.Limiter
	listeners []*link.Listener
	sys       atomic.Pointer[system]

	mu     sync.Mutex
	bus    bus.Bus // nil before there is a system
	closed bool
	ports  map[string]*port
	relays map[[32]byte]*relayed

	requests *requests
	inbox    *inbox
	unlocks  unlocks
	beats    *beats
	reports  *reports
	alarms   *alarms
	machines *machines
	outputs  *outputs
	dealings chan struct{} // holds a token for each that is on its way
	numbers  *taskNumbers
}

// Options of Start.
type Options struct {
	Log *slog.Logger     // nil: silent
	Now func() time.Time // nil: time.Now
	// Lose, if not nil, says which packets of the broadcast channels do not
	// arrive anywhere, for tests.
	Lose func(tolerant.Packet) bool
}

// Start runs the server of a directory that Init made. It goes on with every
// request that was open when it stopped, however it stopped.
func Start(dir string, o Options) (*Server, error) {
	cfg, err := LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	k, err := loadKeys(dir)
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, cfg: cfg, keys: k, log: o.Log, now: o.Now, started: time.Now(), ports: map[string]*port{}, relays: map[[32]byte]*relayed{}, dealings: make(chan struct{}, maxDealings)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.begun = s.unix()
	if s.devicePins, err = parsePins(cfg.DevicePins); err != nil {
		return nil, err
	}
	if s.sourcePins, err = parsePins(cfg.SourcePins); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	if err := s.open(o.Lose); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// open brings the parts up, inner ones first: nobody is let in before the
// server knows what it knew.
func (s *Server) open(lose func(tolerant.Packet) bool) (err error) {
	for _, name := range []string{dirRequests, dirInbox} {
		if err := os.MkdirAll(filepath.Join(s.dir, name), 0o700); err != nil {
			return err
		}
	}
	if s.audit, err = openAudit(s.dir); err != nil {
		return err
	}
	if s.store, err = store.Open(filepath.Join(s.dir, fileStore), store.Options{Now: s.now}); err != nil {
		return err
	}
	rules, err := s.readRules()
	if err != nil {
		return err
	}
	s.limiter = web.NewLimiter(rules, s.audit.log, nil)
	s.requests, s.inbox = newRequests(), newInbox()
	s.machines, s.outputs = newMachines(lose), newOutputs()
	s.beats, s.reports, s.alarms = newBeats(), newReports(), newAlarms()
	if s.numbers, err = openTaskNumbers(s.dir); err != nil {
		return err
	}
	if err := s.loadSystem(); err != nil {
		return err
	}
	if s.system() != nil {
		if err := s.join(); err != nil {
			return err
		}
	}
	if err := s.listen(); err != nil {
		return err
	}
	listen := s.cfg.ListenHTTPS
	if listen == "" {
		listen = s.cfg.HTTPS
	}
	routes, polls := s.routes()
	s.web, err = web.Listen(web.Config{Listen: listen, Identity: s.keys.tls, Routes: routes, Polls: polls, Limiter: s.limiter, Log: s.audit.log})
	if err != nil {
		return err
	}
	s.spawn(s.tick)
	s.spawn(s.tellCoordinators)
	s.audit.log.Info("start", "server", s.cfg.ID, "version", Version)
	return nil
}

// URL is where the HTTPS side listens.
func (s *Server) URL() string { return s.web.URL() }

// ID is the server's id.
func (s *Server) ID() string { return s.cfg.ID }

// Wait returns when ctx ends, or with the reason why the server cannot go on.
func (s *Server) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

// Close ends everything. Nothing durable depends on it.
func (s *Server) Close() {
	s.cancel(errors.New("server: closed"))
	if s.web != nil {
		s.web.Close()
	}
	for _, l := range s.listeners {
		l.Close()
	}
	s.mu.Lock()
	b := s.bus
	s.closed = true
	s.mu.Unlock()
	if b != nil {
		b.Close()
	}
	s.wg.Wait()
	if s.store != nil {
		s.store.Close()
	}
	if s.ledger != nil {
		s.ledger.Close()
	}
	if s.audit != nil {
		if s.beats != nil {
			s.countBeats(0)
		}
		s.audit.close()
	}
}

func parsePins(list []string) ([]pinned.Pin, error) {
	var out []pinned.Pin
	for _, p := range list {
		pin, err := pinned.ParsePin(p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", fileConfig, err)
		}
		out = append(out, pin)
	}
	return out, nil
}

// fatal ends the server: what could not be made durable must not be acted on,
// and the next start goes on from what is.
func (s *Server) fatal(err error) {
	s.log.Error("cannot go on", "err", err)
	s.cancel(err)
}

func (s *Server) spawn(f func()) {
	s.wg.Add(1)
	go func() { defer s.wg.Done(); f() }()
}

// tick lets time pass for all that waits.
func (s *Server) tick() {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
		}
		s.tickRequests()
		s.deskStep((*tolerant.Desk).Tick)
		s.outputStep((*tolerant.Output).Tick)
		s.watchDevices()
		if n%5 == 0 {
			s.reloadRules()
			s.forgetRelays()
		}
		if n%600 == 0 {
			s.sweep()
			s.countBeats(countEvery)
		}
	}
}

func (s *Server) forgetRelays() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, r := range s.relays {
		if !r.forget.IsZero() && time.Now().After(r.forget) {
			delete(s.relays, k)
		}
	}
}

// readRules reads the firewall's rules, the defaults if there is no file.
func (s *Server) readRules() (web.Rules, error) {
	path := filepath.Join(s.dir, fileRules)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return web.DefaultRules, nil
	}
	if err != nil {
		return web.Rules{}, err
	}
	rules, err := web.ParseRules(data)
	if err != nil {
		return web.Rules{}, fmt.Errorf("%s: %w: mend the file, or remove it to have the default rules", path, err)
	}
	return rules, nil
}

// reloadRules takes changed rules while running (A6): devices are not
// concerned. Rules that cannot be read leave the old ones in force.
func (s *Server) reloadRules() {
	rules, err := s.readRules()
	if err == nil && rules != s.limiter.Rules() {
		err = s.limiter.SetRules(rules)
		s.audit.log.Info("rules changed")
	}
	if err != nil {
		s.audit.log.Error("rules", "error", err.Error())
	}
}

func (s *Server) unix() int64 { return s.now().Unix() }

// open one message that was sealed to this server.
func (s *Server) unseal(sealed []byte) (*envelope.Unverified, error) {
	raw, err := envelope.Open(sealed, s.keys.agree)
	if err != nil {
		return nil, err
	}
	return envelope.Parse(raw)
}

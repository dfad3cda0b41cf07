package server

import (
	"fmt"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/transport/bus"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
)

// join takes this server's place in the system: the way to the other sites,
// officers' inboxes, and the requests that were open.
func (s *Server) join() error {
	if err := s.loadInbox(); err != nil {
		return err
	}
	if err := s.openBus(); err != nil {
		return err
	}
	if err := s.openDesk(s.system()); err != nil {
		return err
	}
	if err := s.openOutputs(s.system()); err != nil {
		return err
	}
	if err := s.resume(); err != nil {
		return err
	}
	// Now that every request is here again: an approval that another site had
	// kept for it would be refused for good as one for an unknown request.
	if b := s.theBus(); b != nil {
		if err := s.serveSites(b); err != nil {
			return err
		}
	}
	s.spawn(s.sendQueued)
	s.spawn(s.keepInbox)
	return nil
}

// openBus starts the bus with the peers that the ledger names.
func (s *Server) openBus() error {
	sys := s.system()
	id := sys.state.System()
	cfg := bus.Config{
		Site: s.cfg.ID, Cluster: fmt.Sprintf("privyseal-%x", id[:8]), Identity: s.keys.tls, Listen: s.cfg.ListenRoute, Log: s.audit.log,
	}
	if cfg.Listen == "" {
		cfg.Listen = s.cfg.Route
	}
	for _, row := range sys.state.Servers() {
		if row.ID != s.cfg.ID {
			cfg.Peers = append(cfg.Peers, bus.Peer{Site: row.ID, Route: row.Route, Pin: pinned.Pin(row.TLS)})
		}
	}
	if len(cfg.Peers) == 0 {
		return nil // a system of one site
	}
	b, err := bus.Open(cfg)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		b.Close()
		return nil
	}
	s.bus = b
	return nil
}

func (s *Server) serveSites(b bus.Bus) error {
	handlers := map[string]bus.Handler{
		bus.Subject(s.cfg.ID, "inbox"):    s.serveInbox,
		bus.Subject(s.cfg.ID, "approval"): s.serveApproval,
		bus.Subject(s.cfg.ID, "unlock"):   s.serveUnlock,
		bus.Subject(s.cfg.ID, "status"):   s.serveStatus,
		bus.Subject(s.cfg.ID, "awake"):    s.serveAwake,
		bus.Subject(s.cfg.ID, "asleep"):   s.serveAsleep,
		bus.Subject(s.cfg.ID, "source"):   s.serveSource,
		bus.Subject(s.cfg.ID, "tasks"):    s.serveTasks,
		bus.Subject(s.cfg.ID, "combined"): s.serveCombined,
		bus.Subject(s.cfg.ID, "copies"):   s.serveCopies,
	}
	for _, d := range s.system().state.Devices() {
		if d.Server == s.cfg.ID {
			handlers[bus.Subject(s.cfg.ID, "device", d.ID)] = s.serveDevice(d)
		}
	}
	for subject, h := range handlers {
		if _, err := b.Serve(subject, h); err != nil {
			return err
		}
	}
	if err := s.listenChannels(s.system()); err != nil {
		return err
	}
	return s.joinBeats(b, s.system().state.Servers())
}

// theBus is nil before there is a system, and in a system of one site.
func (s *Server) theBus() bus.Bus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bus
}

// routes is what the HTTPS side answers (package api).
func (s *Server) routes() (map[string]web.Handler, map[string]web.PollHandler) {
	return map[string]web.Handler{
			api.PathRelay:      s.relay,
			api.PathSystem:     s.takeSystem,
			api.PathSystemShow: s.showSystem,
			api.PathRequest:    s.takeRequest,
			api.PathApproval:   s.takeApproval,
			api.PathUnlockAsk:  s.askUnlock,
			api.PathUnlock:     s.takeUnlock,
			api.PathStatus:     s.showStatus,
			api.PathRegister:   s.register,
			api.PathRecertify:  s.recertify,
			api.PathSourceSend: s.sendSource,
			api.PathInvite:     s.invite,
			api.PathInstall:    s.install,
			api.PathTasks:      s.showTasks,
			api.PathIssued:     s.showIssued,
		}, map[string]web.PollHandler{
			api.PathTracking: s.track,
			api.PathInbox:    s.pollInbox,
		}
}

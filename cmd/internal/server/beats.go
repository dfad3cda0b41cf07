package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/transport/bus"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// beats is what passes between devices and their heartbeat sources. This
// server reads none of it, and nobody believes it anything: whatever it does to
// a beat can shorten a lease and nothing else. What it owes them is speed, and
// that one peer who floods costs the others nothing.
type beats struct {
	mu     sync.Mutex
	meters map[string]*meter  // by id of a peer, of whatever site
	sites  map[string]*outbox // by id of another site
	// asked are revocations that wait for their source's word.
	asked map[askedKey]chan []byte
}

type askedKey struct {
	peer string
	id   [16]byte
}

func newBeats() *beats {
	return &beats{meters: map[string]*meter{}, sites: map[string]*outbox{}, asked: map[askedKey]chan []byte{}}
}

// meter is a peer's. Only ids of the ledger have one.
func (b *beats) meter(id string) *meter {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.meters[id]
	if m == nil {
		m = &meter{}
		b.meters[id] = m
	}
	return m
}

// A droppedError says why a frame was not passed on. Reasons are few: they are
// counted.
type droppedError struct{ reason string }

func (e *droppedError) Error() string { return e.reason }

var (
	errFlood       = &droppedError{"more than its policies make it send"}
	errMalformed   = &droppedError{"malformed"}
	errSize        = &droppedError{"too large for its type"}
	errRole        = &droppedError{"not for this peer to send"}
	errForged      = &droppedError{"signed by another than its sender"}
	errNobody      = &droppedError{"addressed to nobody whose policies know the sender"}
	errNoLink      = &droppedError{"its receiver has no link"}
	errOverfull    = &droppedError{"its receiver is slow: an older one was dropped"}
	errNoWaiter    = &droppedError{"nobody waits for this answer"}
	errLoop        = &droppedError{"came from another site for another site"}
	errImpersonate = &droppedError{"from a site that its sender does not hang on"}
	errReport      = &droppedError{"a report that does not verify"}
)

// unasked takes a frame that a peer of this site sent by itself.
func (s *Server) unasked(id string, frame []byte) {
	now := time.Now()
	sys := s.system()
	if sys == nil {
		s.rest()
		return
	}
	p, err := sys.peers.own(id, s.cfg.ID)
	if err != nil { // its link is being closed
		s.rest()
		return
	}
	m := s.beats.meter(id)
	if isAsk(p, frame) { // it does not count among beats, which may be many at once
		if err := s.askedSystem(sys, p, frame); err != nil {
			s.dropped(m, id, err)
			s.rest()
		}
		return
	}
	if !m.take(p.frames, now) {
		s.dropped(m, id, errFlood)
		s.rest()
		return
	}
	typ, err := s.route(sys, p, frame, "")
	if err == nil {
		m.pass(typ, now)
	}
	s.dropped(m, id, err)
}

// rest lets the link of a peer wait that sends what nobody wants. The caller
// reads that link and nothing else.
func (s *Server) rest() {
	select {
	case <-time.After(floodPause):
	case <-s.ctx.Done():
	}
}

// dropped counts what was not passed on; the first of a kind is told at once.
func (s *Server) dropped(m *meter, id string, err error) {
	if err == nil {
		return
	}
	reason := "other"
	var d *droppedError
	if errors.As(err, &d) {
		reason = d.reason
	}
	if m.drop(reason, time.Now()) {
		s.audit.refused(id, "beat", err)
	}
}

// route passes a frame on, by a header that nobody has verified. site is the
// one that it came from, empty for a link of this one. What could not be
// brought to one of several addressees is counted and no error.
func (s *Server) route(sys *system, from peer, frame []byte, site string) (typ string, err error) {
	if len(frame) > maxChallenge {
		return "", errSize
	}
	h, err := envelope.Peek(frame)
	if err != nil {
		return "", errMalformed
	}
	switch {
	case h.Type == heartbeat.TypeChallenge && from.device:
		return h.Type, s.routeChallenge(sys, from, h, frame, site)
	case h.Type == heartbeat.TypeBeat:
		if len(frame) > maxBeat {
			return "", errSize
		}
		return h.Type, s.routeBeat(sys, from, h, frame, site)
	case site != "":
		return "", errRole
	case h.Type == heartbeat.TypeRevoked, h.Type == firmware.TypeRefusal && from.device:
		if len(frame) > maxBeat {
			return "", errSize
		}
		return h.Type, s.answered(from, h, frame)
	case h.Type == firmware.TypeStatus && from.device:
		if len(frame) > maxReport {
			return "", errSize
		}
		return h.Type, s.takeReport(sys, from, frame)
	}
	return "", errRole
}

// routeChallenge brings a device's challenge to all its sources.
func (s *Server) routeChallenge(sys *system, from peer, h envelope.Header, frame []byte, site string) error {
	if h.Signer != from.sign {
		return errForged
	}
	if site == "" {
		if s.reports.heard(from.id, time.Now()) {
			s.later(func() { s.awake(from.id) })
		}
	}
	return s.deliver(sys, from, h, frame, site, func(to peer) bool { return sys.peers.beatsFor(to.id, from.id) })
}

// routeBeat brings a beat to its device. Besides the key that opens it, which
// the ledger does not know, its header names the device's permanent one.
func (s *Server) routeBeat(sys *system, from peer, h envelope.Header, frame []byte, site string) error {
	if from.device && h.Signer != from.sign {
		return errForged
	}
	return s.deliver(sys, from, h, frame, site, func(to peer) bool { return to.device && sys.peers.beatsFor(from.id, to.id) })
}

// deliver puts a frame where it goes on at once to the addressees that may have
// it: beats wait for nothing else that is under way, and what came from another
// site goes to links of this one and never to a site again.
func (s *Server) deliver(sys *system, from peer, h envelope.Header, frame []byte, site string, may func(to peer) bool) error {
	err, sites := error(errNobody), []string{}
	for _, key := range h.To {
		to, ok := sys.peers.m[sys.peers.keys[key]]
		switch {
		case !ok || !may(to):
			continue
		case to.server == s.cfg.ID:
			err = s.toLink(to.id, from.id, frame)
		case site != "":
			// The site sends one frame for all its addressees, of other sites too.
			if err == errNobody {
				err = errLoop
			}
			continue
		case !slices.Contains(sites, to.server):
			sites = append(sites, to.server)
			err = s.toSite(to.server, from.id, frame)
		}
		if err != nil {
			s.dropped(s.beats.meter(from.id), from.id, err)
			err = nil
		}
	}
	return err
}

// toLink leaves a frame for a peer of this site, if it has a link.
func (s *Server) toLink(to, origin string, frame []byte) error {
	s.mu.Lock()
	p := s.ports[to]
	up := p != nil && p.conn != nil && p.ready
	s.mu.Unlock()
	if !up {
		return errNoLink
	}
	if p.out.put(origin, frame, time.Now()) {
		return errOverfull
	}
	return nil
}

// writeBeats sends what waits for a link.
func (s *Server) writeBeats(c *link.Conn, p *port) {
	p.out.run(c.Done(), func(frame []byte) {
		// A link that does not take a frame within its own time ends itself.
		_ = c.Send(s.ctx, frame)
	})
}

// siteBeat is a beat on its way between sites. A receiver looks up whether the
// sender hangs on the site that the subject names.
type siteBeat struct {
	From  string `cbor:"1,keyasint"`
	Frame []byte `cbor:"2,keyasint"`
}

func (s *Server) toSite(site, origin string, frame []byte) error {
	s.beats.mu.Lock()
	o := s.beats.sites[site]
	s.beats.mu.Unlock()
	if o == nil {
		return errNoLink
	}
	msg, err := envelope.Marshal(siteBeat{origin, frame})
	if err != nil {
		return err
	}
	if o.put(origin, msg, time.Now()) {
		return errOverfull
	}
	return nil
}

// joinBeats opens the ways to and from other sites. Each site has a subject of
// its own at every other, and with it a place to wait that no third one fills.
func (s *Server) joinBeats(b bus.Bus, servers []ledger.Server) error {
	for _, row := range servers {
		if row.ID == s.cfg.ID {
			continue
		}
		if _, err := b.Serve(bus.Subject(s.cfg.ID, "beat", row.ID), s.serveBeat(row.ID)); err != nil {
			return err
		}
		o := newOutbox()
		s.beats.mu.Lock()
		s.beats.sites[row.ID] = o
		s.beats.mu.Unlock()
		subject := bus.Subject(row.ID, "beat", s.cfg.ID)
		s.spawn(func() {
			o.run(s.ctx.Done(), func(msg []byte) {
				ctx, cancel := context.WithTimeout(s.ctx, publishTimeout)
				defer cancel()
				_ = b.Publish(ctx, subject, msg)
			})
		})
	}
	return nil
}

// serveBeat takes a beat from another site.
func (s *Server) serveBeat(site string) bus.Handler {
	return func(_ context.Context, msg []byte) ([]byte, error) {
		var in siteBeat
		if len(msg) > maxChallenge+1024 {
			return nil, errSize
		}
		if err := envelope.Unmarshal(msg, &in); err != nil {
			return nil, errMalformed
		}
		sys := s.system()
		from, err := sys.peers.own(in.From, site)
		if err != nil {
			return nil, errImpersonate
		}
		m := s.beats.meter(from.id)
		if !m.take(from.frames, time.Now()) {
			s.dropped(m, from.id, errFlood)
			return nil, errFlood
		}
		typ, err := s.route(sys, from, in.Frame, site)
		if err == nil {
			m.pass(typ, time.Now())
		}
		s.dropped(m, from.id, err)
		return nil, err
	}
}

// countBeats writes down what passed, a line for each peer and hour.
func (s *Server) countBeats(age time.Duration) {
	s.beats.mu.Lock()
	meters := make(map[string]*meter, len(s.beats.meters))
	for id, m := range s.beats.meters {
		meters[id] = m
	}
	s.beats.mu.Unlock()
	for id, m := range meters {
		if passed, dropped, ok := m.due(time.Now(), age); ok {
			s.audit.log.Info("beats", "peer", id, "passed", passed, "dropped", dropped)
		}
	}
}

// noSource explains why a source cannot be reached.
func noSource(id string) error { return fmt.Errorf("source %s has no link to its message server", id) }
